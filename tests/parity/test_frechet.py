"""The Fréchet distance against closed forms of two Gaussians (1e-9) and torchmetrics (1e-4)."""

import numpy as np
import pytest
import torch
from torchmetrics.image.fid import _compute_fid

from components.evaluation.metrics import frechet_distance


def rotation(dim, seed):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, dim)))[0]


@pytest.mark.parametrize("turned", [False, True], ids=["diagonal", "commuting"])
def test_commuting_covariances(turned):
    """Dowson and Landau 1982: with a common eigenbasis, ‖μa - μb‖² + Σ (σa - σb)²."""
    rng = np.random.default_rng(0)
    dim = 24
    a, b, shift = rng.uniform(0.01, 5, dim), rng.uniform(0.01, 5, dim), rng.standard_normal(dim)
    basis = rotation(dim, 1) if turned else np.eye(dim)
    found = frechet_distance(shift, basis * a**2 @ basis.T, np.zeros(dim), basis * b**2 @ basis.T)
    assert found == pytest.approx(shift @ shift + np.square(a - b).sum(), abs=1e-9)


@pytest.mark.parametrize("angle", [0.0, 0.3, np.pi / 4, np.pi / 2])
def test_two_dimensions_turned_against_each_other(angle):
    """In two dimensions tr (Σa Σb)^½ = (tr Σa Σb + 2 (det Σa det Σb)^½)^½, from the characteristic polynomial."""
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    a, b = np.diag([9.0, 1.0]), turn @ np.diag([4.0, 0.25]) @ turn.T
    overlap = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a) * np.linalg.det(b)))
    expected = 25 + 10 + 4.25 - 2 * overlap
    assert frechet_distance(np.array([3.0, 4.0]), a, np.zeros(2), b) == pytest.approx(expected, abs=1e-9)


def test_lines_in_the_plane():
    """Singular covariances u uᵀ and v vᵀ: the overlap is |u · v|."""
    u, v = np.array([2.0, 0.0]), np.array([1.0, 3.0])
    found = frechet_distance(np.zeros(2), np.outer(u, u), np.zeros(2), np.outer(v, v))
    assert found == pytest.approx(4 + 10 - 2 * 2, abs=1e-9)


def test_torchmetrics():
    rng = np.random.default_rng(3)
    sets = [rng.standard_normal((400, 64)) @ rng.standard_normal((64, 64)) / 8 + shift for shift in (0.0, 0.5)]
    gaussians = [(rows.mean(0), np.cov(rows, rowvar=False)) for rows in sets]
    theirs = _compute_fid(*(torch.from_numpy(part) for gaussian in gaussians for part in gaussian))
    assert frechet_distance(*gaussians[0], *gaussians[1]) == pytest.approx(float(theirs), rel=1e-4, abs=1e-4)
