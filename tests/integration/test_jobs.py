"""Training as a job on a real Ray head, by real stages that are killed, told to stop and cut off."""

import contextlib
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import requests

from components import processes
from components.config import load_params
from components.data.dataset import ImageSet
from components.data.files import read_json_lines
from components.training.identity import run_key
from tests.conditions import until
from tests.servers import serving
from tests.trainings import results, undisturbed

TOKEN = "a-token-of-this-test-alone"
AUTH = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
TIMEOUT_S = 300
FLOW = """
import sys
from components import processes
sys.exit(processes.run([sys.executable, "-m", "pipelines.train"], on_line=lambda line: print(line, flush=True)))
"""


@dataclass(frozen=True)
class Head:
    """A Ray head, by its dashboard."""

    url: str

    def get(self, path):
        return requests.get(f"{self.url}{path}", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30)

    def up(self):
        with contextlib.suppress(requests.RequestException):
            return self.get("/api/jobs/").ok
        return False

    def status(self, run):
        return self.get(f"/api/jobs/{run.name}").json()["status"]


@pytest.fixture(scope="module")
def head():
    """A head with two CPUs that wants a token, in a folder of its own: short, for its sockets are there."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    port, dashboard, client, agent = (processes.free_port() for _ in range(4))
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--disable-usage-stats"]
    command += ["--node-ip-address=127.0.0.1", f"--port={port}", f"--temp-dir={folder}", "--num-cpus=2"]
    command += ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"]
    command += [f"--dashboard-agent-listen-port={agent}"]
    found = Head(f"http://127.0.0.1:{dashboard}")
    env = processes.environment(**AUTH, RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S="0")
    with processes.service(command, ready=found.up, timeout_s=TIMEOUT_S, log=folder / "log", env=env, cwd=folder):
        yield found
    shutil.rmtree(folder)


class Pump(socketserver.BaseRequestHandler):
    def handle(self):
        with socket.create_connection(self.server.to) as onward, contextlib.suppress(OSError):
            self.server.pairs.append((self.request, onward))
            back = threading.Thread(target=self.copy, args=(onward, self.request))
            back.start()
            self.copy(self.request, onward)
            back.join()

    def copy(self, source, target):
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                target.sendall(piece)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Line(socketserver.ThreadingTCPServer):
    """A line to the head that can be cut."""

    allow_reuse_address = True

    def __init__(self, port, url):
        self.to, self.pairs = ("127.0.0.1", int(url.rpartition(":")[2])), []
        super().__init__(("127.0.0.1", port), Pump)

    def cut(self):
        for end in (end for pair in self.pairs for end in pair):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def prepared(module_project, head):
    """The tiny project with its shards, its run's folder, and what comes of it undisturbed."""
    module_project.set({"train.total_kimg": 3, "evaluate.every_kimg": 0, "execution.ray_address": head.url})
    module_project.stages("ingest", "preprocess")
    data = ImageSet.open(module_project.path / "data/shards", "train")
    key = run_key(load_params(module_project.path / "params.yaml").train, data.digest)
    return module_project, module_project.path / "runs" / key, undisturbed(module_project)


