"""Whole runs with other values than params.yaml's: two at once in one checkout, one of them killed in mid-train."""

import json
import sys
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
import yaml
from mlflow import MlflowClient

from tests.conditions import until
from tests.conftest import make_project
from tests.trainings import lines, start

FLOW = """
import json, sys
from flows.train_stylegan import train_stylegan
train_stylegan(overrides=json.loads(sys.argv[1]))
"""
SHORT, LONG = {"train.seed": 1}, {"train.seed": 2, "train.total_kimg": 3}
ITS_OWN = (".git", ".dvc/cache", ".dvc/tmp", ".experiments", "runs", ".cache", "mlruns", "mlflow.db")


@pytest.fixture(scope="module")
def project(tmp_path_factory, api):
    """A checkout after both have ended well; it is as it was, byte for byte."""
    project = make_project(tmp_path_factory.mktemp("experiments") / "project")
    before = files(project)
    short, long = flow(project, api, SHORT), flow(project, api, LONG)
    (run,) = until(lambda: [run for run in runs(project, LONG) if list(run.glob("checkpoints/[0-9]*"))])
    family = psutil.Process(long.pid).children(recursive=True)
    long.kill()
    assert psutil.wait_procs(family, timeout=120)[1] == []
    assert len(lines(run / "metrics.jsonl")) < 30
    ends = [ended(long), ended(flow(project, api, LONG)), ended(short)]
    assert [code for code, _ in ends] == [-9, 0, 0], ends
    assert files(project) == before
    assert list((project.path / ".experiments").iterdir()) == []
    return project


def flow(project, api, overrides):
    return start(project, sys.executable, "-c", FLOW, json.dumps(overrides), PREFECT_API_URL=api.url)


def ended(process):
    output, _ = process.communicate(timeout=600)
    return process.returncode, output[-3000:]


def files(project):
    found = {path.relative_to(project.path): path for path in project.path.rglob("*") if path.is_file()}
    return {
        str(name): path.read_bytes()
        for name, path in found.items()
        if not any(name.is_relative_to(own) for own in ITS_OWN) and "__pycache__" not in name.parts
    }


def runs(project, overrides):
    """The folders of runs with these values."""
    found = [(json.loads(path.read_text()), path.parent) for path in project.path.glob("runs/*/run.json")]
    return [run for said, run in found if said["train"]["seed"] == overrides["train.seed"]]


def experiments(project):
    """What dvc exp show tells of the commit's experiments, by their seed."""
    shown = json.loads(project.run("dvc", "exp", "show", "--json").stdout)[1]
    found = {experiment["name"]: experiment["revs"][0]["data"] for experiment in shown["experiments"]}
    return {data["params"]["params.yaml"]["data"]["train"]["seed"]: (name, data) for name, data in found.items()}


def test_the_killed_one_went_on_where_it_stood(project):
    (short,), (long,) = runs(project, SHORT), runs(project, LONG)
    first, second = lines(long / "starts.jsonl")
    assert (first["nimg"], 0 < second["nimg"] < 3000) == (0, True)
    assert len(lines(short / "starts.jsonl")) == 1
    for run, target in ((short, 400), (long, 3000)):
        ticks = [0, *(line["nimg"] for line in lines(run / "metrics.jsonl"))]
        assert ticks[-1] == target
        assert {later - earlier for earlier, later in pairwise(ticks)} <= {96, 104}, "whole batches of 8 past each 100"


def test_both_are_experiments_with_their_values_and_metrics(project):
    found = experiments(project)
    assert {seed: name.rpartition("-")[0] for seed, (name, _) in found.items()} == {
        1: "train.seed-1",
        2: "train.seed-2_train.total_kimg-3",
    }
    for overrides in (SHORT, LONG):
        data = found[overrides["train.seed"]][1]
        (run,) = runs(project, overrides)
        metrics = data["metrics"]["reports/metrics.json"]["data"]
        last = lines(run / "evaluations.jsonl")[-1]
        assert metrics["holdout"]["frechet_random_conv_infinity"] == pytest.approx(
            last["holdout"]["frechet_random_conv_infinity"]
        )
    assert found[2][1]["params"]["params.yaml"]["data"]["train"]["total_kimg"] == 3


def test_each_is_one_mlflow_run_in_the_checkouts_store(project):
    client = MlflowClient(f"sqlite:///{project.path}/mlflow.db")
    found = client.search_runs([client.get_experiment_by_name("bestiary").experiment_id])
    assert sorted(run.data.params["train.seed"] for run in found) == ["1", "2"]
    assert {run.info.status for run in found} == {"FINISHED"}
    for run in found:
        place = Path(run.info.artifact_uri.removeprefix("file://"))
        assert place.is_relative_to(project.path / "mlruns")
        assert list(place.glob("pictures/*.png"))
    assert len(client.search_model_versions("name = 'bestiary-generator'")) == 2


def test_prefect_showed_each_ones_own_progress(project, api):
    tables = api.find("artifacts", artifacts={"key": {"any_": ["training-table"]}})
    shown = {run.name for overrides in (SHORT, LONG) for run in runs(project, overrides)}
    assert shown == {line.split(" | ")[1].rstrip(" |") for table in tables for line in table["data"].splitlines()[2:3]}
    for table in tables:
        flow_run = api.http.get(f"/flow_runs/{table['flow_run_id']}").json()
        (run,) = runs(project, flow_run["parameters"]["overrides"])
        assert f"| run | {run.name} |" in table["data"]


def test_one_can_be_applied_to_the_checkout(project):
    name, data = experiments(project)[1]
    done = project.run("dvc", "exp", "apply", name)
    assert done.returncode == 0, done.stdout
    assert yaml.safe_load((project.path / "params.yaml").read_text()) == data["params"]["params.yaml"]["data"]
    (run,) = runs(project, SHORT)
    assert json.loads((project.path / "models/candidate/training.json").read_text())["run_key"] == run.name
    assert "up to date" in project.run("dvc", "status").stdout
