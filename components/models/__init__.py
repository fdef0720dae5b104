"""Networks, built from a plain config that travels with their weights. Knows torch alone."""

from __future__ import annotations

from typing import Any

import torch

from components.models import stylegan

Generator = stylegan.Generator
Discriminator = stylegan.Discriminator

_ARCHS = {"stylegan": (stylegan.Generator, stylegan.Discriminator)}
CONFIG_FORMAT = 1


def build_generator(config: dict[str, Any], dtype: torch.dtype = torch.float32) -> Generator:
    """A generator with random weights from torch's global generator.

    Args:
        config: {"format": 1, "arch", "resolution", "channels", "latent_dim", "channel_base", "channel_max"}, and
            {"growth": [resolution, alpha]} where it has not grown to the full resolution yet.
        dtype: of the convolutions.
    """
    assert config["format"] == CONFIG_FORMAT, config
    generator, _ = _ARCHS[config["arch"]]
    growth = tuple(config["growth"]) if "growth" in config else None
    return generator(**_sizes(config), latent_dim=config["latent_dim"], growth=growth, dtype=dtype)


def build_discriminator(config: dict[str, Any], dtype: torch.dtype = torch.float32) -> Discriminator:
    """The discriminator that belongs to build_generator(config)."""
    _, discriminator = _ARCHS[config["arch"]]
    return discriminator(**_sizes(config), dtype=dtype)


def _sizes(config: dict[str, Any]) -> dict[str, int]:
    return {name: config[name] for name in ("resolution", "channels", "channel_base", "channel_max")}
