"""Runs the training loop under Ray Train: workers, checkpoints, restarts. `python -m pipelines.train` starts it.

runs/<run key>/ is the truth of a run, written by rank 0 (components/training/keeper.py). Workers that fail give way to
others, as many as the nodes then hold; where they go on from is always the newest whole checkpoint there. Nothing is
reported to Ray: each report waits for its controller, which looks every two seconds.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray.train
import torch
from ray.train import TrainingFailedError
from ray.train.collective import broadcast_from_rank_zero
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.exceptions import WorkerGroupStartupFailedError, WorkerGroupStartupTimeoutError
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy
from tqdm import tqdm

from components.cluster import Cluster
from components.config import InputError, Params, UnavailableError
from components.data.dataset import ImageSet
from components.data.files import read_json_lines, write_bytes
from components.data.node_cache import cache_folder, local_shards
from components.sharing import Share
from components.training import state
from components.training.host import prepare
from components.training.keeper import AWAY, Keeper
from components.training.loop import GO_ON, STOP, Trainer
from components.training.records import begin, note, reached, roll_back, take_up, write_snapshot
from components.training.run_files import CHECKPOINTS, FAILURES, NOTICE, REFUSAL, RESIZE, STARTS
from components.training.stopping import Pause, stoppable

STOPPING_S = 300.0  # for all to save
LOOK_S = 5.0  # between looks for more nodes
_HANG = ("RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S", "RAY_TRAIN_COLLECTIVE_TIMEOUT_S")
_WATCH = "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"  # a process of Ray's own, which does what _look() does


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything a worker needs to know."""

    params: Params
    shards: Path  # absolute
    digest: str  # of the data in shards
    project: Mapping[str, str] | None  # what a node without shards pulls them with
    run: Path  # absolute


def fit(job: Job, cluster: Cluster) -> None:
    """Trains job.run to its target.

    Workers that fail begin again from the newest checkpoint, and so do those that save because more could be had. What
    each of them gets is asked anew each time: nodes come and go.

    Raises:
        InputError: a worker's node has no way to the data, or no choice of images keeps the losses finite; and as
            Cluster.share().
        OSError: what the workers have to write found no place.
        RuntimeError: the workers failed more than execution.max_restarts times in a row without getting further.
        SystemExit: 128 + n after signal n, when all is saved.
        UnavailableError: the cluster has not had what is asked for in time, or Ray's controller has died.
    """
    (job.run / REFUSAL).unlink(missing_ok=True)
    os.environ |= dict.fromkeys(_HANG, str(job.params.execution.hang_s)) | {_WATCH: "0"}
    patience = _Patience(job)
    with stoppable(job.run) as asked:
        while not (asked or _ended(job)):
            before, starts = images_shown(job.run), _starts(job.run)
            for order in (RESIZE, NOTICE):
                (job.run / order).unlink(missing_ok=True)
            # Ray's own memory, which is of one call only.
            (job.run / "checkpoint_manager_snapshot.json").unlink(missing_ok=True)
            try:
                share = cluster.share(told=lambda: bool(asked))
                if not asked:
                    look = partial(_look, job.run, cluster, starts)
                    _beside_the_main_thread(_trainer(job, share).fit, asked, look)
                    assert asked or (job.run / RESIZE).exists() or _ended(job), "the workers ended before the target"
            except ray.exceptions.RayActorError as error:  # what it had reserved is free when this process ends
                raise UnavailableError(f"Ray's controller of the training has died: {error}") from None
            except TrainingFailedError as error:
                began, advanced = _starts(job.run) > starts, images_shown(job.run) > before
                patience.spend_on(error, began=began, advanced=advanced)
            except UnavailableError:
                if not asked:
                    raise
    (job.run / RESIZE).unlink(missing_ok=True)
    if (job.run / REFUSAL).exists():
        refusal = (job.run / REFUSAL).read_text(encoding="utf-8")
        raise InputError(f"train: {refusal}; allowed: what trains, as with a lower train.learning_rate")
    shown = images_shown(job.run)
    if asked:
        tqdm.write(f"saved at {shown / 1000:g} kimg; the same command goes on from there")
        sys.exit(128 + asked[0])


