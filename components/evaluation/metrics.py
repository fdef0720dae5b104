"""What generated images are compared with reals by: seven numbers from their features, each with its 95 % interval.

N generated, M real, d features, r = min(M, d).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from components.evaluation.distances import Float64, Indices, squared_blocks
from components.evaluation.frechet import bias, covariance_root, frechet_distances
from components.evaluation.intervals import Measured, block_starts, jackknife, share
from components.evaluation.kernel import kernel_distances, kernel_within
from components.evaluation.manifold import Bools, K, Manifold, find_manifold, squared_radii

Rows = TypeVar("Rows", npt.NDArray[np.float32], Float64)

KINDS = ("frechet", "frechet_infinity", "kernel", "precision", "recall", "density", "coverage")  # of compare()
ORDER_SEED = 0
TRIMMED = 0.01  # of path lengths, at either end


@dataclass(frozen=True)
class Reals:
    """A set of real images' features and all that comparisons need to know of them alone.

    Attributes:
        features: [M, d], M at least 2.
        root: [d, r], covariance_root.
        radii: [M], squared, of the balls around them.
        within: their kernel's mean over pairs.
    """

    features: npt.NDArray[np.float32]
    root: Float64
    radii: Float64
    within: float


def prepare(features: npt.NDArray[np.float32]) -> Reals:
    """The comparisons' side of the reals, once per set, from [M, d]."""
    rows = features.astype(np.float64)
    radii = squared_radii(rows - rows.mean(axis=0))
    return Reals(features, covariance_root(rows), radii, kernel_within(features))


def compare(generated: npt.NDArray[np.float32], reals: Reals) -> dict[str, Measured]:
    """All metrics of generated images against reals.

    Intervals are for other images of the same generator against the same reals: the generated images are resampled,
    in blocks of a fixed random order, the reals are not.

    Args:
        generated: [N, d], N at least 2.
        reals: of the same extractor.

    Returns:
        frechet: squared Fréchet distance, at least 0, biased upwards by both sets' finite size.
        frechet_infinity: without that bias to first order, extrapolated in both sets; may come out below 0.
        kernel: squared maximum mean discrepancy, unbiased; may come out below 0.
        precision, recall, coverage: shares. density: at least 0, 1 for reals.
    """
    generated = _shuffled(generated)
    starts = block_starts(len(generated))
    rows, real_rows = _about_the_reals(generated, reals), _about_the_reals(reals.features, reals)
    kernel = kernel_distances(generated, starts, reals.features, reals.within)
    manifold = find_manifold(rows, starts, real_rows, reals.radii)
    return {
        **_frechet(rows, starts, real_rows, reals.root),
        "kernel": jackknife(kernel[-1], kernel[:-1]),
        **_manifold(manifold, starts, min(K, len(real_rows) - 1)),
    }


def frechet(generated: npt.NDArray[np.float32], reals: Reals) -> dict[str, Measured]:
    """The first two of compare()."""
    generated = _shuffled(generated)
    rows, real_rows = _about_the_reals(generated, reals), _about_the_reals(reals.features, reals)
    return _frechet(rows, block_starts(len(rows)), real_rows, reals.root)


def distance(kind: str, generated: npt.NDArray[np.float32], reals: Reals) -> float:
    """One of the first three of compare(), without its interval."""
    whole = np.zeros(1, np.int64)
    if kind == "kernel":
        return float(kernel_distances(generated, whole, reals.features, reals.within)[-1])
    if kind == "frechet":
        return float(frechet_distances(_about_the_reals(generated, reals), whole[:0], reals.root)[-1])
    return frechet(generated, reals)[kind].value


def covered(generated: npt.NDArray[np.float32], reals: Reals) -> Bools:
    """[M]: which reals coverage counts, those with a generated image in the ball around them."""
    rows, real_rows = _about_the_reals(generated, reals), _about_the_reals(reals.features, reals)
    closest = np.concatenate([squares.min(axis=1) for _, squares in squared_blocks(real_rows, rows)])
    inside: Bools = closest < reals.radii
    return inside


def path_length(distances: npt.NDArray[np.float64]) -> Measured:
    """Perceptual path length: the mean after the lowest and the highest 1 % are dropped; pairs are resampled.

    Args:
        distances: [P], of features of images of nearby latents, squared, over the squared step; P at least 2.

    Reference: Karras et al. 2019, "A style-based generator architecture", section 4.1.
    """
    starts = block_starts(len(distances))
    blocks = pairwise([*starts, len(distances)])
    without = [_trimmed(np.delete(distances, np.s_[start:stop])) for start, stop in blocks]
    return jackknife(_trimmed(distances), without, floor=0)


def _shuffled(rows: Rows) -> Rows:
    """In a fixed random order: blocks of it are alike, however the images were listed."""
    return rows[np.random.RandomState(ORDER_SEED).permutation(len(rows))]


def _about_the_reals(features: npt.NDArray[np.float32], reals: Reals) -> Float64:
    rows: Float64 = features.astype(np.float64) - reals.features.mean(axis=0, dtype=np.float64)
    return rows


def _frechet(rows: Float64, starts: Indices, real_rows: Float64, root: Float64) -> dict[str, Measured]:
    """Both Fréchet distances. What is without bias varies with the generated images as the plain one does."""
    real_starts = block_starts(len(real_rows))
    distances = frechet_distances(rows, starts, root)
    swapped = frechet_distances(_shuffled(real_rows - rows.mean(axis=0)), real_starts, covariance_root(rows))
    infinity = distances[-1] - bias(distances, starts, len(rows)) - bias(swapped, real_starts, len(real_rows))
    return {
        "frechet": jackknife(distances[-1], distances[:-1], floor=0),
        "frechet_infinity": jackknife(infinity, distances[:-1]),
    }


def _manifold(found: Manifold, starts: Indices, k: int) -> dict[str, Measured]:
    """Precision's images are independent of each other, so its interval is that of a share."""
    count = len(found.balls)
    kept = count - np.diff(starts, append=count)
    density = (found.balls.sum() - np.add.reduceat(found.balls, starts)) / (k * kept)
    recall, coverage = found.recalled.mean(axis=1), found.covered.mean(axis=1)
    return {
        "precision": share(int(np.count_nonzero(found.balls)), count),
        "recall": jackknife(recall[-1], recall[:-1], floor=0, ceiling=1),
        "density": jackknife(found.balls.mean() / k, density, floor=0),
        "coverage": jackknife(coverage[-1], coverage[:-1], floor=0, ceiling=1),
    }


def _trimmed(distances: npt.NDArray[np.float64]) -> float:
    dropped = int(TRIMMED * len(distances))
    return float(np.sort(distances)[dropped : len(distances) - dropped].mean())
