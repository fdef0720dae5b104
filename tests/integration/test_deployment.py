"""The flow as Prefect runs it: a real server, a real worker, real DVC, on a DAG of two stages that take no time.

What a stage does is told by files: `crash` kills it once, `refuse` is a user's error, `linger` keeps it busy.
"""

import contextlib
import signal
import subprocess
import sys
import time

import httpx
import psutil
import pytest
import yaml

from components import processes

STAGE = """
import json, os, pathlib, signal, sys, time

def write(path, content):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))

print("hello from", sys.argv[1], flush=True)
if pathlib.Path("crash").exists():
    pathlib.Path("crash").unlink()
    os.kill(os.getpid(), signal.SIGKILL)
if pathlib.Path("refuse").exists():
    print("error: three is not a size; allowed: 4", file=sys.stderr)
    sys.exit(2)
if pathlib.Path("linger").exists():
    write("pid", os.getpid())
    time.sleep(600)
if sys.argv[1] == "draw":
    write("data/raw", 1)
else:
    write("models/candidate/training.json", {"run_key": "abc", "nimg": 1000})
    write("runs/abc/metrics.jsonl", {"nimg": 1000, "kimg": 1.0, "seconds": 10.0})
    own = {"kid": 2.0, "precision": 0.1, "recall": 0.2, "density": 0.3, "coverage": 0.4}
    metrics = {"memorisation": {"share": 0.0}, "counts": {"samples": 10}}
    metrics |= {"holdout": own, "holdout_floor": {"kid": 0.5}, "holdout_baselines": {"untrained": 8.0}}
    write("reports/metrics.json", metrics)
    write("reports/evaluation.json", {"metric": "kid"})
    pathlib.Path("reports/verdict.md").write_text("models:/bestiary-generator/1 is the champion")
    write("reports/registered.json", {"model": "bestiary-generator", "version": 1, "alias": "champion"})
"""
DAG = {
    "draw": {"cmd": "python stage.py draw", "deps": ["${ingest.source}"], "outs": ["data/raw"]},
    "learn": {"cmd": "python stage.py learn", "deps": ["data/raw"], "outs": ["models/candidate", "reports"]},
}
SERVER_S = 400  # to start, on a machine that does other things too


def until(condition, timeout_s=300):
    """Waits for a condition and returns its value."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.1)
    return value


class Api:
    """What the tests ask a Prefect server."""

    def __init__(self, url):
        self.url = url
        self.http = httpx.Client(base_url=url, trust_env=False)

    def up(self):
        with contextlib.suppress(httpx.TransportError):
            return self.http.get("/health").is_success
        return False

    def find(self, kind, **query):
        answer = self.http.post(f"/{kind}/filter", json=query)
        assert answer.is_success, answer.text
        return answer.json()

    def last_run(self):
        return self.find("flow_runs", sort="EXPECTED_START_TIME_DESC", limit=1)[0]

    def tasks(self, run):
        """Task runs by name."""
        found = self.find("task_runs", flow_runs={"id": {"any_": [run["id"]]}})
        return {task["name"]: task for task in found}

    def log(self, task):
        found = self.find("logs", logs={"task_run_id": {"any_": [task["id"]]}}, sort="TIMESTAMP_ASC")
        return [record["message"] for record in found]


@pytest.fixture(scope="module")
def toy(module_project):
    """The project's code over the small DAG, in a folder of its own."""
    (module_project.path / "stage.py").write_text(STAGE)
    (module_project.path / "dvc.yaml").write_text(yaml.safe_dump({"stages": DAG}, sort_keys=False))
    module_project.commit()
    return module_project


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    """A Prefect server with a database of its own."""
    home = tmp_path_factory.mktemp("prefect")
    port = processes.free_port()
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    found = Api(f"http://127.0.0.1:{port}/api")
    env = processes.environment(PREFECT_HOME=str(home))
    with (
        processes.service(command, ready=found.up, timeout_s=SERVER_S, log=home / "log", env=env),
        contextlib.closing(found.http),
    ):
        yield found


@pytest.fixture(scope="module")
def deployed(toy, api, tmp_path_factory):
    """The documented commands, and a worker that waits."""
    url = {"PREFECT_API_URL": api.url}
    for command in (["work-pool", "create", "bestiary", "--type", "process"], ["deploy", "--all"]):
        done = toy.run("prefect", *command, **url)
        assert done.returncode == 0, done.stdout
    env = processes.environment(PYTHONPATH=str(toy.path), PREFECT_WORKER_QUERY_SECONDS="1", **url)
    log = tmp_path_factory.mktemp("worker") / "log"

    def ready():
        return api.find("work_pools/bestiary/workers")

    command = ["prefect", "worker", "start", "--pool", "bestiary"]
    with processes.service(command, ready=ready, timeout_s=SERVER_S, log=log, env=env, cwd=log.parent):
        yield


def deployment_run(toy, api):
    return toy.run("prefect", "deployment", "run", "train-stylegan/default", "--watch", PREFECT_API_URL=api.url)


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
    (toy.path / "linger").touch()
    pid = toy.path / "pid"
    run = start_flow(toy, api, stderr=subprocess.PIPE)
    stage = psutil.Process(int(until(lambda: pid.exists() and pid.read_text())))
    family = psutil.Process(run.pid).children(recursive=True)
    assert stage in family
    run.terminate()
    _, errors = run.communicate(timeout=400)
    (toy.path / "linger").unlink()
    assert run.returncode == 128 + signal.SIGTERM, errors
    assert not [process for process in family if process.is_running()]
    assert api.last_run()["state"]["type"] == "CRASHED"
