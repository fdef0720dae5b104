"""Real runs that are killed, stopped, hung, started twice or poisoned end where an undisturbed one does."""

import shutil
import signal
import sys

import psutil
import pytest

from components.training.run_files import TENSORS_FILE
from tests.conditions import until
from tests.conftest import make_project
from tests.trainings import lines, ray_processes, results, start, train_workers, undisturbed

SHOWN = 1600  # images, enough for each disturbance to take effect before the end
POISON = """

_clean = Trainer._next_batch


def _poisoned(self, phase, random):
    images, labels = _clean(self, phase, random)
    return images * float("nan") if self.place == 560 else images, labels


Trainer._next_batch = _poisoned
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The tiny project after an undisturbed run of two workers, without snapshots."""
    project = make_project(tmp_path_factory.mktemp("interruptions") / "project")
    project.set({"execution.workers": 2, "train.total_kimg": SHOWN / 1000, "evaluate.every_kimg": 0})
    project.stages("ingest", "preprocess", "train")
    (run,) = (project.path / "runs").iterdir()
    expected = results(project, run)
    shutil.rmtree(run)
    return project, run, expected


@pytest.fixture
def begun(trained):
    """(project, run, what the undisturbed run came to, a stage that has just made its first checkpoint)."""
    project, run, expected = trained
    shutil.rmtree(run, ignore_errors=True)
    stage = start(project)
    try:
        until(lambda: list(run.glob("checkpoints/[0-9]*")) or stage.poll() is not None)
        yield project, run, expected, stage
    finally:
        stage.kill()
        stage.wait()
        stage.stdout.close()


def test_a_run_that_is_told_to_stop_saves_says_so_and_goes_on_later(begun):
    project, run, expected, stage = begun
    stage.send_signal(signal.SIGINT)
    output, _ = stage.communicate()
    assert stage.returncode == 128 + signal.SIGINT, output
    saved = max(int(folder.name) for folder in run.glob("checkpoints/[0-9]*"))
    assert "SIGINT: saving, then ending" in output
    assert f"saved at {saved / 1000:g} kimg; the same command goes on from there" in output
    assert "Traceback" not in output
    assert saved < SHOWN
    assert [line["reason"] for line in lines(run / "failures.jsonl")] == ["asked to stop: SIGINT"]
    project.stages("train")
    assert [line["nimg"] for line in lines(run / "starts.jsonl")] == [0, saved]
    assert results(project, run) == expected


