"""The worker beside a training, on a real Ray."""

import os
from dataclasses import replace
from functools import partial

import pytest
import ray

from components import cluster as cluster_module
from components.cluster import beside, cluster
from components.config import InputError, load_params
from tests.tasks import kill_once, policy, refuse, visible_gpu


def test_a_worker_beside_a_training_is_patient_and_comes_back(tmp_path):
    """It takes idle time alone, works in the order of the calls, and begins a task again after its death."""
    execution = replace(load_params("params.yaml").execution, device="cpu", workers=1)
    with cluster(execution, batch=4) as nodes, beside(nodes) as submit:
        nodes.share()
        assert submit(policy, None).result() == os.SCHED_IDLE
        assert submit(visible_gpu, 0).result() == ""  # those that there are belong to the training
        futures = [submit(partial(kill_once, folder=tmp_path), number) for number in (7, 8)]
        assert [future.result() for future in futures] == [7, 8]
        with pytest.raises(InputError, match=r"^3 is not wanted$"):  # and nothing of Ray's own
            submit(refuse, 3).result()


def test_work_that_wants_gpus_gets_one_each(monkeypatch):
    """On a Ray that is told of two; which one a worker sees is Ray's to say."""
    monkeypatch.setattr(ray, "init", partial(ray.init, num_gpus=2))
    with cluster_module.tasks(gpus=True) as spread:
        seen = list(spread(visible_gpu, [0.5] * 4))
    assert set(seen) == {"0", "1"}
