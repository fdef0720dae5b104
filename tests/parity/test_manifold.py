"""Precision, recall, density and coverage against prdc on the same features: the same counts, repeated points too."""

import numpy as np
import pytest
from prdc import compute_prdc

from components.evaluation.manifold import K
from components.evaluation.metrics import compare, covered, prepare


def gaussian(rng, count, scale):
    return scale * rng.standard_normal((count, 12))


def lattice(rng, count, scale):
    """Whole numbers: most points are repeated and most distances are equal to others, and exact in prdc."""
    return rng.integers(0, 2 + round(scale), (count, 4)).astype(np.float64)


@pytest.mark.parametrize("draw", [gaussian, lattice])
@pytest.mark.parametrize(("count", "reals"), [(300, 200), (90, 700), (2100, 1200), (8, 7)])
@pytest.mark.parametrize("scale", [0.7, 1.0, 1.6])
def test_prdc(draw, count, reals, scale):
    rng = np.random.default_rng(0)
    a, b = draw(rng, count, scale), draw(rng, reals, 1.0)
    a, b = a.astype(np.float32), b.astype(np.float32)
    theirs = compute_prdc(b.astype(np.float64), a.astype(np.float64), K)
    prepared = prepare(b)
    found = compare(a, prepared)
    assert {name: found[name].value for name in theirs} == pytest.approx(theirs, abs=1e-12)
    assert covered(a, prepared).mean() == pytest.approx(theirs["coverage"], abs=1e-12)


def test_copies_of_reals_and_one_image_repeated():
    rng = np.random.default_rng(1)
    reals = lattice(rng, 400, 1.0).astype(np.float32)
    for a in (reals[::3], np.repeat(reals[:1], 50, axis=0), np.concatenate([reals[:60], reals[:60]])):
        theirs = compute_prdc(reals.astype(np.float64), a.astype(np.float64), K)
        found = compare(a, prepare(reals))
        assert {name: found[name].value for name in theirs} == pytest.approx(theirs, abs=1e-12)
