"""The metrics' intervals: exact without each block, and honest over many draws; known answers at the edges."""

import numpy as np
import pytest
from scipy.stats import trim_mean

from components.evaluation.frechet import covariance_root, frechet_distances
from components.evaluation.intervals import BLOCKS, block_starts
from components.evaluation.kernel import kernel_distances, kernel_within
from components.evaluation.manifold import find_manifold, squared_radii
from components.evaluation.metrics import compare, path_length, prepare

NAMES = ["frechet", "frechet_infinity", "kernel", "precision", "recall", "density", "coverage"]
CENTRED = ("frechet_infinity", "kernel")  # 0 on average for what is real


def draw(rng, count, dim=16, scale=1.0, shift=0.0):
    return (scale * rng.standard_normal((count, dim)) + shift).astype(np.float32)


def in_order(rows):
    """As listed by what they show: neighbours are alike, and the metrics must not care."""
    rows[:, 0] *= 5
    return rows[np.argsort(rows[:, 0])]


def repeats(rng, count):
    """Points of a lattice in order: many twins, most of them in the same block."""
    points = rng.integers(0, 3, (count, 3)).astype(np.float64)
    return points[np.lexsort(points.T)]


@pytest.mark.parametrize(("count", "dim", "reals"), [(50, 6, 40), (45, 70, 60), (45, 70, 30), (3, 5, 30), (2, 4, 9)])
def test_frechet_without_a_block_is_that_of_the_rest(count, dim, reals):
    rng = np.random.default_rng(0)
    rows, root = rng.standard_normal((count, dim)) + 0.2, covariance_root(rng.standard_normal((reals, dim)))
    starts = block_starts(count)
    found = frechet_distances(rows, starts, root)
    for block, value in zip(np.split(np.arange(count), starts[1:]), found, strict=False):
        rest = np.delete(rows, block, axis=0)
        rest = np.repeat(rest, 2, axis=0) if len(rest) == 1 else rest
        assert value == pytest.approx(frechet_distances(rest, block_starts(len(rest)), root)[-1], rel=1e-9)


@pytest.mark.parametrize("count", [50, 3])
def test_kernel_without_a_block_is_that_of_the_rest(count):
    rng = np.random.default_rng(0)
    rows, reals = rng.standard_normal((count, 5)) + 0.2, rng.standard_normal((30, 5))
    starts, within = block_starts(count), kernel_within(reals)
    found = kernel_distances(rows, starts, reals, within)
    for block, value in zip(np.split(np.arange(count), starts[1:]), found, strict=False):
        rest = np.delete(rows, block, axis=0)
        assert value == pytest.approx(kernel_distances(rest, block_starts(len(rest)), reals, within)[-1], rel=1e-9)


@pytest.mark.parametrize("points", [lambda rng, count: rng.standard_normal((count, 3)), repeats])
@pytest.mark.parametrize("count", [*range(3, 10), 35, 200])
def test_manifold_without_a_block_is_that_of_the_rest(points, count):
    rng = np.random.default_rng(0)
    rows, reals = points(rng, count), points(rng, 60)
    radii, starts = squared_radii(reals), block_starts(count)
    found = find_manifold(rows, starts, reals, radii)
    for number, block in enumerate(np.split(np.arange(count), starts[1:])):
        rest = np.delete(rows, block, axis=0)
        again = find_manifold(rest, block_starts(len(rest)), reals, radii)
        np.testing.assert_array_equal(found.balls[np.delete(np.arange(count), block)], again.balls)
        np.testing.assert_array_equal(found.covered[number], again.covered[-1])
        np.testing.assert_array_equal(found.recalled[number], again.recalled[-1])


