"""Who may train a run, and how it is asked to save and end: signals to its driver, a file in its folder, Ray's notices.

The driver's handler of signals leaves a file in the run's folder; the first worker sees it, and all agree
(Trainer.run). A notice that Ray will lose a node makes them save and go on: the driver starts them elsewhere.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import ray.train
from filelock import FileLock, Timeout

from components.training.loop import GO_ON, SAVE, STOP
from components.training.records import note, reached
from components.training.run_files import FAILURES, LOCK, RESIZE
from components.training.run_files import STOP as STOP_FILE

UNREAD = (signal.SIGHUP, signal.SIGUSR1)  # the terminal is closed, dvc has died: who reads the output may be gone
NOTICES_EVERY = 8  # times that the workers ask each other; asking Ray takes some milliseconds


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
        if not asked:
            (run / STOP_FILE).touch()
            with suppress(OSError):
                os.write(2, f"\n{name.name}: saving, then ending\n".encode())
        if name in UNREAD:  # a write there would be an error from now on
            for stream in (1, 2):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        asked.append(name)

    (run / STOP_FILE).unlink(missing_ok=True)
    heard = [signal.SIGTERM, signal.SIGINT, *UNREAD]
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
            note(run / FAILURES, nimg=reached(run), reason=f"asked to stop: {asked[0].name}")


class Pause:
    """What a worker of a run has to say when all are asked whether to pause."""

    def __init__(self, run: Path, rank: int) -> None:
        self._orders = (run / STOP_FILE, run / RESIZE) if rank == 0 else ()
        self._calls = 0
        self._noticed: set[str] = set()

    def __call__(self) -> int:
        self._calls += 1
        noticed = self._calls % NOTICES_EVERY == 0 and self._notice()  # on all workers alike: it is a barrier
        if any(order.exists() for order in self._orders):
            return STOP
        return SAVE if noticed else GO_ON

    def _notice(self) -> bool:
        """Whether Ray says that one more node will be lost; to be asked on all workers alike."""
        info = ray.train.get_preemption_info()
        lost = set(info.preempted_node_ids) if info else set()
        new = lost - self._noticed
        self._noticed |= lost
        return bool(new)
