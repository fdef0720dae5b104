"""A run, from where it stands to its target, and what goes on beside it: bar, numbers of snapshots, alarms, MLflow."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from components.cluster import beside, cluster
from components.config import InputError, Params
from components.data.dataset import ImageSet
from components.data.node_cache import project_files
from components.evaluation.bench import Bench
from components.evaluation.snapshots import Watch
from components.tracking import registry, runs
from components.training.adoption import ADOPTED, describe
from components.training.alarms import Alarms
from components.training.backup import Backup, check
from components.training.backup import fetch as fetch_copy
from components.training.identity import check_target, code_digest, settings
from components.training.initial import fetch
from components.training.progress import following
from components.training.ray_trainer import Job, fit, images_shown
from components.training.records import last_device


def train(params: Params, run: Path, shards: Path, data: ImageSet, bench: Bench) -> dict[str, Any]:
    """Trains to the target under Ray; returns at once where the run is there already.

    Args:
        run: its folder, absolute; no other process trains it (only_one()).
        shards: what data was opened from.
        bench: measures the snapshots.

    Returns:
        What run.json says of the run.

    Raises:
        InputError, OSError, RuntimeError, SystemExit: as fit(); InputError as check_target(), describe(), fetch().
    """
    identity = {"data_digest": data.digest, "code_digest": code_digest(), "train": settings(params.train)}
    address = params.execution.backup
    if address and images_shown(run) < params.train.total_kimg * 1000:
        _bring_from(address, run)
    said = describe(run, identity, params.execution.adopt)
    reached, target, (_, height, width, channels) = images_shown(run), params.train.total_kimg, data.shape
    size = f"{width}x{height}{' with alpha' if channels == 4 else ''}"
    print(f"run {run.name}: {reached / 1000:g} of {target:g} kimg shown, {len(data)} images of {size}")
    check_target(reached, params.train, max(height, width))
    fetch(run, params.train, data, registry.resolve)
    backup = Backup(run, address) if address else None
    if reached >= target * 1000:
        if params.execution.ray_address and address and not _answers(address):
            return said
        with backup or nullcontext():  # of an earlier end that could not wait for it
            return said
    alarms = Alarms(run, params.train)
    adopted = {"bestiary.adopted": said[ADOPTED]["run_key"]} if ADOPTED in said else {}
    mirror = runs.mirror(run.name, settings(params.train), data.digest, run, alarms.tags, adopted)
    job = Job(params=params, run=run, shards=shards.resolve(), digest=data.digest, project=project_files())
    with (
        backup or nullcontext(),
        cluster(params.execution, params.train.batch, was_on=last_device(run)) as nodes,
        beside(nodes) as submit,
    ):
        watch = Watch(run, bench, submit)
        on_tick = [watch.look, alarms.announce, *([backup.send] if backup else []), mirror]
        with following(run, target, *on_tick, last=watch.finish):
            fit(job, nodes)
    return said


def _answers(address: str) -> bool:
    """Whether the store takes a copy from here too, and not from a job's head alone, which may have the keys."""
    try:
        check(address)
    except InputError as error:
        print(f"{error}; the copy is what the run's job has made of it", flush=True)
        return False
    return True


def _bring_from(address: str, run: Path) -> None:
    """Takes what the copy has more than the run's folder; where that has a checkpoint, it is enough to begin with."""
    try:
        check(address)
        fetch_copy(run, address)
    except InputError as error:
        if not images_shown(run):
            raise
        print(f"{error}; the run goes on from what is here", flush=True)
