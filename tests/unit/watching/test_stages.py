"""components/watching/stages.py: states from the files that DVC 3 writes."""

import hashlib
import json
import subprocess
import sys

import pytest
import yaml

from components.watching.locks import mend
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


def test_a_stage_runs_while_the_dvc_that_writes_its_output_lives(project, alive):
    held = {str(project / "model"): alive["dvc"], str(project / "data/raw"): alive["gone"]}
    write(project / ".dvc/tmp/rwlock", locks(held))
    assert states(project) == {"draw": DONE, "learn": RUNNING}
    assert [stage.pid for stage in stages(project)] == [None, alive["dvc"]]
    held = {str(project / "model"): alive["other"]}
    write(project / ".dvc/tmp/rwlock", locks(held))
    assert states(project) == {"draw": DONE, "learn": DONE}


def test_locks_of_those_that_are_no_dvc_any_more_are_taken_away(project, alive):
    path = project / ".dvc/tmp/rwlock"
    path.parent.mkdir(parents=True, exist_ok=True)
    assert not mend(project)
    write(path, locks({"model": alive["dvc"]}, {"raw": [alive["dvc"]]}))
    before = path.read_bytes()
    assert not mend(project)
    assert path.read_bytes() == before
    write(path, locks({"model": alive["dvc"], "raw": alive["other"]}, {"raw": [alive["other"], alive["dvc"]]}))
    assert mend(project)
    assert json.loads(path.read_text()) == json.loads(locks({"model": alive["dvc"]}, {"raw": [alive["dvc"]]}))
    write(path, '{"write": {"mod')
    assert mend(project)
    assert not path.exists()


def locks(writers, readers=None):
    """DVC's rwlock."""

    def entry(pid):
        return {"pid": pid, "cmd": "dvc repro"}

    written = {path: entry(pid) for path, pid in writers.items()}
    read = {path: [entry(pid) for pid in pids] for path, pids in (readers or {}).items()}
    return json.dumps({"write": written, "read": read})


@pytest.fixture
def alive():
    """PIDs: one that looks like a DVC, another one, and one that was."""
    code = [sys.executable, "-c", "import time; time.sleep(600)"]
    dvc, other, gone = (subprocess.Popen([*code, *more]) for more in (["dvc", "repro"], [], []))
    gone.kill()
    gone.wait()
    yield {"dvc": dvc.pid, "other": other.pid, "gone": gone.pid}
    for process in (dvc, other):
        process.kill()
        process.wait()
