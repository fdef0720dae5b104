"""The Fréchet distance of feature sets against closed forms of two Gaussians (1e-9) and torchmetrics (1e-4)."""

import numpy as np
import pytest
import torch
from torchmetrics.image.fid import _compute_fid

from components.evaluation.frechet import covariance_root, frechet_distances
from components.evaluation.intervals import block_starts
from components.evaluation.metrics import compare, prepare


def rows_of(mean, root, count=200):
    """Rows whose mean and unbiased covariance are exactly the mean and root rootᵀ."""
    noise = np.random.default_rng(9).standard_normal((count, root.shape[1]))
    basis = np.linalg.qr(noise - noise.mean(0))[0]
    return mean + np.sqrt(count - 1) * basis @ root.T


def distance(a, b):
    return frechet_distances(a - b.mean(0), block_starts(len(a)), covariance_root(b))[-1]


def rotation(dim, seed):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, dim)))[0]


@pytest.mark.parametrize("count", [30, 200])
@pytest.mark.parametrize("turned", [False, True], ids=["diagonal", "commuting"])
def test_commuting_covariances(turned, count):
    """Dowson and Landau 1982: with a common eigenbasis, ‖μa - μb‖² + Σ (σa - σb)²."""
    rng = np.random.default_rng(0)
    dim = 24
    a, b, shift = rng.uniform(0.01, 5, dim), rng.uniform(0.01, 5, dim), rng.standard_normal(dim)
    basis = rotation(dim, 1) if turned else np.eye(dim)
    found = distance(rows_of(shift, basis * a, count), rows_of(np.zeros(dim), basis * b))
    assert found == pytest.approx(shift @ shift + np.square(a - b).sum(), abs=1e-9)


@pytest.mark.parametrize("angle", [0.0, 0.3, np.pi / 4, np.pi / 2])
def test_two_dimensions_turned_against_each_other(angle):
    """In two dimensions tr (Σa Σb)^½ = (tr Σa Σb + 2 (det Σa det Σb)^½)^½, from the characteristic polynomial."""
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    a, b = np.diag([3.0, 1.0]), turn @ np.diag([2.0, 0.5])
    overlap = np.sqrt(np.trace(a @ a @ b @ b.T) + 2 * np.linalg.det(a) * np.linalg.det(b))
    expected = 25 + 10 + 4.25 - 2 * overlap
    assert distance(rows_of([3.0, 4.0], a), rows_of(np.zeros(2), b)) == pytest.approx(expected, abs=1e-9)


def test_lines_in_the_plane():
    """Singular covariances u uᵀ and v vᵀ: the overlap is |u · v|."""
    u, v = np.array([[2.0], [0.0]]), np.array([[1.0], [3.0]])
    assert distance(rows_of(np.zeros(2), u), rows_of(np.zeros(2), v)) == pytest.approx(4 + 10 - 2 * 2, abs=1e-9)


def test_fewer_rows_than_features():
    """Independent of the Gram matrix that is used: the sum of the singular values of the centred rows' product."""
    rng = np.random.default_rng(4)
    a, b = rng.standard_normal((40, 64)) + 0.3, rng.standard_normal((50, 64))
    centred_a, centred_b = ((rows - rows.mean(0)) / np.sqrt(len(rows) - 1) for rows in (a, b))
    overlap = np.linalg.svd(centred_a @ centred_b.T, compute_uv=False).sum()
    shift = np.square(a.mean(0) - b.mean(0)).sum()
    expected = shift + np.square(centred_a).sum() + np.square(centred_b).sum() - 2 * overlap
    assert distance(a, b) == pytest.approx(expected, abs=1e-9)
    assert distance(b, a) == pytest.approx(expected, abs=1e-9)


def test_torchmetrics():
    rng = np.random.default_rng(3)
    a, b = (rng.standard_normal((400, 64)) @ rng.standard_normal((64, 64)) / 8 + shift for shift in (0.0, 0.5))
    gaussians = [(rows.mean(0), np.cov(rows, rowvar=False)) for rows in (a, b)]
    theirs = float(_compute_fid(*(torch.from_numpy(part) for gaussian in gaussians for part in gaussian)))
    assert distance(a, b) == pytest.approx(theirs, rel=1e-4, abs=1e-4)
    found = compare(a.astype(np.float32), prepare(b.astype(np.float32)))["frechet"].value
    assert found == pytest.approx(theirs, rel=1e-4, abs=1e-4)
