"""Exact Euclidean distances and nearest neighbours of feature vectors, in blocks of rows: memory stays bounded.

Q queries, P points, d features, k neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

BLOCK = 2**21  # distances at once: 16 MiB of float64


def squared_blocks(queries: npt.ArrayLike, points: npt.ArrayLike) -> Iterator[tuple[slice, Float64]]:
    """The rows of the [Q, P] matrix of squared distances, in order, a block at a time: which rows, and their squares.

    Float64 by ‖a‖² + ‖b‖² - 2 a·b about the points' mean, so features far from the origin keep their digits; a square
    of 0 may come out as a little above or below it.
    """
    b = np.asarray(points, np.float64)
    centre = b.mean(axis=0)
    b = b - centre
    norms = np.square(b).sum(axis=1)
    queries = np.asarray(queries)
    rows = max(1, BLOCK // len(b))
    for start in range(0, len(queries), rows):
        a = queries[start : start + rows].astype(np.float64) - centre
        squares = (-2 * a) @ b.T
        squares += norms
        squares += np.square(a).sum(axis=1)[:, None]
        yield slice(start, start + len(a)), squares


def distance_blocks(queries: npt.ArrayLike, points: npt.ArrayLike) -> Iterator[tuple[slice, Float64]]:
    """The same of the distances themselves."""
    for rows, squares in squared_blocks(queries, points):
        yield rows, np.sqrt(np.maximum(squares, 0, out=squares), out=squares)


def nearest(queries: npt.ArrayLike, points: npt.ArrayLike, k: int, *, itself: bool = False) -> tuple[Float64, Indices]:
    """The k nearest points of each query, nearest first.

    Args:
        queries: [Q, d].
        points: [P, d].
        k: 1 to P; to P - 1 with `itself`.
        itself: queries and points are the same set, and no point is its own neighbour (its twins are).

    Returns:
        Distances [Q, k] and positions among the points [Q, k].
    """
    distances, indices = [], []
    for rows, block in distance_blocks(queries, points):
        if itself:
            block[np.arange(len(block)), np.arange(rows.start, rows.stop)] = np.inf
        found = np.argpartition(block, k - 1, axis=1)[:, :k]
        values = np.take_along_axis(block, found, axis=1)
        order = np.argsort(values, axis=1, kind="stable")
        distances.append(np.take_along_axis(values, order, axis=1))
        indices.append(np.take_along_axis(found, order, axis=1))
    return np.concatenate(distances), np.concatenate(indices)
