"""How a run's snapshots were measured, from evaluations.jsonl: by the distance that decides, whatever it is called."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from components.data.files import read_json_lines
from components.training.run_files import EVALUATIONS

_NAMES = {  # of evaluate.metric, by what the extractor makes of it (evaluation/features.py, metric_name)
    "frechet": re.compile(r"fid|frechet_(?!alpha$).+(?<!_infinity)"),
    "frechet_infinity": re.compile(r"fid_infinity|frechet_.+_infinity"),
    "kernel": re.compile(r"kid|kernel_.+"),
}


@dataclass(frozen=True, kw_only=True)
class Exam:
    """One measured snapshot."""

    line: int  # of the file, from 0
    name: str  # of the distance
    value: float  # lower is better
    kimg: float
    worse_in_a_row: int  # how many up to this one were no better than the best before them; 0 for a new best


def exams(run: Path, metric: str) -> list[Exam]:
    """Those that the last one can be compared with, in the order in which they were measured.

    Args:
        metric: evaluate.metric.

    Raises:
        InputError: the file is damaged.
    """
    lines = read_json_lines(run / EVALUATIONS)
    found: list[Exam] = []
    best, best_at = float("inf"), -1
    for number, line in enumerate(lines):
        if line["yardstick"] == lines[-1]["yardstick"]:
            name, value = next((name, at) for name, at in line["holdout"].items() if _NAMES[metric].fullmatch(name))
            if value < best:
                best, best_at = value, len(found)
            worse = len(found) - best_at
            found.append(Exam(line=number, name=name, value=value, kimg=line["kimg"], worse_in_a_row=worse))
    return found
