"""Training as a Ray job that a deployment has begun: cancelled, its head killed, and from an experiment's copy."""

import json

import psutil
import pytest

from benchmarks.chaos.services import services as standing
from components import processes
from tests.conditions import until
from tests.conftest import make_project
from tests.toy import Api
from tests.trainings import lines, results, undisturbed

KIMG = 12  # some 30 seconds of training


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The tiny project, and what comes of it undisturbed."""
    project = make_project(tmp_path_factory.mktemp("jobs") / "project")
    project.set({"train.total_kimg": KIMG, "evaluate.every_kimg": 0})
    project.stages("ingest", "preprocess")
    return project, undisturbed(project)


@pytest.fixture(scope="module")
def services(prepared):
    project, _ = prepared
    with standing(project.path, processes.environment(PYTHONPATH=str(project.path))) as found:
        project.set({"execution.ray_address": f"http://127.0.0.1:{found.ports['jobs']}"})
        yield found


@pytest.fixture
def api(services):
    found = Api(services.exports["PREFECT_API_URL"])
    yield found
    found.http.close()


def deployment_run(project, api, *arguments):
    """One that has been given to the worker, by its id."""
    done = project.run("prefect", "deployment", "run", "train-stylegan/default", *arguments, PREFECT_API_URL=api.url)
    assert done.returncode == 0, done.stdout
    return api.last_run()["id"]


def ended(api, run_id):
    """The state's type of a flow run that has ended."""
    state = api.http.get(f"/flow_runs/{run_id}").json()["state"]["type"]
    return state if state in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") else None


def drivers(run):
    """The processes that are a run's job."""
    found = [process for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"]]
    return [process for process in found if process.info["cmdline"][1:] == ["-m", "pipelines.job", run.name]]


def test_a_cancelled_flow_run_stops_its_job_and_with_its_head_killed_a_second_one_ends_all_the_same(
    prepared, services, api
):
    project, expected = prepared
    cancelled = deployment_run(project, api)
    (run,) = until(lambda: [path.parents[1] for path in project.path.glob("runs/*/checkpoints/[0-9]*")][:1])
    assert project.run("prefect", "flow-run", "cancel", cancelled, PREFECT_API_URL=api.url).returncode == 0
    assert until(lambda: ended(api, cancelled)) == "CANCELLED"
    until(lambda: not drivers(run))
    (line,) = lines(run / "failures.jsonl")
    assert line["reason"].startswith("asked to stop: ")
    saved = max(int(folder.name) for folder in run.glob("checkpoints/[0-9]*"))
    assert saved >= lines(run / "metrics.jsonl")[-1]["nimg"], "it ended without a checkpoint"

    second = deployment_run(project, api)
    until(lambda: len(lines(run / "starts.jsonl")) == 2)
    until(lambda: int(max(run.glob("checkpoints/[0-9]*")).name) > saved)
    family = psutil.Process(services.process.pid).children(recursive=True)
    (head,) = (process for process in family if process.name() == "gcs_server")
    head.kill()
    assert until(lambda: ended(api, second)) == "COMPLETED"
    assert [line["nimg"] for line in lines(run / "starts.jsonl")][:2] == [0, saved]
    assert len(lines(run / "starts.jsonl")) == 3
    assert results(project, run) == expected


def test_an_experiments_training_is_a_job_in_its_copy(prepared, services, api):
    project, _ = prepared
    other = json.loads((project.path / "models/candidate/training.json").read_text())["run_key"]
    values = {"train.seed": 1, "train.total_kimg": 1}
    experiment = deployment_run(project, api, "--param", f"overrides={json.dumps(values)}")
    assert until(lambda: ended(api, experiment)) == "COMPLETED"
    (run,) = (path.parent for path in project.path.glob("runs/*/job.json") if path.parent.name != other)
    assert lines(run / "metrics.jsonl")[-1]["nimg"] == 1000
    assert json.loads((run / "job.json").read_text())["train"]["seed"] == 1
    assert "train.seed-1_train.total_kimg-1" in project.run("dvc", "exp", "list").stdout
    assert json.loads((project.path / "models/candidate/training.json").read_text())["run_key"] == other
