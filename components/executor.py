"""Spreads work over processes: of this machine, of its GPUs, or of the Ray cluster that RAY_ADDRESS names.

`spread(function, tasks)` yields function(task) for each task, in their order, and takes new tasks only as results are
taken: memory is bounded however many there are. A worker that is killed costs the tasks it had in hand: they run again.
A function must be importable, and running it twice must do no harm.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from typing import Any, Protocol, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")
AHEAD = 3  # tasks a worker, in hand and waiting
TRIES = 4  # of one task: a task that kills each of its workers is at fault itself
ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


class WorkerKilledError(RuntimeError):
    """A task whose workers were killed, every time it was tried.

    Attributes:
        task: what the function was given.
    """

    def __init__(self, task: Any) -> None:
        super().__init__(f"the workers of a task were killed {TRIES} times")
        self.task = task


class Spread(Protocol):
    """What work that spreads is given."""

    def __call__(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]: ...


@contextmanager
def executor(preload: str, gpus: bool = False) -> Iterator[Spread]:
    """Workers for the time of the block: Ray's where RAY_ADDRESS is set or GPUs are here, else one process a core.

    Args:
        preload: module that the tasks need, imported once, before the workers fork off.
        gpus: each worker gets a GPU of its own, where there are any.
    """
    if os.environ.get("RAY_ADDRESS") or (gpus and _gpus_here()):
        from components import cluster  # Ray's import takes longer than a small set

        with cluster.tasks(gpus) as spread:
            yield spread
    else:
        with _Processes(len(os.sched_getaffinity(0)), preload) as processes:
            yield processes


def _gpus_here() -> bool:
    import torch  # which not every work that spreads needs

    return torch.cuda.is_available()


def inline(function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
    """A Spread without workers: everything here and now."""
    return map(function, tasks)


class _Processes:
    """A pool of single-threaded processes, made anew when one of them is killed."""

    def __init__(self, workers: int, preload: str) -> None:
        self._workers = workers
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([preload])
        self._pool = self._new_pool()

    def __enter__(self) -> _Processes:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _new_pool(self) -> ProcessPoolExecutor:
        before = {name: os.environ.get(name) for name in ONE_THREAD}
        os.environ.update(dict.fromkeys(ONE_THREAD, "1"))  # read once, when the fork server imports NumPy
        try:
            pool = ProcessPoolExecutor(self._workers, mp_context=self._context, initializer=_die_with_parent)
            pool.submit(int)  # starts the server now, beside the caller's own imports
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
        return pool

    def __call__(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        waiting: deque[tuple[Task, Future[Result] | None]] = deque()
        source = iter(tasks)
        tries = 1
        while True:
            if tries == 1:  # after a death the first task runs alone, to know whose fault it was
                again = ((task, future or self._submit(function, task)) for task, future in waiting)
                new = islice(source, AHEAD * self._workers - len(waiting))
                waiting = deque([*again, *((task, self._submit(function, task)) for task in new)])
            if not waiting:
                return
            task, future = waiting[0]
            try:
                result = (future or self._submit(function, task)).result()
            except BrokenProcessPool:
                if tries == TRIES:
                    raise WorkerKilledError(task) from None
                tries += 1
                self._pool.shutdown()
                self._pool = self._new_pool()
                waiting = deque((task, future if future and _has_result(future) else None) for task, future in waiting)
                continue
            tries = 1
            waiting.popleft()
            yield result

    def _submit(self, function: Callable[[Task], Result], task: Task) -> Future[Result]:
        try:
            return self._pool.submit(function, task)
        except BrokenProcessPool as error:  # heard of here first; the result tells the caller's loop
            broken: Future[Any] = Future()
            broken.set_exception(error)
            return broken


def _has_result(future: Future[Any]) -> bool:
    return future.done() and not isinstance(future.exception(), BrokenProcessPool)


def _die_with_parent() -> None:
    """A worker waits for tasks on a pipe that its siblings hold open too: without this a killed parent leaves them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears of Ctrl-C and ends them
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
