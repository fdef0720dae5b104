"""A run's folder as its trainer sees it: where the run stands, the lines of its ticks and starts, and its snapshots."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from torch import Tensor

from components.data.files import append_json_line, read_json_lines
from components.data.images import grid, save_png, straight
from components.data.tensors import write_tensors
from components.generation.sampler import save_generator
from components.training import initial, state
from components.training.loop import GRID, Tick, Trainer
from components.training.run_files import CHECKPOINTS, DISCRIMINATOR_FILE, GRIDS, INITIAL, METRICS, ROLLBACKS, STARTS
from components.training.state import State

TRIES = 2  # other ways from one checkpoint, after the first


def take_up(trainer: Trainer, run: Path) -> list[str]:
    """Brings a new trainer to where the run stands: its newest whole checkpoint, or the model that it starts from.

    Returns:
        A line for each checkpoint that was refused.
    """
    saved, refused = state.latest(run / CHECKPOINTS)
    if saved is not None:
        trainer.restore(saved)
    elif (run / INITIAL).exists():
        trainer.players.start_from(*initial.read(run / INITIAL))
    trainer.passed_over = [(line["nimg"], line["until"] - line["nimg"]) for line in read_json_lines(run / ROLLBACKS)]
    return refused


def begin(trainer: Trainer, run: Path, refused: list[str]) -> None:
    """Drops the lines after where a trainer begins, and notes its start; for the first worker, before any step."""
    run.mkdir(parents=True, exist_ok=True)
    _rewind(run / METRICS, trainer.nimg)
    note(run / STARTS, nimg=trainer.nimg, workers=trainer.world, device=trainer.device.type, refused=refused)


def last_device(run: Path) -> str:
    """What a run's last start was on: cpu or cuda; empty where there is none."""
    lines = read_json_lines(run / STARTS)
    return str(lines[-1].get("device", "")) if lines else ""


def roll_back(run: Path, nimg: int, reason: str) -> str:
    """Notes that what follows the newest checkpoint, up to `nimg` images, is to be passed over.

    Returns:
        Why this would not help, if it would not: the run has gone back to that checkpoint TRIES times already.
    """
    saved, _ = state.latest(run / CHECKPOINTS)
    start = int(saved.numbers["nimg"]) if saved else 0
    tries = sum(line["nimg"] == start for line in read_json_lines(run / ROLLBACKS))
    if tries == TRIES:
        return f"{reason}; the {TRIES + 1}. time in a row from {start / 1000:g} kimg on, each time with other images"
    note(run / ROLLBACKS, nimg=start, until=nimg, reason=reason)
    return ""


def reached(run: Path) -> int:
    """The images shown up to the run's last tick."""
    lines = read_json_lines(run / METRICS)
    return int(lines[-1]["nimg"]) if lines else 0


def note(path: Path, **values: Any) -> None:
    """Appends a line with the time to one of a run's files."""
    append_json_line(path, {**values, "time": int(time.time() * 1000)})


def write_snapshot(saved: State, folder: Path) -> None:
    """Writes a generator folder of the EMA generator, with the discriminator for runs that start from it."""
    parts: dict[str, dict[str, Tensor]] = {"average": {}, "discriminator": {}}
    for name, tensor in saved.tensors.items():
        network, _, key = name.partition("/")
        if network in parts:
            parts[network][key] = tensor
    save_generator(folder, saved.numbers["model"], parts["average"])
    write_tensors(folder / DISCRIMINATOR_FILE, parts["discriminator"])


def write_tick(run: Path, tick: Tick) -> None:
    """A tick's grid, then its line: a line in metrics.jsonl always has its picture."""
    save_png(run / GRIDS / f"{int(tick.record['nimg']):09d}.png", straight(grid(tick.grid, GRID[1])))
    append_json_line(run / METRICS, tick.record)


def _rewind(metrics: Path, nimg: int) -> None:
    """Drops the lines after nimg: steps that were taken but not kept, and half a line of a killed writer."""
    content = metrics.read_text(encoding="utf-8") if metrics.exists() else ""
    lines = content.splitlines(keepends=True)
    kept = "".join(line for line in lines if line.endswith("\n") and json.loads(line)["nimg"] <= nimg)
    if kept != content:
        temporary = metrics.with_suffix(".tmp")
        temporary.write_text(kept, encoding="utf-8")
        temporary.replace(metrics)
