"""make services: real servers that answer, come back with their data when they are killed, and leave nothing behind."""

import re
import shlex
import signal
import socket
import subprocess
import sys

import httpx
import psutil
import pytest

from components import processes
from tests.conditions import until
from tests.toy import SERVER_S, Api, make_toy

NAMES = ("prefect", "mlflow", "ray", "jobs")


class Services:
    """A running `python -m flows.services`."""

    def __init__(self, project, output):
        self.path, self.output = project.path, output
        self.ports = {name: processes.free_port() for name in NAMES}
        ports = [str(self.ports[name]) for name in NAMES]
        self.argv = [sys.executable, "-m", "flows.services", "--ports", *ports]
        self.env = processes.environment(PYTHONPATH=str(project.path))
        with output.open("wb") as out:
            self.process = subprocess.Popen(self.argv, cwd=self.path, env=self.env, stdout=out, stderr=out)
        self.prefect = Api(f"http://127.0.0.1:{self.ports['prefect']}/api")
        self.mlflow = httpx.Client(base_url=f"http://127.0.0.1:{self.ports['mlflow']}", trust_env=False)

    def said(self):
        return self.output.read_text()

    def family(self):
        return psutil.Process(self.process.pid).children(recursive=True)

    def listener(self, name):
        """The process that answers on a server's port."""
        for process in self.family():
            if any(at.laddr.port == self.ports[name] for at in process.net_connections() if at.status == "LISTEN"):
                return process
        return None

    def exports(self):
        lines = [line.removeprefix("export ") for line in self.said().splitlines() if line.startswith("export ")]
        assert len(lines) == 3
        return dict(setting.split("=", 1) for line in lines for setting in shlex.split(line))


@pytest.fixture(scope="module")
def services(module_project, tmp_path_factory):
    """All of them, announced."""
    running = Services(make_toy(module_project), tmp_path_factory.mktemp("services") / "output")
    try:
        until(lambda: "prefect deployment run" in running.said() or running.process.poll() is not None, SERVER_S)
        assert running.process.poll() is None, running.said()
        yield running
    finally:
        running.process.terminate()
        running.process.wait(300)
        running.mlflow.close()
        running.prefect.http.close()


def experiments(services):
    answer = services.mlflow.post("/api/2.0/mlflow/experiments/search", json={"max_results": 10})
    return {found["name"] for found in answer.raise_for_status().json()["experiments"]}


def answers(services):
    try:
        return services.mlflow.get("/health").is_success
    except httpx.TransportError:
        return False


def test_they_answer_on_the_loopback_address_alone(services):
    assert services.prefect.up()
    assert services.mlflow.get("/health").text == "OK"
    joined = "import ray; ray.init(include_dashboard=False, log_to_driver=False); print(ray.nodes()[0]['Alive'])"
    done = subprocess.run(
        [sys.executable, "-c", joined], env=services.env | services.exports(), capture_output=True, text=True
    )
    assert done.stdout.strip() == "True", done.stderr
    listening = [at for process in services.family() for at in process.net_connections() if at.status == "LISTEN"]
    assert {at.laddr.port for at in listening} >= set(services.ports.values())
    assert {at.laddr.ip.removeprefix("::ffff:") for at in listening} == {"127.0.0.1"}


def test_a_run_through_the_worker_writes_to_that_mlflow(services):
    """The deployment is there, and a stage sees the address."""
    command = ["prefect", "deployment", "run", "train-stylegan/default", "--watch"]
    done = subprocess.run(command, cwd=services.path, env=services.env | services.exports(), capture_output=True)
    assert done.returncode == 0, done.stdout
    tasks = services.prefect.tasks(services.prefect.last_run())
    assert f"MLflow: {services.exports()['MLFLOW_TRACKING_URI']}" in services.prefect.log(tasks["train"])


def test_killed_servers_are_back_on_their_ports_with_their_data(services):
    """MLflow's process, and Prefect's together with the supervisor that would have seen it."""
    services.mlflow.post("/api/2.0/mlflow/experiments/create", json={"name": "kept"}).raise_for_status()
    run = services.prefect.last_run()
    server, other = services.listener("mlflow"), services.listener("prefect")
    inits = [process for process in other.parents() if process.ppid() == services.process.pid]
    before = services.said().count("\n")
    for process in (server, *inits, other):
        process.kill()
    until(lambda: services.said().count("\n") >= before + 2)
    until(lambda: answers(services) and services.prefect.up())
    said = "\n".join(sorted(services.said().splitlines()[before:]))
    line = r"{0} ended with exit code -?\d+ and is started again; see \S+/\.services/{0}\.log"
    assert re.fullmatch("\n".join(line.format(name) for name in ("mlflow", "prefect")), said), said
    assert services.listener("mlflow") not in (server, None)
    assert "kept" in experiments(services)
    assert services.prefect.last_run()["id"] == run["id"]


def test_the_work_pools_limit_outlives_the_next_start(services):
    """As operations.md sets it, for experiments one after the other."""
    env = services.env | services.exports()
    limit = ["prefect", "work-pool", "set-concurrency-limit", "bestiary", "1"]
    subprocess.run([sys.executable, "-m", *limit], cwd=services.path, env=env, check=True, capture_output=True)
    code = """if True:
        import sys
        from pathlib import Path
        from flows.services import Ports, clients, deploy
        folder = Path(".services").absolute()
        deploy(folder, clients(folder, Ports(*map(int, sys.argv[1:]))))
    """
    again = [sys.executable, "-c", code, *map(str, services.ports.values())]
    subprocess.run(again, cwd=services.path, env=env, check=True)
    (pool,) = services.prefect.find("work_pools", work_pools={"name": {"any_": ["bestiary"]}})
    assert pool["concurrency_limit"] == 1


def test_a_taken_port_is_one_line_and_exit_code_2(services):
    done = subprocess.run(services.argv, cwd=services.path, env=services.env, capture_output=True, text=True)
    assert done.returncode == 2
    port = services.ports["prefect"]
    assert done.stderr == (
        f"error: the port of prefect is {port}: Address already in use; allowed: a free one, as in "
        "--ports PREFECT MLFLOW RAY JOBS\n"
    )


def test_one_signal_stops_everything(services):
    family = services.family()
    assert len(family) > 2 * len(NAMES)
    services.process.send_signal(signal.SIGINT)
    assert services.process.wait(300) == 0
    assert not [process for process in family if process.is_running()]
    for port in services.ports.values():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
