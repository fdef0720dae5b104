"""A Prefect task is one DVC stage: run it, wait while it is busy, stream its log, tell a user's error from a crash."""

from __future__ import annotations

import logging
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import yaml
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.tasks import Task

from components import processes
from components.config import InputError, load_params
from components.watching.locks import mend
from flows.progress import published
from flows.retries import RETRIES, RETRIES_OF_TRAIN, getting_further, is_crash

TRAIN = "train"
RETRY_DELAY_S = 5.0
BUSY_S = 60.0  # until a stage is tried again whose process of before is still there
LOCKED_S = 1.0  # likewise where DVC does not say whose lock it is; it has waited itself
_USER_ERROR = re.compile(r"exited with 2$")  # dvc itself ends with 255
_MISSING = re.compile(
    r"\[Errno \d+\] (?P<what>No such file or directory|Permission denied|Not a directory): '(?P<path>.+)'"
    r"|(?P<gone>missing data 'source'): (?P<source>.+)"
)
_BUSY = re.compile(r"^ERROR: .*(is busy, it is being blocked by:|Unable to acquire lock\.|Unable to read RWLock-file)")
_BLOCKER = re.compile(r"\s+\(PID (?P<pid>\d+)\): (?P<command>.+)")
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
    """run_stage under the stage's own name; the train stage is tried again as long as it gets further."""
    own = run_stage.with_options(name=stage, task_run_name=stage)
    if stage == TRAIN:
        own = own.with_options(retries=RETRIES_OF_TRAIN, retry_condition_fn=getting_further(Path()))
    return own


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


@task(retries=RETRIES, retry_delay_seconds=RETRY_DELAY_S, retry_condition_fn=is_crash, cache_policy=NO_CACHE)
def run_stage(stage: str) -> None:
    """`dvc repro --single-item <stage>`: nothing happens if its params, dependencies and outputs are as they were.

    Where another DVC works on the stage, this waits for it and then looks again.

    Raises:
        InputError: what a person gave is wrong; not retried.
        StageError: anything else; retried.
    """
    if stage != TRAIN:
        return _repro(stage, lambda: None, lambda: None)
    params = load_params()
    with published(Path(), params.train.total_kimg, params.evaluate.metric) as shown:
        _repro(stage, shown.look, shown.finish)


def _repro(stage: str, look: Callable[[], None], finish: Callable[[], None]) -> None:
    """Calls look() with each line, and finish() at the end of each try. Raises as run_stage()."""
    command = [sys.executable, "-m", "dvc", "repro", "--single-item", stage]
    told: set[str] = set()
    while True:
        output = _Output(look)
        code = processes.run(command, on_line=output.line, on_progress=output.progress)
        output.bar.clear()
        finish()
        if not code:
            return
        if not output.busy:
            raise failure(stage, code, output.complaints)
        if mend(Path()):
            get_run_logger().info("stage %s: a lock of a DVC that is gone was taken away", stage)
        else:
            _wait(stage, output.blockers, told)


def _wait(stage: str, blockers: dict[int, str], told: set[str]) -> None:
    """Until the processes have ended, or for BUSY_S: one may have gone on to other stages. Says each `told` once."""
    whose = ", ".join(f"PID {pid} ({command})" for pid, command in blockers.items()) or "another DVC"
    if whose not in told:
        get_run_logger().info("stage %s is busy: waiting for %s", stage, whose)
        told.add(whose)
    deadline = time.monotonic() + (BUSY_S if blockers else LOCKED_S)
    while time.monotonic() < deadline and (not blockers or any(map(psutil.pid_exists, blockers))):
        time.sleep(0.2)


class _Output:
    """What a `dvc repro` says: into the log, but for what it says of being busy; its bar on a terminal.

    Attributes:
        complaints: lines in which the stage or DVC calls something an error.
        busy: another DVC is in the way.
        blockers: its command by its PID, where DVC names it.
    """

    def __init__(self, look: Callable[[], None]) -> None:
        self.bar, self._look, self._log = _Bar(), look, get_run_logger()
        self.complaints: list[str] = []
        self.busy = False
        self.blockers: dict[int, str] = {}

    def line(self, line: str) -> None:
        self.busy = self.busy or _BUSY.match(line) is not None
        if blocker := _BLOCKER.match(line):
            self.blockers[int(blocker["pid"])] = blocker["command"]
        if self.busy or _HINT.match(line):
            return
        self.bar.clear()
        level = _LEVELS.get(line.partition(" ")[0], logging.INFO)
        self._log.log(level, "%s", line)
        if level == logging.ERROR:
            self.complaints.append(line)
        self._look()

    def progress(self, text: str) -> None:
        self.bar.show(text)
        self._look()


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
