"""The flow as Prefect runs it: a real server, a real worker, real DVC, on a DAG of two stages that take no time."""

import json
import shutil
import signal
import subprocess
import sys

import psutil
import pytest

from components import processes
from components.watching.stages import DONE, RUNNING, stages
from tests.conditions import until
from tests.toy import DAG, make_toy, prefect_worker


@pytest.fixture(scope="module")
def toy(module_project):
    """The project's code over the small DAG, in a folder of its own."""
    return make_toy(module_project)


@pytest.fixture(scope="module")
def deployed(toy, api, tmp_path_factory):
    with prefect_worker(toy, api, tmp_path_factory.mktemp("worker")):
        yield


def deployment_run(toy, api, *arguments):
    command = ("prefect", "deployment", "run", "train-stylegan/default", "--watch", *arguments)
    return toy.run(*command, PREFECT_API_URL=api.url)


@pytest.mark.usefixtures("deployed")
def test_a_deployment_run_is_the_whole_chain_and_a_crash_is_tried_again(toy, api):
    (toy.path / "crash").touch()
    done = deployment_run(toy, api)
    assert done.returncode == 0, done.stdout
    run = api.last_run()
    assert run["state"]["type"] == "COMPLETED"
    assert str(toy.path) not in (toy.path / "prefect.yaml").read_text()
    tasks = api.tasks(run)
    assert list(DAG) == sorted(tasks, key=lambda name: tasks[name]["start_time"])
    assert [tasks[name]["run_count"] for name in DAG] == [2, 1]
    for name in DAG:
        assert {f"Running stage '{name}':", f"hello from {name}"} <= set(api.log(tasks[name]))
    (artifact,) = api.find("artifacts", artifacts={"key": {"any_": ["summary"]}})
    (verdict,) = api.find("artifacts", artifacts={"key": {"any_": ["verdict"]}})
    assert verdict["data"] == "models:/bestiary-generator/1 is the champion"
    assert "| real against real (the floor) | 0.5 |" in artifact["data"]
    assert "up to date" in toy.run("dvc", "status").stdout
    assert "didn't change, skipping" in toy.run("dvc", "repro").stdout
    assert [stage.state for stage in stages(toy.path)] == [DONE, DONE]


@pytest.mark.usefixtures("deployed")
def test_with_other_values_a_deployment_run_is_an_experiment_and_the_checkout_stays_as_it_is(toy, api):
    kept = [toy.path / name for name in ("params.yaml", "dvc.lock", "models/candidate/training.json")]
    before = [path.read_bytes() for path in kept]
    done = deployment_run(toy, api, "--param", 'overrides={"train.gamma": 0.5, "ingest.source": "sources/drawn.yaml"}')
    assert done.returncode == 0, done.stdout
    assert [path.read_bytes() for path in kept] == before
    tasks = api.tasks(api.last_run())
    assert [(tasks[name]["run_count"], tasks[name]["state"]["type"]) for name in DAG] == [(1, "COMPLETED")] * 2
    assert "hello from draw" in api.log(tasks["draw"])
    (name,) = (line.split("[")[1].rstrip("]") for line in toy.run("dvc", "exp", "list").stdout.splitlines()[1:])
    assert name.startswith("train.gamma-0.5_ingest.source-sources-drawn.yaml-")
    newest = api.find("artifacts", artifacts={"key": {"any_": ["summary"]}}, sort="CREATED_DESC")[0]
    assert f"| its files | dvc exp apply {name} |" in newest["data"].splitlines()


@pytest.mark.usefixtures("deployed")
def test_a_users_error_is_one_line_and_is_not_tried_again(toy, api):
    (toy.path / "sources/tiny.yaml").write_text("other: content")
    (toy.path / "refuse").touch()
    done = deployment_run(toy, api)
    (toy.path / "refuse").unlink()
    assert done.returncode == 1, done.stdout
    run = api.last_run()
    assert run["state"]["type"] == "FAILED"
    assert run["state"]["message"] == "error: three is not a size; allowed: 4"
    (task,) = api.tasks(run).values()
    assert (task["name"], task["run_count"], task["state"]["type"]) == ("draw", 1, "FAILED")
    assert "error: three is not a size; allowed: 4" in api.log(task)


def start_flow(toy, api, **options):
    """`python -m flows` against the server."""
    env = processes.environment(PYTHONPATH=str(toy.path), PREFECT_API_URL=api.url)
    return subprocess.Popen([sys.executable, "-m", "flows"], cwd=toy.path, env=env, text=True, **options)


def test_a_missing_source_ends_the_command_with_2_and_one_line(toy, api):
    source = (toy.path / "params.yaml").read_text()
    toy.set({"ingest.source": "no/such/folder"})
    run = start_flow(toy, api, stderr=subprocess.PIPE)
    _, errors = run.communicate(timeout=400)
    (toy.path / "params.yaml").write_text(source)
    assert run.returncode == 2
    missing = toy.path / "no/such/folder"
    assert errors.splitlines()[-1] == f"error: stage draw: No such file or directory: {missing}"
    assert "Traceback" not in errors


