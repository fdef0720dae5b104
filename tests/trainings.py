"""Train stages as real processes, and what they leave: for tests that disturb them."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import torch
from mlflow import MlflowClient

from components import processes
from components.config import load_params
from components.data.dataset import ImageSet
from components.training.loop import Trainer
from components.training.records import write_snapshot

CLOCKS = ("images_per_s", "memory_gib", "seconds", "time", "slowest_worker", "slowdown")


def start(project, *argv, stdout=subprocess.PIPE, **environment):
    """A stage of the project, begun: pipelines.train, or another command."""
    return subprocess.Popen(
        argv or [sys.executable, "-m", "pipelines.train"],
        cwd=project.path,
        env=processes.environment(PYTHONPATH=str(project.path), **environment),
        stdout=stdout,
        stderr=subprocess.STDOUT,
        text=True,
    )


def train_workers(process):
    """The Ray processes under a stage that run the training function."""
    return ray_processes(process, "RayTrainWorker")


def ray_processes(process, name):
    """The Ray processes under a stage by a part of their name."""
    return [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE and name in " ".join(child.cmdline())
    ]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def curve(run):
    """The lines of metrics.jsonl without what differs from time to time."""
    return _without_clocks(lines(run / "metrics.jsonl"))


def results(project, run):
    """What a run has come to: its curve, and its generator's bytes."""
    return curve(run), (project.path / "models/candidate/generator.safetensors").read_bytes()


def points(run, uri):
    """Of a run's curve in the MLflow at uri, as (step, time), in the order of steps."""
    client = MlflowClient(uri)
    tag = f"tags.`bestiary.run_key` = '{run.name}'"
    (found,) = client.search_runs([client.get_experiment_by_name("bestiary").experiment_id], tag)
    return sorted((point.step, point.timestamp) for point in client.get_metric_history(found.info.run_id, "loss_d"))


def undisturbed(project, passed_over=()):
    """What results() must be after a run of one worker with one thread: the training loop's own, in this process."""
    params = load_params(project.path / "params.yaml")
    trainer = Trainer(params.train, ImageSet.open(project.path / "data/shards", "train"), torch.device("cpu"))
    trainer.passed_over = list(passed_over)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        records = [tick.record for tick in trainer.run(tick_kimg=params.execution.tick_kimg)]
    finally:
        torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        write_snapshot(trainer.state(), Path(folder))
        return _without_clocks(records), (Path(folder) / "generator.safetensors").read_bytes()


def _without_clocks(records):
    return [{name: value for name, value in record.items() if name not in CLOCKS} for record in records]
