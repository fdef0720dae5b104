"""The kinds of disturbance, by name. Each strikes what it names, or fails: a kill of nothing would prove nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.chaos.clock import set_clock, settable
from benchmarks.chaos.project import Chaos, mark_of_services
from benchmarks.chaos.services import BUCKET, PATIENCE_S, until
from benchmarks.checkout import change_params
from components.config import load_params
from components.data.files import read_json_lines
from components.training.alarms import STRAGGLER, WINDOW, Alarms
from components.training.run_files import CHECKPOINTS, METRICS, TENSORS_FILE, names

BUSY_S = 1.0  # of workers' CPU time: ticks of these networks
HOUR_MS = 3_600_000
SLOWED_S, MOVING_S = 0.2, 0.04  # a worker stands still and goes on

Deed = Callable[[Chaos], None]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A disturbance.

    Attributes:
        prepare: brings the run into a state that can be struck; no part of what the disturbance costs.
        silent: training need not begin again.
    """

    strike: Deed
    prepare: Deed = lambda chaos: None
    silent: bool = False


def _in_a_save(chaos: Chaos) -> None:
    """While a checkpoint is half-written."""
    folder = chaos.run / CHECKPOINTS
    victims = chaos.alive("RayTrainWorker") + chaos.alive("-m pipelines.train")
    deadline = time.monotonic() + PATIENCE_S
    while not any(path.suffix == ".tmp" for path in folder.iterdir()):
        assert time.monotonic() < deadline, "no save was seen"
    for victim in victims:
        with suppress(psutil.Error):
            victim.kill()


def _damage(change: Callable[[Path], None]) -> Deed:
    """A kill of the training, after which its newest checkpoint is not what it was."""

    def strike(chaos: Chaos) -> None:
        chaos.kill("-m pipelines.train")
        change(chaos.checkpoints()[-1] / TENSORS_FILE)

    return strike


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _empty(path: Path) -> None:
    (path.parents[2] / "checkpoint_manager_snapshot.json").write_text("")


def _half_a_line(path: Path) -> None:
    with (path.parents[2] / METRICS).open("a") as file:
        file.write('{"nimg": 12')


def _flow(chaos: Chaos) -> None:
    assert chaos.flow is not None
    chaos.flow.kill()


def _flow_and_ray_workers(chaos: Chaos) -> None:
    for victim in chaos.alive("RayTrainWorker"):
        victim.kill()
    _flow(chaos)


def _by_a_deployment(chaos: Chaos) -> None:
    """The run goes on as one of the deployment, in the services' worker and on their Ray head."""
    starts = len(chaos.starts())
    chaos.stop()
    assert chaos.command("prefect", "deployment", "run", "train-stylegan/default").wait(PATIENCE_S) == 0
    until(lambda: len(chaos.starts()) > starts, "a training of the deployment's run")
    reached = chaos.reached()
    until(lambda: chaos.reached() > reached, "ticks of the deployment's run")


def _worker(*, with_flow: bool) -> Deed:
    """kill -9 of the Prefect worker, and at once of the flow that it runs, if asked."""

    def strike(chaos: Chaos) -> None:
        services = mark_of_services(chaos.project)
        worker = chaos.alive("worker start --pool", services)[-1]
        init, flow = chaos.alive("-m dvc repro", services)[-1].parents()[:2]
        assert worker in flow.parents(), "the flow is not the worker's"
        for victim in (worker, flow)[: 1 + with_flow]:
            victim.kill()
        until(lambda: not init.is_running(), "the end of what the worker has left")

    return strike


def _full_disk(chaos: Chaos) -> None:
    """The run's disk is full while its workers go on for a while, and empty again."""
    ballast, workers = chaos.run.parent / ".ballast", chaos.victims("RayTrainWorker")
    fill(ballast)
    spent = busy(workers)
    until(lambda: busy(workers) > spent + BUSY_S, "workers that go on")
    reached = chaos.reached()
    until(lambda: busy(workers) > spent + 2 * BUSY_S, "workers that go on")
    assert chaos.reached() == reached, "the disk was not full"
    ballast.unlink()
    chaos.need(lambda: chaos.reached() > reached, "a tick after the disk was full")


def fill(ballast: Path) -> None:
    """Leaves no page of a small file system free."""
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


def busy(processes: list[psutil.Process]) -> float:
    """The CPU time that they have used, s."""
    return sum(process.cpu_times().user for process in processes)


def _with_a_copy(chaos: Chaos) -> None:
    change_params(chaos.project, {"execution.backup": f"s3://{BUCKET}"})
    chaos.begin_again(**chaos.store.exports)


