"""What a run's folder holds, by name, and as units that are copied whole; needs no torch.

The files of a unit have an order: once the last one is in place, the unit counts as whole.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

CHECKPOINTS, SNAPSHOTS, GRIDS, INITIAL = "checkpoints", "snapshots", "grids", "initial"
RUN, LOCK, STOP, RESIZE, NOTICE, REFUSAL = "run.json", "lock", "stop", "resize", "notice", "refusal"
DIVERGED = "diverged"  # a sweep's trial whose losses are no longer finite
METRICS, STARTS, FAILURES, ROLLBACKS = "metrics.jsonl", "starts.jsonl", "failures.jsonl", "rollbacks.jsonl"
EVALUATIONS = "evaluations.jsonl"
LINES = (RUN, METRICS, STARTS, FAILURES, ROLLBACKS, EVALUATIONS)  # files that are sent as they stand
TENSORS_FILE, NUMBERS_FILE = "state.safetensors", "state.json"  # of a checkpoint
CONFIG_FILE, GENERATOR_FILE, DISCRIMINATOR_FILE = "config.json", "generator.safetensors", "discriminator.safetensors"
MODEL_FILES = (CONFIG_FILE, GENERATOR_FILE, DISCRIMINATOR_FILE)  # of a snapshot, and of the first model
NUMBERED = (CHECKPOINTS, SNAPSHOTS)  # folders of folders
LAST = (NUMBERS_FILE, GENERATOR_FILE)  # of a folder's files
AT_WORK = Path("models/at_work")  # which run a project's train stage is about: several projects may have one runs/

Unit = tuple[str, ...]  # names below runs/<run key>, in order


def units(names: Iterable[str]) -> list[Unit]:
    """The whole units among a run's names; half ones and what is no part of a run are left out.

    Checkpoints come last, the newest one first.
    """
    folders: dict[str, list[str]] = {}
    for name in names:
        top, *rest = name.split("/")
        if name in LINES or top == GRIDS:
            folders[name] = [name]
        elif (top == INITIAL and len(rest) == 1) or (top in NUMBERED and len(rest) == 2 and rest[0].isdigit()):
            folders.setdefault(name.rpartition("/")[0], []).append(name)
    found = [tuple(sorted(files, key=lambda name: (name.endswith(LAST), name))) for files in folders.values()]
    return sorted((unit for unit in found if _is_whole(unit)), key=_order)


def _is_whole(unit: Unit) -> bool:
    if is_checkpoint(unit):
        return [name.rpartition("/")[2] for name in unit] == [TENSORS_FILE, NUMBERS_FILE]
    return unit[0] in LINES or unit[0].startswith(f"{GRIDS}/") or unit[-1].endswith(LAST)


def _order(unit: Unit) -> tuple[bool, int, Unit]:
    return (True, -nimg(unit), unit) if is_checkpoint(unit) else (False, 0, unit)


def is_checkpoint(unit: Unit) -> bool:
    """Whether a unit is one."""
    return unit[0].startswith(f"{CHECKPOINTS}/")


def nimg(unit: Unit) -> int:
    """Of a checkpoint, a snapshot or a grid: the images shown."""
    return int(unit[0].split("/")[1].removesuffix(".png"))


def title(unit: Unit) -> str:
    """What people call it: its folder, or its file."""
    return unit[0] if len(unit) == 1 else unit[0].rpartition("/")[0]


def names(run: Path) -> list[str]:
    """The files of a run's units that are here, whole or not; of thousands of grids too in milliseconds.

    Checkpoints are looked for first, so that all that was written before one of them is found too.
    """
    folders = [f"{top}/{name}" for top in NUMBERED for name in _listed(run, top) if name.isdigit()]
    found = [f"{folder}/{name}" for folder in [*folders, GRIDS, INITIAL] for name in _listed(run, folder)]
    return found + [name for name in _listed(run, "") if name in LINES]


def _listed(run: Path, folder: str) -> list[str]:
    """Without what is being written or deleted under a name that begins with a dot."""
    try:
        with os.scandir(run / folder) as entries:
            return [entry.name for entry in entries if not entry.name.startswith(".")]
    except FileNotFoundError:
        return []
