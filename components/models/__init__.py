"""Networks, built from a plain config that travels with their weights, and the recipes that they are trained by."""

from __future__ import annotations

from typing import Any

import torch

from components.config import Train
from components.models import dcgan, progan, r3gan, stylegan, stylegan2
from components.models.interface import Discriminator, Generator, Phase, Recipe, Sizes

__all__ = ["Discriminator", "Generator", "Phase", "Recipe", "build_discriminator", "build_generator", "build_recipe"]

ARCHS = {"dcgan": dcgan, "progan": progan, "stylegan": stylegan, "stylegan2": stylegan2, "r3gan": r3gan}
CONFIG_FORMAT = 1


def build_generator(config: dict[str, Any], dtype: torch.dtype = torch.float32) -> Generator:
    """A generator with random weights from torch's global generator.

    Args:
        config: {"format": 1, "arch", "resolution", "channels", "latent_dim", "channel_base", "channel_max"}, and what
            differs: "growth": [resolution, alpha] where it has not grown to the full resolution yet, "grid": [rows,
            columns] of the coarsest maps of an image that is not square, "labels": {name: train images}.
        dtype: of the convolutions.
    """
    assert config["format"] == CONFIG_FORMAT, config
    growth = tuple(config["growth"]) if "growth" in config else None
    generator: Generator = ARCHS[config["arch"]].Generator(_sizes(config, growth=growth, dtype=dtype))
    return generator


def build_discriminator(config: dict[str, Any], dtype: torch.dtype = torch.float32) -> Discriminator:
    """The discriminator that belongs to build_generator(config)."""
    discriminator: Discriminator = ARCHS[config["arch"]].Discriminator(_sizes(config, dtype=dtype))
    return discriminator


def _sizes(config: dict[str, Any], **more: Any) -> Sizes:
    names = ("resolution", "channels", "latent_dim", "channel_base", "channel_max")
    grid = tuple(config.get("grid", (4, 4)))
    return Sizes(**{name: config[name] for name in names}, grid=grid, labels=config.get("labels", {}), **more)


def build_recipe(config: Train, resolution: int) -> Recipe:
    """How train.arch is trained to images of that many pixels."""
    recipe: Recipe = ARCHS[config.arch].recipe(config, resolution)
    return recipe
