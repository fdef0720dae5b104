"""flows/events.py: which events are sent when; what was there before is not told."""

import json

import pytest

from components.data.files import write_bytes
from components.training.run_files import AT_WORK
from components.watching.run import progress
from flows import events
from flows.events import ENDED, EVALUATION, PROGRESS, WORSE, Events


@pytest.fixture
def sent(monkeypatch):
    """Those sent so far: name, label of WORSE, payload."""
    found = []
    monkeypatch.setattr(
        events, "_emit", lambda event, labels=None, **facts: found.append((event, (labels or {}).get(WORSE), facts))
    )
    return found


@pytest.fixture
def project(tmp_path):
    """The run abc is at work."""
    (tmp_path / "runs/abc").mkdir(parents=True)
    write_bytes(tmp_path / AT_WORK, b"abc")
    tick(tmp_path, 500)
    measure(tmp_path, 2.0)
    return tmp_path


def tick(project, nimg):
    record = {"nimg": nimg, "kimg": nimg / 1000, "images_per_s": 2.5, "seconds": nimg / 2}
    with (project / "runs/abc/metrics.jsonl").open("a") as file:
        file.write(json.dumps(record) + "\n")


def measure(project, value, yardstick=1):
    with (project / "runs/abc/evaluations.jsonl").open("a") as file:
        file.write(json.dumps({"kimg": 0.5, "yardstick": yardstick, "holdout": {"kid": value}}) + "\n")


def test_a_try_begins_and_ends_with_an_event(project, sent):
    told = Events(project, "kernel")
    told.begins()
    told.ends()
    assert [event for event, _, _ in sent] == [PROGRESS, ENDED]


def test_each_new_evaluation_is_told_once_with_how_many_were_worse(project, sent):
    told = Events(project, "kernel")
    for value in (3.0, 2.5):
        measure(project, value)
    told.got_to(progress(project / "runs/abc", 2))
    measure(project, 4.0)
    told.ends()
    assert [(event, worse) for event, worse, _ in sent] == [
        (PROGRESS, None),
        *[(EVALUATION, worse) for worse in "123"],
        (ENDED, None),
    ]
    assert sent[0][2] == {"run": "abc", "kimg": 0.5, "seconds_left": 600.0}
    assert sent[1][2] == {"kimg": 0.5, "metric": "kid", "value": 3.0}


def test_another_yardstick_begins_anew(project, sent):
    told = Events(project, "kernel")
    measure(project, 9.0, yardstick=2)
    told.ends()
    assert [(event, worse) for event, worse, _ in sent] == [(EVALUATION, "0"), (ENDED, None)]


def test_progress_is_told_now_and_then(project, sent, monkeypatch):
    told = Events(project, "kernel")
    found = progress(project / "runs/abc", 2)
    told.got_to(found)
    told.got_to(found)
    assert len(sent) == 1
    monkeypatch.setattr(events, "EVERY_S", 0.0)
    told._due = 0.0
    told.got_to(found)
    told.got_to(found)
    assert len(sent) == 3


def test_a_damaged_file_and_a_missing_flow_run_end_nothing(project):
    (project / "runs/abc/evaluations.jsonl").write_text("{\n")
    told = Events(project, "kernel")
    told.begins()
    told.got_to(progress(project / "runs/abc", 2))
    told.ends()
