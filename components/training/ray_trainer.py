"""Runs the training loop under Ray Train: workers, checkpoints, restarts. `python -m pipelines.train` starts it.

runs/<run key>/ is the truth of a run: metrics.jsonl, starts.jsonl (a line each time workers begin or go on), grids/,
snapshots/ and checkpoints/, written by rank 0. Ray is told of each checkpoint, and restarts a broken worker group;
where it goes on from is always the newest whole checkpoint there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.train
from ray.train import CheckpointUploadMode
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from components.cluster import Share
from components.config import InputError, Params
from components.data.dataset import ImageSet
from components.data.files import replacing
from components.data.node_cache import cache_folder, local_shards
from components.training import state
from components.training.host import prepare
from components.training.loop import Trainer
from components.training.records import take_up, write_snapshot, write_tick


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything a worker needs to know."""

    params: Params
    shards: Path  # absolute
    digest: str  # of the data in shards
    project: Mapping[str, str] | None  # what a node without shards pulls them with
    run: Path  # absolute


def fit(job: Job, share: Share) -> None:
    """Trains job.run to its target. Returns at once if it is there already.

    Raises:
        InputError: a worker's node has no way to the data.
        RuntimeError: the workers failed more often than execution.max_restarts allows.
    """
    (job.run / "checkpoint_manager_snapshot.json").unlink(missing_ok=True)  # Ray's own memory is of one call only
    gpu = share.device == "cuda"
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"job": job, "threads": share.threads},
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=share.workers,
            use_gpu=gpu,
            resources_per_worker={"CPU": share.cpus, **({"GPU": 1} if gpu else {})},
        ),
        run_config=ray.train.RunConfig(
            name=job.run.name,
            storage_path=str(job.run.parent),
            failure_config=ray.train.FailureConfig(max_failures=job.params.execution.max_restarts),
        ),
    )
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        failures = error.worker_failures.values() if isinstance(error, ray.train.WorkerGroupError) else ()
        for failure in failures:
            if isinstance(failure, InputError):
                raise failure from None
        raise RuntimeError(f"training failed: {error}") from error


def images_shown(run: Path) -> int:
    """How far a run's newest checkpoint is; 0 where there is none."""
    saved, _ = state.latest(run / "checkpoints")
    return int(saved.numbers["nimg"]) if saved else 0


def export_last(run: Path, folder: Path) -> int:
    """Writes the EMA generator of a run's newest checkpoint as a generator folder. Returns its nimg."""
    saved, _ = state.latest(run / "checkpoints")
    assert saved is not None, run
    write_snapshot(saved, folder)
    return int(saved.numbers["nimg"])


def _worker(settings: dict[str, Any]) -> None:
    """The train function of one Ray worker."""
    job: Job = settings["job"]
    execution, every = job.params.execution, job.params.evaluate.every_kimg * 1000
    prepare(settings["threads"])
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    shards = local_shards(job.shards, job.digest, job.project, cache_folder())
    trainer = Trainer(job.params.train, ImageSet.open(shards, "train"), get_device(), rank=rank, world=world)
    take_up(trainer, job.run)
    checkpointed = put_aside = trainer.nimg
    for tick in trainer.run(tick_kimg=execution.tick_kimg):
        save = tick.done or trainer.nimg - checkpointed >= execution.checkpoint_kimg * 1000
        checkpointed = trainer.nimg if save else checkpointed
        folder = job.run / "checkpoints" / f"{trainer.nimg:09d}"
        if rank == 0:
            if every and (tick.done or trainer.nimg // every > put_aside // every):
                put_aside = trainer.nimg
                with replacing(job.run / "snapshots" / f"{trainer.nimg:09d}") as fresh:
                    write_snapshot(trainer.state(), fresh)
            write_tick(job.run, tick)
            if save:
                state.save(trainer.state(), folder)
                state.prune(folder.parent, execution.keep_checkpoints)
        checkpoint = ray.train.Checkpoint.from_directory(folder) if save and rank == 0 else None
        ray.train.report(tick.record, checkpoint, checkpoint_upload_mode=CheckpointUploadMode.NO_UPLOAD)
