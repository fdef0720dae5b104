"""Snapshots of a run, measured beside its training: how the numbers went, and which snapshot is the best so far.

runs/<run key>/snapshots/<nimg>/ is a generator folder, written every evaluate.every_kimg; evaluations.jsonl has a line
for each that was measured. Kept are the best one, the newest, and what is not measured yet.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.config import InputError
from components.data.files import append_json_line, read_json_lines
from components.evaluation.bench import Bench
from components.evaluation.candidates import Generated
from components.generation.sampler import WEIGHTS_FILE

Submit = Callable[[Callable[["Exam"], dict[str, Any]], "Exam"], Future[dict[str, Any]]]
FOLDER, LINES = "snapshots", "evaluations.jsonl"
GONE = ".gone"  # how the name of a snapshot ends while it is deleted


@dataclass(frozen=True)
class Exam:
    """One snapshot to be measured, and by what."""

    snapshot: Path
    bench: Bench


def examine(exam: Exam) -> dict[str, Any]:
    """Measures a snapshot, in whatever process: its line of evaluations.jsonl."""
    source = Generated.at(exam.snapshot, exam.bench.gpus)
    nimg = int(exam.snapshot.name)
    known = {"nimg": nimg, "kimg": nimg / 1000, "digest": source.digest, "yardstick": exam.bench.yardstick}
    found = exam.bench.sampled(source)
    fallen = exam.bench.collapse(found, exam.bench.layouts_aside())
    return {
        **known,
        **exam.bench.against(("holdout",), found),
        "collapse": fallen.values,
        "collapse_reason": fallen.reason,
        "time": int(time.time() * 1000),
    }


class Watch:
    """Sends each new snapshot of a run to be measured, and keeps the account; its calls come from one thread at a time.

    A snapshot that could not be measured is said once and costs its numbers alone: training goes on.
    """

    def __init__(self, run: Path, bench: Bench, submit: Submit) -> None:
        self._run, self._bench, self._submit = run, bench, submit
        self._waiting: dict[Path, Future[dict[str, Any]]] = {}
        self._failed: set[Path] = set()

    def look(self) -> None:
        """Takes what has been measured, and sends what is new; never waits."""
        for folder in [folder for folder, future in self._waiting.items() if future.done()]:
            self._take(folder)
        done = measured(self._run, self._bench)
        for folder in snapshots(self._run):
            if folder not in done and folder not in self._waiting and folder not in self._failed:
                self._waiting[folder] = self._submit(examine, Exam(folder, self._bench))

    def finish(self) -> None:
        """Waits until everything is measured."""
        self.look()
        for folder in list(self._waiting):
            self._take(folder)

    def _take(self, folder: Path) -> None:
        try:
            line = self._waiting[folder].result()
        except Exception as error:  # whatever a worker can die of
            del self._waiting[folder]
            self._failed.add(folder)
            print(f"snapshot {folder.name} was not measured: {' '.join(str(error).split())[:200]}")
            return
        append_json_line(self._run / LINES, line)  # where a full disk refuses it, the next look tries again
        del self._waiting[folder]
        prune(self._run, self._bench)


def catch_up(run: Path, bench: Bench) -> None:
    """Measures, in this process, what a killed start or another yardstick has left unmeasured."""
    Watch(run, bench, _here).finish()


def choose_best(run: Path, bench: Bench, folder: Path) -> int:
    """Copies the best measured snapshot's files into a folder. Returns its nimg.

    Raises:
        InputError: the run has none.
    """
    found = best(run, bench)
    if found is None:
        raise InputError(
            f"evaluate.pick is 'best' and run {run.name} has no snapshot; allowed: last, or a run that was trained "
            "with evaluate.every_kimg above 0"
        )
    for path in found.iterdir():
        shutil.copy(path, folder)
    return int(found.name)


def _here(examine: Callable[[Exam], dict[str, Any]], exam: Exam) -> Future[dict[str, Any]]:
    future: Future[dict[str, Any]] = Future()
    try:
        future.set_result(examine(exam))
    except Exception as error:  # as a worker would hand it on
        future.set_exception(error)
    return future


def snapshots(run: Path) -> list[Path]:
    """The generator folders of a run, oldest first."""
    return sorted(path.parent for path in (run / FOLDER).glob(f"[0-9]*/{WEIGHTS_FILE}"))


def lines(run: Path) -> list[dict[str, Any]]:
    """What has been measured so far, by whatever yardstick."""
    return read_json_lines(run / LINES)


def measured(run: Path, bench: Bench) -> dict[Path, float]:
    """The snapshots that are there and have been measured by this yardstick, with the distance that decides.

    A line of another generator (the run went back, and on again another way) is none of theirs.
    """
    by_digest = {line["digest"]: line for line in lines(run) if line["yardstick"] == bench.yardstick}
    found = ((folder, by_digest.get(Generated.at(folder).digest)) for folder in snapshots(run))
    return {folder: line["holdout"][bench.metric] for folder, line in found if line}


def best(run: Path, bench: Bench) -> Path | None:
    """The measured snapshot with the lowest distance, or None where none is measured."""
    found = measured(run, bench)
    return min(found, key=lambda folder: (found[folder], folder)) if found else None


def prune(run: Path, bench: Bench) -> None:
    """Deletes what is measured and is neither the best nor the newest."""
    kept = {best(run, bench), *snapshots(run)[-1:]}
    for folder in measured(run, bench):
        if folder not in kept:
            folder.rename(folder.with_name(f".{folder.name}{GONE}"))
    for folder in (run / FOLDER).glob(f".*{GONE}"):
        shutil.rmtree(folder, ignore_errors=True)
