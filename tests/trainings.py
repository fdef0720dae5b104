"""Train stages as real processes, and what they leave: for tests that disturb them."""

import json
import subprocess
import sys

import psutil

from components import processes

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
    return [
        {name: value for name, value in line.items() if name not in CLOCKS} for line in lines(run / "metrics.jsonl")
    ]
