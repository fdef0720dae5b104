"""Writes what a run keeps: ticks, snapshots and checkpoints, in a thread of its own, so that training does not wait.

A disk that is full, or does not answer, holds nothing up: what cannot be written is tried again until it can be, in the
same order. Only a run's end, or a pause, waits for what is still to be written.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType

from components.data.files import replacing
from components.training import state
from components.training.loop import Tick
from components.training.records import write_snapshot, write_tick
from components.training.run_files import CHECKPOINTS, SNAPSHOTS
from components.training.state import State

AWAY = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT)  # of storage that may be back in a while
PASSING = (errno.ENOSPC, errno.EDQUOT, *AWAY)
RETRY_S = 5.0
POLL_S = 0.1
WAITING = 64  # ticks, snapshots and checkpoints that wait for a full disk; then training waits too
SNAPSHOT_PARTS = ("average/", "discriminator/")
PATIENCE_S = 600.0  # at a run's end or a pause, for a disk that does not take it


class Keeper:
    """The writer of a run's folder; a context, which ends when all is written.

    Args:
        run: the folder.
        keep: the newest so many checkpoints stay.
        every_kimg: and beside them the first of each so many thousand images; 0 for none.

    Raises:
        OSError: by flush() and at the context's end, what was not written within PATIENCE_S.
    """

    def __init__(self, run: Path, *, keep: int, every_kimg: float) -> None:
        (run / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        self._run, self._keep, self._every = run, keep, round(every_kimg * 1000)
        self._thread = ThreadPoolExecutor(1, "keeper")
        self._tasks: list[Future[None]] = []
        self._saving: Future[None] | None = None
        self._deadline, self._failing, self._ended = float("inf"), False, threading.Event()

    def __enter__(self) -> Keeper:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if kind is None:
                self.flush()
        finally:
            self._deadline = 0
            self._ended.set()
            self._thread.shutdown(cancel_futures=True)

    def tick(self, tick: Tick) -> None:
        """A line of metrics.jsonl and its grid."""
        self._do(lambda: write_tick(self._run, tick))

    def snapshot(self, live: State) -> None:
        """snapshots/<nimg>, of a copy of what it needs of the state."""
        parts = {name: tensor for name, tensor in live.tensors.items() if name.startswith(SNAPSHOT_PARTS)}
        saved = state.copied(State(parts, live.numbers))
        folder = self._run / SNAPSHOTS / f"{saved.numbers['nimg']:09d}"

        def write() -> None:
            with replacing(folder) as fresh:
                write_snapshot(saved, fresh)

        self._do(write)

    def checkpoint(self, live: State) -> None:
        """checkpoints/<nimg>, of a copy of the state, after which those that need not stay are deleted.

        One at a time is in memory: it waits for the one before, and is left out while that one cannot be written.
        """
        while self._saving and not self._saving.done():
            if self._failing:
                return
            wait([self._saving], timeout=POLL_S)
        saved = state.copied(live)
        folder = self._run / CHECKPOINTS / f"{saved.numbers['nimg']:09d}"

        def write() -> None:
            state.save(saved, folder)
            state.drop_after(folder)
            state.prune(folder.parent, self._keep, self._every)

        self._saving = self._do(write)

    def flush(self) -> None:
        """Waits until everything is written."""
        self._deadline = time.monotonic() + PATIENCE_S
        for task in self._tasks:
            task.result()
        self._tasks, self._deadline = [], float("inf")

    def _do(self, write: Callable[[], None]) -> Future[None]:
        for task in [task for task in self._tasks if task.done()]:
            task.result()
            self._tasks.remove(task)
        if len(self._tasks) >= WAITING:
            self._tasks[0].result()
        self._tasks.append(self._thread.submit(self._patiently, write))
        return self._tasks[-1]

    def _patiently(self, write: Callable[[], None]) -> None:
        while True:
            try:
                write()
                self._failing = False
                return
            except OSError as error:
                if error.errno not in PASSING or time.monotonic() > self._deadline:
                    raise
                self._failing = True
            self._ended.wait(RETRY_S)
