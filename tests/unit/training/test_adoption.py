"""A run that only older code tells from another one goes on with its checkpoint and its history; others are refused."""

import json

import pytest
import torch

from components.config import InputError
from components.data.files import write_json_lines
from components.training import state
from components.training.adoption import describe
from components.training.run_files import RUN

OLD, NEW = "a" * 12, "b" * 12
IDENTITY = {"data_digest": "d", "code_digest": "new", "train": {"gamma": 1.0, "total_kimg": 8.0}}


@pytest.fixture
def older(tmp_path):
    """Ticks, an evaluation and snapshots at 1, 2 and 3 kimg, a rollback, and whole checkpoints at 1 and 2."""
    run = tmp_path / OLD
    describe(run, IDENTITY | {"code_digest": "old", "train": {"gamma": 1.0, "total_kimg": 4.0}}, "")
    write_json_lines(run / "metrics.jsonl", ({"nimg": nimg} for nimg in (1000, 2000, 3000)))
    write_json_lines(run / "rollbacks.jsonl", [{"nimg": 1000, "until": 1500}])
    write_json_lines(run / "evaluations.jsonl", ({"nimg": nimg} for nimg in (2000, 3000)))
    for nimg in (1000, 2000, 3000):
        (run / f"snapshots/{nimg:09d}").mkdir(parents=True)
        (run / f"snapshots/{nimg:09d}/config.json").write_text(str(nimg))
        (run / "grids").mkdir(exist_ok=True)
        (run / f"grids/{nimg:09d}.png").write_text(str(nimg))
    for nimg in (1000, 2000):
        state.save(state.State({"a": torch.tensor([float(nimg)])}, {"nimg": nimg}), run / f"checkpoints/{nimg:09d}")
    return run


def contents(run):
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_it_goes_on_where_the_older_one_stood(older):
    run = older.with_name(NEW)
    said = describe(run, IDENTITY, OLD)
    assert said == IDENTITY | {"adopted": {"run_key": OLD, "nimg": 2000}}
    found, there = contents(run), contents(older)
    assert json.loads(found.pop(RUN)) == said
    expected = {
        name: content for name, content in there.items() if "3000" not in name and "000001000/state" not in name
    }
    del expected[RUN]
    expected["metrics.jsonl"] = b'{"nimg": 1000}\n{"nimg": 2000}\n'
    expected["evaluations.jsonl"] = b'{"nimg": 2000}\n'
    assert found == expected


def test_it_is_done_once(older):
    run = older.with_name(NEW)
    describe(run, IDENTITY, OLD)
    (run / "metrics.jsonl").write_text("")
    for adopt in (OLD, ""):
        assert describe(run, IDENTITY, adopt)["adopted"] == {"run_key": OLD, "nimg": 2000}
    assert (run / "metrics.jsonl").read_text() == ""


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"train": {"gamma": 2.0, "total_kimg": 8.0}}, "gamma"),
        ({"train": {"total_kimg": 8.0}}, "gamma"),
        ({"data_digest": "e", "train": {"gamma": 1.0, "mirror": True}}, "data, mirror"),
    ],
)
def test_a_run_of_other_settings_or_data_is_refused(older, changes, named):
    run = older.with_name(NEW)
    with pytest.raises(InputError, match=f"differs in {named}; allowed: a run that differs in code alone"):
        describe(run, IDENTITY | changes, OLD)
    assert not run.exists()


def test_a_run_without_a_whole_checkpoint_is_refused(older):
    for path in older.glob("checkpoints/*/state.json"):
        path.write_text("{}")
    for adopt in (OLD, "c" * 12):
        with pytest.raises(InputError, match=f"execution.adopt: .*{adopt} has no whole checkpoint"):
            describe(older.with_name(NEW), IDENTITY, adopt)
