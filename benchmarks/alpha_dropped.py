"""What dropping alpha costs against doing it right: `python -m benchmarks.alpha_dropped ../shared/data/tuxemon.zip`.

The same originals are prepared over white and as `Image.convert("RGB")` leaves them; the network of params.yaml learns
each, one core a training, and both are measured alike. Prints a Markdown table; --keep FOLDER holds on to all.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from components.config import Params, load_params
from components.data.archives import Files
from components.data.buckets import write_buckets
from components.data.dataset import ImageSet
from components.data.images import Uint8, encode_png, save_png
from components.data.preparation import prepare
from components.data.shards import SPLITS
from components.data.sources import read_source
from components.evaluation.bench import Bench
from components.evaluation.candidates import Generated
from components.evaluation.evaluate import Report, evaluate
from components.evaluation.pictures import page
from components.executor import executor, inline
from components.generation.sampler import sample, save_generator
from components.training.loop import Trainer
from tests.preprocessing import write_shards

HOLDOUT = 0.2  # enough images to measure on


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("--kimg", type=float, default=30, help="of each training")
    parser.add_argument("--seed", type=int, default=0, help="of both trainings")
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    arguments, params = parser.parse_args(), load_params()
    train = replace(params.train, total_kimg=arguments.kimg, seed=arguments.seed)
    with tempfile.TemporaryDirectory() as temporary:
        compare_trainings(arguments.source, arguments.keep or Path(temporary), replace(params, train=train))


def alpha_dropped(files: Files) -> Files:
    """The same pictures without alpha, in the colours that the files happen to hold under what is transparent."""
    for name, content in files:
        if isinstance(content, bytes) and name.endswith(".png"):
            rgb = Image.open(io.BytesIO(content)).convert("RGBA").convert("RGB")
            content = encode_png(np.asarray(rgb))
        yield name, content


def prepare_twice(source: Path, folder: Path, params: Params, resolution: int, holdout: float) -> None:
    """Fills right/ (over white) and dropped/ with shards of the same images in the same order and splits."""
    settings = replace(params.preprocess, resolution=resolution, background="#ffffff", holdout=holdout)
    for name, change in (("right", lambda files: files), ("dropped", alpha_dropped)):
        raw, made = folder / f"{name}-raw", folder / name
        raw.mkdir(parents=True)
        made.mkdir()
        write_buckets(change(read_source(source)), raw)
        prepare(raw, made, settings, inline)
    dropped, order = dict(read(folder / "dropped")), [name for name, _ in read(folder / "right")]
    train = len(ImageSet.open(folder / "right", "train"))
    images = np.stack([dropped[name] for name in order])
    places = list(range(len(order)))
    write_shards(folder / "dropped", images, {"train": places[:train], "holdout": places[train:]})
    for name in ("images.jsonl", "pairs.jsonl"):
        shutil.copy(folder / "right" / name, folder / "dropped")


def read(shards: Path) -> Iterator[tuple[str, Uint8]]:
    """Name and pixels of every image, train first."""
    rows = [json.loads(line) for line in (shards / "images.jsonl").read_text(encoding="utf-8").splitlines()]
    images = [image for split in SPLITS for image in all_of(shards, split)]
    return zip([row["name"] for row in rows], images, strict=True)


def all_of(shards: Path, split: str) -> Uint8:
    images = ImageSet.open(shards, split)
    return images[np.arange(len(images))]


def train_on(name: str, folder: Path, params: Params) -> None:
    """Trains the network of params on one preparation, on one thread; leaves a generator folder and a grid."""
    torch.set_num_threads(1)
    images = ImageSet.open(folder / name, "train")
    trainer = Trainer(params.train, images, torch.device("cpu"))
    for tick in trainer.run(tick_kimg=1):
        print(f"{name}: {tick.record['kimg']:.0f} kimg, {tick.record['images_per_s']:.0f} images/s", flush=True)
    target = folder / f"{name}-generator"
    target.mkdir()
    save_generator(target, trainer.average_config(), trainer.players.average.state_dict())


def compare_trainings(source: Path, folder: Path, params: Params) -> None:
    prepare_twice(source, folder, params, params.preprocess.resolution, HOLDOUT)
    with executor(preload="components.training.loop") as spread:
        list(spread(partial(train_on, folder=folder, params=params), ["right", "dropped"]))
    reports: dict[str, Report] = {}
    for data, network in (("right", "right"), ("dropped", "dropped"), ("right", "dropped")):
        bench = Bench.build(params.evaluate, folder / data, gpus=False)
        report = evaluate(replace(bench, cache=folder / "cache"), folder / f"{network}-generator", inline)
        reports[f"{network} network, {data} holdout"] = report
    for name in ("right", "dropped"):
        images = sample(Generated.at(folder / f"{name}-generator").generator(), range(64))
        save_png(folder / f"{name}-samples.png", page(images, columns=8))
        save_png(folder / f"{name}-reals.png", page(all_of(folder / name, "train")[:64], columns=8))
    kimg, resolution = params.train.total_kimg, params.preprocess.resolution
    print(f"\n{kimg:g} kimg at {resolution}², seed {params.train.seed}\n\n{reports_table(reports)}")


def reports_table(reports: dict[str, Report]) -> str:
    """Each number with its interval, and what real images score where that is known."""
    rows = []
    first = next(iter(reports.values())).groups
    for group in ("holdout", "memorisation", "collapse", "path"):
        for key in first[group]:
            cells = [f"{report.groups[group][key]:.3g}" + interval(report, group, key) for report in reports.values()]
            rows.append([f"{group}/{key}", *cells])
    return table(["", *reports], rows)


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def interval(report: Report, group: str, key: str) -> str:
    ends = [report.groups.get(f"{group}_{end}", {}).get(key) for end in ("low", "high")]
    floor = report.groups.get(f"{group}_floor", {}).get(key)
    own = "" if None in ends else f" ({ends[0]:.3g} to {ends[1]:.3g})"
    return own + ("" if floor is None else f", real {floor:.3g}")


if __name__ == "__main__":
    main()
