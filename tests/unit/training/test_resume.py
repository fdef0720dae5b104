"""Stopping after any step and going on equals not stopping, to the last bit: each arch, both dtypes, two workers."""

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from components.config import ARCHS
from components.training import state
from components.training.loop import Trainer

SCRIPT = Path(__file__).with_name("worker.py")
SPEC = importlib.util.spec_from_file_location("resume_worker", SCRIPT)
worker = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(worker)


def run_here(folder, arch, dtype, augment, stop):
    folder.mkdir(exist_ok=True)
    worker.train(Trainer(worker.config(arch, dtype, augment), worker.images(), torch.device("cpu")), folder, stop)


def run_two_workers(arch, dtype, augment, *runs):
    """Each of runs is (folder, stop)."""
    arguments = [arch, dtype, augment]
    for folder, stop in runs:
        folder.mkdir(exist_ok=True)
        arguments += [str(folder.resolve()), str(stop)]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "GLOO_SOCKET_IFNAME": "lo"}
    commands = [[sys.executable, str(SCRIPT), str(rank), "2", *arguments] for rank in (0, 1)]
    processes = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) for command in commands]
    for process in processes:
        _, error = process.communicate(timeout=300)
        assert process.returncode == 0, error.decode()


def assert_equal(folder, undisturbed):
    """Weights, optimisers and all, and what the last ticks showed."""
    here, there = (state.load(max(place.glob("0*"))) for place in (folder, undisturbed))
    assert here.numbers.pop("seconds") != there.numbers.pop("seconds")
    assert here.numbers == there.numbers
    assert here.tensors.keys() == there.tensors.keys()
    for name, tensor in there.tensors.items():
        torch.testing.assert_close(here.tensors[name], tensor, rtol=0, atol=0, msg=name)
    records, expected = (json.loads((place / "records.json").read_text()) for place in (folder, undisturbed))
    assert records
    assert records == expected[-len(records) :]
    grids, expected = (np.load(place / "grids.npy") for place in (folder, undisturbed))
    np.testing.assert_array_equal(grids, expected[-len(grids) :])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("arch", "augment"), [(arch, "ada") for arch in ARCHS] + [("stylegan2", "diffaugment")])
def test_one_worker(tmp_path, arch, dtype, augment):
    """Stopped twice: within a tick, with lazy penalties due and statistics gathered, and again later."""
    run_here(tmp_path / "undisturbed", arch, dtype, augment, stop=0)
    for stop in (24, 104, 0):
        run_here(tmp_path / "stopped", arch, dtype, augment, stop)
    assert_equal(tmp_path / "stopped", tmp_path / "undisturbed")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    run_here(folder, "stylegan2", "float32", "ada", stop=0)
    return folder


@pytest.mark.parametrize("stop", range(8, 160, 8))
def test_every_step(tmp_path, undisturbed, stop):
    for until in (stop, 0):
        run_here(tmp_path, "stylegan2", "float32", "ada", until)
    assert_equal(tmp_path, undisturbed)


@pytest.mark.parametrize("arch", ARCHS)
def test_two_workers(tmp_path, arch):
    undisturbed, stopped = tmp_path / "undisturbed", tmp_path / "stopped"
    run_two_workers(arch, "bfloat16", "ada", (undisturbed, 0), (stopped, 40), (stopped, 0))
    assert_equal(stopped, undisturbed)


@pytest.mark.parametrize("workers", [(1, 2), (2, 1), (4, 2)])
def test_another_number_of_workers_shows_every_image_once_an_epoch(workers):
    """What the trainers of all workers ask for, step by step, before and after a restart with others."""
    shown, nimg, data = [], 0, worker.images()
    for world in workers:
        config = replace(worker.config("stylegan2", "float32", "none"), batch=16)
        trainers = [Trainer(config, data, torch.device("cpu"), rank=rank, world=world) for rank in range(world)]
        for _ in range(5):
            batch = []
            for trainer in trainers:
                trainer.nimg = nimg
                trainer._images = lambda indices, batch=batch: batch.append(indices) or torch.from_numpy(data[indices])
                trainer._next_batch(trainer.phase, torch.Generator())
            assert [len(part) for part in batch] == [16 // world] * world
            shown += np.concatenate(batch).tolist()
            nimg += 16
    for epoch in range(3):
        assert sorted(shown[50 * epoch : 50 * epoch + 50]) == list(range(50))


@pytest.mark.parametrize("arch", ARCHS)
def test_one_worker_s_step_is_two_workers_step(tmp_path, arch):
    """Up to rounding, from a checkpoint that one worker left; augmentation, penalties and path lengths included."""
    for folder in ("one", "two"):
        run_here(tmp_path / folder, arch, "float32", "ada", stop=32)
    run_here(tmp_path / "one", arch, "float32", "ada", stop=40)
    run_two_workers(arch, "float32", "ada", (tmp_path / "two", 40))
    one, two = (state.load(tmp_path / folder / "000000040").tensors for folder in ("one", "two"))
    before = state.load(tmp_path / "one" / "000000032").tensors
    moments = [name for name in one if name.endswith("exp_avg_sq") and name in before]
    assert moments
    for name in moments:  # grows by a hundredth of the squared gradient: unlike weights, no ratio of tiny numbers
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-7, msg=name)
    for name in one:  # settled from latents that the workers share
        if name.startswith("average/") and "running" in name:
            torch.testing.assert_close(two[name], one[name], rtol=1e-5, atol=1e-6, msg=name)
    for name in ("generator/w_avg", "step/sums", "step/path_mean", "step/augment_p"):
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-6, msg=name)
