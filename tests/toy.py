"""A DAG of two stages that take no time, and what tests ask a Prefect server.

What a stage does is told by files: `crash` kills it once, `refuse` is a user's error, `linger-STAGE` keeps it busy, and
`crashes` holds how often training still dies, 100 images further each time.
"""

import contextlib
import sys

import httpx
import yaml

from components import processes

STAGE = """
import json, os, pathlib, signal, sys, time

TOLD = {"waits": False, "decision": ""}

def write(path, content):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))

print("hello from", sys.argv[1], flush=True)
print("MLflow:", os.environ.get("MLFLOW_TRACKING_URI"), flush=True)
if pathlib.Path("crash").exists():
    pathlib.Path("crash").unlink()
    os.kill(os.getpid(), signal.SIGKILL)
if pathlib.Path("refuse").exists():
    print("error: three is not a size; allowed: 4", file=sys.stderr)
    sys.exit(2)
linger = pathlib.Path("linger-" + sys.argv[1])
if sys.argv[1] == "draw":
    linger.exists() and write("pid", os.getpid())
    while linger.exists():
        time.sleep(0.05)
    write("data/raw", pathlib.Path("sources/tiny.yaml").read_text())
else:
    metrics, crashes = pathlib.Path("runs/abc/metrics.jsonl"), pathlib.Path("crashes")
    pathlib.Path("models").mkdir(exist_ok=True)
    pathlib.Path("models/at_work").write_text("abc")
    metrics.parent.mkdir(parents=True, exist_ok=True)

    def tick(nimg):
        record = {"nimg": nimg, "kimg": nimg / 1000, "seconds": nimg / 50, "images_per_s": 100.0}
        with metrics.open("a") as file:
            file.write(json.dumps(record) + "\\n")
        print("kimg", nimg / 1000, flush=True)

    shown = 100 * len(metrics.read_text().splitlines()) if metrics.exists() else 0
    if crashes.exists() and int(crashes.read_text()):
        crashes.write_text(str(int(crashes.read_text()) - 1))
        tick(shown + 100)
        os.kill(os.getpid(), signal.SIGKILL)
    tick(500)
    while linger.exists():
        time.sleep(0.05)
    tick(1000)
    write("models/candidate/training.json", {"run_key": "abc", "nimg": 1000})
    own = {"kid": 2.0, "precision": 0.1, "recall": 0.2, "density": 0.3, "coverage": 0.4}
    metrics = {"memorisation": {"share": 0.0}, "counts": {"samples": 10}}
    metrics |= {"holdout": own, "holdout_floor": {"kid": 0.5}, "holdout_baselines": {"untrained": 8.0}}
    write("reports/metrics.json", metrics)
    write("reports/evaluation.json", {"metric": "kid"})
    pathlib.Path("reports/verdict.md").write_text("models:/bestiary-generator/1 is the champion")
    write("reports/registered.json", {"model": "bestiary-generator", "version": 1, "alias": "champion"} | TOLD)
"""
DAG = {
    "draw": {"cmd": "python stage.py draw", "deps": ["${ingest.source}"], "outs": ["data/raw"]},
    "train": {"cmd": "python stage.py train", "deps": ["data/raw"], "outs": ["models/candidate", "reports"]},
}
SERVER_S = 400  # to start, on a machine that does other things too


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
        """Task runs by name; one that was just made has no state yet and is left out."""
        found = self.find("task_runs", flow_runs={"id": {"any_": [run["id"]]}})
        return {task["name"]: task for task in found if task["state"]}

    def log(self, task):
        found = self.find("logs", logs={"task_run_id": {"any_": [task["id"]]}}, sort="TIMESTAMP_ASC")
        return [record["message"] for record in found]


@contextlib.contextmanager
def prefect_server(home):
    """A server with a database of its own."""
    port = processes.free_port()
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    found = Api(f"http://127.0.0.1:{port}/api")
    env = processes.environment(PREFECT_HOME=str(home))
    with (
        processes.service(command, ready=found.up, timeout_s=SERVER_S, log=home / "log", env=env),
        contextlib.closing(found.http),
    ):
        yield found


@contextlib.contextmanager
def prefect_worker(project, api, folder):
    """The documented commands, and a worker that waits, in a folder that is not the project's."""
    url = {"PREFECT_API_URL": api.url}
    for command in (["work-pool", "create", "bestiary", "--type", "process"], ["deploy", "--all"]):
        done = project.run("prefect", *command, **url)
        assert done.returncode == 0, done.stdout
    env = processes.environment(PYTHONPATH=str(project.path), PREFECT_WORKER_QUERY_SECONDS="1", **url)

    def ready():
        return api.find("work_pools/bestiary/workers")

    command = ["prefect", "worker", "start", "--pool", "bestiary"]
    with processes.service(command, ready=ready, timeout_s=SERVER_S, log=folder / "log", env=env, cwd=folder):
        yield


def make_toy(project):
    """The project's code over the small DAG."""
    (project.path / "stage.py").write_text(STAGE)
    (project.path / "dvc.yaml").write_text(yaml.safe_dump({"stages": DAG}, sort_keys=False))
    project.set({"train.total_kimg": 2})
    project.commit()
    return project
