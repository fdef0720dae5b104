"""The gate's conditions, one by one, on numbers whose verdict is known."""

import pytest

from components.config import Gate
from components.tracking.gate import Rival, judge, margin, table

pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType")  # MLflow's own, at import
METRIC = "kernel_random_conv"
GATE = Gate(max_memorised=0.1, min_coverage=0.25)  # 0.2 where reals reach 0.8


def numbers(own=2.0, half=0.3, copied=0.02, coverage=0.4, alarm=0):
    baselines = {"untrained": 9.0, "mean_image": 8.0, "repeated_image": 7.0, "blurred_8x8": 1.0}
    return {
        "holdout": {METRIC: own, "coverage": coverage},
        "holdout_floor": {"coverage": 0.8},
        "holdout_low": {METRIC: own - half},
        "holdout_high": {METRIC: own + half},
        "holdout_baselines": baselines,
        "memorisation": {"share": copied},
        "collapse": {"alarm": alarm},
    }


def failed(measured, champion=None, gate=GATE):
    return [check.name for check in judge(measured, METRIC, gate, champion) if not check.passed]


def test_without_a_champion_the_baselines_decide():
    names = [check.name for check in judge(numbers(), METRIC, GATE, None)]
    assert names == ["memorised", "coverage", "collapse alarm", "untrained", "mean_image", "repeated_image"]
    assert failed(numbers()) == []
    assert failed(numbers(own=7.5)) == ["repeated_image"]
    assert failed(numbers(own=6.8)) == ["repeated_image"]  # better, but not by more than its interval
    assert failed(numbers(own=6.6)) == []


@pytest.mark.parametrize(
    ("change", "name"),
    [({"copied": 0.11}, "memorised"), ({"coverage": 0.19}, "coverage"), ({"alarm": 1}, "collapse alarm")],
)
def test_a_good_distance_does_not_excuse(change, name):
    assert failed(numbers(own=0.1, **change)) == [name]
    assert failed(numbers(own=0.1, **change), Rival(4, 2.0, 0.1)) == [name]


def test_thresholds_themselves_pass():
    assert failed(numbers(copied=0.1, coverage=0.2)) == []


@pytest.mark.parametrize(("own", "passes"), [(1.4, True), (1.49, True), (1.51, False), (2.0, False), (3.0, False)])
def test_better_than_the_champion_by_more_than_chance(own, passes):
    """Half-widths 0.3 and 0.4 make 0.5."""
    checks = judge(numbers(own=own), METRIC, GATE, Rival(4, 2.0, 0.4))
    assert [check.name for check in checks][3:] == ["champion v4"]
    assert checks[-1].passed == passes
    assert checks[-1].allowed == "at most 1.5, which is 2 less 0.5"


def test_a_champion_without_any_spread_must_still_be_beaten():
    assert failed(numbers(own=2.0, half=0.0), Rival(4, 2.0, 0.0)) == ["champion v4"]
    assert failed(numbers(own=1.999, half=0.0), Rival(4, 2.0, 0.0)) == []


def test_a_champion_that_cannot_be_measured_stays():
    (check,) = judge(numbers(own=0.1), METRIC, GATE, Rival(4, reason="it draws images of 4 channels"))[3:]
    assert (check.passed, check.allowed) == (False, "it draws images of 4 channels")


def test_the_table_names_every_condition():
    text = table("models:/m/3 is the challenger", judge(numbers(coverage=0.1), METRIC, GATE, None))
    assert text.startswith("models:/m/3 is the challenger\n\n| condition |")
    assert "| coverage | 0.1 | at least 0.2 | **not passed** |" in text
    assert "| untrained | 2 | at most 8.7, which is 9 less 0.3 | passed |" in text
    assert "A person named it." in table("models:/m/3 is the champion", [])


def test_margin_is_half_the_interval():
    assert margin(numbers(half=0.25), METRIC) == pytest.approx(0.25)
