"""How long a worker waits for the others: which of them is slow shows in who does not."""

from __future__ import annotations

import time

import torch
import torch.distributed as dist
from torch import Tensor


class Waiting:
    """All-reduces of one worker, and the time that it spends in them."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seconds = 0.0
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def all_reduce(self, tensor: Tensor, operation: dist.ReduceOp.RedOpType = dist.ReduceOp.SUM) -> None:
        """In place, over all workers."""
        if self._device.type == "cuda":  # the host does not wait
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            begin.record()
            dist.all_reduce(tensor, operation)
            end.record()
            self._events.append((begin, end))
        else:
            started = time.monotonic()
            dist.all_reduce(tensor, operation)
            self._seconds += time.monotonic() - started

    def read(self) -> float:
        """Seconds since it was last read; of steps that are done."""
        if self._events:
            self._events[-1][1].synchronize()
        seconds = self._seconds + float(sum(begin.elapsed_time(end) for begin, end in self._events)) / 1000
        self._seconds, self._events = 0.0, []
        return seconds


def slowest(own_seconds: float, device: torch.device, rank: int, world: int) -> dict[str, float]:
    """Which worker took longest for its own part of the steps, and how many times as long as the others' mean.

    Args:
        own_seconds: this worker's, without its waiting.

    Returns:
        {"slowest_worker": rank, "slowdown": times}, alike on all workers; nothing for a single one.
    """
    if world == 1:
        return {}
    parts = torch.zeros(world, device=device)
    parts[rank] = own_seconds
    dist.all_reduce(parts)
    worst = int(parts.argmax())
    others = (parts.sum() - parts[worst]) / (world - 1)
    return {"slowest_worker": worst, "slowdown": float(parts[worst] / others)}
