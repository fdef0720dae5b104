"""A run's folder as its trainer sees it: where the run stands, the lines of its ticks and starts, and its snapshots."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from components.data.images import grid, save_png, straight
from components.generation.sampler import save_generator
from components.training import initial, state
from components.training.loop import GRID, Tick, Trainer
from components.training.state import State


def take_up(trainer: Trainer, run: Path) -> None:
    """Brings a new trainer to where the run stands: its newest whole checkpoint, or the model that it starts from.

    The first worker also drops the lines after it and notes the start in starts.jsonl.
    """
    saved, refused = state.latest(run / "checkpoints")
    if saved is not None:
        trainer.restore(saved)
    elif (run / initial.INITIAL).exists():
        trainer.players.start_from(*initial.read(run / initial.INITIAL))
    if trainer.rank == 0:
        run.mkdir(parents=True, exist_ok=True)
        _rewind(run / "metrics.jsonl", trainer.nimg)
        _rewind(run / "starts.jsonl", sys.maxsize)
        _append(run / "starts.jsonl", {"nimg": trainer.nimg, "workers": trainer.world, "refused": refused})


def write_snapshot(saved: State, folder: Path) -> None:
    """Writes a generator folder of the EMA generator, with the discriminator for runs that start from it."""
    parts: dict[str, dict[str, Tensor]] = {"average": {}, "discriminator": {}}
    for name, tensor in saved.tensors.items():
        network, _, key = name.partition("/")
        if network in parts:
            parts[network][key] = tensor.detach().cpu().contiguous()
    save_generator(folder, saved.numbers["model"], parts["average"])
    save_file(parts["discriminator"], folder / initial.DISCRIMINATOR_FILE)


def write_tick(run: Path, tick: Tick) -> None:
    """A tick's grid, then its line: a line in metrics.jsonl always has its picture."""
    save_png(run / "grids" / f"{int(tick.record['nimg']):09d}.png", straight(grid(tick.grid, GRID[1])))
    _append(run / "metrics.jsonl", tick.record)


def _append(path: Path, record: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _rewind(metrics: Path, nimg: int) -> None:
    """Drops the lines after nimg: steps that were taken but not kept, and half a line of a killed writer."""
    kept = []
    if metrics.exists():
        for line in metrics.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n") and json.loads(line)["nimg"] <= nimg:
                kept.append(line)
    temporary = metrics.with_suffix(".tmp")
    temporary.write_text("".join(kept), encoding="utf-8")
    temporary.replace(metrics)
