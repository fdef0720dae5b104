"""The flow asks a person before a new champion, suspended meanwhile; what the chain made is pushed before."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient

from components import processes
from tests.candidates import MODEL, aliases, decision, dvc, make_measured
from tests.conditions import until
from tests.toy import prefect_worker

NO_REMOTE = "push is true and DVC has no default remote; allowed: after dvc remote add --default NAME URL"


@pytest.fixture(scope="module")
def project(module_project):
    return make_measured(module_project)


@pytest.fixture(scope="module")
def mlflow(project):
    return MlflowClient(f"sqlite:///{project.path}/mlflow.db")


@pytest.fixture(scope="module")
def deployed(project, api, tmp_path_factory):
    with prefect_worker(project, api, tmp_path_factory.mktemp("worker")):
        yield


def newest_summary(api):
    return api.find("artifacts", artifacts={"key": {"any_": ["summary"]}}, sort="CREATED_DESC")[0]["data"]


def test_to_push_nowhere_is_refused_before_anything_starts(project):
    before = (project.path / "params.yaml").read_bytes()
    done = project.run(sys.executable, "-m", "flows", "--push", "--set", "train.seed=1")
    assert (done.returncode, done.stdout) == (2, f"error: {NO_REMOTE}\n")
    assert (project.path / "params.yaml").read_bytes() == before


def test_without_a_deployment_the_flow_ends_and_the_version_waits(project, api, mlflow):
    done = project.run(sys.executable, "-m", "flows", PREFECT_API_URL=api.url)
    assert done.returncode == 0, done.stdout
    told = "version 1, alias challenger; waits for a person: python -m pipelines.promote yes --by NAME, or no"
    assert told in newest_summary(api)
    assert aliases(mlflow) == {"challenger": "1"}


@pytest.mark.usefixtures("deployed")
def test_a_suspended_flow_run_takes_a_persons_word_and_trains_nothing_again(project, api, mlflow, tmp_path):
    """Its push is tried again while a disk is away, and brings the chain to a clone without dvc.lock."""
    disk = tmp_path / "disk"
    disk.touch()  # no folder
    dvc(project, "remote", "add", "--local", "--default", "store", str(disk / "remote"))
    project.set({"train.seed": 1})
    started = project.run(
        *("prefect", "deployment", "run", "train-stylegan/default", "--param", "push=true"), PREFECT_API_URL=api.url
    )
    assert started.returncode == 0, started.stdout
    until(lambda: "push" in (tasks := api.tasks(api.last_run())) and tasks["push"]["state"]["name"] == "AwaitingRetry")
    disk.unlink()
    run = until(lambda: (found := api.last_run())["state"]["name"] == "Suspended" and found)
    until(lambda: not flow_processes(project))
    assert api.tasks(run)["push"]["run_count"] == 2
    assert aliases(mlflow) == {"challenger": "2"}
    key = run["state"]["state_details"]["run_input_keyset"]["description"]
    told = api.http.get(f"/flow_runs/{run['id']}/input/{key}").raise_for_status().text
    assert f"models:/{MODEL}/2 is the challenger; waits for a person" in told
    assert f"Pictures: `{project.path}/reports/pictures`" in told

    refused = api.http.post(f"/flow_runs/{run['id']}/resume", json={"run_input": {"approve": True}}).json()
    assert (refused["status"], "name" in refused["details"]["reason"]) == ("REJECT", True)
    answer = {"approve": True, "name": "ada", "note": "at last, wings"}
    taken = api.http.post(f"/flow_runs/{run['id']}/resume", json={"run_input": answer}).json()
    assert taken["status"] == "ACCEPT"
    ended = until(lambda: (found := api.last_run())["state"]["type"] in ("COMPLETED", "FAILED", "CRASHED") and found)
    assert (ended["id"], ended["state"]["type"]) == (run["id"], "COMPLETED"), ended["state"]
    assert aliases(mlflow) == {"challenger": "2", "champion": "2"}
    assert decision(mlflow, "2") == ["approved", "ada", "at last, wings"]
    assert "version 2, alias champion; approved by ada" in newest_summary(api)
    assert (project.path / "trained").read_text().split() == ["0", "1"]
    assert "up to date" in dvc(project, "status")
    restored(project, tmp_path / "clone", disk / "remote")


def flow_processes(project):
    """What the worker runs in the project's folder."""
    found = [process for process in psutil.process_iter(["cwd"]) if process.info["cwd"] == str(project.path)]
    return [process for process in found if process.is_running()]


def restored(project, clone, remote):
    """The commands of docs/operations.md, in a clone that has the params, not dvc.lock."""
    clone.mkdir()
    for name in ("train.py", "dvc.yaml", "params.yaml"):
        (clone / name).write_bytes((project.path / name).read_bytes())
    for command in (
        *(["git", "init", "--quiet"], ["dvc", "init", "--quiet"]),
        ["dvc", "remote", "add", "--local", "--default", "store", str(remote)],
        *(["dvc", "fetch", "--run-cache"], ["dvc", "repro", "--pull", "--single-item", "train"]),
    ):
        subprocess.run(command, cwd=clone, env=processes.environment(), check=True, capture_output=True)
    assert not (clone / "trained").exists()
    generator = Path("models/candidate/generator.safetensors")
    assert (clone / generator).read_bytes() == (project.path / generator).read_bytes()
