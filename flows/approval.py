"""Where register.promote is ask: the flow run is suspended until a person says yes or no to the new champion."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from prefect import get_run_logger, suspend_flow_run, task
from prefect.cache_policies import NO_CACHE
from prefect.input import RunInput
from prefect.runtime import deployment
from pydantic import Field

from flows.commands import python
from flows.retries import RETRIES, is_crash

REPORTS = Path("reports")
RETRY_DELAY_S = 5.0


class Approval(RunInput):
    """What the person is asked for."""

    approve: bool = Field(description="whether it becomes the champion")
    name: str = Field(min_length=1, max_length=1000, description="who decides")
    note: str = Field(default="", max_length=1000, description="why")


def ask() -> None:
    """Where a version waits, ends this process; in the one that resumes the run, applies the answer.

    The question is about one version: an answer is never taken for another one. A flow run without a deployment cannot
    be suspended; there the version goes on waiting.

    Raises:
        InputError: the version was decided on otherwise meanwhile.
        StageError: the answer could not be applied.
    """
    registered = json.loads((REPORTS / "registered.json").read_text(encoding="utf-8"))
    uri = f"models:/{registered['model']}/{registered['version']}"
    if registered["decision"]:
        get_run_logger().info("%s: %s", uri, registered["decision"])
    if not registered["waits"] or deployment.id is None:
        return
    question = Approval.with_initial_data(description=_description(registered))
    answer = suspend_flow_run(question, key=hashlib.sha256(uri.encode()).hexdigest()[:16])
    apply(answer.approve, answer.name, answer.note)


@task(
    name="promote",
    task_run_name="promote",
    retries=RETRIES,
    retry_delay_seconds=RETRY_DELAY_S,
    retry_condition_fn=is_crash,
    cache_policy=NO_CACHE,
)
def apply(approve: bool, name: str, note: str) -> None:
    """`python -m pipelines.promote`, which a person can run as well. Raises as ask()."""
    python("pipelines.promote", "yes" if approve else "no", f"--by={name}", f"--note={note}")


def _description(registered: dict[str, Any]) -> str:
    """The verdict, and where the pictures are, in Markdown."""
    verdict = (REPORTS / "verdict.md").read_text(encoding="utf-8")
    pictures = (REPORTS / "pictures").absolute()
    return f"{verdict}\nPictures: `{pictures}`; in MLflow, `pictures` of the run `{registered['mlflow_run_id']}`.\n"
