"""One run disturbed K times must end where an undisturbed one does: `python -m benchmarks.chaos --kills 50 --seed 0`.

Copies the checkout into a folder of its own, starts the project's services there, and runs the flow on tiny networks
twice: once undisturbed, once with kills at moments uniform over the images shown, of kinds in turn. Whatever ends is
started again with the same command, nothing is cleaned by hand. Prints one JSON object last.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from mlflow import MlflowClient

from benchmarks import checkout
from benchmarks.chaos.kinds import KINDS
from benchmarks.chaos.project import MARK, TINY, Chaos, mark, mark_of_services
from benchmarks.chaos.services import PATIENCE_S, in_a_mount_namespace, services, small_disk, store
from benchmarks.checkout import copy_of_the_checkout
from components import processes
from components.data.files import read_json_lines

CLOCKS = ("images_per_s", "memory_gib", "seconds", "time", "slowest_worker", "slowdown")
DISK_MB = 64  # for runs/
SPARE_KIMG = 4  # shown after the last moment at the least: a stop takes a second or two, in which training goes on


@contextmanager
def standing(project: Path) -> Iterator[Chaos]:
    """The project with its services and an S3 store, which end with the block."""
    common = processes.environment(PYTHONPATH=str(project))
    with services(project, {**common, MARK: mark_of_services(project)}) as beside, store(project) as objects:
        chaos = Chaos(project, {**common, MARK: mark(project), **beside.exports}, beside, objects)
        try:
            yield chaos
        except BaseException:  # a run that has not ended well leaves what was trained by
            for process in chaos.alive():
                with suppress(psutil.Error):
                    process.kill()
            raise


def disturb(chaos: Chaos, kind: str, moment: float) -> None:
    """One disturbance; the account of what it cost is settled when training has begun again."""
    chaos.need(lambda: chaos.reached() >= moment and bool(chaos.checkpoints()), kind)
    KINDS[kind].prepare(chaos)
    chaos.extra = {}
    before, starts = chaos.reached(), len(chaos.starts())
    KINDS[kind].strike(chaos)
    if not KINDS[kind].silent:
        chaos.need(lambda: len(chaos.starts()) > starts, f"what comes of it: {kind}")
        chaos.repeated.append(max(0, before - chaos.starts()[-1]["nimg"]))


def finish(chaos: Chaos) -> float:
    """To the flow's good end; returns the time it took."""
    began = time.monotonic()
    while chaos.wait_until(lambda: False):
        pass
    return time.monotonic() - began


def outcome(chaos: Chaos) -> dict[str, Any]:
    """What a finished run came to, without clocks; and whether one of MLflow's curves has just its points."""
    lines = read_json_lines(chaos.run / "metrics.jsonl")
    client = MlflowClient(chaos.services.exports["MLFLOW_TRACKING_URI"])
    tag = f"tags.`bestiary.run_key` = '{chaos.run.name}'"
    (run,) = client.search_runs([client.get_experiment_by_name("bestiary").experiment_id], tag)
    points = sorted(point.step for point in client.get_metric_history(run.info.run_id, "loss_d"))
    return {
        "weights": (chaos.project / "models/candidate/generator.safetensors").read_bytes(),
        "curve": [{name: value for name, value in line.items() if name not in CLOCKS} for line in lines],
        "mlflow": points == [line["nimg"] for line in lines],
    }


def forget(chaos: Chaos) -> None:
    """Everything that the undisturbed run has left, but for the data."""
    checkout.forget(chaos.project)
    client = MlflowClient(chaos.services.exports["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("bestiary").experiment_id
    for run in client.search_runs([experiment]):
        client.delete_run(run.info.run_id)
    chaos.flow = None


def compare(chaos: Chaos, kinds: list[str], moments: list[float]) -> dict[str, Any]:
    """Both runs, and the report without what can be seen only when the services have ended."""
    assert chaos.command("dvc", "repro", "--quiet", "preprocess").wait(PATIENCE_S) == 0, chaos.log
    calm = finish(chaos)
    (chaos.run,) = (chaos.project / "runs").glob("[!.]*")
    expected = outcome(chaos)
    print(f"undisturbed: {calm:.0f} s", flush=True)
    forget(chaos)
    began = time.monotonic()
    for kind, moment in zip(kinds, moments, strict=True):
        disturb(chaos, kind, moment)
        print(f"{time.monotonic() - began:.0f} s, from {moment:.0f} images on: {kind}", flush=True)
    finish(chaos)
    disturbed = time.monotonic() - began
    found = outcome(chaos)
    consistent = chaos.says("up to date")
    chaos.command("dvc", "status").wait(PATIENCE_S)
    return {
        "kills": dict(Counter(kinds)),
        "images_repeated_median": median(chaos.repeated) if chaos.repeated else 0,
        "images_repeated_max": max(chaos.repeated, default=0),
        "overhead_wall": disturbed / calm - 1,
        "seconds_undisturbed": calm,
        "starts": len(chaos.starts()),
        "identical": found == expected and expected["mlflow"],
        "dvc_consistent": consistent(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=len(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--kimg", type=float, default=40.0, help="of the run (default: 40)")
    flags = parser.parse_args()
    if "full disk" in flags.kinds:
        in_a_mount_namespace()
    draw = random.Random(flags.seed)
    kinds = [*draw.sample(flags.kinds, len(flags.kinds)), *draw.choices(flags.kinds, k=flags.kills)][: flags.kills]
    moments = sorted(draw.uniform(0, max(0.0, flags.kimg - SPARE_KIMG) * 1000) for _ in kinds)
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        project = Path(folder).resolve()
        copy_of_the_checkout(project, {**TINY, "train.total_kimg": flags.kimg}, images=120, size=32)
        with small_disk(project / "runs", DISK_MB) if "full disk" in flags.kinds else nullcontext():
            with standing(project) as chaos:
                report = compare(chaos, kinds, moments)
            orphans = chaos.alive("", mark(project), mark_of_services(project))
    print(json.dumps({**report, "orphans": len(orphans)}))


if __name__ == "__main__":
    main()
