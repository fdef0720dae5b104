"""Images as numbers: features for metrics, layouts for copies; in batches over an executor, reals only once.

N images, B of a batch, d features, f numbers of a layout, a of alpha (none for images without it).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from components.config import InputError
from components.data.files import write_bytes
from components.evaluation.candidates import Generated, RealImages, Source, device
from components.evaluation.distances import Float64, Indices
from components.evaluation.extractor import Extractor
from components.evaluation.features import ALPHA, ExtractorSpec, load_extractor
from components.evaluation.memorisation import LAYOUT, layout
from components.executor import Spread, inline
from components.generation.paths import EPSILON, path_pairs
from components.models.pixels import levels

Float32 = npt.NDArray[np.float32]
BATCH = 64


@dataclass(frozen=True)
class Described:
    """What is known of N images."""

    features: Float32  # [N, d]
    layouts: Float32  # [N, f]
    alpha: Float32  # [N, a]

    def __getitem__(self, members: Indices | slice) -> Described:
        return Described(*(part[members] for part in self._parts()))

    def _parts(self) -> tuple[Float32, Float32, Float32]:
        return self.features, self.layouts, self.alpha


@dataclass(frozen=True)
class Look:
    """How images become numbers; a small value that travels to workers."""

    spec: ExtractorSpec
    channels: int  # 3 or 4
    gpus: bool

    def extractor(self) -> Extractor:
        """The extractor, loaded once a process."""
        return load_extractor(self.spec, self.channels, device(self.gpus))

    def digest(self) -> str:
        """SHA-256 of all that decides the numbers."""
        alpha = load_extractor(ALPHA, 4).digest if self.channels == 4 else ""
        return hashlib.sha256(json.dumps([self.extractor().digest, alpha, LAYOUT]).encode()).hexdigest()

    def describe(self, source: Source, keys: Indices) -> Described:
        """One batch."""
        images = source(keys)
        alpha = np.empty((len(images), 0), np.float32)
        if self.channels == 4:
            alpha = load_extractor(ALPHA, 4, device(self.gpus))(images).numpy()
        return Described(self.extractor()(images).numpy(), layout(images), alpha)

    def steps(self, source: Generated, seeds: Indices) -> Float64:
        """‖f(here) - f(there)‖² / ε² of one batch of path pairs, [B]."""
        here, there = (
            self.extractor().features(levels(images)) for images in path_pairs(source.generator(), seeds.tolist())
        )
        squares: Float64 = ((here - there).double().square().sum(1) / EPSILON**2).cpu().numpy()
        return squares


def describe(source: Source, keys: Indices, look: Look, spread: Spread = inline) -> Described:
    """All images of the keys, in their order.

    Raises:
        InputError: the extractor gives infinities or NaN.
    """
    parts = list(spread(partial(_describe, source, look), _batches(keys)))
    found = Described(*(np.concatenate(columns) for columns in zip(*(part._parts() for part in parts), strict=True)))
    if not np.isfinite(found.features).all():
        raise InputError(f"extractor {look.spec.name} gives features that are not finite; allowed: numbers")
    return found


def path_steps(source: Generated, seeds: Indices, look: Look, spread: Spread = inline) -> Float64:
    """The squared speeds of perceptual path length, [P]; see components/generation/paths.py.

    Raises:
        InputError: the generator gives infinities or NaN.
    """
    steps = np.concatenate(list(spread(partial(_steps, source, look), _batches(seeds))))
    if not np.isfinite(steps).all():
        raise InputError(f"{source.folder}: the generator's images are not finite; allowed: one that has not diverged")
    return steps


def described_reals(source: RealImages, look: Look, cache: Path, spread: Spread = inline) -> Described:
    """A whole split, from the cache where another run has described it.

    A file of the cache is named by the digests of the split's images and of the look.
    """
    images = source.images()
    path = cache / f"{images.split_digest[:32]}-{look.digest()[:32]}.safetensors"
    try:
        return Described(**load_file(path))
    except (OSError, SafetensorError, TypeError):
        found = describe(source, np.arange(len(images)), look, spread)
        write_bytes(path, save(vars(found)))
        return found


def _describe(source: Source, look: Look, keys: Indices) -> Described:
    return look.describe(source, keys)


def _steps(source: Generated, look: Look, seeds: Indices) -> Float64:
    return look.steps(source, seeds)


def _batches(keys: Indices) -> list[Indices]:
    return [keys[start : start + BATCH] for start in range(0, len(keys), BATCH)]
