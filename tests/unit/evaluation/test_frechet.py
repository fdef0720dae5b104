"""The Fréchet distance's properties; its values are compared with closed forms in tests/parity."""

import numpy as np
import pytest
import scipy.linalg

from components.evaluation.frechet import bias, covariance_root, frechet_distances
from components.evaluation.intervals import block_starts


def rows(seed, count=200, dim=16, rank=16):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, rank)) @ rng.standard_normal((rank, dim)) + rng.standard_normal(dim)


def distance(a, b):
    return frechet_distances(a - b.mean(0), block_starts(len(a)), covariance_root(b))[-1]


@pytest.mark.parametrize("rank", [16, 5, 1])
def test_identical_is_zero_and_the_order_does_not_matter(rank):
    a, b = rows(0, rank=rank), rows(1)
    assert distance(a, a) == pytest.approx(0, abs=1e-9)
    assert distance(a, b) == pytest.approx(distance(b, a), rel=1e-9)
    assert distance(a, b) > 1


def test_one_point_is_its_squared_mean_distance():
    a = rows(2)
    point = np.full((90, 16), 3.0)
    expected = np.square(a.mean(0) - 3).sum() + np.cov(a, rowvar=False).trace()
    assert distance(point, a) == pytest.approx(expected, rel=1e-12)
    assert distance(a, point) == pytest.approx(expected, rel=1e-12)
    assert distance(point[:7], point) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("count", "others"), [(100, 120), (30, 120), (100, 30), (30, 25)])
def test_rows_and_their_statistics_are_as_far_apart(count, others):
    """64 features: more and fewer rows than those, on either side."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((count, 64)) + 0.1, rng.standard_normal((others, 64)) @ rng.standard_normal((64, 64)) / 8
    mean_a, cov_a, mean_b, cov_b = a.mean(0), np.cov(a, rowvar=False), b.mean(0), np.cov(b, rowvar=False)
    overlap = np.sqrt(np.maximum(scipy.linalg.eigvals(cov_a @ cov_b).real, 0)).sum()  # tr (Σa Σb)^½
    expected = np.square(mean_a - mean_b).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * overlap
    assert distance(a, b) == pytest.approx(expected, abs=1e-5)
    assert distance(a, b) == pytest.approx(distance(b, a), rel=1e-9)


def test_a_root_is_one_of_the_covariance():
    drawn = np.random.default_rng(0).standard_normal((40, 12))
    for count, dim in ((40, 12), (9, 12)):
        root = covariance_root(drawn[:count])
        assert root.shape == (dim, min(count, dim))
        np.testing.assert_allclose(root @ root.T, np.cov(drawn[:count], rowvar=False), atol=1e-12)


def test_the_bias_of_a_squared_mean_is_the_means_variance():
    """From a point at 0 it is ‖mean‖² + tr Σ; the first is tr Σ / N too large, Σ is unbiased."""
    drawn = np.random.default_rng(0).standard_normal((20, 8)) + 1
    starts = block_starts(20)
    distances = frechet_distances(drawn, starts, np.zeros((8, 1)))
    assert bias(distances, starts, 20) == pytest.approx(np.cov(drawn, rowvar=False).trace() / 20, rel=1e-9)
