"""The worker beside a training, on a real Ray."""

import os
from dataclasses import replace
from functools import partial

import pytest

from components.cluster import beside, cluster
from components.config import InputError, load_params
from tests.tasks import kill_once, policy, refuse


def test_a_worker_beside_a_training_is_patient_and_comes_back(tmp_path):
    """It takes idle time alone, works in the order of the calls, and begins a task again after its death."""
    execution = replace(load_params("params.yaml").execution, device="cpu", workers=1)
    with cluster(execution) as share, beside(share) as submit:
        assert submit(policy, None).result() == os.SCHED_IDLE
        futures = [submit(partial(kill_once, folder=tmp_path), number) for number in (7, 8)]
        assert [future.result() for future in futures] == [7, 8]
        with pytest.raises(InputError, match="3 is not wanted"):
            submit(refuse, 3).result()
