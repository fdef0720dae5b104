"""Precision, recall, density and coverage of features, by balls that reach their k-th nearest neighbours.

N generated, M real, d features, k = K neighbours; G blocks of the generated, one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from components.evaluation.distances import Float64, Indices, squared_blocks

K = 5
HAIR = 1e-12  # of the largest squared norm: more than rounding in float64

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Manifold:
    """Who lies in whose ball.

    Attributes:
        balls: [N], real balls that hold each generated point.
        recalled: [G + 1, M], whether a generated ball holds the real point: without each block in turn, then with all.
        covered: [G + 1, M], whether the real point's ball holds a generated one, likewise.
    """

    balls: Indices
    recalled: Bools
    covered: Bools


def squared_radii(points: Float64) -> Float64:
    """Squared distance of each point to its k-th nearest other, or to the farthest where there are fewer.

    A hair less than that, so that a point exactly on a ball's edge is outside of it however its distance is rounded.

    Args:
        points: [P, d], about a centre that suits all that they are compared with.

    Returns:
        [P].
    """
    return _radii(points, _closest_others(points, np.zeros(1, np.int64))[:, 0])


def _radii_without(points: Float64, starts: Indices) -> Float64:
    """The same without each block of the others in turn, then with all, [G + 1, P]."""
    close = _closest_others(points, starts)
    radii = np.empty((len(starts) + 1, len(points)))
    for number in range(len(starts)):
        radii[number] = _radii(points, np.delete(close, number, axis=1).reshape(len(points), -1))
    radii[-1] = _radii(points, close.reshape(len(points), -1))
    return radii


def _closest_others(points: Float64, starts: Indices) -> Float64:
    """Squared distances of each point to the k nearest others in each block, [P, G, k], inf where it has fewer."""
    close = np.full((len(points), len(starts), K), np.inf)
    for rows, squares in squared_blocks(points, points):
        squares[np.arange(len(squares)), np.arange(rows.start, rows.stop)] = np.inf
        for number, (start, stop) in enumerate(pairwise([*starts, len(points)])):
            kept = min(K, stop - start)
            close[rows, number, :kept] = np.partition(squares[:, start:stop], kept - 1, axis=1)[:, :kept]
    return close


def _radii(points: Float64, close: Float64) -> Float64:
    """The k-th smallest of each point's row of [P, at least k], or its largest finite; 0 if none is; less a hair."""
    smallest = np.partition(close, K - 1, axis=1)[:, :K]
    radii: Float64 = np.where(np.isfinite(smallest), smallest, 0).max(axis=1)
    radii -= HAIR * np.square(points).sum(axis=1).max()
    return radii


def find_manifold(generated: Float64, starts: Indices, reals: Float64, real_radii: Float64) -> Manifold:
    """Who lies in whose ball, strictly inside; exact for every block left out.

    Args:
        generated: [N, d], about the reals' mean.
        starts: [G], where each block of them begins.
        reals: [M, d], about their mean.
        real_radii: [M], squared.

    References: Kynkäänniemi et al. 2019, "Improved precision and recall metric for assessing generative models",
    equations 1 and 2; Naeem et al. 2020, "Reliable fidelity and diversity metrics for generative models",
    equations 4 and 5.
    """
    radii = _radii_without(generated, starts)
    block_of = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(generated)))
    balls = np.zeros(len(generated), np.int64)
    recalled = np.empty((len(starts) + 1, len(reals)), np.bool_)
    closest = np.empty((len(reals), len(starts)))
    for rows, squares in squared_blocks(reals, generated):
        balls += np.count_nonzero(squares < real_radii[rows, None], axis=0)
        closest[rows] = np.minimum.reduceat(squares, starts, axis=1)
        recalled[:, rows] = _recalled(squares, radii, starts, block_of)
    covered = [np.delete(closest, number, axis=1).min(axis=1) for number in range(len(starts))]
    return Manifold(balls, recalled, np.stack([*covered, closest.min(axis=1)]) < real_radii)


def _recalled(squares: Float64, radii: Float64, starts: Indices, block_of: Indices) -> Bools:
    """[G + 1, rows]: whether any ball holds each row's point, without each block's points in turn, then with all.

    A point that the smallest balls of two blocks hold is sure to be recalled whichever block goes; of the others, the
    few pairs within the largest balls decide.
    """
    sure = np.logical_or.reduceat(squares < radii.min(axis=0), starts, axis=1).sum(axis=1) > 1
    found = np.repeat(sure[None], len(radii), axis=0)
    unsure = np.flatnonzero(~sure)
    rows, columns = np.nonzero(squares[unsure] < radii.max(axis=0))
    pairs, blocks = squares[unsure[rows], columns], block_of[columns]
    for number, radius in enumerate(radii):
        held = (pairs < radius[columns]) & (blocks != number)
        found[number, unsure[rows[held]]] = True
    return found
