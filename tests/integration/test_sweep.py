"""A real sweep of tiny trials: the bad one is stopped early, the best one is a preset, and a kill costs little."""

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest
import yaml
from mlflow import MlflowClient

from components import processes
from components.config import checked, read_yaml
from components.config.overlay import overlay
from components.sweep.search import Outcome, outcome
from components.training.run_files import DIVERGED

NONE, ABSURD = 1e-7, 1e6  # learning rates: nothing is learnt, and everything is lost
SPACE = {
    "trials": 4,
    "kimg": 0.6,
    "rung_kimg": 0.3,
    "reduction": 2,
    "vary": {"train.learning_rate": [0.02, NONE, ABSURD]},
}


@pytest.fixture(scope="module")
def prepared(module_project):
    """A tiny project with its shards made, and a sweep to be run."""
    (module_project.path / "sweeps/tiny.yaml").write_text(yaml.safe_dump(SPACE))
    module_project.set({"preprocess.holdout": 0.2, "train.stylegan.start_resolution": 16})
    module_project.stages("ingest", "preprocess")
    return module_project


def command():
    return [sys.executable, "-m", "pipelines.sweep", "sweeps/tiny.yaml"]


def lines(run, name):
    path = run / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def shown(project):
    """Images shown by each run of the project."""
    return {run.name: lines(run, "metrics")[-1]["nimg"] for run in project.path.glob("runs/*") if lines(run, "metrics")}


@pytest.fixture(scope="module")
def sweep(prepared):
    """The sweep killed once its first trial was measured, and begun again; how far it was, and what it said."""
    env = processes.environment(PYTHONPATH=str(prepared.path))
    first = subprocess.Popen(command(), cwd=prepared.path, env=env, stdout=subprocess.DEVNULL, start_new_session=True)
    wait_for(lambda: any(lines(run, "evaluations") for run in prepared.path.glob("runs/*")), first)
    family = [first, *psutil.Process(first.pid).children(recursive=True)]
    for process in family:
        with_signal(process.pid)
    first.wait(60)
    psutil.wait_procs([psutil.Process(one.pid) for one in family[1:] if psutil.pid_exists(one.pid)], timeout=60)
    before = {run.name: len(lines(run, "evaluations")) for run in prepared.path.glob("runs/*")}
    done = prepared.run(*command())
    assert done.returncode == 0, done.stdout
    return before, done.stdout


def with_signal(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def wait_for(ready, process, timeout_s=600):
    begin = time.monotonic()
    while not ready():
        assert process.poll() is None
        assert time.monotonic() - begin < timeout_s
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.2)


def test_the_best_trial_is_a_preset_that_loads(prepared, sweep):
    preset = read_yaml(prepared.path / "reports/sweep.yaml")
    params = checked(overlay(read_yaml(prepared.path / "params.yaml"), preset), "params.yaml")
    assert params.train.learning_rate in (0.02, 0.004)
    assert (prepared.path / "reports/sweep.yaml").read_text() in sweep[1]
    done = prepared.run(sys.executable, "-m", "components.config", "--preset", "reports/sweep.yaml")
    assert done.returncode == 0, done.stdout


def test_a_trial_that_learns_nothing_is_stopped_early_and_one_that_diverges_ends(prepared, sweep):
    names = {float(run.data.params["train.learning_rate"]): run.info.run_name for run in mlflow_runs(prepared)}
    far = shown(prepared)
    assert 300 <= far[names[NONE]] < max(far.values()) == 600
    assert not lines(prepared.path / "runs" / names[ABSURD], "evaluations")
    assert (prepared.path / "runs" / names[ABSURD] / "diverged").exists()
    assert len(names) == 4


def test_the_best_one_is_the_one_with_the_smallest_distance_of_those_that_came_furthest(prepared, sweep):
    far = shown(prepared)
    ends = {
        run.name: lines(run, "evaluations")[-1]["holdout"]["frechet_random_conv_infinity"]
        for run in prepared.path.glob("runs/*")
        if far.get(run.name) == 600
    }
    assert f"run {min(ends, key=ends.get)}." in (prepared.path / "reports/sweep.yaml").read_text().splitlines()[0]


def test_after_a_kill_nothing_is_trained_or_measured_twice(prepared, sweep):
    before, _ = sweep
    assert max(before.values()) >= 1
    for run in prepared.path.glob("runs/*"):
        for name in ("evaluations", "metrics"):
            steps = [line["nimg"] for line in lines(run, name)]
            assert steps == sorted(set(steps)), name
    again = [run for run in prepared.path.glob("runs/*") if len(lines(run, "starts")) > 1]
    assert [lines(run, "starts")[-1]["nimg"] >= 300 for run in again] == [True]


def test_trials_are_mlflow_runs(prepared, sweep):
    found = mlflow_runs(prepared)
    assert {run.info.run_name for run in found} == {run.name for run in prepared.path.glob("runs/*")}
    assert {(run.data.tags["bestiary.sweep"], run.info.status) for run in found} == {("tiny", "FINISHED")}
    measured = [run for run in found if "holdout/frechet_random_conv_infinity" in run.data.metrics]
    assert len(measured) == 3


def mlflow_runs(project):
    client = MlflowClient(f"sqlite:///{project.path}/mlflow.db")
    return client.search_runs([client.get_experiment_by_name("bestiary").experiment_id])


def test_what_diverged_after_a_look_is_the_worst(tmp_path):
    train = SimpleNamespace(batch=8, total_kimg=0.6)
    bench = SimpleNamespace(yardstick={"samples": 32}, metric="distance")
    trial = SimpleNamespace(run=tmp_path, bench=bench, params=SimpleNamespace(train=train))
    looked = {"nimg": 300, "yardstick": bench.yardstick, "holdout": {"distance": 1.5}}
    (tmp_path / "evaluations.jsonl").write_text(json.dumps(looked) + "\n")
    assert outcome(trial) == Outcome(trial, 0.3, 1.5)
    (tmp_path / DIVERGED).touch()
    assert outcome(trial) == Outcome(trial, 0.0, math.inf)
