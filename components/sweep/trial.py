"""One trial: a run like any other in runs/<run key>, trained in one process and measured at rungs, reported to Tune.

What it reports it reads from the run's files. So a trial that was killed reports again what was known of it and goes on
from its last checkpoint, and the train stage with the same values goes on where the trial has stopped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ray import tune

from components.config import Params
from components.data.dataset import ImageSet
from components.data.files import replacing, write_bytes
from components.data.node_cache import cache_folder, local_shards
from components.evaluation.bench import Bench
from components.evaluation.candidates import device
from components.evaluation.snapshots import catch_up, lines
from components.sweep.space import Values
from components.training import state
from components.training.host import prepare
from components.training.loop import Trainer
from components.training.records import begin, take_up, write_snapshot, write_tick
from components.training.run_files import CHECKPOINTS, DIVERGED, SNAPSHOTS
from components.training.stopping import only_one


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Everything that its process needs to know.

    Attributes:
        values: what it tries, by dotted keys.
        params: with them, and the sweep's target.
        run: its folder, absolute.
        shards, digest, project: the data, as a Job has them.
        rung_kimg: the trial is measured every so many thousand images.
        threads: of its process.
    """

    values: Values
    params: Params
    run: Path
    shards: Path
    digest: str
    project: Mapping[str, str] | None
    bench: Bench
    rung_kimg: float
    threads: int = 0


def run_trial(config: dict[str, Any], trials: list[Trial]) -> None:
    """The train function of one Tune trial."""
    trial = trials[config["number"]]
    prepare(trial.threads)
    shards = local_shards(trial.shards, trial.digest, trial.project, cache_folder())
    data, on, diverged = ImageSet.open(shards, "train"), device(trial.bench.gpus), trial.run / DIVERGED
    with only_one(trial.run):
        trainer = Trainer(trial.params.train, data, torch.device(on))
        begin(trainer, trial.run, take_up(trainer, trial.run))
        reported = _report(trial, 0)
        if not diverged.exists():
            try:
                _train(trial, trainer, reported)
            except FloatingPointError as error:
                write_bytes(diverged, str(error).encode())
        if diverged.exists():
            tune.report({"kimg": trainer.nimg / 1000, "distance": math.nan})  # which ASHA leaves out of its ranks


def _train(trial: Trial, trainer: Trainer, reported: int) -> None:
    """To the target; at each rung a snapshot, a checkpoint and a report."""
    execution, every, measured = trial.params.execution, trial.rung_kimg * 1000, trainer.nimg
    for tick in trainer.run(tick_kimg=min(execution.tick_kimg, trial.rung_kimg)):
        write_tick(trial.run, tick)
        if tick.done or trainer.nimg // every > measured // every:
            measured = trainer.nimg
            with replacing(trial.run / SNAPSHOTS / f"{trainer.nimg:09d}") as fresh:
                write_snapshot(trainer.state(), fresh)
            state.save(trainer.state(), trial.run / CHECKPOINTS / f"{trainer.nimg:09d}")
            state.prune(trial.run / CHECKPOINTS, execution.keep_checkpoints)
            reported = _report(trial, reported)


def _report(trial: Trial, after: int) -> int:
    """Measures what is not measured yet, and reports each snapshot after `after` images; the last one's number."""
    catch_up(trial.run, trial.bench)
    for nimg, distance in sorted(distances(trial).items()):
        if nimg > after:
            tune.report({"kimg": nimg / 1000, "distance": distance})
            after = nimg
    return after


def distances(trial: Trial) -> dict[int, float]:
    """What is known of a trial: the deciding distance by images shown, up to the sweep's target."""
    bench, batch = trial.bench, trial.params.train.batch
    return {
        line["nimg"]: line["holdout"][bench.metric]
        for line in lines(trial.run)
        if line["yardstick"] == bench.yardstick and line["nimg"] < trial.params.train.total_kimg * 1000 + batch
    }
