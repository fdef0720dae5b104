"""Tries values of params.yaml side by side: `python -m pipelines.sweep [sweeps/default.yaml]`; make sweep calls it."""

from __future__ import annotations

import argparse
from pathlib import Path

from components.config import InputError, load_params
from components.data.dataset import ImageSet
from components.data.files import write_bytes
from components.data.node_cache import project_files
from components.evaluation.bench import Bench
from components.sweep.search import preset, search
from components.sweep.space import draw, read_space
from components.sweep.trial import Trial
from components.tracking import registry
from components.training.identity import check_labels, run_key
from components.training.initial import fetch
from pipelines import stage

SHARDS, BEST = Path("data/shards"), Path("reports/sweep.yaml")


def main() -> None:
    """Reads data/shards and params.yaml; trains in runs/<run key> of each trial; writes reports/sweep.yaml."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.sweep", description=__doc__)
    parser.add_argument("space", nargs="?", type=Path, default=Path("sweeps/default.yaml"))
    path = parser.parse_args().space
    space, params = read_space(path), load_params()
    data = ImageSet.open(SHARDS, "train")
    bench = Bench.build(params.evaluate, SHARDS, gpus=params.execution.device != "cpu")
    trials = []
    for values, tried in draw(space, params):
        if tried.preprocess != params.preprocess or tried.evaluate != params.evaluate:
            raise InputError(f"{path}: vary is {', '.join(space.vary)}; allowed: keys of train")
        check_labels(tried.train, data)
        run = Path("runs", run_key(tried.train, data.digest)).resolve()
        fetch(run, tried.train, data, registry.resolve)
        trials.append(
            Trial(
                values=values,
                params=tried,
                run=run,
                shards=SHARDS.resolve(),
                digest=data.digest,
                project=project_files(),
                bench=bench,
                rung_kimg=space.rung_kimg,
            )
        )
    print(f"{len(trials)} trials of up to {space.kimg:g} kimg, {bench.metric} at {space.rung_kimg:g} kimg and beyond")
    found = search(trials, space, path.stem)
    best = preset(found[0], len(found))
    write_bytes(BEST, best.encode())
    print("", *found, "", f"{BEST}, for --preset {BEST}:", best, sep="\n")


if __name__ == "__main__":
    stage(main)
