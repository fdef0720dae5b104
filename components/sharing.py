"""What each worker of a run gets of the CPUs and GPUs that there are; knows no Ray."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from components.config import Execution, InputError, UnavailableError

POLL_S = 0.5
SETTLED_S = 3.0  # for which a number of workers stays the same: what has just died may still be counted, or not again

Nodes = list[tuple[int, int]]  # the CPUs and GPUs of each


@dataclass(frozen=True, kw_only=True)
class Aim:
    """What a run is after. Settled once: a run whose GPUs are lost waits for others, and does not go on by CPUs."""

    device: str  # cpu or cuda
    counts: list[int]  # numbers of workers that will do, from low to high


@dataclass(frozen=True, kw_only=True)
class Share:
    """What each worker of a run gets."""

    device: str  # cpu or cuda
    workers: int
    cpus: int  # reserved for a worker
    threads: int  # of a worker's torch


class ShortageError(InputError):
    """The nodes have less than is asked for, which other nodes may mend."""

    def __init__(self, missing: str, said: str) -> None:
        super().__init__(said)
        self.missing = missing


def aim_at(execution: Execution, batch: int, nodes: Nodes, *, was_on: str = "") -> Aim:
    """What a run is after on these nodes: with device auto, GPUs where there are any, and no more workers than GPUs.

    Args:
        was_on: the device of the run's last start. By device auto, a run that was on GPUs stays on them.

    Raises:
        ShortageError: a GPU is asked for where there is none.
    """
    counts, gpus = execution.counts(batch), any(gpus for _, gpus in nodes)
    if execution.device == "cpu" or (execution.device == "auto" and was_on != "cuda" and not gpus):
        return Aim(device="cpu", counts=counts)
    if not gpus:
        by_choice = execution.device == "cuda"
        said, allowed = ("'cuda'", "cpu, auto") if by_choice else ("'auto', the run has been on GPUs,", "cpu")
        raise ShortageError(
            _missing(counts[0], "GPU", 0), f"execution.device is {said} and there is no GPU here; allowed: {allowed}"
        )
    if execution.device == "auto":
        fitting = [count for count in execution.counts(batch, least=1) if count <= _room(nodes, "cuda", 1)]
        if fitting and fitting[-1] < counts[0]:
            counts = fitting[-1:]
    return Aim(device="cuda", counts=counts)


def share_of(execution: Execution, aim: Aim, nodes: Nodes) -> Share:
    """What each of as many workers as may be gets of what the nodes have free.

    Raises:
        ShortageError: there are fewer CPUs or GPUs than workers.
    """
    there = _room(nodes, aim.device, execution.cpus or 1)
    fitting = [count for count in aim.counts if count <= there]
    if not fitting:
        unit = "GPU" if aim.device == "cuda" else "CPU"
        each = f" with {execution.cpus} CPUs each (execution.cpus)" if execution.cpus else ""
        raise ShortageError(
            _missing(aim.counts[0], unit, there) + each,
            f"execution.workers is {execution.workers!r}{each}; allowed: at most {there}, by the {unit}s here",
        )
    workers = fitting[-1]
    cpus = execution.cpus or max(
        count for count in range(1, max(cpu for cpu, _ in nodes) + 1) if _room(nodes, aim.device, count) >= workers
    )
    return Share(device=aim.device, workers=workers, cpus=cpus, threads=execution.threads or cpus)


def has_room(execution: Execution, aim: Aim, workers: int, free: Nodes) -> bool:
    """Whether what is free beside so many workers would make more of them."""
    more = [count for count in aim.counts if count > workers]
    return bool(more) and workers + _room(free, aim.device, execution.cpus or 1) >= more[0]


def in_time(
    look: Callable[[], Share], enough: Callable[[Share], bool], *, wait_s: float, told: Callable[[], bool]
) -> Share:
    """What look() finds as soon as it finds something, within `wait_s`.

    Args:
        look: raises ShortageError where there is not enough yet.
        enough: whether no more workers are wanted; until then their number has to stay the same for SETTLED_S.
        told: whether the caller is told to end.

    Raises:
        UnavailableError: there has not been enough in time, or the caller was told to end.
    """
    deadline, said, workers, since = time.monotonic() + wait_s, "", 0, 0.0
    while True:
        late = time.monotonic() >= deadline or told()
        try:
            share = look()
            if share.workers != workers:
                workers, since = share.workers, time.monotonic()
            if late or enough(share) or time.monotonic() - since >= SETTLED_S:
                return share
        except ShortageError as short:
            workers = 0
            if late:
                raise UnavailableError(f"waited {wait_s:g} s (execution.wait_s) for {short.missing}") from None
            if short.missing != said:
                print(f"waiting for {short.missing}", flush=True)
            said = short.missing
        time.sleep(POLL_S)


def _missing(wanted: int, unit: str, there: int) -> str:
    return f"{wanted} {unit}{'s' * (wanted != 1)}: the cluster has {there or 'none'} for them"


def _room(nodes: Nodes, device: str, cpus_each: int) -> int:
    """How many workers of so many CPUs (and a GPU) the nodes hold."""
    return sum(min(cpu // cpus_each, gpu if device == "cuda" else cpu) for cpu, gpu in nodes)