class _Patience:
    """With workers that fail, and with nodes that have no place for them."""

    def __init__(self, job: Job) -> None:
        self._run, self._execution = job.run, job.params.execution
        self._failures, self._since = 0, time.monotonic()

    def spend_on(self, error: TrainingFailedError, *, began: bool, advanced: bool) -> None:
        """Raises when there is none left, and at once what is not to be tried again.

        Args:
            began: the workers were at work before.
            advanced: there is a newer checkpoint than before.
        """
        if isinstance(error, ray.train.WorkerGroupError):  # _Failures has noted it
            for failure in error.worker_failures.values():
                if isinstance(failure, InputError) or (isinstance(failure, OSError) and failure.errno not in AWAY):
                    raise failure from None
        else:
            _note_failure(self._run, str(error))
        if began:
            self._since = time.monotonic()
        if _found_no_place(error):
            if time.monotonic() - self._since > self._execution.wait_s:
                raise UnavailableError(f"Ray has found no place for the workers within execution.wait_s: {error}")
        else:
            self._failures = 0 if advanced else self._failures + 1
            if self._failures > self._execution.max_restarts:
                raise RuntimeError(f"training failed: {error}") from error


def _found_no_place(error: TrainingFailedError) -> bool:
    """Whether nodes went, or others took them, between the look at what is free and the start."""
    failure = error.controller_failure if isinstance(error, ray.train.ControllerError) else None
    return isinstance(failure, WorkerGroupStartupTimeoutError | WorkerGroupStartupFailedError)


def _ended(job: Job) -> bool:
    """Whether there is nothing more to train: the target is reached, or the workers refuse to go on."""
    return images_shown(job.run) >= job.params.train.total_kimg * 1000 or (job.run / REFUSAL).exists()


def _starts(run: Path) -> int:
    return len(read_json_lines(run / STARTS))


def _look(run: Path, cluster: Cluster, starts: int) -> None:
    """Has workers that are at work save when a node is about to go, and end when there is room for more of them."""
    with suppress(Exception):  # of a head or a storage that does not answer: the training goes on
        if _starts(run) == starts or (run / RESIZE).exists():
            return
        if cluster.is_losing():
            tqdm.write("a node is about to be taken away: saving")
            (run / NOTICE).touch()
        if cluster.has_more():
            tqdm.write("the cluster has room for more workers: saving, then going on with more")
            (run / RESIZE).touch()


class _Trainer(TorchTrainer):  # type: ignore[misc]
    """Without Ray's watch for what a dead controller leaves in a cluster, which takes twelve seconds to end.

    Here the controller dies with the job that owns all it has. And without a process for Ray's data sets: it has none.
    """

    def _create_default_callbacks(self) -> list[Any]:
        callbacks = super()._create_default_callbacks()
        return [one for one in callbacks if not isinstance(one, PlacementGroupCleanerCallback | DatasetsCallback)]

    def _initialize_and_run_controller(self, **parts: Any) -> Any:
        return super()._initialize_and_run_controller(**parts | {"scaling_policy": _AsManyAsAsked(self.scaling_config)})


class _AsManyAsAsked(FixedScalingPolicy):  # type: ignore[misc]
    """Without a process that asks Ray's autoscaler for nodes: Cluster.share() has seen what the workers need."""

    def after_controller_start(self, train_run_context: Any) -> None:
        pass

    def _maybe_send_resource_request(self) -> None:
        pass


def _trainer(job: Job, share: Share) -> TorchTrainer:
    gpu, execution = share.device == "cuda", job.params.execution
    return _Trainer(
        _worker,
        train_loop_config={"job": job, "threads": share.threads},
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo", timeout_s=execution.hang_s),
        scaling_config=ray.train.ScalingConfig(
            num_workers=share.workers,
            use_gpu=gpu,
            resources_per_worker={"CPU": share.cpus, **({"GPU": 1} if gpu else {})},
        ),
        run_config=ray.train.RunConfig(
            name=job.run.name,
            storage_path=str(job.run.parent),
            failure_config=ray.train.FailureConfig(controller_failure_limit=0, max_preemption_failures=0),
            callbacks=[_Failures(job.run)],
        ),
    )


class _Failures(ray.train.UserCallback):  # type: ignore[misc]
    """Notes why workers failed; in Ray's controller."""

    def __init__(self, run: Path) -> None:
        self._run = run

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        for rank, error in worker_exceptions.items():
            _note_failure(self._run, f"worker {rank}: {error}")


def _note_failure(run: Path, reason: str) -> None:
    with suppress(OSError):  # of a full disk, which ends no run
        note(run / FAILURES, nimg=reached(run), reason=" ".join(reason.split()))


