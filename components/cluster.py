"""The one place that starts or joins Ray, and asks it what there is for workers."""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from functools import cache, partial
from itertools import islice
from typing import Any

import ray
from ray._private.state import state

from components.config import Execution, InputError
from components.executor import AHEAD, TRIES, Result, Spread, Task, WorkerKilledError
from components.sharing import Aim, Nodes, Share, aim_at, has_room, in_time, share_of

START_TRIES = 4
MORE_S = 30.0  # for which there is room for more workers, before training is interrupted for them


class Cluster:
    """The Ray of a training.

    Args:
        batch: that is dealt to the workers.
        joined: it may grow and shrink, and others may be at work in it.
        was_on: the device of the run's last start; see aim_at().

    Attributes:
        shared: what each worker got last.
    """

    def __init__(self, execution: Execution, batch: int, *, joined: bool, was_on: str = "") -> None:
        self._execution, self._batch, self.joined, self._was_on = execution, batch, joined, was_on
        self._aim: Aim | None = None
        self._more_since = math.inf
        self._leaving: set[str] = set()
        self.shared: Share | None = None

    def share(self, told: Callable[[], bool] = lambda: False) -> Share:
        """What each worker gets now; a cluster that is joined has execution.wait_s to have it.

        Args:
            told: whether the caller is told to end, and waits no longer.

        Raises:
            InputError: a GPU is asked for where there is none, or there are fewer CPUs or GPUs than workers.
            UnavailableError: the same of a cluster that was joined; its nodes may come back.
        """
        self._more_since = math.inf
        wait_s = self._execution.wait_s
        self.shared = in_time(self._look, self._enough, wait_s=wait_s, told=told) if self.joined else self._look()
        return self.shared

    def _look(self) -> Share:
        aim = self._aim or aim_at(self._execution, self._batch, _all(), was_on=self._was_on)
        share = share_of(self._execution, aim, _free() if self.joined else _all())
        self._aim = aim  # not before: a node with GPUs may be on its way
        return share

    def _enough(self, share: Share) -> bool:
        return self._aim is not None and share.workers == self._aim.counts[-1]

    def has_more(self) -> bool:
        """Whether there is room for more workers than those that are at work, and has been for MORE_S."""
        if self._aim is None or self.shared is None or self._enough(self.shared) or not self.joined:
            return False
        room = has_room(self._execution, self._aim, self.shared.workers, _free())
        self._more_since = min(self._more_since, time.monotonic()) if room else math.inf
        return time.monotonic() - self._more_since > MORE_S

    def is_losing(self) -> bool:
        """Whether one more node is about to be taken away, since this was asked last."""
        leaving = _leaving()
        new = leaving - self._leaving
        self._leaving = leaving
        return bool(new)


