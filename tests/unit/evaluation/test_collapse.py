"""Collapse of drawn creatures in known ways alarms, fresh ones do not; numbers against what they must be."""

import numpy as np
import pytest
from PIL import Image

from components.data.procedural import PLANS, draw_creature
from components.evaluation.collapse import collapse, coverage_by_label
from components.evaluation.intervals import share
from components.evaluation.memorisation import layout
from tests.preprocessing import on_white

COUNT = 270


def points(count, seed, dim=12):
    return np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)


def creatures(indices):
    return np.stack([on_white(Image.fromarray(draw_creature(0, index, 32))) for index in indices])


@pytest.fixture(scope="module")
def drawn():
    return creatures(range(2 * COUNT))


@pytest.fixture(scope="module")
def reals(drawn):
    return layout(drawn[COUNT:])


def noisy(images):
    noise = np.random.default_rng(0).normal(0, 8, images.shape)
    return np.rint(images + noise).clip(0, 255).astype(np.uint8)


def test_fresh_creatures_do_not_alarm(drawn, reals):
    found = collapse(layout(drawn[:COUNT]), reals)
    assert not found.alarm
    assert found.compared == COUNT
    assert found.duplicates.value < 0.05
    assert 0.85 < found.spread.low < 1 < found.spread.high < 1.15
    assert 0.8 < found.reach < 1.1


@pytest.mark.parametrize("different", [1, 20])
def test_few_images_alarm(different, drawn, reals):
    found = collapse(layout(noisy(drawn[np.arange(COUNT) % different])), reals)
    assert found.alarm
    assert found.reason == "100% of the samples have a duplicate; of as many reals 1%"
    assert found.spread.value < 0.3


