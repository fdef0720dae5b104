"""The flow: the stages of dvc.yaml, one Prefect task each, then a summary. `python -m flows` runs it."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Failed

from components.config import InputError, load_params
from flows.stages import StageError, stage_names, stage_task
from flows.summary import Summary, summarise


@flow(name="train-stylegan")
def train_stylegan() -> Summary | State[Any]:
    """Source to registered generator; runs in the project's folder. A stage that has nothing to do takes a moment.

    Raises:
        InputError: what a person gave is wrong, in params.yaml or found by a stage.
        StageError: a stage failed each time it was tried.
    """
    started = time.monotonic()
    try:
        load_params()
        for stage in stage_names():
            stage_task(stage)(stage)
    except (InputError, StageError) as error:
        return Failed(message=f"error: {error}", data=error)  # one line in Prefect; callers get the exception
    summary = summarise(Path(), minutes=(time.monotonic() - started) / 60)
    create_markdown_artifact(key="summary", markdown=summary.markdown())
    create_markdown_artifact(key="verdict", markdown=Path("reports/verdict.md").read_text(encoding="utf-8"))
    return summary


if __name__ == "__main__":
    os.execv(sys.executable, [sys.executable, "-m", "flows"])  # which settles Prefect's environment before its import
