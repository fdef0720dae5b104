"""The Fréchet distance of two sets of features, and its bias on finite sets.

N rows of one set, in G blocks, one after the other; d features; r columns of the other set's root.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import cast

import numpy as np

from components.evaluation.distances import Float64, Indices

EPS = float(np.finfo(np.float64).eps)


def covariance_root(rows: Float64) -> Float64:
    """R [d, r] with R Rᵀ the unbiased covariance of rows [M, d], r = min(M, d): from a QR decomposition of the rows."""
    centred: Float64 = (rows - rows.mean(axis=0)) / math.sqrt(len(rows) - 1)
    triangle = cast(Float64, np.linalg.qr(centred, mode="r"))  # NumPy's own types leave this mode out
    return triangle.T


def frechet_distances(rows: Float64, starts: Indices, root: Float64) -> Float64:
    """Squared Fréchet (2-Wasserstein) distances of Gaussians, ‖μ‖² + tr Σ + tr R Rᵀ - 2 tr (Rᵀ Σ R)^½.

    The last trace is the nuclear norm of the centred rows times R, over (N - 1)^½: the sum of the roots of the
    eigenvalues of the smaller of its two Gram matrices, [r, r] or [N, N]. No root of a matrix is taken.

    Args:
        rows: [N, d], about the other set's mean.
        starts: [G], where each block of them begins.
        root: [d, r], covariance_root of the other set.

    Returns:
        [G + 1]: without each block in turn, then of all; at least 0.

    Reference: Dowson and Landau 1982, "The Fréchet distance between multivariate normal distributions".
    """
    mean = rows.mean(axis=0)
    centred = rows - mean
    projected = centred @ root
    few = len(rows) < root.shape[1]
    gram = projected @ projected.T if few else projected.T @ projected
    found = []
    for start, stop in [*pairwise([*starts, len(rows)]), (0, 0)]:
        gone, count = np.s_[start:stop], len(rows) - (stop - start)
        shift = -centred[gone].sum(axis=0) / count  # of the mean
        rest = _gram_without(gram, gone) if few else _scatter_without(gram, projected[gone], count)
        scatter = np.square(centred).sum() - np.square(centred[gone]).sum() - count * (shift @ shift)
        degrees = max(count - 1, 1)  # one image by itself is a point
        overlap = _sum_of_roots(rest, count - 1) / math.sqrt(degrees)
        found.append(np.square(mean + shift).sum() + scatter / degrees + np.square(root).sum() - 2 * overlap)
    return np.maximum(found, 0)


def _gram_without(gram: Float64, gone: slice) -> Float64:
    """Inner products of the rows that are left, about their mean, [N', N']."""
    rest = np.delete(np.delete(gram, gone, axis=0), gone, axis=1)
    rest -= rest.mean(axis=0)
    rest -= rest.mean(axis=1)[:, None]
    return rest


def _scatter_without(scatter: Float64, gone: Float64, count: int) -> Float64:
    """Outer products of the `count` rows that are left, about their mean, [r, r]; all rows' mean is 0."""
    total = gone.sum(axis=0)
    return scatter - gone.T @ gone - np.outer(total, total) / count


def _sum_of_roots(gram: Float64, rank: int) -> float:
    """Of the `rank` largest eigenvalues; those within rounding of 0 are 0."""
    values = np.linalg.eigvalsh(gram)[max(0, len(gram) - rank) :]
    return float(np.sqrt(np.where(values > values.max(initial=0) * len(gram) * EPS, values, 0)).sum())


def bias(distances: Float64, starts: Indices, count: int) -> float:
    """How far the distance lies above that of endlessly many rows of the same distribution: it falls with 1 / N.

    The line goes through N and the mean of N without a block; its intercept is the distance less this bias.

    Args:
        distances: [G + 1], of frechet_distances.
        starts: [G], where each block of the rows begins.
        count: N.

    References: Chong and Forsyth 2020, "Effectively unbiased FID and Inception Score and where to find them",
    section 3; Quenouille 1956, "Notes on bias in estimation".
    """
    kept = 1 - np.diff(starts, append=count) / count
    return float(kept @ (distances[:-1] - distances[-1]))