def test_one_image_among_good_ones_alarms(drawn, reals):
    samples = drawn[:COUNT].copy()
    samples[: COUNT // 5] = noisy(np.repeat(drawn[:1], COUNT // 5, axis=0))
    found = collapse(layout(samples), reals)
    assert found.alarm
    assert found.duplicates.value == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize("plan", [0, 2])
def test_one_body_plan_alarms(plan, reals):
    found = collapse(layout(creatures(range(plan + 9 * COUNT, plan + 18 * COUNT, len(PLANS)))), reals)
    assert found.alarm
    assert found.duplicates.low < 0.05
    assert found.reason.startswith("samples reach 0.")


def test_spread_is_the_ratio_of_distances_and_its_interval_holds_the_truth():
    reals, samples = points(200, 0), points(200, 1)
    assert collapse(reals * np.float32(0.75), reals).spread.value == pytest.approx(0.75)
    reals[:8] = reals[8:16] + np.float32(1e-4)  # twins among the reals: few duplicates are as near
    close = collapse(samples * np.float32(0.4), reals)
    assert close.duplicates.value == 0
    assert close.reason.endswith("allowed: 0.5 or more")
    held = 0
    for seed in range(40):
        found = collapse(points(80, 2 * seed), points(80, 2 * seed + 1)).spread
        held += found.low <= 1 <= found.high
    assert held >= 34


def test_twins_are_counted_and_the_interval_is_that_of_pairs():
    reals, samples = points(400, 0), points(400, 1)
    samples[:30] = samples[30:60] + np.float32(1e-3)
    found = collapse(samples, reals).duplicates
    assert found.value == pytest.approx(60 / 400, abs=0.02)
    apart = share(round(found.value * 400), 400)
    assert found.value - found.low == pytest.approx(np.sqrt(2) * (found.value - apart.low))
    assert found.high - found.value == pytest.approx(np.sqrt(2) * (apart.high - found.value))


def flats(count, seed):
    """Layouts of which half are one and the same, as those of flat images are."""
    drawn = points(count, seed)
    drawn[np.random.default_rng(seed).random(count) < 0.5] = 0
    return drawn


def palette(count, seed):
    return points(20, 0)[np.random.default_rng(seed).integers(0, 20, count)]


@pytest.mark.parametrize("draw", [points, flats, palette])
@pytest.mark.parametrize("count", [4, 8, 16, 48])
def test_few_fresh_reals_do_not_alarm(draw, count):
    reasons = [collapse(draw(count, 2 * seed), draw(count, 2 * seed + 1)).reason for seed in range(120)]
    assert sum(map(bool, reasons)) <= 3, [*filter(None, reasons)]


@pytest.mark.parametrize(("count", "different"), [(8, 1), (9, 1), (11, 1), (16, 1), (16, 4), (48, 12), (99, 30)])
def test_few_images_repeated_alarm_in_small_sets(count, different):
    for seed in range(20):
        samples = points(different, 2 * seed)[np.arange(count) % different]
        assert collapse(samples, points(count, 2 * seed + 1)).alarm
        noise = np.float32(1e-3) * points(count, seed + 100)
        assert collapse(samples + noise, points(count, 2 * seed + 1)).alarm


def test_spread_where_layouts_are_equal():
    """Medians of 0 and of about 1, in one set or in both; a warning of NumPy would fail this."""
    half_flat, flat, apart = points(60, 0), np.zeros((60, 12), np.float32), points(60, 1)
    half_flat[:40] = half_flat[0]
    for samples, reals, spread in [(flat, flat, 1), (apart, flat, 1), (apart, half_flat, 1), (half_flat, apart, 0)]:
        found = collapse(samples, reals)
        assert found.spread.value == spread
        assert np.isfinite([found.spread.low, found.spread.high, found.reach, found.duplicates.value]).all()
        assert found.alarm == (spread == 0)
    assert collapse(np.repeat(half_flat[50:51], 60, axis=0), half_flat).alarm


def test_reals_with_twins_make_twins_no_reason():
    found = collapse(palette(400, 1), palette(400, 2))
    assert found.duplicates.value == 1
    assert not found.alarm
    samples = points(400, 3)
    samples[:200] = samples[200:]
    reals = points(400, 4)
    reals[:20] = reals[20:40]
    assert collapse(samples, reals).reason == "100% of the samples have a duplicate; of as many reals 10%"


def test_as_many_of_each_are_compared():
    assert collapse(points(300, 0), points(40, 1)).compared == 40
    assert collapse(points(4, 0), points(9, 1)).compared == 4


def test_coverage_by_label():
    labels = ["b", "a", "b", "b", "c", "a"]
    rows = coverage_by_label(np.array([True, True, False, True, False, True]), labels)
    assert [(row.name, row.reals, row.covered) for row in rows] == [
        ("c", 1, share(0, 1)),
        ("b", 3, share(2, 3)),
        ("a", 2, share(2, 2)),
    ]
    assert coverage_by_label(np.array([], bool), []) == ()


@pytest.mark.parametrize(
    ("kept", "chance", "alarm"),
    [(1, 0.95, True), (4, 0.95, True), (5, 0.95, False), (9, 0.95, False), (9, 0.1, False)],
    ids=["one", "four", "five", "all", "all, badly"],
)
def test_labels_left_out_alarm(kept, chance, alarm):
    plans = np.arange(900) % 9
    covered = (plans < kept) & (np.random.default_rng(0).random(900) < chance)
    found = collapse(points(100, 0), points(100, 1), covered, [f"plan {number}" for number in plans])
    assert found.alarm == alarm
    assert ("plan 8" in found.reason) == alarm
    assert found.labels[0].covered.value == covered[plans == int(found.labels[0].name[-1])].mean()


@pytest.mark.parametrize(("count", "alarm"), [(19, False), (20, True)])
def test_labels_of_which_few_samples_can_be_expected_do_not_alarm(count, alarm):
    covered, labels = np.arange(200) < 95, ["a", "b"] * 50 + ["b"] * 100
    covered &= np.array(labels) == "a"
    assert collapse(points(count, 0), points(count, 1), covered, labels).alarm == alarm


def test_labels_of_one_image_each_do_not_alarm():
    covered = np.random.default_rng(0).random(200) < 0.2
    assert not collapse(points(100, 0), points(100, 1), covered, [str(number) for number in range(200)]).alarm
