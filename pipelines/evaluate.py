"""Measures models/candidate against data/shards, with baselines and pictures: `python -m pipelines.evaluate`."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import torch

from components.config import InputError, load_params
from components.data.dataset import ImageSet
from components.data.files import replacing, write_json
from components.data.images import save_png
from components.evaluation.evaluate import blur_to_8, measure, split_train, table
from components.evaluation.pictures import comparison, page
from components.generation.mixing import style_mixing
from components.generation.sampler import load_generator, sample
from components.models import Generator, build_generator
from pipelines import stage

SHARDS, CANDIDATE, REPORTS = Path("data/shards"), Path("models/candidate"), Path("reports")
UNTRAINED_SEED = 0


def untrained() -> Generator:
    """The candidate's network as it is before training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(UNTRAINED_SEED)
        return build_generator(json.loads((CANDIDATE / "config.json").read_text())).eval()


def main() -> None:
    """data/shards, models/candidate and params.yaml's evaluate → reports/metrics.json and reports/pictures."""
    params = load_params().evaluate
    train, holdout = ImageSet.open(SHARDS, "train"), ImageSet.open(SHARDS, "holdout")
    generator = load_generator(CANDIDATE)
    try:
        run = json.loads((CANDIDATE / "training.json").read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{CANDIDATE}/training.json: {error}; allowed: what the train stage writes") from None
    if run["data_digest"] != train.digest:
        raise InputError(f"{CANDIDATE} was trained on other data than {SHARDS}; allowed: the same: run the train stage")
    report = measure(params, train, holdout, partial(sample, generator), partial(sample, untrained()))
    report |= {"run_key": run["run_key"], "nimg": run["nimg"]}
    reals = train[split_train(len(train), params.samples).aside[:64]]
    fakes = sample(generator, range(64), params.psi)
    few = min(12, len(reals))
    rows = {"real": reals[:few], f"generated, psi {params.psi:g}": fakes[:few], "real, blurred": blur_to_8(reals[:few])}
    with replacing(REPORTS / "pictures") as folder:
        save_png(folder / "samples.png", page(fakes, columns=8))
        save_png(folder / "reals.png", page(reals, columns=8))
        save_png(folder / "comparison.png", comparison(rows))
        save_png(folder / "mixing.png", page(style_mixing(generator, range(4), range(10, 17), params.psi), columns=8))
    write_json(REPORTS / "metrics.json", report)
    print(table(report))


if __name__ == "__main__":
    stage(main)
