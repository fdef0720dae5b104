"""Keeps servers running under the supervisor: what ends is started again and said, until it is hopeless."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from components import processes

STEADY_S = 60.0  # a server that has lived so long is given all its tries again
TRIES = 5
START_S = 400.0  # for a server to answer, on a machine that does other things too
POLL_S = 0.2


class ServiceError(RuntimeError):
    """A server that does not run, whatever is done."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """A server, as a command."""

    name: str
    argv: list[str]
    env: dict[str, str]  # beside this process's own
    ready: Callable[[], bool]


@dataclass(kw_only=True)
class _Kept:
    service: Service
    log: Path
    running: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    init: subprocess.Popen[bytes] | None = None
    since: float = 0.0
    deaths: int = 0  # in a row

    def start(self) -> None:
        out = self.running.enter_context(self.log.open("ab"))
        env = processes.environment(**self.service.env)
        self.init = self.running.enter_context(processes.started(self.service.argv, env, None, out))
        self.since = time.monotonic()

    def ended(self) -> int | None:
        assert self.init is not None
        return self.init.poll()


class Keeper:
    """Servers that run until the keeper's block is left; their output is in the folder, in NAME.log."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: list[_Kept] = []

    def start(self, *services: Service) -> None:
        """Starts servers at the same time, and returns when each of them answers.

        Raises:
            ServiceError: one of them does not, however often it is started.
        """
        for service in services:
            self._kept.append(_Kept(service=service, log=self._folder / f"{service.name}.log"))
            self._kept[-1].start()
        deadline = time.monotonic() + START_S
        for service in services:
            while not service.ready():
                if time.monotonic() > deadline:
                    raise ServiceError(f"{service.name} does not answer after {START_S:g} s; see {self._log(service)}")
                self.look()
                time.sleep(POLL_S)

    def watch(self) -> NoReturn:
        """Starts again what ends, for ever.

        Raises:
            ServiceError: one ended TRIES times in a row, each time within STEADY_S.
        """
        while True:
            self.look()
            time.sleep(POLL_S)

    def look(self) -> None:
        """Starts again what has ended since the last look. Raises as watch()."""
        for kept in self._kept:
            if (code := kept.ended()) is not None:
                kept.deaths = 1 if time.monotonic() - kept.since > STEADY_S else kept.deaths + 1
                what = f"{kept.service.name} ended with exit code {code}"
                if kept.deaths == TRIES:
                    raise ServiceError(f"{what}, {TRIES} times in a row; see {kept.log}")
                print(f"{what} and is started again; see {kept.log}", flush=True)
                kept.running.close()
                processes.end_descendants(told=False, spared=[other.init.pid for other in self._kept if other.init])
                kept.start()

    def stop(self) -> None:
        """Ends all of them at the same time, each with everything it has started."""
        for kept in self._kept:
            if kept.init is not None:
                kept.init.terminate()
        for kept in reversed(self._kept):
            kept.running.close()
        processes.end_descendants()

    def _log(self, service: Service) -> Path:
        return self._folder / f"{service.name}.log"


@contextlib.contextmanager
def keeper(folder: Path) -> Iterator[Keeper]:
    """A keeper whose servers end with the block; a second signal does not stop the stopping."""
    processes.adopt()  # of a server whose supervisor was killed
    kept = Keeper(folder)
    try:
        yield kept
    finally:
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, signal.SIG_IGN)
        kept.stop()
