"""How far the train stage is, for Prefect: a bar and a table of kimg, pace and time left as artifacts, and events."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.utilities.context import get_task_and_flow_run_ids

from components.training.run_files import METRICS
from components.watching.run import Progress, at_work, progress, span
from flows.events import Events

BAR, TABLE = "training", "training-table"
EVERY_S = 10.0
PATIENCE_S = 5.0  # for an answer: the stage's output is not read meanwhile
AGAIN_S = 60.0  # after a server that did not take it


class Published:
    """What Prefect is told of one try of the train stage. A server that does not take it costs that alone."""

    def __init__(self, project: Path, target_kimg: float, events: Events) -> None:
        self._project, self._target, self._events = project, target_kimg, events
        self._seen = _written(project)  # what lies there is no progress of this try
        self._due = 0.0
        self._complained = False
        self._artifacts: dict[str, UUID] = {}

    def look(self) -> None:
        """Publishes what is new, at most every EVERY_S; to be called with each line that the stage prints."""
        if time.monotonic() >= self._due:
            self._publish()

    def finish(self) -> None:
        """Publishes what is new, however soon."""
        self._publish()

    def _publish(self) -> None:
        wait_s = EVERY_S
        try:
            written = _written(self._project)
            if written is None or written == self._seen:
                return
            found = progress(written[0], self._target)
            self._events.got_to(found)
            self._send(found)
            self._seen = written
        except Exception as error:  # of whatever kind: training does not hang on it
            if not self._complained:
                get_run_logger().warning("Prefect does not take the progress now: %s", error)
            self._complained, wait_s = True, AGAIN_S
        self._due = time.monotonic() + wait_s

    def _send(self, found: Progress) -> None:
        line = f"{found.kimg:.1f} of {found.target_kimg:g} kimg, {span(found.seconds_left)} left"
        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
            get_client(sync_client=True, httpx_settings={"timeout": PATIENCE_S}) as client,
        ):
            for key, kind, data in ((BAR, "progress", found.percent), (TABLE, "markdown", table(found))):
                if key in self._artifacts:
                    client.update_artifact(self._artifacts[key], ArtifactUpdate(data=data, description=line))
                else:
                    task, flow = get_task_and_flow_run_ids()
                    new = ArtifactCreate(
                        key=key, type=kind, data=data, description=line, task_run_id=task, flow_run_id=flow
                    )
                    self._artifacts[key] = client.create_artifact(new).id


@contextlib.contextmanager
def published(project: Path, target_kimg: float, metric: str) -> Iterator[Published]:
    """One try, from its first event to its last.

    Args:
        metric: evaluate.metric, the distance whose course is told.
    """
    events = Events(project, metric)
    events.begins()
    try:
        yield Published(project, target_kimg, events)
    finally:
        events.ends()


def table(found: Progress) -> str:
    """The numbers in Markdown."""
    left = max(0.0, found.target_kimg - found.kimg)
    rows = {
        "run": found.key,
        "kimg": f"{found.kimg:.1f} of {found.target_kimg:g}, {left:.1f} left",
        "images/s": f"{found.images_per_s:.1f} now, {found.images_per_s_mean:.1f} mean",
        "time left": span(found.seconds_left),
    }
    return "| | |\n|---|---|\n" + "".join(f"| {name} | {text} |\n" for name, text in rows.items())


def _written(project: Path) -> tuple[Path, int] | None:
    """The run at work, and when it was written to last."""
    metrics = project / "runs" / (at_work(project) or "") / METRICS
    return (metrics.parent, metrics.stat().st_mtime_ns) if metrics.exists() else None