def _beside_the_main_thread(call: Callable[[], object], asked: list[signal.Signals], look: Callable[[], None]) -> None:
    """In the main thread fit() would take SIGINT for itself and drop what is under way.

    Workers that are asked to stop have STOPPING_S; there may be none, while Ray looks for a place for them.

    Args:
        look: is called every LOOK_S, until they are asked to stop.
    """
    answer: Future[object] = Future()

    def work() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=work, daemon=True, name="fit").start()
    deadline, looked = math.inf, time.monotonic()
    while not wait([answer], timeout=1).done:
        if not asked and time.monotonic() - looked > LOOK_S:
            look()
            looked = time.monotonic()
        deadline = min(deadline, time.monotonic() + STOPPING_S) if asked else deadline
        if time.monotonic() > deadline:
            print(f"the workers have not saved within {STOPPING_S:g} s; the newest checkpoint stays", flush=True)
            sys.exit(128 + asked[0])
    answer.result()


def images_shown(run: Path) -> int:
    """How far a run's newest checkpoint is; 0 where there is none."""
    saved, _ = state.latest(run / CHECKPOINTS)
    return int(saved.numbers["nimg"]) if saved else 0


def export_last(run: Path, folder: Path) -> int:
    """Writes the EMA generator of a run's newest checkpoint as a generator folder. Returns its nimg."""
    saved, _ = state.latest(run / CHECKPOINTS)
    assert saved is not None, run
    write_snapshot(saved, folder)
    return int(saved.numbers["nimg"])


def _worker(settings: dict[str, Any]) -> None:
    """The train function of one Ray worker."""
    job: Job = settings["job"]
    prepare(settings["threads"])
    context, execution = ray.train.get_context(), job.params.execution
    rank, world = context.get_world_rank(), context.get_world_size()
    data = ImageSet.open(local_shards(job.shards, job.digest, job.project, cache_folder()), "train")
    own = Keeper(job.run, keep=execution.keep_checkpoints, every_kimg=execution.keep_every_kimg)
    with own if rank == 0 else nullcontext() as keeper:
        while (refusal := _try(job, data, keeper, rank, world)) == "":
            torch.cuda.empty_cache()  # which the next trainer's images may want
    if refusal and rank == 0:
        write_bytes(job.run / REFUSAL, refusal.encode())


def _try(job: Job, data: ImageSet, keeper: Keeper | None, rank: int, world: int) -> str | None:
    """From where the run stands to the target, or until all are asked to stop.

    Returns:
        Where the weights did not stay finite: why another way would not help either, or nothing, if it may.
    """
    trainer = Trainer(job.params.train, data, get_device(), rank=rank, world=world)
    refused = take_up(trainer, job.run)
    place = [trainer.nimg, trainer.place]
    if broadcast_from_rank_zero(place) != place:  # a storage that answers one worker and not the other
        raise RuntimeError(f"worker {rank} can begin at image {trainer.nimg}, another one elsewhere")
    if keeper:
        begin(trainer, job.run, refused)
    try:
        _train(trainer, job, keeper)
    except FloatingPointError as error:  # on all workers alike
        refusal = ""
        if keeper:
            keeper.flush()
            refusal = roll_back(job.run, trainer.nimg, str(error))
        return str(broadcast_from_rank_zero(refusal))
    return None


def _train(trainer: Trainer, job: Job, keeper: Keeper | None) -> None:
    """To the target, or until all are asked to stop; then everything is written."""
    execution, target = job.params.execution, job.params.train.total_kimg * 1000
    cadence, every = execution.checkpoint_kimg * 1000, job.params.evaluate.every_kimg * 1000
    checkpointed = trainer.nimg
    put_aside = trainer.nimg // (execution.tick_kimg * 1000) * (execution.tick_kimg * 1000)
    pause = Pause(job.run, trainer.rank)
    while trainer.nimg < target and trainer.paused != STOP:
        for tick in trainer.run(tick_kimg=execution.tick_kimg, pause=pause):
            if keeper:
                keeper.tick(tick)
                if every and (tick.done or trainer.nimg // every > put_aside // every):
                    put_aside = trainer.nimg
                    keeper.snapshot(trainer.state())
                if tick.done or trainer.nimg - checkpointed >= cadence:
                    checkpointed = trainer.nimg
                    if tick.done:
                        keeper.flush()
                    keeper.checkpoint(trainer.state())
        if keeper and trainer.paused != GO_ON:
            keeper.flush()
            if trainer.nimg > checkpointed:
                checkpointed = trainer.nimg
                keeper.checkpoint(trainer.state())
                keeper.flush()
    if keeper:
        keeper.flush()
