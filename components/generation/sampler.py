"""From a generator folder and seeds to images: what a seed shows depends on the seed alone.

N images, L layers, H × W pixels, C channels. A generator folder holds config.json and generator.safetensors.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from components.config import InputError
from components.data.files import write_json
from components.data.tensors import write_tensors
from components.models import Generator, build_generator
from components.models.pixels import pixels

CONFIG_FILE, WEIGHTS_FILE = "config.json", "generator.safetensors"
BATCH = 64
MAX_SEEDS = 4096
SEED_FORM = f"numbers and ranges from 0 to {2**63 - 1} such as 0-63,70, at most {MAX_SEEDS} of them"


def load_generator(folder: Path, device: str = "cpu") -> Generator:
    """Reads a generator folder; the network is in eval mode.

    Raises:
        InputError: a file is missing or damaged, or the weights belong to another config.
    """
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        weights = load_file(folder / WEIGHTS_FILE)
        with torch.random.fork_rng(devices=[]):
            generator = build_generator(config)
        generator.load_state_dict(weights)
    except OSError as error:
        raise InputError(
            f"{folder} is no generator: {error}; allowed: a folder with {CONFIG_FILE} and {WEIGHTS_FILE}"
        ) from None
    except (ValueError, KeyError, TypeError, AssertionError, SafetensorError, RuntimeError) as error:
        raise InputError(f"{folder}: the generator is damaged: {' '.join(str(error).split())[:200]}") from None
    return generator.to(device).eval().requires_grad_(False)


def save_generator(folder: Path, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Writes what load_generator reads into a folder that is there."""
    write_tensors(folder / WEIGHTS_FILE, weights)
    write_json(folder / CONFIG_FILE, config)


@torch.inference_mode()
def sample(generator: Generator, seeds: Sequence[int], psi: float = 1.0, label: str = "") -> npt.NDArray[np.uint8]:
    """Images of the seeds, [N, H, W, C].

    Args:
        seeds: one an image; latent, label and noise come from a CPU generator of that seed, whatever the device.
        psi: truncation, 0 (the mean image) to 1 (none).
        label: of all images; "" for one drawn from each seed, as often as the train images had it.

    Raises:
        InputError: the generator has no such label.
    """
    batches = [seeds[start : start + BATCH] for start in range(0, len(seeds), BATCH)]
    return np.concatenate([_sample_batch(generator, batch, psi, label) for batch in batches])


@dataclass(frozen=True)
class Latents:
    """What seeds give: z [N, latent_dim], labels [N] where there are any, and what their noise is drawn from next."""

    z: Tensor
    labels: Tensor | None
    rngs: list[torch.Generator]


def latents(generator: Generator, seeds: Sequence[int], label: str = "") -> Latents:
    """The latents of seeds; see sample()."""
    rngs = [torch.Generator().manual_seed(seed) for seed in seeds]
    z = torch.stack([torch.randn(generator.latent_dim, generator=rng) for rng in rngs])
    labels = generator.draw_labels(rngs)
    if label:
        learnt = [name for name, images in generator.labels.items() if images]
        if label not in learnt:
            allowed = ", ".join(learnt) or "none, as the model knows no labels"
            raise InputError(f"label is {label!r}; allowed: {allowed}")
        position = list(generator.labels).index(label)
        labels = torch.full((len(seeds),), position, device=generator.w_avg.device)
    return Latents(z.to(generator.w_avg.device), labels, rngs)


def noises(generator: Generator, rngs: Sequence[torch.Generator]) -> list[Tensor]:
    """The noise inputs of the seeds, L times [N, 1, h, w], each drawn from its own seed's generator."""
    return [
        torch.stack([torch.randn(1, height, width, generator=rng) for rng in rngs]).to(generator.w_avg.device)
        for height, width in generator.noise_shapes()
    ]


def _sample_batch(generator: Generator, seeds: Sequence[int], psi: float, label: str) -> npt.NDArray[np.uint8]:
    drawn = latents(generator, seeds, label)
    noise = noises(generator, drawn.rngs)
    ws = generator.truncate(generator.to_w(drawn.z, drawn.labels), psi)
    return to_uint8(generator.synthesis(ws, noise))


def to_uint8(images: Tensor) -> npt.NDArray[np.uint8]:
    """[N, C, H, W] in [-1, 1] to uint8 [N, H, W, C], rounded and clamped; premultiplied where there is alpha."""
    array: npt.NDArray[np.uint8] = pixels(images).cpu().numpy()
    return array


def parse_seeds(text: str) -> list[int]:
    """ "0-3,70" is [0, 1, 2, 3, 70].

    Raises:
        InputError: nonsense, an empty range, or more than MAX_SEEDS.
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,19})(?:-([0-9]{1,19}))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if first > last or last >= 2**63 or len(seeds) + last - first >= MAX_SEEDS:
            raise InputError(f"seeds are {text!r}; allowed: {SEED_FORM}")
        seeds += range(first, last + 1)
    return seeds
