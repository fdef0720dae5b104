"""Streaming statistics against numpy.mean and numpy.cov."""

import numpy as np
import pytest

from components.evaluation.statistics import GaussianStatistics


def rows(count=500, dim=7, offset=0.0):
    rng = np.random.default_rng(1)
    return rng.standard_normal((count, dim)) @ rng.standard_normal((dim, dim)) + offset


def gathered(batches, dim=7):
    found = GaussianStatistics(dim)
    for batch in batches:
        found.update(batch)
    return found


@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("size", [1, 64, 500])
def test_batches_give_numpy_s_mean_and_covariance(size, offset):
    data = rows(offset=offset)
    found = gathered(data[start : start + size] for start in range(0, len(data), size))
    assert found.count == 500
    np.testing.assert_allclose(found.mean, data.mean(0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.covariance, np.cov(data, rowvar=False), rtol=0, atol=1e-13 * max(1, offset) * 100)


def test_merged_parts_are_the_whole_in_either_order():
    data = rows()
    for cuts in ([data[:3], data[3:]], [data[3:], data[:3]]):
        first, second = (gathered([part]) for part in cuts)
        first.merge(second)
        np.testing.assert_allclose(first.mean, data.mean(0), rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(first.covariance, np.cov(data, rowvar=False), rtol=1e-12, atol=1e-13)


def test_float32_features_are_summed_in_float64():
    data = (rows(20_000, 2) + 1000).astype(np.float32)
    found = gathered(np.array_split(data, 300), dim=2)
    np.testing.assert_allclose(found.covariance, np.cov(data.astype(np.float64), rowvar=False), rtol=1e-10)
