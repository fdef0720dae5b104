"""The file of a sweep: what it may say, and draws that are the same every time, all different, and in their ranges."""

import math

import pytest
import yaml

from components.config import InputError, checked, load_params
from components.config.overlay import overlay
from components.sweep.space import as_preset, draw, read_space

PARAMS = load_params("params.yaml")
GOOD = {"trials": 6, "kimg": 9, "rung_kimg": 1, "reduction": 3, "vary": {"train.gamma": [1.0, 2.0]}}


def space(tmp_path, others=None, **changes):
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump(GOOD | (others or {}) | changes))
    return read_space(path)


def test_the_projects_own_sweep_draws_trials_that_pass_every_check():
    found = draw(read_space("sweeps/default.yaml"), PARAMS)
    assert len(found) == 12
    assert found[0][0] == {}
    assert {params.train.total_kimg for _, params in found} == {40.0}
    for values, params in found[1:]:
        content = overlay(PARAMS.as_dict(), as_preset({**values, "train.total_kimg": 40}))
        assert checked(content, "preset") == params
    assert [values for values, _ in draw(read_space("sweeps/default.yaml"), PARAMS)] == [values for values, _ in found]


def test_lists_are_exhausted_and_no_run_comes_twice(tmp_path):
    """Of four combinations one is params.yaml as it is, and what r3gan alone reads makes no other run of stylegan."""
    vary = {"train.gamma": [1.0, PARAMS.train.gamma], "train.r3gan.penalty_every": [1, 2]}
    found = [values for values, _ in draw(space(tmp_path, vary=vary), PARAMS)]
    assert found[0] == {}
    assert [values["train.gamma"] for values in found[1:]] == [1.0]


@pytest.mark.parametrize("log", [True, False])
def test_ranges_are_filled_evenly_in_the_value_or_its_logarithm(tmp_path, log):
    vary = {"train.gamma": {"low": 0.01, "high": 100, "log": log}}
    drawn = [values["train.gamma"] for values, _ in draw(space(tmp_path, trials=101, vary=vary), PARAMS)[1:]]
    assert min(drawn) >= 0.01
    assert max(drawn) <= 100
    middle = sum(map(math.log10, drawn)) / len(drawn) if log else sum(drawn) / len(drawn)
    assert middle == pytest.approx(0 if log else 50, abs=0.5 if log else 12)  # four standard errors
    assert all(float(f"{value:.3g}") == value for value in drawn)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trials": 1}, "trials is 1; allowed: at least 2"),
        ({"kimg": 0}, "kimg is 0; allowed: above 0"),
        ({"reduction": 1}, "reduction is 1; allowed: above 1"),
        ({"rung_kimg": 10}, "rung_kimg 10; allowed"),
        ({"more": 1}, "allowed: a mapping of trials, kimg, rung_kimg, reduction, vary"),
        ({"vary": {"train.gamma": 3}}, "train.gamma is 3; allowed: a list, or {low"),
        ({"vary": {"train.gamma": {"low": 0, "high": 1, "log": True}}}, "allowed: a list, or {low"),
        ({"vary": {"train.gamma": []}}, "allowed: a list"),
        ({"vary": {1: [2, 3]}}, "vary has 1; allowed: keys of params.yaml"),
        ({"vary": {"train.gamma": {1: 0, "high": 1}}}, "allowed: a list, or {low"),
        ({1: 3}, "allowed: a mapping of trials"),
    ],
)
def test_what_a_file_may_not_say(tmp_path, changes, message):
    with pytest.raises(InputError, match=message) as caught:
        space(tmp_path, changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("vary", "message"),
    [
        ({"train.gama": [1]}, "unknown key train.gama"),
        ({"train.batch": [30]}, "sweep train.batch=30: train.batch is 30; allowed: a multiple of"),
    ],
)
def test_values_are_checked_before_anything_starts(tmp_path, vary, message):
    with pytest.raises(InputError, match=message):
        draw(space(tmp_path, vary=vary), PARAMS)