def test_wrong_params_end_the_command_with_2_before_anything_starts(toy, api):
    source = (toy.path / "params.yaml").read_text()
    toy.set({"preprocess.resolution": 33})
    run = start_flow(toy, api, stderr=subprocess.PIPE)
    _, errors = run.communicate(timeout=400)
    (toy.path / "params.yaml").write_text(source)
    assert run.returncode == 2
    assert errors.startswith("error: params.yaml: preprocess.resolution is 33; allowed: ")
    assert errors.count("\n") == 1


def test_a_signal_stops_the_stage_and_prefect_hears_of_it(toy, api):
    (toy.path / "sources/tiny.yaml").write_text("another: content")
    (toy.path / "linger-draw").touch()
    pid = toy.path / "pid"
    run = start_flow(toy, api, stderr=subprocess.PIPE)
    stage = psutil.Process(int(until(lambda: pid.exists() and pid.read_text())))
    family = psutil.Process(run.pid).children(recursive=True)
    assert stage in family
    run.terminate()
    _, errors = run.communicate(timeout=400)
    (toy.path / "linger-draw").unlink()
    assert run.returncode == 128 + signal.SIGTERM, errors
    assert not [process for process in family if process.is_running()]
    assert api.last_run()["state"]["type"] == "CRASHED"


def test_training_that_gets_further_is_tried_again_and_again(toy, api):
    (toy.path / "sources/tiny.yaml").write_text("a third: content")
    shutil.rmtree(toy.path / "runs")
    (toy.path / "crashes").write_text("3")
    assert start_flow(toy, api).wait(300) == 0
    assert api.tasks(api.last_run())["train"]["run_count"] == 4


def test_a_second_run_in_one_checkout_waits_for_the_first_and_progress_is_shown_meanwhile(toy, api):
    (toy.path / "sources/tiny.yaml").write_text("a fourth: content")
    linger = toy.path / "linger-train"
    linger.touch()
    first = start_flow(toy, api)

    def bars():
        return [found for found in api.find("artifacts", sort="CREATED_DESC") if found["type"] == "progress"]

    until(lambda: bars() and bars()[0]["data"] == 25)
    (bar, *_), running = bars(), api.last_run()
    assert bar["task_run_id"] == api.tasks(running)["train"]["id"]
    assert bar["description"] == "0.5 of 2 kimg, 15 s left"
    assert [stage.state for stage in stages(toy.path)] == [DONE, RUNNING]

    second = start_flow(toy, api)

    def waiting():
        """Of the second run: its first stage, whose output the first run's training reads."""
        task = api.tasks(api.last_run()).get("draw") if api.last_run()["id"] != running["id"] else None
        return task and [line for line in api.log(task) if line.startswith("stage draw is busy: waiting for PID ")]

    try:
        until(waiting)
    finally:
        linger.unlink()
    assert (first.wait(300), second.wait(300)) == (0, 0)
    (bar, *_) = [found for found in bars() if found["task_run_id"] == api.tasks(running)["train"]["id"]]
    assert (bar["key"], bar["data"], bar["description"]) == ("training", 50, "1.0 of 2 kimg, 10 s left")
    (table, *_) = api.find("artifacts", artifacts={"key": {"any_": ["training-table"]}}, sort="CREATED_DESC")
    assert "| images/s | 100.0 now, 50.0 mean |" in table["data"].splitlines()
    tasks = api.tasks(api.last_run())
    assert len(waiting()) == 1
    for name, task in tasks.items():
        assert (task["run_count"], task["state"]["type"]) == (1, "COMPLETED")
        assert f"Stage '{name}' didn't change, skipping" in api.log(task)


def test_a_server_that_does_not_answer_is_one_line(toy):
    done = toy.run(sys.executable, "-m", "flows", PREFECT_API_URL="http://127.0.0.1:1/api")
    assert done.returncode == 1
    (line,) = done.stdout.splitlines()
    assert line.startswith("error: Prefect at 'http://127.0.0.1:1/api' (PREFECT_API_URL) does not answer: ")


def test_a_lock_of_a_machine_that_went_down_is_taken_away(toy):
    """Its DVC's number is another process's by now."""
    other = subprocess.Popen(["sleep", "600"])
    try:
        held = {str(toy.path / "data/raw"): {"pid": other.pid, "cmd": "dvc repro draw"}}
        (toy.path / ".dvc/tmp/rwlock").write_text(json.dumps({"write": held, "read": {}}))
        done = toy.run(sys.executable, "-m", "flows")
        assert done.returncode == 0, done.stdout
        assert "stage draw: a lock of a DVC that is gone was taken away" in done.stdout
    finally:
        other.kill()
        other.wait()
