"""components/watching/run.py: known answers from files that a run would have written."""

import fcntl
import json
import os
import time

import pytest

from components.data.files import write_bytes
from components.training.run_files import AT_WORK
from components.watching import run as watching
from components.watching.run import at_work, newest, progress, reached, standing

TICKS = [
    {"nimg": 1000, "kimg": 1.0, "images_per_s": 50.0, "seconds": 20.0, "time": 1},
    {"nimg": 4000, "kimg": 4.0, "images_per_s": 200.0, "seconds": 40.0, "time": 2},
]


def lines(path, *records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "runs/abc"
    lines(folder / "metrics.jsonl", *TICKS)
    lines(folder / "starts.jsonl", *({"nimg": nimg, "workers": 2, "refused": []} for nimg in (0, 1000, 2000)))
    lines(folder / "failures.jsonl", {"time": 5, "nimg": 1000, "reason": "killed"})
    lines(folder / "rollbacks.jsonl", {"nimg": 1000, "until": 3000, "time": 6, "reason": "loss_g is nan"})
    lines(
        folder / "evaluations.jsonl",
        {"kimg": 2.0, "yardstick": 1, "holdout": {"frechet_own": 3.0, "frechet_own_infinity": 2.5, "kernel_own": 7.5}},
    )
    for nimg in (2000, 3000):
        (folder / f"checkpoints/{nimg:09d}").mkdir(parents=True)
    (folder / "checkpoints/.000004000.tmp").mkdir()
    then = time.time() - 90
    os.utime(folder / "checkpoints/000003000", (then, then))
    return folder


def test_progress_is_that_of_the_last_tick(run):
    found = progress(run, 10)
    assert (found.key, found.kimg, found.target_kimg) == ("abc", 4.0, 10)
    assert (found.images_per_s, found.images_per_s_mean) == (200.0, 100.0)
    assert found.seconds_left == 30.0
    assert found.percent == 40.0


def test_half_a_line_is_not_there_yet(run):
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"nimg": 5000, "kim')
    assert progress(run, 10).kimg == 4.0


def test_a_spoilt_line_is_passed_over(run):
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"nimg": 5000, "kim{"nimg": 6000}\n')
    assert progress(run, 10).kimg == 4.0


def test_the_last_line_of_a_long_file_is_found(run, monkeypatch):
    monkeypatch.setattr(watching, "TAIL", len(json.dumps(TICKS[1])) + 5)
    assert progress(run, 10).kimg == 4.0


def test_beyond_the_target_nothing_is_left(run):
    assert (progress(run, 3).seconds_left, progress(run, 3).percent) == (0.0, 100.0)


def test_before_the_first_tick_no_pace_is_made_up(tmp_path):
    found = progress(tmp_path, 10)
    assert (found.kimg, found.images_per_s, found.images_per_s_mean, found.seconds_left) == (0, None, None, None)


def test_a_standing_tells_what_the_files_tell(run):
    found = standing(run, 10, "kernel")
    assert found.checkpoint_kimg == 3.0
    assert found.checkpoint_age_s == pytest.approx(90, abs=30)
    assert found.metric == {"name": "kernel_own", "value": 7.5, "kimg": 2.0}
    assert found.starts == 3
    assert [line["reason"] for line in found.failures + found.rollbacks] == ["killed", "loss_g is nan"]
    assert found.disk_free_gib > 0


def test_a_checkpoint_from_the_future_is_new(run):
    """The clock has been set back."""
    checkpoint = run / "checkpoints/000003000"
    os.utime(checkpoint, (2e10, 2e10))
    assert standing(run, 10, "kernel").checkpoint_age_s == 0


def test_a_run_trains_while_its_lock_is_held(run):
    assert not standing(run, 10, "kernel").training
    with (run / "lock").open("w") as file:
        assert not standing(run, 10, "kernel").training
        fcntl.flock(file, fcntl.LOCK_EX)
        assert standing(run, 10, "kernel").training
    assert not standing(run, 10, "kernel").training


def test_the_newest_run_is_the_one_written_to_last(run):
    other = run.with_name("def")
    lines(other / "metrics.jsonl", TICKS[0])
    os.utime(run / "metrics.jsonl", (1000, 1000))
    assert newest(run.parent) == other
    assert newest(run.parent / "abc") is None


def test_the_run_at_work_is_the_one_that_a_stage_has_named(tmp_path):
    assert at_work(tmp_path) is None
    write_bytes(tmp_path / AT_WORK, b"abc")
    assert at_work(tmp_path) == "abc"


def test_reached_is_the_checkpoint_or_the_tick_whichever_is_further(run):
    lines(run.with_name("def") / "metrics.jsonl")
    (run.with_name("def") / "checkpoints/000000500").mkdir(parents=True)
    run.with_name("new").mkdir()
    assert reached(run.parent) == {"abc": 4000, "def": 500, "new": 0}
    assert reached(run.parent / "nowhere") == {}
