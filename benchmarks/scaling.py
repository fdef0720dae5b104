"""What more workers bring, and what all that is around the loop costs: `python -m benchmarks.scaling`.

Weak scaling: each worker has the same batch, so n workers show n times the images of one in the same time. Overhead:
the flow (Prefect, DVC, Ray) with one worker against the same training by the bare loop. What workers lose, by parts: as
many bare loops at once, each for itself, lose what the machine has too little of (on CPUs its memory's bandwidth);
bare loops that train together lose the exchange of gradients and the waiting for each other beside it; the rest is of
what is around the loop. Fixed cost: a flow that trains two steps, and one that finds nothing to do. The rounds
alternate between all of them. Prints one JSON object last.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.distributed as dist

from benchmarks.checkout import copy_of_the_checkout, forget
from components import processes
from components.config import load_params
from components.config.overlay import parse_settings
from components.data.dataset import ImageSet
from components.data.files import read_json_lines
from components.training.host import prepare
from components.training.loop import Trainer

SETTINGS: dict[str, Any] = {  # over the demo's: its networks at the end of their growth
    "preprocess.resolution": 32,
    "train.stylegan.start_resolution": 32,
    "evaluate.samples": 64,
    "evaluate.every_kimg": 0,
}
WARM = 1  # ticks that are not counted
Points = list[tuple[int, int]]  # images shown, milliseconds


def rate(points: Points) -> float:
    """Images a second over all ticks but the first ones, with whatever came between them."""
    (first, begin), (last, end) = points[WARM], points[-1]
    return (last - first) / (end - begin) * 1000


def bare(project: Path, rank: int, world: int, meeting: str) -> None:
    """The loop alone, in this process, on the GPU of that rank; prints each tick's point.

    `world` of them train together, and find each other by the file `meeting`.
    """
    params = load_params(project / "params.yaml")
    prepare(params.execution.threads)
    gpu = torch.cuda.is_available() and params.execution.device != "cpu"
    device = torch.device("cuda", rank) if gpu else torch.device("cpu")
    if world > 1:
        dist.init_process_group("nccl" if gpu else "gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
    data = ImageSet.open(project / "data/shards", "train")
    trainer = Trainer(params.train, data, device, rank=rank % world, world=world)
    for tick in trainer.run(tick_kimg=params.execution.tick_kimg):
        print(json.dumps([tick.record["nimg"], tick.record["time"]]), flush=True)


class Bench:
    """A copy of the checkout, and what is measured in it."""

    def __init__(self, project: Path, settings: dict[str, Any], *, batch: int, kimg: float) -> None:
        self.project, self.batch, self.kimg = project, batch, kimg
        self._environment = processes.environment(PYTHONPATH=str(project))
        copy_of_the_checkout(project, SETTINGS | settings, images=500, size=32)
        self._run("dvc", "repro", "--quiet", "preprocess")

    def _command(self, module: str, *arguments: str) -> list[str]:
        return [sys.executable, "-m", module, *arguments]

    def _run(self, module: str, *arguments: str) -> float:
        """Returns the seconds that it took."""
        begin = time.monotonic()
        command = self._command(module, *arguments)
        subprocess.run(command, cwd=self.project, env=self._environment, stdout=subprocess.DEVNULL, check=True)
        return time.monotonic() - begin

    def flow(self, workers: int) -> float:
        """Images a second of a whole flow's training."""
        forget(self.project)
        self._run("flows", *_flags(self._values(workers)))
        (run,) = (self.project / "runs").iterdir()
        return rate([(line["nimg"], line["time"]) for line in read_json_lines(run / "metrics.jsonl")])

    def bare(self, count: int, *, together: bool) -> float:
        """Images a second of so many bare loops at once: of one training, or each for itself."""
        world = count if together else 1
        self._run("components.config", *_flags(self._values(world)))
        meeting = self.project / "meeting"
        meeting.unlink(missing_ok=True)
        command = self._command("benchmarks.scaling", "--bare", str(self.project))
        loops = [
            subprocess.Popen(
                [*command, str(rank), str(world), str(meeting)],
                cwd=self.project,
                env=self._environment,
                stdout=subprocess.PIPE,
                text=True,
            )
            for rank in range(count)
        ]
        said = [loop.communicate()[0] for loop in loops]
        assert not any(loop.returncode for loop in loops), said
        rates = [rate([json.loads(line) for line in text.splitlines()]) for text in said]
        return rates[0] if together else sum(rates)

    def _values(self, workers: int) -> dict[str, Any]:
        """The params of so many workers, each with the same batch, and number of images in all and between ticks."""
        return {
            "execution.workers": workers,
            "execution.tick_kimg": workers,
            "execution.checkpoint_kimg": 5 * workers,
            "train.batch": self.batch * workers,
            "train.total_kimg": self.kimg * workers,
        }

    def fixed(self) -> dict[str, float]:
        """Seconds of a flow that trains two steps, by its stages, and of one that has nothing to do."""
        forget(self.project)
        values = {"execution.workers": 1, "train.batch": self.batch, "train.total_kimg": 2 * self.batch / 1000}
        total = self._run("flows", *_flags(values))
        (run,) = (self.project / "runs").iterdir()
        (line,) = read_json_lines(run / "metrics.jsonl")
        with sqlite3.connect(self.project / ".prefect/prefect.db") as database:
            rows = database.execute("SELECT name, total_run_time FROM task_run ORDER BY start_time").fetchall()
        stages = {name: _seconds(spent) for name, spent in rows}  # of the newest flow
        nothing = self._run("flows")
        return {
            "total": total - line["seconds"],
            **{f"stage {name}": spent - (line["seconds"] if name == "train" else 0) for name, spent in stages.items()},
            "the rest": total - sum(stages.values()),
            "nothing to do": nothing,
        }


