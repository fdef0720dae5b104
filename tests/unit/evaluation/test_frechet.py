"""The Fréchet distance's properties; its values are compared with closed forms in tests/parity."""

import numpy as np
import pytest

from components.evaluation.frechet import bias, covariance_root, frechet, frechet_distance, frechet_distances
from components.evaluation.intervals import block_starts
from components.evaluation.statistics import GaussianStatistics


def gaussian(seed, dim=16, rank=16):
    rng = np.random.default_rng(seed)
    factor = rng.standard_normal((dim, rank))
    return rng.standard_normal(dim), factor @ factor.T / rank


def distance(a, b):
    return frechet_distances(a - b.mean(0), block_starts(len(a)), covariance_root(b))[-1]


@pytest.mark.parametrize("rank", [16, 5, 1])
def test_identical_is_zero_and_the_order_does_not_matter(rank):
    a, b = gaussian(0, rank=rank), gaussian(1)
    assert frechet_distance(*a, *a) == pytest.approx(0, abs=1e-12)
    assert frechet_distance(*a, *b) == pytest.approx(frechet_distance(*b, *a), rel=1e-12)
    assert frechet_distance(*a, *b) > 1


def test_one_point_is_its_squared_mean_distance():
    mean, covariance = gaussian(2)
    point = np.full(16, 3.0)
    expected = np.square(mean - point).sum() + np.trace(covariance)
    assert frechet_distance(mean, covariance, point, np.zeros((16, 16))) == pytest.approx(expected, rel=1e-12)


def test_a_repeated_row_against_itself_is_zero():
    repeated, again = GaussianStatistics(4), GaussianStatistics(4)
    repeated.update(np.tile([0.1, 0.2, 0.3, 0.7], (90, 1)))
    again.update(np.tile([0.1, 0.2, 0.3, 0.7], (7, 1)))
    assert frechet(repeated, again) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("count", "others"), [(100, 120), (30, 120), (100, 30), (30, 25)])
def test_rows_and_their_statistics_are_as_far_apart(count, others):
    """64 features: more and fewer rows than those, on either side."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((count, 64)) + 0.1, rng.standard_normal((others, 64)) @ rng.standard_normal((64, 64)) / 8
    expected = frechet_distance(a.mean(0), np.cov(a, rowvar=False), b.mean(0), np.cov(b, rowvar=False))
    assert distance(a, b) == pytest.approx(expected, abs=1e-6)
    assert distance(a, b) == pytest.approx(distance(b, a), rel=1e-9)


def test_a_root_is_one_of_the_covariance():
    rows = np.random.default_rng(0).standard_normal((40, 12))
    for count, dim in ((40, 12), (9, 12)):
        root = covariance_root(rows[:count])
        assert root.shape == (dim, min(count, dim))
        np.testing.assert_allclose(root @ root.T, np.cov(rows[:count], rowvar=False), atol=1e-12)


def test_the_bias_of_a_squared_mean_is_the_means_variance():
    """From a point at 0 it is ‖mean‖² + tr Σ; the first is tr Σ / N too large, Σ is unbiased."""
    rows = np.random.default_rng(0).standard_normal((20, 8)) + 1
    starts = block_starts(20)
    distances = frechet_distances(rows, starts, np.zeros((8, 1)))
    assert bias(distances, starts, 20) == pytest.approx(np.cov(rows, rowvar=False).trace() / 20, rel=1e-9)
