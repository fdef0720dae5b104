"""What a run keeps is written beside it, in order; a full disk holds nothing up and loses nothing."""

import errno
import json
import os
import threading

import numpy as np
import pytest
import torch

from components.training import keeper as module
from components.training import state
from components.training.keeper import Keeper
from components.training.loop import GRID, Tick
from components.training.run_files import METRICS
from components.training.state import State


def tick(nimg):
    return Tick(record={"nimg": nimg}, grid=np.zeros((GRID[0] * GRID[1], 4, 4, 3), np.uint8), done=False)


def at(nimg, value=0.0):
    model = {"format": 1, "arch": "dcgan"}
    tensors = {"average/a": torch.full((2,), value), "discriminator/b": torch.zeros(1)}
    return State(tensors, {"nimg": nimg, "model": model})


def names(folder):
    return sorted(int(path.name) for path in folder.glob("[0-9]*"))


def lines(run):
    return [json.loads(line)["nimg"] for line in (run / METRICS).read_text().splitlines()]


class FullDisk:
    """While it is full, ticks and checkpoints are refused."""

    def __init__(self, monkeypatch):
        self.full, self.refused = True, threading.Event()
        for where, name in ((module, "write_tick"), (state, "save")):
            monkeypatch.setattr(where, name, self.guarded(getattr(where, name)))
        monkeypatch.setattr(module, "RETRY_S", 0.01)

    def guarded(self, write):
        def guard(*arguments):
            if self.full:
                self.refused.set()
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs")
            write(*arguments)

        return guard


def test_checkpoints_are_of_the_moment_they_were_asked_for(tmp_path):
    live = at(1000)
    with Keeper(tmp_path, keep=2, every_kimg=0) as keeper:
        keeper.checkpoint(live)
        live.tensors["average/a"].add_(1)
        keeper.checkpoint(State(live.tensors, {**live.numbers, "nimg": 2000}))
        live.tensors["average/a"].add_(1)
    found = [state.load(tmp_path / f"checkpoints/{nimg:09d}").tensors["average/a"].tolist() for nimg in (1000, 2000)]
    assert found == [[0, 0], [1, 1]]


def test_the_newest_stay_and_the_first_of_each_stretch(tmp_path):
    with Keeper(tmp_path, keep=2, every_kimg=3) as keeper:
        for nimg in range(1000, 11000, 1000):
            keeper.checkpoint(at(nimg))
    assert names(tmp_path / "checkpoints") == [3000, 6000, 9000, 10000]


def test_a_full_disk_holds_nothing_up_and_loses_no_tick(tmp_path, monkeypatch):
    disk = FullDisk(monkeypatch)
    with Keeper(tmp_path, keep=5, every_kimg=0) as keeper:
        keeper.tick(tick(1000))
        assert disk.refused.wait(60)
        keeper.checkpoint(at(1000))
        keeper.tick(tick(2000))
        keeper.checkpoint(at(2000))  # left out: the one before still waits
        keeper.tick(tick(3000))
        assert not (tmp_path / METRICS).exists()
        disk.full = False
        keeper.flush()
        keeper.checkpoint(at(3000))
    assert lines(tmp_path) == [1000, 2000, 3000]
    assert names(tmp_path / "checkpoints") == [1000, 3000]


def test_a_disk_that_stays_full_ends_the_run_after_a_while(tmp_path, monkeypatch):
    FullDisk(monkeypatch)
    monkeypatch.setattr(module, "PATIENCE_S", 0.05)
    with pytest.raises(OSError, match="No space left"), Keeper(tmp_path, keep=1, every_kimg=0) as keeper:
        keeper.checkpoint(at(1000))
    assert names(tmp_path / "checkpoints") == []


def test_what_waiting_does_not_mend_is_said_at_once(tmp_path):
    keeper = Keeper(tmp_path, keep=1, every_kimg=0)
    (tmp_path / "checkpoints").rmdir()
    (tmp_path / "checkpoints").write_text("a file")
    keeper.checkpoint(at(1000))
    with pytest.raises((NotADirectoryError, FileExistsError)):
        keeper.flush()


def test_what_could_not_be_written_does_not_cost_the_last_checkpoint(tmp_path, monkeypatch):
    """The order of a run's end: what waits is written first."""
    disk = FullDisk(monkeypatch)
    with Keeper(tmp_path, keep=5, every_kimg=0) as keeper:
        keeper.checkpoint(at(1000))
        assert disk.refused.wait(60)
        disk.full = False
        keeper.flush()
        keeper.checkpoint(at(2000))
    assert names(tmp_path / "checkpoints") == [1000, 2000]


def test_a_refused_newer_checkpoint_does_not_push_out_the_one_just_written(tmp_path):
    state.save(at(5000), tmp_path / "checkpoints/000005000")
    (tmp_path / "checkpoints/000005000/state.json").write_text("{}")
    with Keeper(tmp_path, keep=1, every_kimg=0) as keeper:
        keeper.checkpoint(at(3000))
    assert state.latest(tmp_path / "checkpoints")[0].numbers["nimg"] == 3000


def test_a_snapshot_is_a_copy_of_both_networks_alone(tmp_path):
    live = at(1000)
    live.tensors["adam_g/0/exp_avg"] = torch.zeros(1)
    with Keeper(tmp_path, keep=1, every_kimg=0) as keeper:
        keeper.snapshot(live)
    folder = tmp_path / "snapshots/000001000"
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "generator.safetensors",
        "discriminator.safetensors",
    }
