"""How often a failed stage is tried again: a few times, and the train stage as long as its tries get further."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect.client.schemas.objects import State, TaskRun
from prefect.logging.loggers import task_run_logger
from prefect.tasks import Task

from components.config import InputError
from components.watching.run import at_work, reached

Condition = Callable[[Task[..., Any], TaskRun, State[Any]], bool]
RETRIES = 2
RETRIES_OF_TRAIN = 1_000_000  # a number that Prefect wants; getting_further() decides
FRUITLESS = 2  # tries in a row that end the stage


def is_crash(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Whether another try may mend it: not what a person has to put right."""
    return not isinstance(state.data, InputError)


def getting_further(project: Path) -> Condition:
    """A condition for one task run: crashes are tried again, until FRUITLESS tries in a row showed no new image.

    New is what no try before has shown: tries that all end in the same place get nowhere. Other projects' runs, where
    they have one runs/, are none of its business.
    """
    runs = project / "runs"
    furthest, fruitless = reached(runs), 0

    def again(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
        nonlocal fruitless
        if not is_crash(task, task_run, state):
            return False
        log = task_run_logger(task_run, task)
        run = at_work(project) or ""
        nimg = reached(runs).get(run, 0)
        advanced = nimg > furthest.get(run, 0)
        fruitless = 0 if advanced else fruitless + 1
        if advanced:
            furthest[run] = nimg
            log.info("run %s got to %g kimg in this try", run, nimg / 1000)
        if fruitless == FRUITLESS:
            log.error("%d tries in a row got no further: not tried again", FRUITLESS)
        return fruitless < FRUITLESS

    return again
