"""What training tells Prefect's stream of events, for alerts to hear: that it gets further, how it measures, its end.

The resource of each event is the flow run. Prefect sends them from a thread of its own.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from prefect.context import FlowRunContext
from prefect.events import emit_event

from components.config import InputError
from components.watching.exams import Exam, exams
from components.watching.run import Progress, at_work

PROGRESS, EVALUATION, ENDED = "bestiary.progress", "bestiary.evaluation", "bestiary.training-ended"
WORSE = "bestiary.worse-in-a-row"  # a label of EVALUATION: how many no better than the best before them
EVERY_S = 60.0  # Prefect keeps each event for a week


class Events:
    """The events of one try of the train stage."""

    def __init__(self, project: Path, metric: str) -> None:
        """What lies in the run's folder is old.

        Args:
            metric: evaluate.metric.
        """
        self._project, self._metric = project, metric
        self._due = 0.0
        self._lines: dict[Path, int] = {}  # how many of evaluations.jsonl are told or old
        self._new_exams()

    def begins(self) -> None:
        """Training that is to get further from now on."""
        _emit(PROGRESS)

    def got_to(self, found: Progress) -> None:
        """New images, told at most every EVERY_S, and new evaluations."""
        if time.monotonic() >= self._due:
            _emit(PROGRESS, run=found.key, kimg=found.kimg, seconds_left=found.seconds_left)
            self._due = time.monotonic() + EVERY_S
        self._tell_exams()

    def ends(self) -> None:
        """Training that is over, whether well or not."""
        self._tell_exams()
        _emit(ENDED)

    def _tell_exams(self) -> None:
        for exam in self._new_exams():
            _emit(EVALUATION, {WORSE: str(exam.worse_in_a_row)}, kimg=exam.kimg, metric=exam.name, value=exam.value)

    def _new_exams(self) -> list[Exam]:
        """Those of the run at work since the last call."""
        key = at_work(self._project)
        if key is None:
            return []
        run = self._project / "runs" / key
        try:
            known = exams(run, self._metric)
        except InputError:  # a damaged file, which the stage itself speaks of
            return []
        new = [exam for exam in known if exam.line >= self._lines.get(run, 0)]
        self._lines[run] = known[-1].line + 1 if known else 0
        return new


def _emit(event: str, labels: dict[str, str] | None = None, **facts: Any) -> None:
    """Nothing outside a flow run."""
    context = FlowRunContext.get()
    if context is not None and context.flow_run is not None:
        run = {"prefect.resource.id": f"prefect.flow-run.{context.flow_run.id}"}
        run["prefect.resource.name"] = context.flow_run.name
        emit_event(event, resource=run | (labels or {}), payload=facts)
