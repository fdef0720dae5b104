"""Blocks of distances against every pair by itself, and neighbours against a full sort."""

import numpy as np
import pytest

from components.evaluation import distances
from components.evaluation.distances import distance_blocks, nearest


@pytest.fixture(params=[1, 64, 2**21])
def block(request, monkeypatch):
    monkeypatch.setattr(distances, "BLOCK", request.param)


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_distances(offset):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((23, 5)) + offset, rng.standard_normal((17, 5)) + offset
    expected = np.linalg.norm(a[:, None] - b, axis=2)
    blocks = list(distance_blocks(a, b))
    assert [row for rows, _ in blocks for row in range(rows.start, rows.stop)] == list(range(23))
    np.testing.assert_allclose(np.concatenate([block for _, block in blocks]), expected, rtol=1e-10)


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("k", [1, 4, 16])
def test_nearest(k):
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((23, 5)).astype(np.float32), rng.standard_normal((17, 5)).astype(np.float32)
    expected = np.linalg.norm(a[:, None].astype(np.float64) - b, axis=2)
    found, at = nearest(a, b, k)
    np.testing.assert_allclose(found, np.sort(expected, axis=1)[:, :k], rtol=1e-10)
    np.testing.assert_array_equal(at, np.argsort(expected, axis=1)[:, :k])


def test_a_point_is_not_its_own_neighbour_but_its_twin_is():
    points = np.array([[0.0, 0], [3, 4], [0, 0], [6, 8]])
    found, at = nearest(points, points, 1, itself=True)
    np.testing.assert_allclose(found[:, 0], [0, 5, 0, 5], atol=1e-6)
    assert at[0, 0] == 2
    assert at[2, 0] == 0
    assert at[3, 0] == 1
