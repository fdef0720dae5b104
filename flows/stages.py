"""A Prefect task is one DVC stage: run it, stream its log, tell a user's error from a crash."""

from __future__ import annotations

import logging
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import yaml
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

from components import processes
from components.config import InputError

RETRIES = 2
RETRY_DELAY_S = 5.0
_USER_ERROR = re.compile(r"exited with 2$")  # dvc itself ends with 255
_MISSING = re.compile(
    r"\[Errno \d+\] (?P<what>No such file or directory|Permission denied|Not a directory): '(?P<path>.+)'"
    r"|(?P<gone>missing data 'source'): (?P<source>.+)"
)
_HINT = re.compile(
    r"\s*$|To track the changes with git|\s*git add |To enable auto staging|\s*dvc config |Use `dvc push`"
)
_LEVELS = {"ERROR:": logging.ERROR, "error:": logging.ERROR, "WARNING:": logging.WARNING}


class StageError(RuntimeError):
    """A stage ended in a way that another try may mend."""


def stage_names(pipeline: Path = Path("dvc.yaml")) -> list[str]:
    """The stages of the DAG, in the file's order."""
    return list(yaml.safe_load(pipeline.read_text(encoding="utf-8"))["stages"])


def stage_task(stage: str) -> Task[[str], None]:
    """run_stage under the stage's own name."""
    return run_stage.with_options(name=stage, task_run_name=stage)


def failure(stage: str, code: int, complaints: list[str]) -> InputError | StageError:
    """What a failed `dvc repro` means, from the lines in which the stage ("error: …") and dvc ("ERROR: …") complain."""
    own = [line.removeprefix("error: ") for line in complaints if line.startswith("error: ")]
    dvc = [line.removeprefix("ERROR: ") for line in complaints if line.startswith("ERROR: ")]
    verdict = dvc[-1] if dvc else f"dvc ended with exit code {code}"
    if _USER_ERROR.search(verdict):
        return InputError(own[-1] if own else f"stage {stage}: {verdict}")
    if missing := _MISSING.search(verdict):
        what, path = missing["what"] or missing["gone"], missing["path"] or missing["source"]
        return InputError(f"stage {stage}: {what}: {path}")
    return StageError(f"stage {stage}: {verdict}")


def _is_crash(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    return not isinstance(state.data, InputError)


@task(retries=RETRIES, retry_delay_seconds=RETRY_DELAY_S, retry_condition_fn=_is_crash, cache_policy=NO_CACHE)
def run_stage(stage: str) -> None:
    """`dvc repro --single-item <stage>`: nothing happens if its params, dependencies and outputs are as they were.

    Raises:
        InputError: what a person gave is wrong; not retried.
        StageError: anything else, a busy DVC lock too; retried.
    """
    log = get_run_logger()
    bar = _Bar()
    complaints: list[str] = []

    def on_line(line: str) -> None:
        if _HINT.match(line):
            return
        bar.clear()
        level = _LEVELS.get(line.partition(" ")[0], logging.INFO)
        log.log(level, "%s", line)
        if level == logging.ERROR:
            complaints.append(line)

    command = [sys.executable, "-m", "dvc", "repro", "--single-item", stage]
    code = processes.run(command, on_line=on_line, on_progress=bar.show)
    bar.clear()
    if code:
        raise failure(stage, code, complaints)


class _Bar:
    """A stage's progress bar, on the last line of a terminal; nowhere else."""

    def __init__(self) -> None:
        self.visible = False

    def show(self, text: str) -> None:
        if sys.stderr.isatty():
            columns = shutil.get_terminal_size().columns
            sys.stderr.write("\r\x1b[K" + text.strip()[: columns - 1])
            sys.stderr.flush()
            self.visible = True

    def clear(self) -> None:
        if self.visible:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self.visible = False
