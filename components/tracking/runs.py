"""One MLflow run per run key, filled from the run's own files; doing it twice changes nothing.

MLflow's environment variables say where the store is; without them it is mlflow.db and mlruns/ in this directory.
Every function raises mlflow.exceptions.MlflowException when the store does not answer.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from PIL import Image

from components.config import UnavailableError
from components.data.files import read_json_lines

EXPERIMENT = "bestiary"
RUN_KEY, DATA_DIGEST, GIT_COMMIT = "bestiary.run_key", "bestiary.data_digest", "bestiary.git_commit"
SYNCED_NIMG, SYNCED_GRID = "bestiary.synced_nimg", "bestiary.synced_grid"
SYNCED_EVALUATIONS = "bestiary.synced_evaluations"
ALARM = "bestiary.alarm."  # and the kind
RUNNING = "RUNNING"
TARGET = "total_kimg"  # may be raised in mid-run: a tag, for params are for ever
NOT_METRICS = ("nimg", "kimg", "time", "slowest_worker")
_UNNAMEABLE = re.compile(r"[^/\w.\- :]")  # what MLflow takes in no name of a metric; a label may be any folder's
ENDS = ("_low", "_high")
LINES_PER_BATCH = 40  # times the metrics of a line: below MLflow's 1,000
MAX_DATASET_DIGEST = 36  # MLflow's limit, and just the length of DVC's digest of a folder


@contextmanager
def answering() -> Iterator[None]:
    """For what cannot do without MLflow: where it does not answer, or refuses, that is one line.

    Raises:
        UnavailableError: in place of MlflowException.
    """
    try:
        yield
    except MlflowException as error:
        raise UnavailableError(f"MLflow does not take it: {str(error).splitlines()[0]}") from None


def open_run(run_key: str) -> str:
    """The id of the key's MLflow run, which is made where it is missing."""
    client = MlflowClient()
    experiment_id = open_experiment()
    found = client.search_runs([experiment_id], f"tags.`{RUN_KEY}` = '{run_key}'", max_results=1)
    if found:
        return str(found[0].info.run_id)
    tags = {RUN_KEY: run_key, GIT_COMMIT: git_commit()}
    return str(client.create_run(experiment_id, tags=tags, run_name=run_key[:12]).info.run_id)


def open_experiment() -> str:
    """The id of the project's MLflow experiment, which is made where it is missing, as is a local store."""
    client = MlflowClient()
    experiment = client.get_experiment_by_name(EXPERIMENT)
    return str(experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT))


def describe(run_key: str, train: Mapping[str, Any], data_digest: str, data: str = "data/shards") -> str:
    """Logs what the run is: its params, lineage tags and data set. Returns the MLflow run's id."""
    client, run_id = MlflowClient(), open_run(run_key)
    params = [Param(f"train.{name}", str(value)) for name, value in train.items() if name != TARGET]
    tags = [RunTag(DATA_DIGEST, data_digest), RunTag(f"bestiary.{TARGET}", f"{train[TARGET]:g}")]
    client.log_batch(run_id, params=params, tags=tags)
    digest = (_dvc_digest(data) or data_digest)[:MAX_DATASET_DIGEST]
    dataset = Dataset(data, digest, source_type="local", source=json.dumps({"uri": data}))
    client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
    return run_id


def sync_metrics(run_key: str, run_dir: Path) -> int:
    """Sends the lines of metrics.jsonl that MLflow lacks, and the sample grids of the ticks. Returns how many lines.

    Lines after the newest checkpoint wait for the next one. A line is a point of each curve at step `nimg`, at the
    line's own time. Tag and points travel together, and the store drops a point that it has, so a call that died
    half-way is finished by the next one.
    """
    client, run_id = MlflowClient(), open_run(run_key)
    run = client.get_run(run_id)
    tags = run.data.tags
    lines = [line for line in read_json_lines(run_dir / "metrics.jsonl") if line["nimg"] <= _settled(run_dir)]
    sent = int(tags.get(SYNCED_NIMG, 0))
    new = [line for line in lines if line["nimg"] > sent]
    if new and run.info.status != RUNNING:  # a finished run whose total_kimg was raised
        client.update_run(run_id, status=RUNNING)
    for start in range(0, len(new), LINES_PER_BATCH):
        batch = new[start : start + LINES_PER_BATCH]
        points = [point for line in batch for point in _points(line)]
        client.log_batch(run_id, metrics=points, tags=[RunTag(SYNCED_NIMG, str(batch[-1]["nimg"]))])
    _sync_evaluations(client, run_id, run_dir / "evaluations.jsonl", after=int(tags.get(SYNCED_EVALUATIONS, 0)))
    times = {line["nimg"]: line["time"] for line in lines}
    _sync_grids(client, run_id, run_dir / "grids", times, after=int(tags.get(SYNCED_GRID, 0)))
    return len(new)


def _settled(run_dir: Path) -> float:
    """Up to where a run's lines stay as they are: to its newest checkpoint, from which it may go another way."""
    folder = run_dir / "checkpoints"
    return max((int(path.name) for path in folder.glob("[0-9]*")), default=0) if folder.exists() else math.inf


