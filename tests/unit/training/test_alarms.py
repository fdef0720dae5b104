"""Alarms of runs whose lines are known: when each rings, once, when it is over, and what a healthy run shows."""

import json
from dataclasses import replace

import pytest

from components.config import load_params
from components.config.training import UNSIGNED
from components.training.alarms import WINDOW, Alarms, alarms

PARAMS = load_params("params.yaml").train
TRAIN = replace(PARAMS, arch="stylegan2", augment=replace(PARAMS.augment, kind="ada", target=0.6, max_p=0.8))
HEALTHY = {"sample_std": 0.8, "sign_real": 0.5, "sign_fake": -0.5, "augment_p": 0.3}
MANY = 3 * WINDOW


def ticks(*stretches):
    """Ticks of 1 kimg; each stretch is how many, and how they differ from a healthy one's."""
    lines = [HEALTHY | changes for count, changes in stretches for _ in range(count)]
    return [{"nimg": 1000 * (at + 1), "kimg": at + 1.0, **line} for at, line in enumerate(lines)]


def exam(kimg, coverage, precision=0.8, reason="", margin=0.05, yardstick="a"):
    ends = {"low": coverage - margin, "high": coverage + margin}
    return {"nimg": 1000 * kimg, "kimg": kimg, "yardstick": {"extractor": yardstick}, "collapse_reason": reason} | {
        "holdout": {"coverage": coverage, "precision": precision},
        **{f"holdout_{end}": {"coverage": value} for end, value in ends.items()},
    }


def found(ticks=(), exams=(), train=TRAIN):
    return [
        (alarm.kind, alarm.nimg // 1000, alarm.over and alarm.over // 1000) for alarm in alarms(ticks, exams, train)
    ]


def test_a_healthy_run_is_silent():
    exams = [exam(kimg, coverage, precision=kimg / 30) for kimg, coverage in ((10, 0.1), (20, 0.6), (30, 0.5))]
    assert found(ticks((MANY, {})), exams) == []
    assert found() == []


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("collapse", {"sample_std": 0.1}, "samples vary 0.10 times as much as reals; allowed: 0.3 or more"),
        ("collapse", {"sign_real": 0.99, "sign_fake": -1.0}, "D tells all reals from all fakes: signs +0.99 -1.00"),
        ("augmentation", {"augment_p": 0.8}, "p stays at its cap, 0.80, and D's sign on reals at +0.50"),
    ],
)
def test_what_ticks_show_rings_when_a_whole_window_does_and_is_over_when_none_does(kind, changes, words):
    lines = ticks((5, {}), (WINDOW, changes), (1, {}), (2, changes), (WINDOW, {}), (WINDOW - 1, changes), (3, {}))
    assert found(lines) == [(kind, 5 + WINDOW, 5 + WINDOW + 3 + WINDOW)]
    (alarm,) = alarms(lines, [], TRAIN)
    assert alarm.reason == words


def test_one_noisy_tick_is_nothing():
    assert found(ticks(*[(WINDOW - 1, {"sample_std": 0.0}), (1, {})] * 5)) == []


@pytest.mark.parametrize("changes", [{"target": 0.0, "p": 0.8}, {"kind": "none"}, {"kind": "diffaugment"}])
def test_p_that_nothing_steers_cannot_run_away(changes):
    train = replace(TRAIN, augment=replace(TRAIN.augment, **changes))
    assert found(ticks((MANY, {"augment_p": 0.8})), train=train) == []


def test_a_collapsed_snapshot_rings_once_samples_looked_real():
    """The numbers of a demo run that drew one of nine body plans: before it had learnt, and then."""
    reach = "samples reach 0.12 times as many different reals as reals do; allowed: 0.25 or more"
    exams = [exam(10, 0.01, 0.006, reach), exam(20, 0.1, 0.087, reach), exam(26, 0.545, 0.841, reach)]
    assert found(exams=exams) == [("collapse", 26, None)]
    assert alarms([], exams, TRAIN)[0].reason == reach
    assert found(exams=[*exams, exam(30, 0.6)]) == [("collapse", 26, 30)]


def test_a_run_that_falls_into_one_ugly_image_rings_although_nothing_looks_real():
    assert found(exams=[exam(10, 0.3, 0.2), exam(20, 0.3, 0.0, "all samples are one")]) == [("collapse", 20, None)]


def test_coverage_that_is_lost_rings_beyond_both_intervals():
    exams = [exam(10, 0.2), exam(20, 0.8), exam(30, 0.35), exam(40, 0.3), exam(50, 0.3), exam(60, 0.7)]
    assert found(exams=exams) == [("collapse", 40, 60)]
    assert alarms([], exams, TRAIN)[0].reason == "coverage fell to 0.30 from 0.80 at 20 kimg"


def test_signs_say_nothing_of_losses_that_leave_them_open():
    lines = ticks((MANY, {"sign_real": 1.0, "sign_fake": -1.0}))
    assert found(lines, train=PARAMS) != []
    for arch in UNSIGNED:
        assert found(lines, train=replace(PARAMS, arch=arch)) == []


def test_another_yardsticks_coverage_is_no_measure():
    assert found(exams=[exam(10, 0.9), exam(20, 0.1, yardstick="b"), exam(30, 0.1, yardstick="b")]) == []


def test_alarms_of_what_was_written_so_far_are_those_of_then():
    """Nothing is remembered: at each line they are what they would be for a run that was never stopped."""
    lines = ticks((WINDOW, {}), (MANY, {"sample_std": 0.0}), (MANY, {}), (MANY, {"augment_p": 0.8}))
    for until in range(len(lines)):
        now = 1000 * until
        expected = [
            replace(alarm, over=alarm.over if alarm.over and alarm.over <= now else None)
            for alarm in alarms(lines, [], TRAIN)
            if alarm.nimg <= now
        ]
        assert alarms(lines[:until], [], TRAIN) == expected


def test_each_is_said_when_it_rings_and_when_it_is_over(tmp_path, capsys):
    lines = ticks((WINDOW, {"sample_std": 0.1}), (WINDOW, {}), (WINDOW, {"augment_p": 0.8}))
    run, said, tags = Alarms(tmp_path, TRAIN), [], []
    for until in (0, WINDOW, WINDOW, 2 * WINDOW, len(lines)):
        (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines[:until]))
        run.announce()
        said.append(capsys.readouterr().out.splitlines())
        tags.append(run.tags())
    since = "since 10 kimg: samples vary 0.10 times as much as reals; allowed: 0.3 or more"
    over = f"over at 20 kimg, was {since}"
    cap = "since 30 kimg: p stays at its cap, 0.80, and D's sign on reals at +0.50"
    assert said == [[], [f"alarm: collapse {since}"], [], [f"alarm: collapse {over}"], [f"alarm: augmentation {cap}"]]
    none = {"collapse": "", "augmentation": "", "straggler": ""}
    rings = none | {"collapse": since}
    assert tags == [none, rings, rings, none | {"collapse": over}, none | {"collapse": over, "augmentation": cap}]


def test_a_slow_worker_is_named_while_it_is_slow():
    healthy, slow = {"slowdown": 1.3, "slowest_worker": 0}, {"slowdown": 5.0, "slowest_worker": 1}
    lines = ticks((MANY, healthy), (MANY, slow), (MANY, healthy))
    assert found(lines) == [("straggler", MANY + WINDOW, 2 * MANY + WINDOW)]
    (alarm,) = alarms(lines[: 2 * MANY], [], TRAIN)
    assert str(alarm) == f"since {MANY + WINDOW} kimg: worker 1 takes 5.0 times as long as the others"
