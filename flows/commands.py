"""Commands that a task runs beside the stages: their output goes into its log, and their end tells who has to act."""

from __future__ import annotations

import sys

from prefect import get_run_logger

from components import processes
from components.config import InputError
from flows.stages import StageError


def python(*arguments: str) -> None:
    """Runs `python -m …`.

    Raises:
        InputError: exit code 2, with the line in which the command says why.
        StageError: any other exit code than 0.
    """
    log, complaints = get_run_logger(), [""]

    def line(text: str) -> None:
        log.info("%s", text)
        kind, _, what = text.partition(": ")
        if kind in ("error", "ERROR"):
            complaints.append(what)

    code = processes.run([sys.executable, "-m", *arguments], on_line=line)
    if code == 2:
        raise InputError(complaints[-1])
    if code:
        raise StageError(f"{' '.join(arguments)} ended with exit code {code}: {complaints[-1]}")
