"""Intervals against scipy's quantiles and closed forms."""

import numpy as np
import pytest
from scipy.stats import binomtest, t

from components.evaluation.intervals import BLOCKS, STUDENT_T, jackknife, share


def test_students_quantiles():
    assert pytest.approx(t.ppf(0.975, np.arange(1, BLOCKS)), abs=5e-4) == STUDENT_T


@pytest.mark.parametrize("count", [2, 7, 20])
def test_the_jackknife_of_a_mean_is_its_students_interval(count):
    values = np.random.default_rng(0).standard_normal(count)
    found = jackknife(values.mean(), (values.sum() - values) / (count - 1))
    low, high = t.interval(0.95, count - 1, values.mean(), values.std(ddof=1) / np.sqrt(count))
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-3)


def test_the_jackknife_is_cut_to_what_is_possible():
    found = jackknife(0.5, [0.1, 0.9], floor=0, ceiling=1)
    assert (found.low, found.high) == (0, 1)


@pytest.mark.parametrize(("count", "total"), [(0, 90), (1, 90), (45, 90), (90, 90), (1, 2)])
def test_a_share_is_wilsons(count, total):
    found = share(count, total)
    theirs = binomtest(count, total).proportion_ci(method="wilson")
    assert found.value == count / total
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=1e-4)
