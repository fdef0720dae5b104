"""Where a run stands, from its folder: shown and left, pace, last checkpoint, last metric, what went wrong."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.data.files import read_json_lines
from components.training.run_files import AT_WORK, CHECKPOINTS, FAILURES, LOCK, METRICS, ROLLBACKS, STARTS
from components.watching.exams import exams

TAIL = 1 << 16  # bytes, in which the last line of a file lies


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is, at its last tick."""

    key: str
    kimg: float  # shown
    target_kimg: float
    images_per_s: float | None  # in the last tick; None before the first one
    images_per_s_mean: float | None  # over all starts
    seconds_left: float | None  # of training at the last tick's pace

    @property
    def percent(self) -> float:
        """Of the target, 0 to 100."""
        return min(100.0, 100 * self.kimg / self.target_kimg)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A run's progress, and how it has gone."""

    progress: Progress
    training: bool  # a process holds the run's lock
    checkpoint_kimg: float | None
    checkpoint_age_s: float | None
    metric: dict[str, Any] | None  # name, value and kimg of the last evaluation
    starts: int
    failures: list[dict[str, Any]]  # nimg, reason and time in ms, oldest first
    rollbacks: list[dict[str, Any]]  # nimg, until, reason and time
    disk_free_gib: float


def progress(run: Path, target_kimg: float) -> Progress:
    """What the last line of metrics.jsonl says."""
    tick = _last(run / METRICS)
    shown, pace = (tick["nimg"], tick["images_per_s"]) if tick else (0, None)
    return Progress(
        key=run.name,
        kimg=shown / 1000,
        target_kimg=target_kimg,
        images_per_s=pace,
        images_per_s_mean=shown / tick["seconds"] if tick else None,
        seconds_left=max(0.0, target_kimg * 1000 - shown) / pace if pace else None,
    )


def standing(run: Path, target_kimg: float, metric: str) -> Standing:
    """All that a run's folder tells.

    Args:
        metric: evaluate.metric, the distance of evaluations.jsonl that is told.
    """
    checkpoint = _checkpoint(run)
    return Standing(
        progress=progress(run, target_kimg),
        training=_locked(run / LOCK),
        checkpoint_kimg=int(checkpoint.name) / 1000 if checkpoint else None,
        checkpoint_age_s=_age_s(checkpoint) if checkpoint else None,
        metric=_last_exam(run, metric),
        starts=len(read_json_lines(run / STARTS)),
        failures=read_json_lines(run / FAILURES),
        rollbacks=read_json_lines(run / ROLLBACKS),
        disk_free_gib=shutil.disk_usage(run).free / 2**30,
    )


def _age_s(folder: Path) -> float | None:
    """None where it has just been deleted; 0 where the clock has been set back since."""
    try:
        return max(0.0, time.time() - folder.stat().st_mtime)
    except FileNotFoundError:
        return None


def span(seconds: float | None) -> str:
    """For a person: 7,384 s are "2 h 3 min"."""
    if seconds is None:
        return "–"
    days, hours, minutes = int(seconds // 86400), int(seconds // 3600 % 24), int(seconds // 60 % 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (int(seconds % 60), "s")]
    return " ".join([f"{count} {unit}" for count, unit in parts if count][:2]) or "0 s"


def newest(runs: Path) -> Path | None:
    """The run that was written to last."""
    found = [path.parent for path in runs.glob(f"*/{METRICS}")]
    return max(found, key=lambda run: (run / METRICS).stat().st_mtime, default=None)


def at_work(project: Path) -> str | None:
    """The key of the run that the last start of the project's train stage was about; None before the first one."""
    said = project / AT_WORK
    return said.read_text(encoding="utf-8") if said.exists() else None


def reached(runs: Path) -> dict[str, int]:
    """The images shown by each run's newest checkpoint or last tick, by run key."""
    return {run.name: _reached(run) for run in runs.glob("[!.]*") if run.is_dir()}


def _reached(run: Path) -> int:
    checkpoint, tick = _checkpoint(run), _last(run / METRICS)
    return max(int(checkpoint.name) if checkpoint else 0, tick["nimg"] if tick else 0)


def _checkpoint(run: Path) -> Path | None:
    return max((run / CHECKPOINTS).glob("[0-9]*"), default=None)


def _last_exam(run: Path, metric: str) -> dict[str, Any] | None:
    found = exams(run, metric)
    return {"name": found[-1].name, "value": found[-1].value, "kimg": found[-1].kimg} if found else None


def _last(path: Path) -> Any:
    """The last whole record of a file that may be growing, or not be there; None where there is none."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
        lines = file.read().split(b"\n")
    for line in reversed(lines[:-1]):
        with contextlib.suppress(ValueError):  # of a disk that was full
            return json.loads(line)
    return None


def _locked(path: Path) -> bool:
    """Whether another process holds a file with flock."""
    if not path.exists():
        return False
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
