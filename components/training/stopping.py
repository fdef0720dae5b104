"""Who may train a run, and how it is asked to save and end: signals to its driver, a file in its folder, Ray's notices.

The driver leaves an order, a file, in the run's folder; the first worker sees it, and all agree (Trainer.run). After a
notice that a node will be taken away they save and go on, until it is: the driver then starts them elsewhere.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from filelock import FileLock, Timeout

from components.training.loop import GO_ON, SAVE, STOP
from components.training.records import note, reached
from components.training.run_files import FAILURES, LOCK, NOTICE, RESIZE
from components.training.run_files import STOP as STOP_FILE


@contextmanager
def only_one(run: Path) -> Iterator[None]:
    """For the time of the block, no other process trains the run; waits for one that does, having said so."""
    run.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"run {run.name} is being trained by another process: waiting for its end", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def stoppable(run: Path) -> Iterator[list[signal.Signals]]:
    """For the time of the block, SIGTERM, SIGINT, SIGHUP and SIGUSR1 ask the run to save and end. Yields what came.

    A second SIGINT is a KeyboardInterrupt. To be entered in the main thread, after ray.init(), which sets one itself.
    """
    asked: list[signal.Signals] = []

    def ask(signum: int, frame: FrameType | None) -> None:
        name = signal.Signals(signum)
        if name == signal.SIGINT and name in asked:
            raise KeyboardInterrupt
        asked.append(name)
        with suppress(OSError):
            if len(asked) == 1:
                (run / STOP_FILE).touch()
                os.write(2, f"\n{name.name}: saving, then ending\n".encode())

    (run / STOP_FILE).unlink(missing_ok=True)
    heard = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1]  # the last: dvc has died
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # nohup
        heard.remove(signal.SIGHUP)
    before = {signum: signal.signal(signum, ask) for signum in heard}
    try:
        yield asked
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
        if asked:
            (run / STOP_FILE).unlink(missing_ok=True)
            with suppress(OSError):  # of a full disk
                note(run / FAILURES, nimg=reached(run), reason=f"asked to stop: {asked[0].name}")


class Pause:
    """What a worker says when all are asked whether to pause: the first one passes the driver's orders on."""

    def __init__(self, run: Path, rank: int) -> None:
        self._run = run if rank == 0 else None

    def __call__(self) -> int:
        if self._run is None:
            return GO_ON
        with suppress(OSError):  # storage that does not answer orders nothing
            if (self._run / STOP_FILE).exists() or (self._run / RESIZE).exists():
                return STOP
            if (self._run / NOTICE).exists():
                (self._run / NOTICE).unlink()
                return SAVE
        return GO_ON
