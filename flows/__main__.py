"""`python -m flows [--preset NAME] [--set KEY=VALUE …] [--push]`: train-stylegan from a shell.

Against PREFECT_API_URL or, without it, a local server of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
from rich.console import Console

from components import processes
from components.config import InputError, UnavailableError
from components.config.overlay import add_flags, parse_settings, write_params
from flows.remote import require_remote

SERVER_TIMEOUT_S = 300.0


def main() -> int:
    """Runs the flow and prints its summary last; returns the exit code: 2 for a user's error, 1 for other failures."""
    parser = argparse.ArgumentParser(prog="python -m flows", description=main.__doc__)
    add_flags(parser)
    parser.add_argument("--push", action="store_true", help="then dvc push to the default remote")
    flags = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    os.environ.update(processes.environment())
    try:
        overrides = parse_settings(flags.set)
        if flags.push:
            require_remote()
        for change in write_params(flags.preset, overrides):  # before a server starts for nothing
            print(f"params.yaml: {change}")
        with _standing_server() if "PREFECT_API_URL" in os.environ else _local_server():
            from flows.stages import StageError  # here: Prefect reads its settings when it is imported
            from flows.train_stylegan import train_stylegan

            try:
                summary = train_stylegan(flags.preset, overrides, push=flags.push)
            except StageError as error:
                return _fail(error, 1)
            finally:
                logging.getLogger("prefect.flow_runs").handlers[0].flush()  # to the server, while there is one
    except InputError as error:
        return _fail(error, 2)
    except UnavailableError as error:
        return _fail(error, 1)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    Console(soft_wrap=not sys.stdout.isatty()).print(summary)
    return 0


def _fail(error: Exception, code: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return code


@contextlib.contextmanager
def _standing_server() -> Iterator[None]:
    """The one at PREFECT_API_URL, which answers.

    Raises:
        UnavailableError: it does not.
    """
    url = os.environ["PREFECT_API_URL"]
    try:
        httpx.get(f"{url}/health", timeout=30)
    except (httpx.TransportError, httpx.InvalidURL) as error:
        told = f"Prefect at {url!r} (PREFECT_API_URL) does not answer: {error}"
        raise UnavailableError(f"{told}; without the variable the flow brings its own server") from None
    yield


@contextlib.contextmanager
def _local_server() -> Iterator[None]:
    """A Prefect server on the loopback address that keeps all it knows in .prefect/, away from the user's profile."""
    home = Path(".prefect").absolute()
    home.mkdir(exist_ok=True)
    port = processes.free_port()
    os.environ |= {"PREFECT_HOME": str(home), "PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with processes.service(command, ready=lambda: _answers(port), timeout_s=SERVER_TIMEOUT_S, log=home / "server.log"):
        yield


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/api/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
