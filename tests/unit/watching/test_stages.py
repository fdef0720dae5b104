"""components/watching/stages.py: states from the files that DVC 3 writes."""

import hashlib
import json
import os
import subprocess
import sys

import pytest
import yaml

from components.watching.stages import CHANGED, DONE, OPEN, RUNNING, stages

CODE = "print(1)\n"
PARAMS = {"draw": {"size": 4}, "learn": {"rate": 0.5}}
DAG = {
    "draw": {"cmd": "a", "params": ["draw"], "deps": ["${draw.source}", "code.py"], "outs": ["data/raw"]},
    "learn": {
        "cmd": "b",
        "params": ["learn"],
        "deps": ["data/raw"],
        "outs": [{"model": {"cache": False}}],
        "metrics": ["metrics.json"],
    },
}


def md5(text):
    return hashlib.md5(text.encode()).hexdigest()


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))


@pytest.fixture
def project(tmp_path):
    """Both stages done."""
    code = {"path": "code.py", "hash": "md5", "md5": md5(CODE)}
    source = {"path": "art", "hash": "md5", "md5": "of the source"}
    raw = {"path": "data/raw", "hash": "md5", "md5": "of raw.dir"}
    outs = [{"path": "model", "hash": "md5", "md5": "m"}, {"path": "metrics.json", "hash": "md5", "md5": "n"}]
    made = {
        "draw": {
            "cmd": "a",
            "deps": [source, code],
            "params": {"params.yaml": {"draw": PARAMS["draw"]}},
            "outs": [raw],
        },
        "learn": {"cmd": "b", "deps": [dict(raw)], "params": {"params.yaml": {"learn": PARAMS["learn"]}}, "outs": outs},
    }
    write(tmp_path / "params.yaml", PARAMS)
    write(tmp_path / "dvc.yaml", {"stages": DAG})
    write(tmp_path / "dvc.lock", {"schema": "2.0", "stages": made})
    write(tmp_path / "code.py", CODE)
    for name in ("data/raw/file", "model", "metrics.json"):
        write(tmp_path / name, "made")
    return tmp_path


def states(project):
    return {stage.name: stage.state for stage in stages(project)}


def test_what_is_as_it_was_recorded_is_done(project):
    assert states(project) == {"draw": DONE, "learn": DONE}


def test_nothing_recorded_is_not_done(project):
    (project / "dvc.lock").unlink()
    assert states(project) == {"draw": OPEN, "learn": OPEN}


def test_a_missing_output_is_not_done(project):
    (project / "metrics.json").unlink()
    assert states(project) == {"draw": DONE, "learn": OPEN}


@pytest.mark.parametrize("what", ["params", "code", "command", "dependency"])
def test_what_was_made_of_something_else_has_changed(project, what):
    if what == "params":
        write(project / "params.yaml", PARAMS | {"draw": {"size": 5}})
    elif what == "code":
        write(project / "code.py", CODE + "#")
    else:
        draw = DAG["draw"] | ({"cmd": "c"} if what == "command" else {"deps": [*DAG["draw"]["deps"], "more.py"]})
        write(project / "dvc.yaml", {"stages": DAG | {"draw": draw}})
    assert states(project) == {"draw": CHANGED, "learn": DONE}


def test_an_output_made_anew_changes_what_came_of_it(project):
    lock = yaml.safe_load((project / "dvc.lock").read_text())
    lock["stages"]["draw"]["outs"][0]["md5"] = "of other raw.dir"
    write(project / "dvc.lock", lock)
    assert states(project) == {"draw": DONE, "learn": CHANGED}


def test_a_stage_runs_while_the_process_that_writes_its_output_lives(project):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    held = {str(project / "model"): os.getpid(), str(project / "data/raw"): gone.pid}
    lock = {"write": {path: {"pid": pid, "cmd": "dvc repro"} for path, pid in held.items()}, "read": {}}
    write(project / ".dvc/tmp/rwlock", json.dumps(lock))
    assert states(project) == {"draw": DONE, "learn": RUNNING}
    assert [stage.pid for stage in stages(project)] == [None, os.getpid()]
