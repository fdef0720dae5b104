"""Sets of images to measure, as functions of keys that any worker can call: reals by position, generated ones by seed.

B images, H × W pixels, C channels. A worker opens what a set needs once; sets travel as paths.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from components.data.dataset import ImageSet
from components.data.images import Uint8
from components.evaluation.distances import Indices
from components.generation.sampler import CONFIG_FILE, WEIGHTS_FILE, load_generator, sample
from components.models import Generator, build_generator

Source = Callable[[Indices], Uint8]  # keys [B] to images [B, H, W, C]
UNTRAINED_SEED = 0


@dataclass(frozen=True)
class RealImages:
    """One split of a folder of shards; keys are positions in it."""

    shards: Path
    split: str

    def __call__(self, keys: Indices) -> Uint8:
        return self.images()[keys]

    def images(self) -> ImageSet:
        """The split, opened."""
        return _images(self.shards, self.split)


@dataclass(frozen=True)
class Blurred:
    """Reals without the detail that 8 × 8 pixels cannot hold."""

    source: RealImages

    def __call__(self, keys: Indices) -> Uint8:
        return blur_to_8(self.source(keys))


@dataclass(frozen=True)
class Generated:
    """A generator folder's images at psi 1; keys are seeds."""

    folder: Path
    digest: str  # what a worker has loaded from there before may be another generator
    gpus: bool = False

    @classmethod
    def at(cls, folder: Path, gpus: bool = False) -> Generated:
        """The generator that is in the folder now."""
        known = [(folder / name).stat() for name in (CONFIG_FILE, WEIGHTS_FILE)]
        return cls(folder, _digest(folder, *((file.st_ino, file.st_mtime_ns, file.st_size) for file in known)), gpus)

    def __call__(self, keys: Indices) -> Uint8:
        return sample(self.generator(), keys.tolist())

    def generator(self) -> Generator:
        """The generator, loaded."""
        return _generator(self)


@dataclass(frozen=True)
class Untrained:
    """The same network with fixed random weights, before any training."""

    folder: Path
    gpus: bool = False

    def __call__(self, keys: Indices) -> Uint8:
        return sample(_untrained(self), keys.tolist())


def device(gpus: bool) -> str:
    """What the process at hand computes on, where GPUs are allowed."""
    return "cuda" if gpus and torch.cuda.is_available() else "cpu"


@lru_cache(maxsize=64)
def _digest(folder: Path, *_: tuple[int, int, int]) -> str:
    """SHA-256 of a generator folder; what it is called with beside the path changes when a file does."""
    digest = hashlib.sha256((folder / CONFIG_FILE).read_bytes())
    digest.update((folder / WEIGHTS_FILE).read_bytes())
    return digest.hexdigest()


@lru_cache(maxsize=4)
def _images(shards: Path, split: str) -> ImageSet:
    return ImageSet.open(shards, split)


@lru_cache(maxsize=1)
def _generator(source: Generated) -> Generator:
    return load_generator(source.folder, device(source.gpus))


@lru_cache(maxsize=1)
def _untrained(source: Untrained) -> Generator:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(UNTRAINED_SEED)
        generator = build_generator(json.loads((source.folder / "config.json").read_text(encoding="utf-8")))
    return generator.to(device(source.gpus)).eval()


def blur_to_8(images: Uint8) -> Uint8:
    """[B, H, W, C] averaged over boxes to 8 × 8 and enlarged back, bilinearly."""
    pixels = torch.tensor(images).permute(0, 3, 1, 2).float()
    blurred = F.interpolate(F.adaptive_avg_pool2d(pixels, 8), size=pixels.shape[2:], mode="bilinear")
    out: Uint8 = blurred.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return out


def mean_image(source: RealImages, members: Indices, step: int = 256) -> Uint8:
    """The mean of the members' pixels, [H, W, C]."""
    total = np.zeros(source.images().shape[1:])
    for start in range(0, len(members), step):
        total += source(members[start : start + step]).sum(axis=0)
    mean: Uint8 = np.rint(total / len(members)).astype(np.uint8)
    return mean
