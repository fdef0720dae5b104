"""The one place that starts or joins Ray, and says what its workers get."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from typing import Any

import ray

from components.config import Execution, InputError
from components.executor import AHEAD, TRIES, Result, Spread, Task, WorkerKilledError

START_TRIES = 4


@dataclass(frozen=True, kw_only=True)
class Share:
    """What each worker of a run gets."""

    device: str  # cpu or cuda
    workers: int
    cpus: int  # reserved for a worker
    threads: int  # of a worker's torch


@contextmanager
def cluster(execution: Execution) -> Iterator[Share]:
    """For the time of the block, the Ray that RAY_ADDRESS names, or an embedded one.

    Raises:
        InputError: a GPU is asked for where there is none, or there are fewer CPUs or GPUs than workers.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    _start()
    try:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        yield share_of(execution, [(int(node.get("CPU", 0)), int(node.get("GPU", 0))) for node in nodes])
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
def beside(share: Share) -> Iterator[Callable[..., Future[Any]]]:
    """For the time of the block, one worker beside a training: submit(function, argument) gives a future.

    It takes a GPU that the training leaves, where there is one. Else it works on CPUs in time that no one else wants,
    with one thread where the training is on CPUs too. Killed, it begins again with what it had in hand.
    """
    spare = share.device == "cuda" and ray.cluster_resources().get("GPU", 0) >= share.workers + 1
    options = {"num_cpus": 0, "num_gpus": int(spare), "max_restarts": -1, "max_task_retries": TRIES - 1}
    threads = 1 if share.device == "cpu" else share.threads
    worker = cache(lambda: ray.remote(**options)(_Beside).remote(threads, spare))  # begun with the first task

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


def _start() -> None:
    """Starts or joins Ray; on a busy machine it can miss its own 15 s to start, which more tries mend."""
    for tries_left in reversed(range(START_TRIES)):
        try:
            # An explicit "local": without an address Ray tries to join whatever cluster was started here last.
            address = os.environ.get("RAY_ADDRESS") or "local"
            ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
            return
        except Exception as error:  # Ray raises the bare class
            ray.shutdown()
            if isinstance(error, ConnectionError):
                raise InputError(
                    f"RAY_ADDRESS is {address!r} and no Ray answers there; allowed: a running head"
                ) from None
            if "timed out during startup" not in str(error) or not tries_left:
                raise


def share_of(execution: Execution, nodes: list[tuple[int, int]]) -> Share:
    """What each worker gets on nodes of (CPUs, GPUs).

    Raises:
        InputError: as cluster().
    """
    cpus, gpus = (sum(counts) for counts in zip(*nodes, strict=True))
    if execution.device == "cuda" and gpus == 0:
        raise InputError("execution.device is 'cuda' and there is no GPU here; allowed: cpu, auto")
    device = "cuda" if gpus and execution.device != "cpu" else "cpu"

    def room(cpus_each: int) -> int:
        """How many workers of so many CPUs (and a GPU) the nodes hold."""
        return sum(min(cpu // cpus_each, gpu if device == "cuda" else cpu) for cpu, gpu in nodes)

    workers = min(execution.workers, room(1)) if execution.device == "auto" and device == "cuda" else execution.workers
    if not 1 <= workers <= room(1):
        unit = "GPUs" if device == "cuda" else "CPUs"
        raise InputError(f"execution.workers is {workers}; allowed: 1 to {room(1)}, the {unit} here")
    cpus_each = max(count for count in range(1, cpus + 1) if room(count) >= workers)
    return Share(device=device, workers=workers, cpus=cpus_each, threads=execution.threads or cpus_each)