def _flags(values: dict[str, Any]) -> list[str]:
    return [f"--set={name}={value}" for name, value in values.items()]


def _share(rates: list[float], others: list[float], times: float) -> float:
    """Of so many times the others' rate, round by round; the median."""
    return median(rate / times / other for rate, other in zip(rates, others, strict=True))


def _seconds(spent: str) -> float:
    """Of an interval as SQLite has it: a time on the first day of 1970."""
    hours, minutes, seconds = spent.split(" ")[1].split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batch", type=int, default=16, help="of each worker (default: 16)")
    parser.add_argument("--kimg", type=float, default=4.0, help="that each worker shows (default: 4)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--set", action="append", default=["execution.threads=1"], metavar="KEY=VALUE")
    parser.add_argument("--bare", nargs=4, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.bare:
        project, rank, world, meeting = flags.bare
        return bare(Path(project), int(rank), int(world), meeting)
    if flags.kimg < WARM + 2:
        parser.error(f"--kimg is {flags.kimg:g}; allowed: {WARM + 2} or more, so that ticks are left after the first")
    with tempfile.TemporaryDirectory(prefix="scaling-") as folder:
        bench = Bench(Path(folder).resolve(), parse_settings(flags.set), batch=flags.batch, kimg=flags.kimg)
        measured: dict[str, dict[int, list[float]]] = defaultdict(dict)
        for number in range(flags.rounds):
            for n in flags.workers:
                flow, together = bench.flow(n), bench.bare(n, together=True)
                apart = bench.bare(n, together=False) if n > 1 else together
                for name, found in (("flow", flow), ("loops together", together), ("loops apart", apart)):
                    measured[name].setdefault(n, []).append(found)
            newest = {name: {n: round(rates[-1], 1) for n, rates in of.items()} for name, of in measured.items()}
            print(f"round {number + 1}: {json.dumps(newest)}", flush=True)
        fixed = [bench.fixed() for _ in range(flags.rounds)]
    first = flags.workers[0]
    report = {
        "images_per_s": {name: {n: median(rates) for n, rates in of.items()} for name, of in measured.items()},
        "efficiency": {name: {n: _share(of[n], of[first], n / first) for n in of} for name, of in measured.items()},
        "overhead": 1 / _share(measured["flow"][first], measured["loops together"][first], 1) - 1,
        "fixed_s": {name: median(found[name] for found in fixed) for name in fixed[0]},
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
