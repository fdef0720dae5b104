"""What a run says of itself in run.json, and how it takes over an older run that only the code tells it from.

A bug fix in components/models or components/training gives a run another key. execution.adopt names the older key: the
new run begins with its newest checkpoint and its history, on purpose, and says so in run.json.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from components.config import InputError
from components.data.files import read_json_lines, replacing, write_json, write_json_lines
from components.training import state
from components.training.run_files import CHECKPOINTS, EVALUATIONS, GRIDS, METRICS, ROLLBACKS, RUN, SNAPSHOTS

ADOPTED = "adopted"
TARGET = "total_kimg"  # may change in mid-run


def describe(run: Path, identity: dict[str, Any], adopt: str) -> dict[str, Any]:
    """Brings run.json up to date, first taking over the run that `adopt` names, where this one has not begun.

    Args:
        run: its folder.
        identity: data_digest, code_digest, and train: the settings by dotted keys.
        adopt: a run key, or "".

    Returns:
        What run.json says: the identity and, after an adoption, {"adopted": {"run_key": …, "nimg": …}}.

    Raises:
        InputError: there is no such run, it has no whole checkpoint, or more than the code differs.
    """
    own = _read(run)
    if adopt and not any((run / CHECKPOINTS).glob("[0-9]*")):
        return _take_over(run.with_name(adopt), run, identity)
    said = identity | {name: own[name] for name in (ADOPTED,) if name in own}
    write_json(run / RUN, said)
    return said


def _take_over(older: Path, run: Path, identity: dict[str, Any]) -> dict[str, Any]:
    """Copies history first, the checkpoint last: a run that is killed here begins this again. Returns run.json's."""
    saved, _ = state.latest(older / CHECKPOINTS)
    if saved is None:
        raise InputError(f"execution.adopt: {older} has no whole checkpoint; allowed: the key of a run that has one")
    if differing := _differing(_read(older), identity):
        raise InputError(f"execution.adopt: {older} differs in {differing}; allowed: a run that differs in code alone")
    nimg = int(saved.numbers["nimg"])
    for name in (METRICS, ROLLBACKS, EVALUATIONS):
        write_json_lines(run / name, (line for line in read_json_lines(older / name) if line["nimg"] <= nimg))
    for pattern in (f"{GRIDS}/*.png", f"{SNAPSHOTS}/[0-9]*"):
        for path in older.glob(pattern):
            if int(path.stem) <= nimg:
                _copy(path, run / path.relative_to(older))
    newest = Path(CHECKPOINTS, f"{nimg:09d}")
    said = identity | {ADOPTED: {"run_key": older.name, "nimg": nimg}}
    write_json(run / RUN, said)
    _copy(older / newest, run / newest)
    return said


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        with replacing(target) as fresh:
            shutil.copytree(source, fresh, dirs_exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def _read(run: Path) -> dict[str, Any]:
    path = run / RUN
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _differing(older: dict[str, Any], identity: dict[str, Any]) -> str:
    """The names of what is not the same, code and target aside."""
    mine, other = ({"data": one.get("data_digest"), **one.get("train", {})} for one in (identity, older))
    names = (mine.keys() | other.keys()) - {TARGET}
    return ", ".join(sorted(name for name in names if mine.get(name) != other.get(name)))
