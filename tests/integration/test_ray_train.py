"""Real Ray workers: a step does not depend on how many there are, and what cannot be trained is refused."""

import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from components import processes
from tests.conditions import until
from tests.trainings import start

SCRIPT = """
import sys, numpy as np, torch, torch.distributed as dist
from components.config import load_params
from components.data.dataset import ImageSet
from components.training import state
from components.training.loop import Trainer
from pathlib import Path

rank, world, out = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
torch.set_num_threads(1)
if world > 1:
    dist.init_process_group("gloo", init_method=f"file://{out}/store", rank=rank, world_size=world)
data = ImageSet.open(Path("data/shards"), "train")
trainer = Trainer(load_params().train, data, torch.device("cpu"), rank=rank, world=world)
while trainer.nimg < 16:
    trainer.step()
if rank == 0:
    state.save(trainer.state(), out / f"world{world}")
if world > 1:
    dist.destroy_process_group()
"""


@pytest.fixture
def prepared(project):
    """The tiny project with its shards made."""
    project.stages("ingest", "preprocess")
    return project


def test_a_step_is_the_same_on_one_worker_and_on_two(prepared, tmp_path):
    """The gradients of a step in a fade, up to rounding, with minibatch stddev, style mixing and R1; and w_avg.

    With β1 = 0 Adam's first moment is the last gradient; at this rate the weights stay where they began.
    """
    prepared.set({"train.stylegan.stable_kimg": 0.004, "train.stylegan.fade_kimg": 0.016, "train.learning_rate": 1e-9})
    env = processes.environment(PYTHONPATH=str(prepared.path))
    for world in (1, 2):
        commands = [[sys.executable, "-c", SCRIPT, str(rank), str(world), str(tmp_path)] for rank in range(world)]
        workers = [subprocess.Popen(command, cwd=prepared.path, env=env) for command in commands]
        try:
            assert [worker.wait(timeout=300) for worker in workers] == [0] * world
        finally:
            for worker in workers:
                worker.kill()
    one, two = (load_file(tmp_path / f"world{world}/state.safetensors") for world in (1, 2))
    assert one.keys() == two.keys()
    gradients = [name for name in one if name.endswith("exp_avg")]
    assert len(gradients) > 30
    for name in gradients:
        # A constant that begins uniform has a bias without gradient; instance norm magnifies its rounding to 1e-4.
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=2e-4, msg=name)
    assert sum(one[name].abs().max() > 0.002 for name in gradients) > 30
    assert one["generator/w_avg"].abs().max() > 0
    torch.testing.assert_close(two["generator/w_avg"], one["generator/w_avg"])


def test_sigterm_between_trainings_has_the_exit_code_of_a_signal(prepared):
    """Ray's own handler exits with 15."""
    code = """if True:
        import time
        from components.cluster import cluster
        from components.config import load_params
        with cluster(load_params().execution, 16):
            print("there", flush=True)
            time.sleep(600)
    """
    stage = start(prepared, sys.executable, "-c", code)
    try:
        until(lambda: "there" in stage.stdout.readline())
        stage.terminate()
        said, _ = stage.communicate(timeout=120)
    finally:
        stage.kill()
    assert stage.returncode == 128 + signal.SIGTERM, said


def test_a_gpu_asked_for_where_there_is_none(prepared):
    if torch.cuda.is_available():
        pytest.skip("a CUDA device is here")
    prepared.set({"execution.device": "cuda"})
    done = prepared.run(sys.executable, "-m", "pipelines.train")
    assert done.returncode == 2
    assert "error: execution.device is 'cuda' and there is no GPU here; allowed: cpu, auto" in done.stdout
    assert "Traceback" not in done.stdout
    assert not (prepared.path / "models/candidate").exists()
