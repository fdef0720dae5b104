"""What a run's files show of its training: curves as CSV for `dvc plots`, and the sample grids as one animation."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from components.data.files import read_json_lines, write_bytes
from components.evaluation.bench import Bench
from components.evaluation.pictures import frames
from components.evaluation.snapshots import lines

CURVES = (
    *("kimg", "resolution", "alpha", "batch", "loss_g", "loss_d", "penalty", "path_length"),
    *("sign_real", "sign_fake", "augment_p", "sample_std"),
)


def write_history(folder: Path, run: Path, bench: Bench, until: int) -> None:
    """Writes what is known here of a run: training.csv, evaluations.csv, distance.csv (what decides) and frames.webp.

    Nothing in them depends on how fast the machine was: the same inputs give the same files.

    Args:
        folder: which is there.
        bench: the curves of evaluations hold what was measured by its yardstick.
        until: images shown; what came after them belongs to another generator.
    """
    ticks = [tick for tick in read_json_lines(run / "metrics.jsonl") if tick["nimg"] <= until]
    by_nimg = {exam["nimg"]: exam for exam in lines(run) if exam["yardstick"] == bench.yardstick}
    exams = [exam for nimg, exam in sorted(by_nimg.items()) if nimg <= until]
    ends = {"distance": "holdout", "low": "holdout_low", "high": "holdout_high"}
    distances = [
        {"kimg": exam["kimg"]} | {end: exam[group][bench.metric] for end, group in ends.items()} for exam in exams
    ]
    rows = [{"kimg": exam["kimg"], **exam["holdout"]} for exam in exams]
    write_bytes(folder / "training.csv", _csv(CURVES, ticks))
    write_bytes(folder / "evaluations.csv", _csv(("kimg", *bench.names), rows))
    write_bytes(folder / "distance.csv", _csv(("kimg", *ends), distances))
    grids = [run / "grids" / f"{tick['nimg']:09d}.png" for tick in ticks]
    if grids := [path for path in grids if path.exists()]:
        write_bytes(folder / "frames.webp", frames(grids))


def _csv(columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