def tag_alarms(run_key: str, alarms: Mapping[str, str]) -> None:
    """Tags the run with what is to be said of each kind of alarm; nothing to say takes a tag away."""
    client, run_id = MlflowClient(), open_run(run_key)
    tags = client.get_run(run_id).data.tags
    for kind, text in alarms.items():
        name = f"{ALARM}{kind}"
        if text and tags.get(name) != text:
            client.set_tag(run_id, name, text)
        elif name in tags and not text:
            client.delete_tag(run_id, name)


def mirror(
    run_key: str,
    train: Mapping[str, Any],
    data_digest: str,
    run_dir: Path,
    alarms: Callable[[], Mapping[str, str]],
    tags: Mapping[str, str] | None = None,
) -> Callable[[], None]:
    """A function that brings MLflow up to date with a run that trains, and with what `alarms` says of it.

    Whatever MLflow refuses is said once and sent by a later call; it never ends the training.
    """
    described = complained = False

    def update() -> None:
        nonlocal described, complained
        try:
            if not described:
                run_id = describe(run_key, train, data_digest)
                MlflowClient().log_batch(run_id, tags=[RunTag(name, value) for name, value in (tags or {}).items()])
                described = True
            sync_metrics(run_key, run_dir)
            tag_alarms(run_key, alarms())
        except Exception as error:  # an unreachable server, a full disk, a store of artifacts that says no
            if not complained:
                print(f"MLflow does not take the curves now; they are sent later: {str(error).splitlines()[0]}")
            complained = True

    return update


def log_results(run_key: str, metrics: Mapping[str, Any], nimg: int, pictures: Iterable[Path]) -> str:
    """Logs what evaluation found, with the pictures in the folders, and ends the MLflow run. Returns its id."""
    client, run_id = MlflowClient(), open_run(run_key)
    logged = client.get_run(run_id).data.metrics
    now = int(time.time() * 1000)
    points = [Metric(name, value, now, nimg) for name, value in flatten(metrics).items() if logged.get(name) != value]
    client.log_batch(run_id, metrics=points)
    for folder in pictures:
        for picture in sorted((*folder.glob("*.png"), *folder.glob("*.webp"))):
            client.log_artifact(run_id, str(picture), "pictures")
    client.set_terminated(run_id)
    return run_id


def end(run_key: str) -> None:
    """Ends the MLflow run of a run that nothing evaluates: a trial."""
    MlflowClient().set_terminated(open_run(run_key))


def flatten(groups: Mapping[str, Any]) -> dict[str, float]:
    """{"holdout": {"kid": 1.0}} is {"holdout/kid": 1.0}: dvc's holdout.kid under MLflow's way of grouping.

    Without the ends of intervals, each group of which MLflow would draw as curves of their own.
    """
    return {
        _UNNAMEABLE.sub(lambda found: f"_{ord(found[0]):x}_", f"{group}/{name}"): value
        for group, values in groups.items()
        if isinstance(values, Mapping) and not group.endswith(ENDS)
        for name, value in values.items()
        if isinstance(value, int | float)
    }


def git_commit() -> str:
    """The checkout's commit, or "none" outside one."""
    try:
        answer = subprocess.run(["git", "rev-parse", "--verify", "HEAD"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "none"
    return answer.stdout.strip()


def _points(line: Mapping[str, Any]) -> list[Metric]:
    return [
        Metric(name, value, line["time"], line["nimg"])
        for name, value in line.items()
        if name not in NOT_METRICS and value is not None
    ]


def _sync_evaluations(client: MlflowClient, run_id: str, path: Path, after: int) -> None:
    """Sends the lines after the first `after`, as the file only grows; of one yardstick, the last one's."""
    lines = read_json_lines(path)
    yardsticks = [line.pop("yardstick") for line in lines]
    for line, yardstick in list(zip(lines, yardsticks, strict=True))[after:]:
        if yardstick == yardsticks[-1]:
            points = [Metric(name, value, line["time"], line["nimg"]) for name, value in flatten(line).items()]
            client.log_batch(run_id, metrics=points)
    if lines[after:]:
        client.set_tag(run_id, SYNCED_EVALUATIONS, len(lines))


def _sync_grids(client: MlflowClient, run_id: str, folder: Path, times: Mapping[int, int], after: int) -> None:
    for nimg in sorted(times):
        path = folder / f"{nimg:09d}.png"
        if nimg > after and path.exists():
            with Image.open(path) as image:
                client.log_image(run_id, image, key="samples", step=nimg, timestamp=times[nimg])
            client.set_tag(run_id, SYNCED_GRID, nimg)


def _dvc_digest(path: str) -> str | None:
    """DVC's digest of an out, under which its cache holds it; None where no stage has made it."""
    try:
        stages = yaml.safe_load(Path("dvc.lock").read_text(encoding="utf-8"))["stages"]
    except OSError:
        return None
    outs = [out for stage in stages.values() for out in stage.get("outs", [])]
    return next((out["md5"] for out in outs if out["path"] == path), None)
