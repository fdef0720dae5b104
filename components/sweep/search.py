"""Runs the trials of a sweep under Ray Tune, as many at a time as there is room for; bad ones are stopped early (ASHA).

Li et al. 2020, A System for Massively Parallel Hyperparameter Tuning. A sweep keeps no state of its own: each trial is
a run whose folder says how far it is, so the same command after a kill reports what is known, in the order of the
trials, decides on it anew, and goes on.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import ray
import yaml
from ray import tune
from ray.tune.schedulers import ASHAScheduler

from components.cluster import cluster
from components.config import Params, UnavailableError
from components.sharing import Share
from components.sweep.space import Space, as_preset
from components.sweep.trial import Trial, distances, run_trial
from components.tracking import runs
from components.training.alarms import Alarms
from components.training.identity import settings
from components.training.run_files import DIVERGED

STATE = ".tune"  # Tune's own folder beside the runs, of one call only
SWEEP = "bestiary.sweep"


@dataclass(frozen=True)
class Outcome:
    """How far a trial came.

    Attributes:
        kimg: at its last measurement; 0 for none.
        distance: there; infinite where there is none.
    """

    trial: Trial
    kimg: float
    distance: float

    def __str__(self) -> str:
        values = ", ".join(f"{key.removeprefix('train.')} {value}" for key, value in self.trial.values.items())
        distance = f"{self.distance:.4g}" if math.isfinite(self.distance) else "-"
        return f"{self.trial.run.name}  {self.kimg:>8g} kimg  {distance:>9}  {values or 'params.yaml as it is'}"


def search(trials: list[Trial], space: Space, name: str) -> list[Outcome]:
    """Tries all, and tells of each measurement; best first: who came furthest, and of those the smallest distance.

    Raises:
        UnavailableError: no trial was measured at all.
    """
    scheduler = ASHAScheduler(
        time_attr="kimg",
        metric="distance",
        mode="min",
        max_t=space.kimg,
        grace_period=space.rung_kimg,
        reduction_factor=space.reduction,
    )
    with room(trials[0].params) as share:
        state = trials[0].run.parent / STATE
        shutil.rmtree(state, ignore_errors=True)
        ready = [replace(trial, threads=share.threads) for trial in trials]
        resources = {"cpu": share.cpus, "gpu": int(share.device == "cuda")}
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(run_trial, trials=ready), resources),
            param_space={"number": tune.grid_search(list(range(len(trials))))},
            tune_config=tune.TuneConfig(scheduler=scheduler),
            run_config=tune.RunConfig(
                name=name,
                storage_path=str(state),
                verbose=0,
                callbacks=[_Account(trials, name)],
                failure_config=tune.FailureConfig(max_failures=trials[0].params.execution.max_restarts),
            ),
        )
        for result in tuner.fit():
            if result.error:
                number = result.metrics.get("config", result.config)["number"]
                print(f"trial {number} failed: {' '.join(str(result.error).split())[-300:]}")
        shutil.rmtree(state, ignore_errors=True)
    found = sorted(map(outcome, trials), key=lambda one: (-min(one.kimg, space.kimg), one.distance))
    if not found[0].kimg:
        raise UnavailableError("no trial came to its first look; what each said is above")
    return found


def outcome(trial: Trial) -> Outcome:
    """How far a trial is, from its run's files; nowhere, where its losses are no longer finite."""
    known = distances(trial)
    if not known or (trial.run / DIVERGED).exists():
        return Outcome(trial, 0.0, math.inf)
    return Outcome(trial, max(known) / 1000, known[max(known)])


def preset(best: Outcome, rivals: int) -> str:
    """The best trial's values as the text of a preset."""
    of = f"{best.trial.bench.metric} {best.distance:.4g}; run {best.trial.run.name}"
    values = yaml.safe_dump(as_preset(best.trial.values), sort_keys=False)
    return f"# The best of {rivals} trials at {best.kimg:g} kimg: {of}.\n{values}"


@contextmanager
def room(params: Params) -> Iterator[Share]:
    """Ray, and what a trial gets: a GPU with its share of the CPUs where there are any, else all CPUs of a node.

    Of CPUs no more than execution.cpus, where that is given.
    """
    os.environ |= {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "RAY_AIR_NEW_OUTPUT": "0"}
    execution = replace(params.execution, workers=1)
    with cluster(execution, params.train.batch) as nodes:
        share = nodes.share()
        if share.device == "cuda":
            there = ray.cluster_resources()
            cpus = execution.cpus or max(1, int(there["CPU"] / there["GPU"]))
            share = replace(share, cpus=cpus, threads=execution.threads or cpus)
        yield share


class _Account(tune.Callback):  # type: ignore[misc]
    """Prints each measurement, and keeps the trials' MLflow runs up to date."""

    def __init__(self, trials: list[Trial], name: str) -> None:
        self._trials = trials
        self._mirrors = [
            runs.mirror(
                trial.run.name,
                settings(trial.params.train),
                trial.digest,
                trial.run,
                Alarms(trial.run, trial.params.train).tags,
                {SWEEP: name},
            )
            for trial in trials
        ]

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        number = trial.config["number"]
        print(f"trial {number}: {Outcome(self._trials[number], result['kimg'], result['distance'])}", flush=True)
        self._mirrors[number]()

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        number = trial.config["number"]
        self._mirrors[number]()
        try:
            runs.end(self._trials[number].run.name)
        except Exception as error:  # as the mirror: a sweep does not depend on MLflow
            print(f"MLflow does not take the end of trial {number}: {str(error).splitlines()[0]}")
