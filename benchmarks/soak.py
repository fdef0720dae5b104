"""Whether anything grows in a week: `python -m benchmarks.soak --minutes 60`.

All services and a flow of tiny networks whose ticks and checkpoints are as many in an hour as a large run's in a week.
Looks at memory and open files of each process and at the size of everything written; growth is the slope of the least
squares line over the second half, when all is warm. What grows with time is multiplied by a week's hours, what grows
with ticks by a week's ticks: which of the two it is, another run with rarer ones says (--set execution.tick_kimg=8).
Prints one JSON object last.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import linear_regression
from typing import Any

import psutil

from benchmarks.checkout import copy_of_the_checkout
from components import processes
from components.config.overlay import parse_settings
from components.data.files import read_json_lines

SETTINGS: dict[str, Any] = {
    "preprocess.resolution": 16,
    "train.batch": 8,
    "train.total_kimg": 1e6,
    "train.channel_base": 256,
    "train.channel_max": 16,
    "train.latent_dim": 16,
    "train.stylegan.start_resolution": 16,
    "execution.workers": 2,
    "execution.threads": 1,
    "execution.tick_kimg": 0.2,
    "execution.checkpoint_kimg": 2,
    "evaluate.samples": 32,
    "evaluate.every_kimg": 20,
}
EVERY_S = 20.0
WEEK_TICKS, WEEK_H = 2500, 168  # presets/week-256.yaml: 25,000 kimg, a tick every 10
NAMES = ("prefect", "mlflow", "ray", "jobs")
ROLES = {  # of a process: what its command says, the first that fits
    "training worker": r"RayTrainWorker",
    "snapshots": r"ray::_Beside",
    "Ray's controller of the training": r"TrainController",
    "stage": r"-m pipelines\.train",
    "dvc": r"-m dvc ",
    "flow": r"flow_engine|prefect\.engine|flow-run",
    "Prefect worker": r"prefect .*worker start",
    "Prefect server": r"prefect .*server",
    "MLflow server": r"mlflow",
    "Ray's GCS": r"gcs_server",
    "raylet": r"raylet/raylet",
    "Ray's dashboard and agents": r"dashboard|[Aa]gent",
    "Ray's other processes": r"ray",
    "services": r"flows\.services",
}
Sample = dict[str, float]


def role(process: psutil.Process) -> str:
    command = " ".join(process.cmdline())
    return next((name for name, pattern in ROLES.items() if re.search(pattern, command)), "others")


def of_processes(root: psutil.Process) -> Sample:
    """MiB of resident memory and open files, by role."""
    found: Sample = defaultdict(float)
    for process in [root, *root.children(recursive=True)]:
        try:
            name = role(process)
            found[f"memory: {name}"] += process.memory_info().rss / 2**20
            found[f"open files: {name}"] += process.num_fds()
        except psutil.Error:  # it has just ended
            continue
    return dict(found)


def of_files(project: Path, sockets: Path | None) -> Sample:
    """MiB of what is written, by kind."""
    services = project / ".services"
    folders = {
        "files: Prefect's database": list(services.glob("prefect/*.db*")),
        "files: MLflow's database": list(services.glob("mlflow.db*")),
        "files: MLflow's artifacts": [services / "mlartifacts"],
        "files: logs of the services": list(services.glob("*.log*")),
        "files: Ray's session": [sockets] if sockets else [],
        "files: DVC's own": [project / ".dvc/tmp"],
    }
    for path in project.glob("runs/*/*"):
        folders.setdefault(f"files: a run's {path.name}", []).append(path)
    return {name: sum(map(_mib, paths)) for name, paths in folders.items()}


def _mib(path: Path) -> float:
    paths = path.rglob("*") if path.is_dir() else [path]
    total = 0
    for one in paths:
        try:
            total += os.lstat(one).st_size
        except FileNotFoundError:  # written at the moment
            continue
    return total / 2**20


def growth(samples: list[tuple[float, int, Sample]]) -> dict[str, dict[str, float]]:
    """Of each quantity: where it ended, and what it would have grown by in a week."""
    late = samples[len(samples) // 2 :]
    hours = [at / 3600 for at, _, _ in late]
    ticks_an_hour = (late[-1][1] - late[0][1]) / (hours[-1] - hours[0])
    rows = {}
    for name in sorted(set().union(*(sample for _, _, sample in late))):
        values = [sample.get(name, 0.0) for _, _, sample in late]
        slope = linear_regression(hours, values).slope
        rows[name] = {
            "end": round(values[-1], 2),
            "an_hour": round(slope, 3),
            "a_week_by_time": round(slope * WEEK_H, 1),
            "a_week_by_ticks": round(slope / ticks_an_hour * WEEK_TICKS, 2),
        }
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-", ignore_cleanup_errors=True) as folder:
        project = Path(folder).resolve()
        copy_of_the_checkout(project, SETTINGS | parse_settings(flags.set), images=120, size=32)
        ports = [str(processes.free_port()) for _ in NAMES]
        environment = processes.environment(PYTHONPATH=str(project))
        command = [sys.executable, "-m", "flows.services", "--ports", *ports]
        services = subprocess.Popen(command, cwd=project, env=environment, stdout=subprocess.PIPE, text=True)
        try:
            _start_a_flow(services, project, environment)
            samples = _watch(psutil.Process(services.pid), project, flags.minutes * 60)
        finally:
            services.send_signal(signal.SIGINT)
            services.wait()
    at, ticks, _ = samples[-1]
    print(json.dumps({"minutes": at / 60, "ticks": ticks, "growth": growth(samples)}, indent=1))


def _start_a_flow(services: subprocess.Popen[str], project: Path, environment: dict[str, str]) -> None:
    assert services.stdout
    for line in services.stdout:
        if line.startswith("export "):
            environment |= dict(word.split("=", 1) for word in line.removeprefix("export ").split())
        if line.startswith("prefect deployment run"):
            command = [sys.executable, "-m", *line.split()]
            subprocess.run(command, cwd=project, env=environment, stdout=subprocess.DEVNULL, check=True)
            return
    raise SystemExit("the services have not started")


def _watch(root: psutil.Process, project: Path, seconds: float) -> list[tuple[float, int, Sample]]:
    """Samples of (seconds, ticks, quantities) from the first tick on."""
    samples: list[tuple[float, int, Sample]] = []
    begin = None
    while begin is None or time.monotonic() - begin < seconds:
        time.sleep(EVERY_S)
        ticks = sum(len(read_json_lines(path)) for path in project.glob("runs/*/metrics.jsonl"))
        if not ticks:
            continue
        begin = begin or time.monotonic()
        sockets = next((Path(found[1]) for found in map(_temp_dir, root.children()) if found), None)
        sample = of_processes(root) | of_files(project, sockets)
        samples.append((time.monotonic() - begin, ticks, sample))
        memory = sum(value for name, value in sample.items() if name.startswith("memory: "))
        print(f"{samples[-1][0] / 60:.1f} min, {ticks} ticks, {memory:.0f} MiB resident", flush=True)
    return samples


def _temp_dir(process: psutil.Process) -> re.Match[str] | None:
    return re.search(r"--temp-dir=(\S+)", " ".join(process.cmdline()))


if __name__ == "__main__":
    main()
