"""The kernel distance of two sets of features, a tile of pairs at a time: memory stays bounded.

N generated, M real, d features; G blocks of the generated, one after the other.
"""

from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np
import numpy.typing as npt

from components.evaluation.distances import Float64, Indices

TILE = 1024  # rows by rows of pairs at once: 8 MiB of float64


def kernel_distances(generated: npt.ArrayLike, starts: Indices, reals: npt.ArrayLike, within: float) -> Float64:
    """Unbiased squared maximum mean discrepancy with the kernel (x·y / d + 1)³, one subset of all images.

    Args:
        generated: [N, d], N at least 2.
        starts: [G], where each block of them begins.
        reals: [M, d].
        within: kernel_within of the reals.

    Returns:
        [G + 1]: without each block in turn, then of all.

    References: Gretton et al. 2012, "A kernel two-sample test", equation 3; Bińkowski et al. 2018, "Demystifying MMD
    GANs", section 4.
    """
    x, y = np.split(_augmented(generated), starts[1:]), _augmented(reals)
    sizes = np.array([len(block) for block in x])
    across = np.array([_sum(block, y) for block in x])
    pairs = np.empty((len(x), len(x)))
    for a, b in combinations_with_replacement(range(len(x)), 2):
        pairs[a, b] = pairs[b, a] = _sum(x[a], x[b]) - (_twins(x[a]) if a == b else 0)
    count = sizes.sum() - np.append(sizes, 0)
    own = pairs.sum() - np.append(2 * pairs.sum(axis=1) - np.diag(pairs), 0)
    cross = across.sum() - np.append(across, 0)
    distances: Float64 = own / np.maximum(count * (count - 1), 1) + within - 2 * cross / (count * len(y))
    return distances


def kernel_within(rows: npt.ArrayLike) -> float:
    """The kernel's mean over all pairs of different rows of [M, d], M at least 2."""
    x = _augmented(rows)
    return (_sum(x, x) - _twins(x)) / (len(x) * (len(x) - 1))


def _augmented(rows: npt.ArrayLike) -> Float64:
    """[x / √d, 1]: the kernel is the cube of the inner product of two such rows."""
    x = np.asarray(rows, np.float64)
    return np.column_stack([x / np.sqrt(x.shape[1]), np.ones(len(x))])


def _sum(a: Float64, b: Float64) -> float:
    """The kernel over all pairs of a row of a and a row of b."""
    total = 0.0
    for row in range(0, len(a), TILE):
        for column in range(0, len(b), TILE):
            products = a[row : row + TILE] @ b[column : column + TILE].T
            total += float(np.einsum("ij,ij,ij->", products, products, products))
    return total


def _twins(a: Float64) -> float:
    """The kernel over the pairs of each row and itself."""
    return float((np.square(a).sum(axis=1) ** 3).sum())
