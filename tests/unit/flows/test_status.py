"""flows/status.py: the current run of a checkout, as a table and as JSON."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from components import processes
from flows.status import gather, tables

ROOT = Path(__file__).parents[3]


@pytest.fixture
def project(tmp_path):
    """A checkout without data in which one run has begun."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    run = tmp_path / "runs/abc"
    (run / "checkpoints/000003000").mkdir(parents=True)
    tick = {"nimg": 4000, "kimg": 4.0, "images_per_s": 10.0, "seconds": 500.0, "time": 1}
    (run / "metrics.jsonl").write_text(json.dumps(tick) + "\n")
    start = json.dumps({"nimg": 0, "workers": 2, "refused": []})
    (run / "starts.jsonl").write_text(f"{start}\n{start}\n")
    failure = {"time": 1_000_000_000_000, "nimg": 3000, "reason": "[/gloo/pair.cc:537] a worker was killed"}
    (run / "failures.jsonl").write_text(json.dumps(failure) + "\n")
    return tmp_path


def shown(project):
    console = Console(width=300)
    with console.capture() as capture:
        console.print(*tables(gather(project)), sep="\n")
    return [" ".join(line.replace("│", " ").split()) for line in capture.get().splitlines()]


def test_the_table_has_the_numbers(project):
    params = (project / "params.yaml").read_text()
    assert "\n  total_kimg: 42 " in params
    lines = shown(project)
    assert "train not done" in lines
    assert "run abc, not training" in lines
    assert "kimg 4.0 of 42, 38.0 left" in lines
    assert "time left 1 h 3 min" in lines
    assert "images/s 10.0 now, 8.0 mean" in lines
    assert "restarts 1" in lines
    assert any("3.0 kimg [/gloo/pair.cc:537] a worker was killed" in line for line in lines)
    unknown = f"the run of params.yaml has no name yet ({project}/data/shards: not a folder of shards"
    assert any(line.startswith(unknown) for line in lines)


def test_no_run_at_all_is_said(project):
    shutil.rmtree(project / "runs")
    assert gather(project)["run"] is None
    assert "run none yet" in shown(project)


def test_json_is_one_object_and_needs_no_server(project):
    env = processes.environment(PYTHONPATH=str(ROOT))
    command = [sys.executable, "-m", "flows.status", "--json"]
    done = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    assert found["run"]["progress"]["seconds_left"] == 3800.0
    assert [stage["name"] for stage in found["stages"]] == ["ingest", "preprocess", "train", "evaluate", "register"]


def test_wrong_params_are_one_line_and_exit_code_2(project):
    (project / "params.yaml").write_text("train: 3\n")
    env = processes.environment(PYTHONPATH=str(ROOT))
    done = subprocess.run([sys.executable, "-m", "flows.status"], cwd=project, env=env, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: params.yaml: ")
    assert done.stderr.count("\n") == 1
