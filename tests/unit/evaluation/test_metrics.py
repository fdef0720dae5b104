"""The Fréchet distance's properties; its values are compared with closed forms in tests/parity."""

import numpy as np
import pytest

from components.evaluation.metrics import frechet, frechet_distance
from components.evaluation.statistics import GaussianStatistics


def gaussian(seed, dim=16, rank=16):
    rng = np.random.default_rng(seed)
    factor = rng.standard_normal((dim, rank))
    return rng.standard_normal(dim), factor @ factor.T / rank


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
