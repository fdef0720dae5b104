"""Mean and covariance of a stream of feature batches, in float64 and in memory that does not grow with it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]


class GaussianStatistics:
    """Mean and covariance of all rows seen so far; parts merge to the same as one stream, up to rounding.

    Reference: Chan, Golub, LeVeque 1983, "Algorithms for computing the sample variance", equations 2.1.

    Attributes:
        count: rows seen.
        mean: [d].
    """

    def __init__(self, dim: int) -> None:
        self.count = 0
        self.mean: Float64 = np.zeros(dim)
        self._scatter: Float64 = np.zeros((dim, dim))  # sum of outer products of deviations from the mean

    def update(self, features: npt.ArrayLike) -> None:
        """Adds a batch, [B, d] with B at least 1."""
        rows = np.asarray(features, dtype=np.float64)
        mean = rows.mean(axis=0)
        centred = rows - mean
        self._add(len(rows), mean, centred.T @ centred)

    def merge(self, other: GaussianStatistics) -> None:
        """Adds everything that `other` has seen, at least one row."""
        self._add(other.count, other.mean, other._scatter)

    def _add(self, count: int, mean: Float64, scatter: Float64) -> None:
        total = self.count + count
        shift = mean - self.mean
        self._scatter = self._scatter + scatter + np.outer(shift, shift) * (self.count * count / total)
        self.mean = self.mean + shift * (count / total)
        self.count = total

    @property
    def covariance(self) -> Float64:
        """[d, d], unbiased: divided by count - 1, so count must be at least 2."""
        assert self.count > 1, self.count
        return self._scatter / (self.count - 1)