def test_a_dead_controller_bad_files_and_another_run_cost_no_more_than_a_checkpoint(begun):
    """Ray's own process that watches over the workers is killed, and a run of other params, begun meanwhile, too.

    And a bit of the newest checkpoint is not what it was, and Ray's snapshot is empty.
    """
    project, run, expected, stage = begun
    until(lambda: len(list(run.glob("checkpoints/[0-9]*"))) > 1 or stage.poll() is not None)
    ray_processes(stage, "TrainController")[-1].kill()
    output, _ = stage.communicate()
    assert stage.returncode == 1, output
    assert "error: Ray's controller of the training has died" in output
    *_, older, newest = sorted(run.glob("checkpoints/[0-9]*"))
    content = bytearray((newest / TENSORS_FILE).read_bytes())
    content[len(content) // 2] ^= 1
    (newest / TENSORS_FILE).write_bytes(content)
    (run / "checkpoint_manager_snapshot.json").write_text("")

    project.set({"train.seed": 1})
    other = start(project)
    own = set(run.glob("checkpoints/*"))
    try:
        until(lambda: set(run.parent.glob("*/checkpoints/[0-9]*")) - own or other.poll() is not None)
        assert other.poll() is None, "it has ended"
    finally:
        other.kill()
        other.communicate()
        project.set({"train.seed": 0})

    project.stages("train")
    starts = lines(run / "starts.jsonl")
    assert [line["nimg"] for line in starts] == [0, int(older.name)]
    assert [len(line["refused"]) for line in starts] == [0, 1]
    assert results(project, run) == expected


def test_a_killed_worker_costs_no_more_than_its_last_ticks_and_a_second_start_waits_meanwhile(begun):
    project, run, expected, stage = begun
    worker = train_workers(stage)[-1]
    worker.suspend()  # else the first may end before the second has begun
    second = start(project)
    said = f"run {run.name} is being trained by another process: waiting for its end"
    until(lambda: said in second.stdout.readline())
    worker.kill()
    for process in (stage, second):
        output, _ = process.communicate()
        assert process.returncode == 0, output
    starts = lines(run / "starts.jsonl")
    assert [line["workers"] for line in starts] == [2, 2]
    assert starts[0]["nimg"] == 0
    assert 0 < starts[1]["nimg"] < SHOWN
    assert results(project, run) == expected


def test_a_stage_whose_dvc_is_killed_saves_and_ends(trained):
    """Without a supervisor: on the command line. Under nohup too, which has SIGHUP ignored, and a shell that forks."""
    project, run, expected = trained
    shutil.rmtree(run, ignore_errors=True)
    dvc = ("nohup", sys.executable, "-m", "dvc", "repro")
    assert project.run(*dvc[1:], "preprocess").returncode == 0
    command = start(project, *dvc, "--single-item", "train", SHELL="/bin/sh")
    try:
        until(lambda: list(run.glob("checkpoints/[0-9]*")))
        below = psutil.Process(command.pid).children(recursive=True)
    finally:
        command.stdout.close()  # first: what the stage has to say finds no reader
        command.kill()
        command.wait()
    (stage,) = (process for process in below if process.cmdline()[1:] == ["-m", "pipelines.train"])
    _, alive = psutil.wait_procs([stage], timeout=300)
    assert not alive
    assert [line["reason"] for line in lines(run / "failures.jsonl")] == ["asked to stop: SIGUSR1"]
    assert project.run(*dvc[1:], "--single-item", "train").returncode == 0
    assert len(lines(run / "starts.jsonl")) == 2
    assert results(project, run) == expected


def test_a_worker_that_hangs_costs_a_restart(trained):
    project, run, expected = trained
    shutil.rmtree(run, ignore_errors=True)
    project.set({"execution.hang_s": 20})
    stage = start(project)
    try:
        until(lambda: list(run.glob("checkpoints/[0-9]*")))
        train_workers(stage)[-1].send_signal(signal.SIGSTOP)
        output, _ = stage.communicate()
    finally:
        stage.kill()
        project.set({"execution.hang_s": 1800})
    assert stage.returncode == 0, output
    assert len(lines(run / "starts.jsonl")) >= 2  # a busy machine may look hung once more
    assert lines(run / "failures.jsonl")
    assert results(project, run) == expected


def test_a_loss_that_is_not_finite_is_passed_over(trained, tmp_path):
    """The run ends as one does that never saw the images from the checkpoint to the tick that found it."""
    project, _, _ = trained
    poisoned = make_project(tmp_path / "poisoned")
    poisoned.set({"train.total_kimg": 1, "evaluate.every_kimg": 0})
    shutil.copytree(project.path / "data", poisoned.path / "data")
    with (poisoned.path / "components/training/loop.py").open("a") as file:
        file.write(POISON)
    poisoned.stages("train")
    (run,) = (poisoned.path / "runs").iterdir()
    (line,) = lines(run / "rollbacks.jsonl")
    assert line["nimg"] < 560 < line["until"]
    assert "not finite at 0.6 kimg" in line["reason"]
    assert results(poisoned, run) == undisturbed(poisoned, [(line["nimg"], line["until"] - line["nimg"])])


def test_a_run_that_cannot_be_finite_says_so_after_three_ways(trained):
    project, _, _ = trained
    project.set({"train.learning_rate": 1e30})
    done = project.run(sys.executable, "-m", "pipelines.train")
    assert done.returncode == 2, done.stdout
    (refusal,) = (line for line in done.stdout.splitlines() if line.startswith("error: "))
    assert "the 3. time in a row from 0 kimg on" in refusal
    assert refusal.endswith("allowed: what trains, as with a lower train.learning_rate")
    assert "Traceback" not in done.stdout
