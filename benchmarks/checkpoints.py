"""What saving costs a training: `python -m benchmarks.checkpoints`, or `--preset week-256 --steps 4`.

Rounds of steps by turns: plain ones, and ones that begin with a checkpoint and a snapshot, which a thread then writes
while the steps go on; with --backup s3://bucket/prefix another process sends them there meanwhile, as a stage does.
What a round with them takes longer is the price; its share is of the time between two checkpoints at the cadence of the
params, at the measured pace. Growing networks are at the end of their growth. Prints one JSON object last.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.synchronize import Event
from pathlib import Path
from statistics import median

import numpy as np
import torch

from components.config import Params, checked, read_yaml
from components.config.overlay import nested, overlay, parse_settings, read_preset
from components.data.dataset import ImageSet
from components.training.backup import Backup
from components.training.host import prepare
from components.training.keeper import Keeper
from components.training.loop import Trainer


def trained(params: Params, device: torch.device) -> Trainer:
    """A trainer of random images, past all growth and its first steps."""
    size = params.preprocess.resolution
    images = np.random.default_rng(0).integers(0, 256, (256, size, size, params.preprocess.channels), dtype=np.uint8)
    train = params.train
    grown = {name: replace(getattr(train, name), start_resolution=size) for name in ("progan", "stylegan")}
    trainer = Trainer(replace(train, **grown), ImageSet([images], "random"), device)
    trainer.step()
    return trainer


def seconds(trainer: Trainer, steps: int) -> float:
    begin = time.perf_counter()
    for _ in range(steps):
        trainer.step()
    if trainer.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


@contextmanager
def copied(run: Path, address: str) -> Iterator[None]:
    """Keeps a copy of the run on S3 while the block lasts, if there is an address, and until all is there."""
    if not address:
        yield
        return
    context = multiprocessing.get_context("spawn")
    ended = context.Event()
    process = context.Process(target=_copy, args=(run, address, ended))
    process.start()
    try:
        yield
    finally:
        ended.set()
        process.join()


def _copy(run: Path, address: str, ended: Event) -> None:
    with Backup(run, address) as backup:
        while not ended.wait(1.0):
            backup.send()


def main() -> None:
    """Reads the flags and prints the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=50, help="of a round: enough for a checkpoint to be written in")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--folder", type=Path, help="where to write; default: a temporary one")
    parser.add_argument("--backup", default="", metavar="ADDRESS", help="s3://bucket/prefix to keep a copy at")
    flags = parser.parse_args()
    content = overlay(read_yaml("params.yaml"), read_preset(flags.preset) if flags.preset else {})
    for key, value in parse_settings(flags.set).items():
        content = overlay(content, nested(key, value))
    params = checked(content, "params.yaml")
    prepare(params.execution.threads)
    trainer, plain, saving, held = trained(params, torch.device(flags.device)), [], [], []
    with (
        tempfile.TemporaryDirectory(dir=flags.folder) as folder,
        copied(Path(folder), flags.backup),
        Keeper(Path(folder), keep=2, every_kimg=0) as keeper,
    ):
        for _ in range(flags.rounds):
            plain.append(seconds(trainer, flags.steps))
            begin = time.perf_counter()
            keeper.checkpoint(trainer.state())
            keeper.snapshot(trainer.state())
            held.append(time.perf_counter() - begin)
            saving.append(held[-1] + seconds(trainer, flags.steps))
            begin = time.perf_counter()
            keeper.flush()
            if time.perf_counter() - begin > 0.1 * saving[-1]:
                parser.error(f"--steps is {flags.steps}; allowed: more, so that all is written meanwhile")
        (newest, *_) = sorted(Path(folder).glob("checkpoints/*/state.safetensors"), reverse=True)
        mebibytes = newest.stat().st_size / 2**20
    price = median(later - earlier for earlier, later in zip(plain, saving, strict=True))
    images_per_s = params.train.batch * flags.steps / median(plain)
    between = params.execution.checkpoint_kimg * 1000 / images_per_s
    report = {
        "checkpoint_mib": round(mebibytes, 1),
        "images_per_s": round(images_per_s, 2),
        "held_s": round(median(held), 4),
        "price_s": round(price, 4),
        "between_checkpoints_s": round(between, 1),
        "share": round(price / between, 5),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