@contextmanager
def cluster(execution: Execution, batch: int, *, was_on: str = "") -> Iterator[Cluster]:
    """For the time of the block, the Ray that RAY_ADDRESS names, or an embedded one; see Cluster."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")  # processes for tasks, of which a training has none
    _start()
    try:
        yield Cluster(execution, batch, joined=_address() != "local", was_on=was_on)
    finally:
        ray.shutdown()


@contextmanager
def tasks(gpus: bool = False) -> Iterator[Spread]:
    """For the time of the block, an executor of Ray tasks over all nodes; see components/executor.py.

    Paths that tasks use must be the same on every node.

    Args:
        gpus: one GPU each, where the cluster has any; else one CPU each.
    """
    _start()
    try:
        unit = "GPU" if gpus and ray.cluster_resources().get("GPU", 0) >= 1 else "CPU"
        yield partial(_spread, unit)
    finally:
        ray.shutdown()


def _spread(unit: str, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
    remote = ray.remote(num_cpus=int(unit == "CPU"), num_gpus=int(unit == "GPU"), max_retries=TRIES - 1)(_apply)
    ahead = AHEAD * int(ray.cluster_resources().get(unit, 1))
    source = iter(tasks)
    waiting: deque[tuple[Task, ray.ObjectRef]] = deque()
    while True:
        waiting.extend((task, remote.remote(function, task)) for task in islice(source, ahead - len(waiting)))
        if not waiting:
            return
        task, reference = waiting.popleft()
        try:
            result = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None  # what the function raised
        except ray.exceptions.WorkerCrashedError:
            raise WorkerKilledError(task) from None
        yield result


@contextmanager
def beside(cluster: Cluster) -> Iterator[Callable[..., Future[Any]]]:
    """For the time of the block, one worker beside a training: submit(function, argument) gives a future.

    It takes a GPU of this machine that the training leaves; in a cluster it would be in the way of workers to come.
    Else it works on CPUs in time that no one else wants, with one thread where the training is on CPUs too. Killed, it
    begins again with what it had in hand.
    """

    @cache
    def worker() -> Any:  # begun with the first task, when the training has its share
        assert cluster.shared
        left = not cluster.joined and ray.cluster_resources().get("GPU", 0) > cluster.shared.workers
        spare = cluster.shared.device == "cuda" and left
        options = {"num_cpus": 0, "num_gpus": int(spare), "max_restarts": -1, "max_task_retries": TRIES - 1}
        threads = 1 if cluster.shared.device == "cpu" else cluster.shared.threads
        return ray.remote(**options)(_Beside).remote(threads, spare)

    def submit(function: Callable[[Any], Any], argument: Any) -> Future[Any]:
        answer: Future[Any] = Future()
        worker().run.remote(function, argument).future().add_done_callback(partial(_pass_on, answer))
        return answer

    try:
        yield submit
    finally:
        if worker.cache_info().currsize:
            ray.kill(worker())


def _pass_on(answer: Future[Any], done: Future[Any]) -> None:
    """What Ray's future came to; of an error, what the function itself raised."""
    error = done.exception()
    if error is None:
        answer.set_result(done.result())
    else:
        answer.set_exception(error.cause if isinstance(error, ray.exceptions.RayTaskError) else error)


class _Beside:
    def __init__(self, threads: int, gpu: bool) -> None:
        if not gpu:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Ray leaves those in sight that belong to the training
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # Ray's own workers are nice already
        import torch  # here: its threads inherit the policy, and other work does not wait for it

        torch.set_num_threads(threads)

    def run(self, function: Callable[[Any], Any], argument: Any) -> Any:
        return function(argument)


def _apply(function: Callable[[Task], Result], task: Task) -> Result:
    return function(task)  # Ray takes no partial


def _address() -> str:
    # An explicit "local": without an address Ray tries to join whatever cluster was started here last.
    return os.environ.get("RAY_ADDRESS") or "local"


def _start() -> None:
    """Starts or joins Ray; on a busy machine it can miss its own 15 s to start, which more tries mend."""
    for tries_left in reversed(range(START_TRIES)):
        try:
            ray.init(address=_address(), include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
            if threading.current_thread() is threading.main_thread():  # Ray's own handler exits with 15
                signal.signal(signal.SIGTERM, lambda signum, _: sys.exit(128 + signum))
            return
        except Exception as error:  # Ray raises the bare class
            ray.shutdown()
            if isinstance(error, ConnectionError):
                raise InputError(
                    f"RAY_ADDRESS is {_address()!r} and no Ray answers there; "
                    "allowed: a running head, with its token in RAY_AUTH_TOKEN where it wants one"
                ) from None
            if "timed out during startup" not in str(error) or not tries_left:
                raise


def _all() -> Nodes:
    """What the nodes have."""
    return [_pair(node["Resources"]) for node in ray.nodes() if node["Alive"]]


def _free() -> Nodes:
    """What of it nobody uses, without the nodes that are about to be taken away."""
    leaving = _leaving()
    return [_pair(left) for node, left in state.available_resources_per_node().items() if node not in leaving]


def _leaving() -> set[str]:
    return set(state.get_draining_nodes())


def _pair(resources: Mapping[str, float]) -> tuple[int, int]:
    return int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
