"""A run whose disk is full for a while, or for good: a real file system, in a mount namespace of the test's own."""

import shutil
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conditions import until
from tests.conftest import make_project
from tests.trainings import curve, lines, results, start, train_workers, undisturbed

MOUNT = 'mount -t tmpfs -o size=16m small "$0" && echo mounted && exec sleep infinity'
ROOM = 128 * 1024  # for some ticks, not for a checkpoint
GO_ON_S = 1.0  # of a worker's CPU time


@dataclass(frozen=True)
class Disk:
    """A file system of 16 MB at a folder, for processes that are started inside."""

    folder: Path
    pid: int  # of the process that keeps the namespace

    def at(self, path):
        """A path below the folder, as this process finds it."""
        return Path(f"/proc/{self.pid}/root{path}")

    def inside(self, *argv, cwd):
        enter = ("nsenter", f"--target={self.pid}", "--user", "--mount", "--preserve-credentials")
        return (*enter, "sh", "-c", 'cd "$0" && exec "$@"', str(cwd), *argv)

    def fill(self, spared=0):
        """Leaves so many bytes free."""
        with self.at(self.folder / ".ballast").open("wb", buffering=0) as file:
            with suppress(OSError):
                while True:
                    file.write(bytes(4096))
            file.truncate(file.tell() - spared)

    def empty(self):
        self.at(self.folder / ".ballast").unlink()


@contextmanager
def small_disk(folder):
    folder.mkdir()
    command = ["unshare", "--mount", "--map-root-user", "sh", "-c", MOUNT, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as keeper:
        try:
            if keeper.stdout.readline() != "mounted\n":
                pytest.skip("a small file system cannot be mounted here")
            yield Disk(folder, keeper.pid)
        finally:
            keeper.kill()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The tiny project, whose runs/ is on a small disk, and what comes of it on a large one."""
    project = make_project(tmp_path_factory.mktemp("disk") / "project")
    project.set({"train.total_kimg": 3, "evaluate.every_kimg": 0})
    project.stages("ingest", "preprocess")
    expected = undisturbed(project)
    with small_disk(project.path / "runs") as disk:
        yield project, disk, expected


def begin(project, disk):
    """A train stage on the disk, and its run's folder, when it has a checkpoint."""
    stage = start(project, *disk.inside(sys.executable, "-m", "pipelines.train", cwd=project.path))
    try:
        until(lambda: list(disk.at(disk.folder).glob("*/checkpoints/[0-9]*")) or stage.poll() is not None)
        (run,) = disk.at(disk.folder).glob("[!.]*")
    except BaseException:
        stage.kill()
        raise
    return stage, run


def half_written(run):
    return [path for path in run.rglob("*") if path.suffix in (".tmp", ".partial", ".old") or ".tmp" in path.name]


def test_a_disk_that_is_full_for_a_while_costs_nothing(trained):
    """A tick finds room, a checkpoint does not, and what comes after waits for it; the worker does not."""
    project, disk, expected = trained
    stage, run = begin(project, disk)
    try:
        (worker,) = train_workers(stage)
        disk.fill(ROOM)
        until(lambda: list((run / "checkpoints").glob(".*.tmp")) or stage.poll() is not None)
        written, spent = len(curve(run)), worker.cpu_times().user
        until(lambda: worker.cpu_times().user > spent + GO_ON_S)
        assert len(curve(run)) == written < 30
        disk.empty()
        output, _ = stage.communicate()
    finally:
        stage.kill()
    assert stage.returncode == 0, output
    assert results(project, run) == expected
    assert len(lines(run / "starts.jsonl")) == 1
    assert not (run / "failures.jsonl").exists()
    assert not half_written(run)
    shutil.rmtree(run)


def test_a_disk_that_stays_full_is_one_line_and_what_is_there_stays_good(trained):
    """With a second for the ten minutes of patience."""
    project, disk, expected = trained
    project.set({"execution.max_restarts": 0})
    code = project.path / "components/training/keeper.py"
    code.write_text(code.read_text().replace("\nPATIENCE_S = 600.0", "\nPATIENCE_S = 1.0"))
    stage, run = begin(project, disk)
    try:
        disk.fill()
        output, _ = stage.communicate()
    finally:
        stage.kill()
    refused(stage.returncode, output)
    again = project.run(*disk.inside(sys.executable, "-m", "pipelines.train", cwd=project.path))
    refused(again.returncode, again.stdout)
    disk.empty()
    done = project.run(*disk.inside(sys.executable, "-m", "pipelines.train", cwd=project.path))
    assert done.returncode == 0, done.stdout
    assert lines(run / "starts.jsonl")[-1]["nimg"] > 0
    assert results(project, run) == expected
    assert not half_written(run)


def refused(code, output):
    assert code == 2, output
    (said,) = (line for line in output.splitlines() if line.startswith("error: "))
    assert "No space left on device" in said
    assert "Traceback" not in output
