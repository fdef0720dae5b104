"""A cluster of two nodes on one machine, two raylets of an address and a CPU each: one is lost while it trains."""

import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from components import processes
from tests.conditions import until
from tests.trainings import lines, results, start

RAY_PROGRAM = str(Path(sys.executable).with_name("ray"))
HEAD, OTHER = "127.0.0.2", "127.0.0.3"  # Ray takes 127.0.0.1 for an address of the network
RAY = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "a-token-of-this-test-alone",
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
}
BATCH = 16
MISSED = "waiting for 2 CPUs: the cluster has 1 for them"


def ray_start(address, *arguments):
    return [
        RAY_PROGRAM,
        "start",
        "--block",
        "--disable-usage-stats",
        "--num-cpus=1",
        f"--node-ip-address={address}",
        *arguments,
    ]


@pytest.fixture
def head():
    """The node that the stage runs on, by its address; in a folder of its own: short, for its sockets are there."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    port, client = processes.free_port(), processes.free_port()
    command = ray_start(HEAD, "--head", f"--port={port}", f"--temp-dir={folder}", f"--ray-client-server-port={client}")
    log = folder / "log"
    with processes.service(
        [*command, "--include-dashboard=false"],
        ready=lambda: "Ray runtime started" in log.read_text(),
        timeout_s=120,
        log=log,
        env=processes.environment(**RAY),
        cwd=folder,
    ):
        yield f"{HEAD}:{port}"
    shutil.rmtree(folder)


@contextlib.contextmanager
def another_node(head):
    """Joins the cluster at some time in the block, and is lost with all its processes where the block ends."""
    command = ray_start(OTHER, f"--address={head}")
    with processes.started(command, processes.environment(**RAY), None, None) as init:
        yield
        for process in psutil.Process(init.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


class Stage:
    """The train stage on the cluster, whose output goes to a file."""

    def __init__(self, project, head):
        self.output = project.path / "output"
        with self.output.open("w") as out:
            self.process = start(project, RAY_ADDRESS=head, **RAY, stdout=out)

    def says(self, text):
        assert self.process.poll() is None, self.output.read_text()
        return text in self.output.read_text()


@pytest.fixture
def prepared(project):
    project.set({"execution.workers": 2, "train.total_kimg": 3, "evaluate.every_kimg": 0})
    project.stages("ingest", "preprocess")
    return project


def run_of(project):
    found = [path.parent for path in project.path.glob("runs/*/starts.jsonl")]
    return found[0] if found else None


def newest_checkpoint(project):
    """The images shown up to it; 0 where there is none."""
    return max((int(path.name) for path in project.path.glob("runs/*/checkpoints/[0-9]*")), default=0)


def starts(project):
    run = run_of(project)
    return lines(run / "starts.jsonl") if run else []


def test_a_run_waits_for_the_lost_node_and_ends_as_if_nothing_had_happened(prepared, head):
    """A fixed number of workers: bit by bit what two workers of one machine come to."""
    prepared.stages("train")
    run = run_of(prepared)
    expected = results(prepared, run)
    run.rename(prepared.path / "undisturbed")

    stage = Stage(prepared, head)
    try:
        until(lambda: stage.says(MISSED))
        with another_node(head):
            until(lambda: newest_checkpoint(prepared) or stage.process.poll() is not None)
        until(lambda: stage.output.read_text().count(MISSED) == 2)
        with another_node(head):
            assert stage.process.wait(400) == 0, stage.output.read_text()
    finally:
        stage.process.kill()
    assert [line["workers"] for line in starts(prepared)] == [2, 2]
    assert 0 < starts(prepared)[1]["nimg"] < 3000
    assert results(prepared, run) == expected


def test_all_save_when_a_node_is_about_to_be_taken_away(prepared, head):
    prepared.set({"train.total_kimg": 1000, "execution.checkpoint_kimg": 1000})
    stage = Stage(prepared, head)
    try:
        with another_node(head):
            until(lambda: stage.says("kimg 0.1/1000"))
            assert newest_checkpoint(prepared) == 0
            give_notice(head)
            until(lambda: newest_checkpoint(prepared) or stage.process.poll() is not None)
            shown = lines(run_of(prepared) / "metrics.jsonl")[-1]["nimg"]
            until(lambda: lines(run_of(prepared) / "metrics.jsonl")[-1]["nimg"] > shown)
        until(lambda: stage.says(MISSED))
        stage.process.terminate()
        assert stage.process.wait(400) == 128 + signal.SIGTERM, stage.output.read_text()
    finally:
        stage.process.kill()
    assert stage.output.read_text().count("a node is about to be taken away: saving") == 1
    assert len(starts(prepared)) == 1, "it went on with the same workers"


def give_notice(head):
    """What a cloud's launcher tells Ray an hour before it takes the other node away."""
    command = [
        "drain-node",
        f"--address={head}",
        f"--node-id={_id_of_the_other(head)}",
        "--reason=DRAIN_NODE_REASON_PREEMPTION",
    ]
    command += ["--reason-message=a test", "--deadline-remaining-seconds=3600"]
    done = subprocess.run([RAY_PROGRAM, *command], env=processes.environment(**RAY), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _id_of_the_other(head):
    code = f"""if True:
        import ray
        ray.init("{head}", log_to_driver=False, logging_level="ERROR")
        print(*(node["NodeID"] for node in ray.nodes() if node["NodeManagerAddress"] == "{OTHER}"))
    """
    env = processes.environment(**RAY)
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True).stdout.strip()


def test_a_range_of_workers_follows_the_nodes_and_counts_each_image_once(prepared, head):
    """One worker, two as soon as there is another node, one when it is lost, and what one machine makes of the rest.

    Up to four are asked for: with two at work, room for two more would be reason enough to begin anew.
    """
    prepared.set({"execution.workers": "1-4", "train.batch": BATCH, "train.total_kimg": 1000})
    stage = Stage(prepared, head)
    try:
        until(lambda: stage.says("kimg 0.1/1000"))
        with another_node(head):
            until(
                lambda: len(starts(prepared)) == 2 and newest_checkpoint(prepared) > starts(prepared)[1]["nimg"] + 5000
            )
        until(lambda: len(starts(prepared)) == 3)
        stage.process.terminate()
        assert stage.process.wait(400) == 128 + signal.SIGTERM, stage.output.read_text()
    finally:
        stage.process.kill()
    said = stage.output.read_text()
    assert "the cluster has room for more workers: saving, then going on with more" in said
    assert "SIGTERM: saving, then ending" in said
    assert f"saved at {newest_checkpoint(prepared) / 1000:g} kimg; the same command goes on from there" in said
    assert "Traceback" not in said
    assert [line["workers"] for line in starts(prepared)] == [1, 2, 1]
    begun = [line["nimg"] for line in starts(prepared)]
    assert 0 == begun[0] < begun[1] < begun[2]
    kimg = newest_checkpoint(prepared) // 1000 + 2
    prepared.set({"train.total_kimg": kimg})
    prepared.stages("train")
    ticks = [line["nimg"] for line in lines(run_of(prepared) / "metrics.jsonl")]
    assert ticks == [-(-at // BATCH) * BATCH for at in range(100, 1000 * kimg + 1, 100)], "whole batches past each 100"
