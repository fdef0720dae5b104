"""The kernel distance against torchmetrics, one subset of all, and against every pair by itself (1e-6)."""

import numpy as np
import pytest
import torch
from torchmetrics.image.kid import poly_mmd

from components.evaluation.metrics import compare, prepare


def features(count, dim, seed, shift=0.0):
    return (np.random.default_rng(seed).standard_normal((count, dim)) + shift).astype(np.float32)


@pytest.mark.parametrize(("count", "dim"), [(40, 8), (1100, 64), (150, 300)])
@pytest.mark.parametrize("shift", [0.0, 5.0])
def test_torchmetrics(count, dim, shift):
    a, b = features(count, dim, 0, shift), 1.2 * features(count, dim, 1, shift)
    theirs = float(poly_mmd(*(torch.from_numpy(rows).double() for rows in (b, a))))
    assert compare(a, prepare(b))["kernel"].value == pytest.approx(theirs, rel=1e-6)


def test_sets_of_different_size():
    a, b = features(30, 6, 2).astype(np.float64), features(17, 6, 3, 0.5).astype(np.float64)

    def kernel(x, y):
        return (x @ y / 6 + 1) ** 3

    within = [
        np.mean([kernel(x, y) for i, x in enumerate(rows) for j, y in enumerate(rows) if i != j]) for rows in (a, b)
    ]
    expected = sum(within) - 2 * np.mean([kernel(x, y) for x in a for y in b])
    found = compare(a.astype(np.float32), prepare(b.astype(np.float32)))["kernel"].value
    assert found == pytest.approx(expected, rel=1e-9)