def _store(chaos: Chaos) -> None:
    """The endpoint of the run's copy dies in an upload, stays away until the run says so, and comes back."""
    complains, recovers = chaos.says("it is tried again until it works"), chaos.says("is up to date again")
    chaos.store.kill_in_an_upload()
    chaos.need(complains, "a complaint about the copy")
    chaos.store.open()
    chaos.need(recovers, "a copy that is up to date again")
    starts = len(chaos.starts())
    chaos.stop()  # at rest, both are the same
    here = {f"{chaos.run.name}/{name}": (chaos.run / name).read_bytes() for name in names(chaos.run)}
    assert chaos.checkpoints()
    assert chaos.store.content() == here, "the copy is another"
    change_params(chaos.project, {"execution.backup": ""})
    chaos.need(lambda: len(chaos.starts()) > starts, "another start")


def _with_a_clock(chaos: Chaos) -> None:
    folder = chaos.project / ".clock"
    settable(folder)
    chaos.begin_again(PYTHONPATH=f"{folder}{os.pathsep}{chaos.project}")


def _clock(chaos: Chaos) -> None:
    """The clock of the flow and of all below it jumps two days on, then back to three hours ago."""
    for hours, way in ((48, 1), (-3, -1)):
        before = _time(chaos)
        set_clock(chaos.project / ".clock", 3600 * hours)
        chaos.need(lambda: way * (_time(chaos) - before) > HOUR_MS, "a tick after the jump")  # noqa: B023


def _time(chaos: Chaos) -> int:
    """Of the last tick, by the run's own clock."""
    return int(read_json_lines(chaos.run / METRICS)[-1]["time"])


def _other_params(chaos: Chaos) -> None:
    """Another run is begun in the same checkout and killed, and the params are what they were."""
    _flow(chaos)
    change_params(chaos.project, {"train.seed": 1})
    chaos.need(lambda: any(set(chaos.run.parent.glob("*/checkpoints/[0-9]*")) - set(chaos.checkpoints())), "it")
    _flow(chaos)
    change_params(chaos.project, {"train.seed": 0})


def _second_start(chaos: Chaos) -> None:
    """Of the same flow in the same checkout, which waits for the first one."""
    waits = chaos.says("is busy: waiting for PID")
    second = chaos.command("flows")
    chaos.need(waits, "a second start that waits")
    second.terminate()
    second.wait(PATIENCE_S)


def _hang(chaos: Chaos) -> None:
    chaos.victims("RayTrainWorker")[-1].suspend()


def _slow(chaos: Chaos) -> None:
    """A worker is slower than the other until an alarm rings; the log names it, now or since the training began."""
    alarms = Alarms(chaos.run, load_params(chaos.project / "params.yaml").train)
    victim = chaos.victims("RayTrainWorker")[-1]
    until_tick = len(read_json_lines(chaos.run / METRICS)) + WINDOW
    while len(read_json_lines(chaos.run / METRICS)) < until_tick or not alarms.tags()[STRAGGLER].startswith("since"):
        victim.suspend()
        time.sleep(SLOWED_S)
        victim.resume()
        time.sleep(MOVING_S)
    chaos.need(lambda: "alarm: straggler since" in chaos.log.read_text().rpartition("workers: ")[2], "its name")


KINDS = {
    "worker": Kind(strike=lambda chaos: chaos.kill("RayTrainWorker")),
    "raylet": Kind(strike=lambda chaos: chaos.kill("raylet/raylet")),
    "head": Kind(strike=lambda chaos: chaos.kill("gcs_server")),
    "driver": Kind(strike=lambda chaos: chaos.kill("-m pipelines.train")),
    "dvc": Kind(strike=lambda chaos: chaos.kill("-m dvc repro")),
    "flow": Kind(strike=_flow),
    "flow and workers": Kind(strike=_flow_and_ray_workers),
    "Prefect worker": Kind(prepare=_by_a_deployment, strike=_worker(with_flow=False)),
    "Prefect worker and flow": Kind(prepare=_by_a_deployment, strike=_worker(with_flow=True)),
    "stop": Kind(strike=Chaos.stop),
    "hang": Kind(strike=_hang),
    "slow": Kind(strike=_slow, silent=True),
    "in a save": Kind(strike=_in_a_save),
    "truncated checkpoint": Kind(strike=_damage(_truncate)),
    "flipped bit": Kind(strike=_damage(_flip)),
    "emptied snapshot": Kind(strike=_damage(_empty)),
    "half a line": Kind(strike=_damage(_half_a_line)),
    "other params": Kind(strike=_other_params),
    "second start": Kind(strike=_second_start, silent=True),
    "full disk": Kind(strike=_full_disk, silent=True),
    "store in an upload": Kind(prepare=_with_a_copy, strike=_store, silent=True),
    "clock": Kind(prepare=_with_a_clock, strike=_clock, silent=True),
    "Prefect server": Kind(strike=lambda chaos: chaos.services.kill("prefect"), silent=True),
    "MLflow server": Kind(strike=lambda chaos: chaos.services.kill("mlflow"), silent=True),
}
