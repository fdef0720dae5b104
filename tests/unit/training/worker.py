"""One of the processes of tests/unit/training/test_resume.py: trains a little, from where a folder's checkpoint stands.

`python worker.py RANK WORLD ARCH DTYPE AUGMENT FOLDER STOP [FOLDER STOP …]`: each time with a new trainer, steps until
STOP images were shown and saves; STOP 0: to the target, with a line of metrics a tick and the grids.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from components.config import load_params
from components.config.training import UNSIGNED, WITH_LABELS
from components.data.dataset import ImageSet
from components.training import state
from components.training.loop import Trainer

TICK_KIMG = 0.064
PARAMS = load_params("params.yaml").train


def config(arch, dtype, augment):
    """Twenty steps of tiny networks: past the lazy penalties, ADA's decisions and, where it grows, two fades.

    Some images are mirrored, and where an arch knows labels it is told them.
    """
    return replace(
        PARAMS,
        **{"arch": arch, "dtype": dtype, "batch": 8, "total_kimg": 0.16},
        **{"channel_base": 128, "channel_max": 16, "latent_dim": 8, "ema_kimg": 0.02, "mirror": True},
        labels=arch in WITH_LABELS,
        augment=replace(PARAMS.augment, kind=augment, target=0.0 if arch in UNSIGNED else 0.6, p=0.5, ada_kimg=1),
        progan=replace(PARAMS.progan, start_resolution=4, stable_kimg=0.04, fade_kimg=0.016),
        stylegan=replace(PARAMS.stylegan, start_resolution=8, stable_kimg=0.04, fade_kimg=0.04),
        r3gan=replace(PARAMS.r3gan, decay_kimg=0.1, penalty_every=3),
    )


def images():
    """Discs of random place and colour on white, 16²."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:16, :16]
    pixels = np.full((50, 16, 16, 3), 255, np.uint8)
    for image in pixels:
        inside = (x - random.integers(5, 11)) ** 2 + (y - random.integers(5, 11)) ** 2 < 16
        image[inside] = random.integers(0, 200, 3)
    data = ImageSet([pixels], "digest")
    data.labels, data.label_names = (np.arange(50) % 3).astype(np.uint16), ("a", "b", "c")
    return data


def train(trainer, folder, stop):
    """Goes on from the folder's newest checkpoint; leaves another one, and what a person sees."""
    saved, _ = state.latest(folder)
    if saved:
        trainer.restore(saved)
    records, grids = [], []
    if stop:
        while trainer.nimg < stop:
            trainer.step()
            if trainer.nimg % (TICK_KIMG * 1000) == 0:  # as a tick does
                trainer.players.read_statistics()
        trainer.settle()
    else:
        for tick in trainer.run(tick_kimg=TICK_KIMG):
            records.append({k: v for k, v in tick.record.items() if k not in CLOCKS})
            grids.append(tick.grid)
    if trainer.rank == 0:
        state.save(trainer.state(), folder / f"{trainer.nimg:09d}")
        (folder / "records.json").write_text(json.dumps(records))
        np.save(folder / "grids.npy", np.array(grids))


CLOCKS = ("images_per_s", "seconds", "time", "memory_gib", "slowest_worker", "slowdown")

if __name__ == "__main__":
    rank, world, runs = int(sys.argv[1]), int(sys.argv[2]), sys.argv[6:]
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{runs[0]}/rendezvous", rank=rank, world_size=world)
    for folder, stop in zip(runs[::2], runs[1::2], strict=True):
        trainer = Trainer(config(*sys.argv[3:6]), images(), torch.device("cpu"), rank=rank, world=world)
        train(trainer, Path(folder), int(stop))
        dist.barrier()  # the next one may want what rank 0 has saved
    dist.destroy_process_group()
