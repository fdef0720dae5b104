"""The flow: the stages of dvc.yaml, one Prefect task each, then a summary. `python -m flows` runs it."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Failed

from components.config import InputError
from flows import approval, pushing
from flows.experiments import isolated
from flows.remote import require_remote
from flows.stages import StageError, stage_names, stage_task
from flows.summary import Summary, summarise


@flow(name="train-stylegan")
def train_stylegan(
    preset: str = "", overrides: dict[str, Any] | None = None, push: bool = False
) -> Summary | State[Any]:
    """Source to registered generator; runs in the project's folder. A stage that has nothing to do takes a moment.

    With other values than those of params.yaml it runs as a DVC experiment, in a copy of its own.

    Args:
        preset: a name in presets/, or the path of a .yaml file, whose values are laid over params.yaml.
        overrides: single values by dotted keys, {"train.gamma": 0.5}: likewise, after it.
        push: send what the chain made to DVC's default remote.

    Raises:
        InputError: what a person gave is wrong, in params.yaml or found by a stage.
        StageError: a stage, or the push, failed each time it was tried.
    """
    started = time.monotonic()
    try:
        if push:
            require_remote()
        with isolated(preset, overrides or {}, get_run_logger().info) as experiment:
            for stage in stage_names():
                stage_task(stage)(stage)
            if push:
                pushing.push()
            approval.ask()
            summary = summarise(Path(), minutes=(time.monotonic() - started) / 60, experiment=experiment)
            create_markdown_artifact(key="summary", markdown=summary.markdown())
            create_markdown_artifact(key="verdict", markdown=Path("reports/verdict.md").read_text(encoding="utf-8"))
            return summary
    except (InputError, StageError) as error:
        return Failed(message=f"error: {error}", data=error)  # one line in Prefect; callers get the exception


if __name__ == "__main__":
    os.execv(sys.executable, [sys.executable, "-m", "flows"])  # which settles Prefect's environment before its import
