"""Training as a Ray job that a deployment has begun, whose run is cancelled and whose processes are killed."""

import contextlib
import json

import psutil
import pytest

from benchmarks.chaos.services import services as standing
from components import processes
from tests.conditions import until
from tests.conftest import make_project
from tests.toy import Api
from tests.trainings import lines, points, results, undisturbed

KIMG = 8  # 20 seconds of training: a flow run takes some to be cancelled


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


def below(services, words):
    """The services' processes with words in their command line."""
    found = []
    for process in psutil.Process(services.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # one that has ended since
            if process.status() != psutil.STATUS_ZOMBIE and words in " ".join(process.cmdline()):
                found.append(process)
    return found


def log_of_training(api, run_id):
    task = api.tasks({"id": run_id}).get("train")
    return "\n".join(api.log(task)) if task else ""


def test_a_job_outlives_worker_and_flow_and_a_run_ends_well_though_it_was_cancelled_and_its_head_killed(
    prepared, services, api
):
    """It stands still while worker and flow are killed at once and another run attaches to it: it would be over."""
    project, expected = prepared
    first = deployment_run(project, api)
    (run,) = until(lambda: [path.parents[1] for path in project.path.glob("runs/*/checkpoints/[0-9]*")][:1])
    assert project.run("prefect", "flow-run", "cancel", first, PREFECT_API_URL=api.url).returncode == 0
    assert until(lambda: ended(api, first)) == "CANCELLED"
    until(lambda: not drivers(run))
    (line,) = lines(run / "failures.jsonl")
    assert line["reason"].startswith("asked to stop: ")
    saved = max(int(folder.name) for folder in run.glob("checkpoints/[0-9]*"))
    assert saved >= lines(run / "metrics.jsonl")[-1]["nimg"], "it ended without a checkpoint"

    deployment_run(project, api)
    until(lambda: len(lines(run / "starts.jsonl")) == 2)
    until(lambda: int(max(run.glob("checkpoints/[0-9]*")).name) > saved)
    (trainer,) = below(services, "RayTrainWorker")
    trainer.suspend()
    worker, dvc = below(services, "worker start --pool")[-1], below(services, "-m dvc repro")[-1]
    init, flow = dvc.parents()[:2]
    assert worker in flow.parents()
    for victim in (worker, flow):
        victim.kill()
    until(lambda: not init.is_running())
    assert len(drivers(run)) == 1

    third = deployment_run(project, api)
    until(lambda: "attached to its job" in log_of_training(api, third) or ended(api, third))
    (head,) = (process for process in below(services, "") if process.name() == "gcs_server")
    head.kill()
    assert until(lambda: ended(api, third)) == "COMPLETED"
    assert [line["nimg"] for line in lines(run / "starts.jsonl")][:2] == [0, saved]
    assert len(lines(run / "starts.jsonl")) == 3
    assert results(project, run) == expected
    shown = [step for step, _ in points(run, services.exports["MLFLOW_TRACKING_URI"])]
    assert shown == [line["nimg"] for line in lines(run / "metrics.jsonl")]
    assert "up to date" in project.run("dvc", "status").stdout
    assert not drivers(run)


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