class Stage:
    """A train stage in a process of its own, and what it says."""

    def __init__(self, project, *command, **env):
        self.said = []
        self.process = subprocess.Popen(
            [sys.executable, *(command or ("-m", "pipelines.train"))],
            cwd=project.path,
            env=processes.environment(PYTHONPATH=str(project.path), **AUTH | env),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.reader = threading.Thread(target=lambda: self.said.extend(self.process.stdout))
        self.reader.start()

    def says(self, text):
        return any(text in line for line in self.said)

    def wait(self):
        code = self.process.wait(TIMEOUT_S)
        self.reader.join()
        return code


@pytest.fixture
def start(prepared):
    """Starts stages that end with the test."""
    stages = []

    def started(*command, **env):
        stages.append(Stage(prepared[0], *command, **env))
        return stages[-1]

    yield started
    for stage in stages:
        stage.process.kill()
        stage.wait()
        stage.process.stdout.close()


def drivers(run):
    """The processes that are a run's job."""
    found = [process for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"]]
    return [process for process in found if process.info["cmdline"][1:] == ["-m", "pipelines.job", run.name]]


def test_two_starts_train_once_and_killed_stages_are_attached_to_again(prepared, head, start):
    """One under a flow's supervisor; the flow and the other are killed; the third loses its line for a while."""
    project, run, expected = prepared
    stages = [start("-c", FLOW), start()]
    until(lambda: all(stage.says(": attached") or stage.says(": its job is submitted") for stage in stages))
    assert sum(stage.says(": its job is submitted") for stage in stages) == 1
    family = psutil.Process(stages[0].process.pid).children(recursive=True)
    assert any(process.cmdline()[1:] == ["-m", "pipelines.train"] for process in family)
    for stage in stages:
        stage.process.kill()
    psutil.wait_procs(family, timeout=TIMEOUT_S)
    assert head.status(run) in ("PENDING", "RUNNING")

    port = processes.free_port()
    address = f"http://127.0.0.1:{port}"
    project.set({"execution.ray_address": address})
    with serving(Line(port, head.url)) as line:
        third = start()
        until(lambda: third.says(f"attached to its job at {address}"))
    line.cut()
    until(lambda: third.says("does not answer"))
    with serving(Line(port, head.url)):
        assert third.wait() == 0, third.said
    project.set({"execution.ray_address": head.url})
    assert sum("does not answer" in said for said in third.said) == 1
    assert third.says("kimg 3.0/3")
    assert [line["workers"] for line in read_json_lines(run / "starts.jsonl")] == [1]
    assert results(project, run) == expected
    assert head.status(run) == "SUCCEEDED"

    project.set({"execution.backup": "s3://art/runs"})  # the cluster may have keys that this machine lacks
    store = f"http://127.0.0.1:{processes.free_port()}"
    fourth = start(AWS_ENDPOINT_URL=store, AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test")
    assert fourth.wait() == 0, fourth.said
    assert sum("; the copy is what the run's job has made of it" in said for said in fourth.said) == 1
    project.set({"execution.backup": ""})


def test_a_job_that_failed_or_was_stopped_goes_on_from_its_checkpoint(prepared, head, start):
    """Its driver is killed once, and once the stage has a Ctrl-C; it ends where an undisturbed run does."""
    project, run, expected = prepared
    shutil.rmtree(run, ignore_errors=True)

    first = start()
    until(lambda: list(run.glob("checkpoints/[0-9]*")))
    (driver,) = drivers(run)
    driver.kill()
    assert first.wait() == 1
    assert first.said[-1].startswith(f"error: the job of run {run.name} failed: ")
    assert not first.says("Traceback")
    assert head.status(run) == "FAILED"

    second = start()
    until(lambda: len(read_json_lines(run / "starts.jsonl")) == 2)
    second.process.send_signal(signal.SIGINT)
    assert second.wait() == 128 + signal.SIGINT
    assert second.says("its job is told to stop")
    assert head.status(run) == "STOPPED"
    assert not drivers(run)

    third = start()
    assert third.wait() == 0, third.said
    begun = [line["nimg"] for line in read_json_lines(run / "starts.jsonl")]
    assert len(begun) == 3
    assert 0 == begun[0] < begun[1] <= begun[2] < 3000
    assert results(project, run) == expected


def test_a_higher_target_is_another_job_and_bad_input_in_it_is_one_line(prepared, start):
    """The code changes between submission and start, which is found in the job alone."""
    project, run, _ = prepared
    project.set({"train.total_kimg": 4})
    stage = start()
    until(lambda: stage.says(": its job is submitted"))
    with (project.path / "components/models/dcgan.py").open("a") as file:
        file.write("# another code\n")
    assert stage.wait() == 2
    assert stage.said[-1].startswith(f"error: run {run.name} is of other data or code than lie here now; allowed: ")
    assert sum("error: " in said for said in stage.said) == 1
    assert not stage.says("Traceback")


@pytest.mark.parametrize(
    ("port", "token", "reason"),
    [
        (None, TOKEN, "and no Ray answers there; allowed: a running"),
        ("head", "wrong", "which wants a token; allowed: "),
    ],
)
def test_an_address_or_a_token_that_is_wrong(prepared, head, start, port, token, reason):
    project, _, _ = prepared
    address = head.url if port else f"http://127.0.0.1:{processes.free_port()}"
    project.set({"execution.ray_address": address, "train.seed": 1})
    stage = start(RAY_AUTH_TOKEN=token)
    assert stage.wait() == 2
    assert stage.said[-1].startswith(f"error: execution.ray_address is '{address}'")
    assert reason in stage.said[-1]
    assert not stage.says("Traceback")
