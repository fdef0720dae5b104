"""What a run's Ray job is, python -m pipelines.job RUN_KEY: its training, with the params of when it was submitted."""

from __future__ import annotations

import sys
from pathlib import Path

from components import jobs
from components.config import InputError
from components.data.dataset import ImageSet
from components.evaluation.bench import Bench
from components.training.identity import run_key
from components.training.session import train
from components.training.stopping import only_one
from pipelines import stage
from pipelines.train import SHARDS


def main() -> None:
    """Reads runs/<run key>/job.json and data/shards; trains in runs/<run key>."""
    run = Path("runs", sys.argv[1]).resolve()
    params = jobs.read(run)
    data = ImageSet.open(SHARDS, "train")
    if run_key(params.train, data.digest) != run.name:
        raise InputError(
            f"run {run.name} is of other data or code than lie here now; allowed: to start the stage again"
        )
    bench = Bench.build(params.evaluate, SHARDS, gpus=params.execution.device != "cpu")
    with only_one(run):
        train(params, run, SHARDS, data, bench)


if __name__ == "__main__":
    stage(main)