@pytest.fixture(scope="module", params=[(240, 0.8), (180, 1.2)], ids=["too narrow", "too wide"])
def draws(request):
    """Of one generator against the same reals, 150 times: name to [150, 3] of value, low and high."""
    count, scale = request.param
    reals = prepare(draw(np.random.default_rng(0), 200))
    found = [compare(draw(np.random.default_rng(seed), count, 16, scale, 0.1), reals) for seed in range(1, 151)]
    return {name: np.array([(one[name].value, one[name].low, one[name].high) for one in found]) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_intervals_are_as_wide_as_the_value_varies_over_draws(name, draws):
    value, low, high = draws[name].T
    ratio = (high - low).mean() / (2 * 2 * value.std(ddof=1))
    widest = 2.2 if name in ("recall", "coverage") else 1.35  # the jackknife overestimates what is not smooth
    assert 0.75 < ratio < widest, ratio
    assert np.mean((low <= value.mean()) & (value.mean() <= high)) >= 0.88


def test_path_lengths_interval_is_honest():
    found = [path_length(np.random.default_rng(seed).lognormal(0, 1, 500)) for seed in range(200)]
    values = np.array([one.value for one in found])
    assert 0.8 < np.mean([one.high - one.low for one in found]) / (4 * values.std(ddof=1)) < 1.25
    assert np.mean([one.low <= values.mean() <= one.high for one in found]) >= 0.9


def test_path_length_is_the_trimmed_mean():
    lengths = np.random.default_rng(0).lognormal(0, 2, 1050)
    assert path_length(lengths).value == pytest.approx(trim_mean(lengths, 0.01), rel=1e-12)


@pytest.mark.parametrize(("count", "reals"), [(900, 90), (300, 300), (90, 900)])
def test_what_is_extrapolated_and_the_kernel_have_no_floor(count, reals):
    """Two sets of one distribution are 0 apart: what is left of the bias of both finite sets is a tenth at most."""
    found = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        one = compare(in_order(draw(rng, count, 24)), prepare(in_order(draw(rng, reals, 24))))
        found.append([one[name].value for name in ("frechet", *CENTRED)])
    mean, error = np.mean(found, axis=0), np.std(found, axis=0, ddof=1) / np.sqrt(len(found))
    assert mean[0] > 10 * error[0]
    assert abs(mean[1]) < 0.1 * mean[0]
    assert abs(mean[2]) < 3 * error[2]


@pytest.mark.parametrize("count", [*range(2, 20), 21])
@pytest.mark.parametrize("reals", [2, 5, 40])
@pytest.mark.parametrize("dim", [3, 50])
def test_few_images_are_measured(count, reals, dim):
    rng = np.random.default_rng(count)
    for generated in (draw(rng, count, dim), np.repeat(draw(rng, 1, dim), count, axis=0)):
        for name, one in compare(generated, prepare(draw(rng, reals, dim))).items():
            assert np.isfinite([one.value, one.low, one.high]).all(), name
            assert one.low <= one.value <= one.high, name


def test_one_image_again_and_again():
    rng = np.random.default_rng(0)
    reals = draw(rng, 300, 16)
    found = compare(np.repeat(reals[:1], 100, axis=0), prepare(reals))
    expected = np.square(reals[0] - reals.mean(0)).sum() + np.trace(np.cov(reals, rowvar=False))
    assert found["frechet"].value == pytest.approx(expected, rel=1e-6)
    assert found["frechet"].low == pytest.approx(found["frechet"].high, rel=1e-9)
    assert found["recall"].value == 0
    assert found["precision"].value == 1
    assert found["coverage"].value < 0.1


@pytest.mark.parametrize("offset", [0, 300])
def test_reals_against_themselves(offset):
    """Each ball holds its own centre and k - 1 others; the k-th lies on its edge, and rounding must not let it in."""
    reals = draw(np.random.default_rng(0), 300, 16) + np.float32(offset)
    found = compare(reals, prepare(reals))
    assert found["frechet"].value == pytest.approx(0, abs=1e-6)
    assert [found[name].value for name in ("precision", "recall", "coverage", "density")] == [1, 1, 1, 1]


def test_blocks_are_as_equal_as_can_be():
    for count in range(2, 100):
        sizes = np.diff(block_starts(count), append=count)
        assert len(sizes) == min(count, BLOCKS)
        assert sizes.max() - sizes.min() <= 1
