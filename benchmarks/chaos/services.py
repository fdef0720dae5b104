"""What stands beside a disturbed run: the project's own services, which keep themselves up, and an S3 store."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import httpx
import psutil

from components import processes

POLL_S, PATIENCE_S = 0.05, 600.0
BUCKET = "runs"
KEYS = {"AWS_ACCESS_KEY_ID": "chaos", "AWS_SECRET_ACCESS_KEY": "chaos", "AWS_DEFAULT_REGION": "us-east-1"}


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"this did not come about: {what}"
        time.sleep(POLL_S)


def answers(url: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(url, trust_env=False).is_success
    return False


@dataclass(frozen=True)
class Services:
    """`python -m flows.services`: Prefect, MLflow, a Ray head and a worker, started again where they die."""

    process: subprocess.Popen[bytes]
    ports: dict[str, int]
    log: Path

    @property
    def exports(self) -> dict[str, str]:
        """What a flow needs that trains on a Ray of its own."""
        return {
            "PREFECT_API_URL": f"http://127.0.0.1:{self.ports['prefect']}/api",
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{self.ports['mlflow']}",
        }

    def announced(self) -> bool:
        assert self.process.poll() is None, f"the services have ended: {self.log}"
        return "prefect deployment run" in self.log.read_text()

    def kill(self, name: str) -> None:
        """kill -9 of what listens on the port of a server; returns when another one answers there."""
        health = {"prefect": "PREFECT_API_URL", "mlflow": "MLFLOW_TRACKING_URI"}[name]
        listener = self._listener(name)
        assert listener is not None, f"{name} listens on no port"
        listener.kill()
        until(lambda: self._listener(name) not in (None, listener), f"another {name}")
        until(lambda: answers(f"{self.exports[health]}/health"), f"an answer of {name}")

    def _listener(self, name: str) -> psutil.Process | None:
        for process in psutil.Process(self.process.pid).children(recursive=True):
            with suppress(psutil.Error):
                listening = [at for at in process.net_connections() if at.status == psutil.CONN_LISTEN]
                if self.ports[name] in (at.laddr.port for at in listening):
                    return process
        return None


@contextmanager
def services(project: Path, environment: dict[str, str]) -> Iterator[Services]:
    """Those of a project, until the block ends, as by Ctrl-C."""
    ports = {name: processes.free_port() for name in ("prefect", "mlflow", "ray", "jobs")}
    with (project / "services.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.services", "--ports", *map(str, ports.values())],
            cwd=project,
            env={**environment, "PREFECT_WORKER_QUERY_SECONDS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    found = Services(process, ports, project / "services.log")
    try:
        until(found.announced, f"services that answer: {found.log}")
        yield found
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE_S)


class Store:
    """An S3 store whose endpoint can be killed in the middle of an upload, and opened again with all its objects."""

    def __init__(self, port: int, die: Path, running: ExitStack) -> None:
        self._address, self._port, self._die, self._running = f"http://127.0.0.1:{port}", port, die, running
        self._at = processes.free_port()
        self.exports = {**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._at}"}
        region, key, secret = KEYS["AWS_DEFAULT_REGION"], KEYS["AWS_ACCESS_KEY_ID"], KEYS["AWS_SECRET_ACCESS_KEY"]
        self._client: Any = boto3.client(
            "s3", region, endpoint_url=self._address, aws_access_key_id=key, aws_secret_access_key=secret
        )
        running.callback(self._client.close)
        until(lambda: answers(f"{self._address}/moto-api/"), "an answer of moto")
        self._client.create_bucket(Bucket=BUCKET)
        self.open()

    def open(self) -> None:
        self._die.unlink(missing_ok=True)
        relay = [sys.executable, "-m", "benchmarks.chaos.relay", str(self._at), str(self._port), str(self._die)]
        self._relay = self._running.enter_context(_running(relay))
        until(lambda: answers(f"{self.exports['AWS_ENDPOINT_URL']}/moto-api/"), "an answer of the store")

    def kill_in_an_upload(self) -> None:
        """Returns when the endpoint has died in the middle of the next one."""
        self._die.touch()
        until(lambda: self._relay.poll() == -signal.SIGKILL, "an upload in which the endpoint could die")

    def content(self) -> dict[str, bytes]:
        """All objects."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        keys = [row["Key"] for page in pages for row in page.get("Contents", [])]
        return {key: self._client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}


@contextmanager
def store(folder: Path) -> Iterator[Store]:
    """One in memory, until the block ends."""
    port = processes.free_port()
    with ExitStack() as running:
        running.enter_context(_running([sys.executable, "-m", "moto.server", "--port", str(port)]))
        yield Store(port, folder / "die", running)


@contextmanager
def _running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    """A file system of so many megabytes, in this process's own mount namespace."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "small", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def in_a_mount_namespace() -> None:
    """Starts this process again as one that may mount, and whose mounts end with it, where it is not one.

    Raises:
        OSError: there is no `unshare` here; where it is not allowed, it says so and ends the process.
    """
    if os.environ.get("CHAOS_UNSHARED") != "1":
        command = ["unshare", "--mount", "--map-root-user", sys.executable, *sys.orig_argv[1:]]
        os.execvpe(command[0], command, {**os.environ, "CHAOS_UNSHARED": "1"})
