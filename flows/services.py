"""`python -m flows.services`, `make services`: Prefect, MLflow, a worker and a Ray head on this machine, until Ctrl-C.

Everything listens on the loopback address and keeps its data in .services/. What dies is started again.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import secrets
import shlex
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NoReturn

from components import processes
from components.config import InputError
from flows.keeping import Service, ServiceError, keeper

HOST, POOL, WORKER = "127.0.0.1", "bestiary", "services"
FOLDER = Path(".services")


@dataclass(frozen=True)
class Ports:
    """Where each server listens."""

    prefect: int
    mlflow: int
    ray: int
    jobs: int

    def check(self) -> None:
        """Refuses a port on which somebody listens, and what is no port.

        Raises:
            InputError: names it.
        """
        given = list(vars(self).values())
        if len(set(given)) < len(given) or not all(0 < port < 1 << 16 for port in given):
            raise InputError(f"--ports is {' '.join(map(str, given))}; allowed: four different ones, 1 to 65535")
        for name, port in vars(self).items():
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do, just after a server
                try:
                    probe.bind((HOST, port))
                except OSError as error:
                    raise InputError(
                        f"the port of {name} is {port}: {error.strerror}; allowed: a free one, as in "
                        "--ports PREFECT MLFLOW RAY JOBS"
                    ) from None


def main() -> int:
    """Runs the servers until a signal; returns the exit code: 0 then, 2 for a user's error, 1 for a dead server."""
    parser = argparse.ArgumentParser(prog="python -m flows.services", description=__doc__.partition("\n")[0])
    names, usual = tuple(port.name.upper() for port in fields(Ports)), (4200, 5000, 6379, 8265)
    parser.add_argument("--ports", nargs=4, type=int, default=usual, metavar=names)
    ports = Ports(*parser.parse_args().ports)
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.default_int_handler)
    try:
        ports.check()
        serve(FOLDER.absolute(), ports)
    except KeyboardInterrupt:
        return 0
    except (InputError, ServiceError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1


def serve(folder: Path, ports: Ports) -> NoReturn:
    """Runs everything and says where it is; returns by exception only.

    Raises:
        ServiceError: a server does not run, whatever is done.
    """
    folder.mkdir(exist_ok=True)
    shell = clients(folder, ports)
    with _sockets() as sockets, keeper(folder) as kept:
        kept.start(_prefect(folder, ports), _mlflow(folder, ports), _ray(sockets, ports, shell))
        deploy(folder, shell)
        kept.start(_worker(folder, ports, shell))
        _announce(folder, ports, shell)
        kept.watch()


def clients(folder: Path, ports: Ports) -> dict[str, dict[str, str]]:
    """What a shell, and the worker, must export to use the servers, by server."""
    token = folder / "ray-token"
    if not token.exists():
        fresh = folder / "ray-token.new"
        fresh.touch(mode=0o600)
        fresh.write_text(secrets.token_hex(32), encoding="utf-8")
        fresh.replace(token)
    return {
        "prefect": {"PREFECT_API_URL": f"http://{HOST}:{ports.prefect}/api"},
        "mlflow": {"MLFLOW_TRACKING_URI": f"http://{HOST}:{ports.mlflow}"},
        "ray": {
            "RAY_ADDRESS": f"{HOST}:{ports.ray}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # else Ray replaces 127.0.0.1 by an address of the network
        },
    }


def _prefect(folder: Path, ports: Ports) -> Service:
    return Service(
        name="prefect",
        argv=["prefect", "server", "start", "--host", HOST, "--port", str(ports.prefect)],
        env={"PREFECT_HOME": str(folder / "prefect")},
        ready=lambda: _answer(ports.prefect, "GET", "/api/health") is not None,
    )


def _mlflow(folder: Path, ports: Ports) -> Service:
    store = [f"--backend-store-uri=sqlite:///{folder}/mlflow.db", f"--artifacts-destination={folder}/mlartifacts"]
    quiet = "--uvicorn-opts=--log-level warning"  # else the log has a line for each point of a week's curves
    return Service(
        name="mlflow",
        argv=["mlflow", "server", f"--host={HOST}", f"--port={ports.mlflow}", "--workers=1", quiet, *store],
        env={"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        ready=lambda: _answer(ports.mlflow, "GET", "/health") is not None,
    )


def _ray(sockets: Path, ports: Ports, shell: dict[str, dict[str, str]]) -> Service:
    where = [f"--node-ip-address={HOST}", f"--port={ports.ray}", f"--temp-dir={sockets}"]
    agent = processes.free_port()  # through which jobs are begun; where Ray's usual one is another head's, none are
    dashboard = ["--include-dashboard=true", f"--dashboard-host={HOST}", f"--dashboard-port={ports.jobs}"]
    dashboard += [f"--dashboard-agent-listen-port={agent}"]
    return Service(
        name="ray",
        argv=["ray", "start", "--head", "--block", "--disable-usage-stats", *where, *dashboard],
        env=shell["ray"] | {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"},
        ready=lambda: all(map(_listens, (ports.ray, ports.jobs, agent))),
    )


def _worker(folder: Path, ports: Ports, shell: dict[str, dict[str, str]]) -> Service:
    workers = f"/api/work_pools/{POOL}/workers/filter"

    def ready() -> bool:
        found = json.loads(_answer(ports.prefect, "POST", workers) or "[]")
        return any(worker["name"] == WORKER and worker["status"] == "ONLINE" for worker in found)

    return Service(
        name="worker",
        argv=["prefect", "--no-prompt", "worker", "start", "--pool", POOL, "--name", WORKER],
        env=_everything(folder, shell),
        ready=ready,
    )


def _everything(folder: Path, shell: dict[str, dict[str, str]]) -> dict[str, str]:
    return {"PREFECT_HOME": str(folder / "prefect")} | shell["prefect"] | shell["mlflow"] | shell["ray"]


def deploy(folder: Path, shell: dict[str, dict[str, str]]) -> None:
    """Makes the work pool, where there is none, and brings the deployments of prefect.yaml up to date."""
    env = processes.environment(**_everything(folder, shell))

    def prefect(*command: str) -> tuple[int, str]:
        said: list[str] = []
        return processes.run(["prefect", "--no-prompt", *command], env=env, on_line=said.append), " ".join(said)

    commands = [["work-pool", "create", POOL, "--type", "process"], ["deploy", "--all"]]
    known, _ = prefect("work-pool", "inspect", POOL)  # its limits stay; --overwrite would forget them
    for command in commands[known == 0 :]:
        code, said = prefect(*command)
        if code:
            told = " ".join(said.split())[-500:]
            raise ServiceError(f"prefect {' '.join(command)} ended with exit code {code}: {told}")


def _announce(folder: Path, ports: Ports, shell: dict[str, dict[str, str]]) -> None:
    exports = [" ".join(f"{name}={shlex.quote(value)}" for name, value in names.items()) for names in shell.values()]
    print(
        f"Prefect  http://{HOST}:{ports.prefect}",
        f"MLflow   http://{HOST}:{ports.mlflow}",
        f"Ray      {HOST}:{ports.ray}; jobs, for execution.ray_address: http://{HOST}:{ports.jobs}",
        f"data and logs are in {folder}; Ctrl-C stops everything. In another shell:\n",
        *(f"export {line}" for line in exports),
        "prefect deployment run train-stylegan/default",
        sep="\n",
        flush=True,
    )


@contextlib.contextmanager
def _sockets() -> Iterator[Path]:
    """A folder for Ray's sockets and logs: a socket's path has room for 107 letters, and .services/ may be deep."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _answer(port: int, method: str, path: str) -> bytes | None:
    """The body of a server's answer that is all right."""
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request(method, path, body=b"{}", headers={"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.read() if answer.status == http.HTTPStatus.OK else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=5):
        return True
    return False


if __name__ == "__main__":
    sys.exit(main())
