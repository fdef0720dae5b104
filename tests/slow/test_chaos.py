"""A run under disturbances of real processes ends where an undisturbed one does, and leaves nothing behind.

Others have tests of their own. In this folder: a full disk, a killed store, the clock, a killed flow
(test_experiments.py), a Prefect worker and its flow killed at once and the killed head of the services' Ray
(test_jobs_of_deployments.py). In tests/integration: a killed worker, controller and dvc, a stop, a flipped bit, an
emptied snapshot, other params, a hang, a second start and a loss that is not finite (test_interruptions.py), a job's
driver (test_jobs.py) and a deployment started twice (test_deployment.py). The head of an embedded Ray, and a Prefect
worker whose flow trains by itself, are among the fifty disturbances of benchmarks/results/ only.
"""

import json
import sys

import pytest

from components import processes
from tests.conftest import ROOT

KINDS = ("raylet", "in a save", "slow", "Prefect server", "MLflow server")
SIZE = ("--seed", "1", "--kimg", "11", "--kills", str(len(KINDS)))


@pytest.mark.timeout(2400)
def test_a_run_survives_what_befalls_it():
    said = []
    command = [sys.executable, "-m", "benchmarks.chaos", *SIZE, "--kinds", *KINDS]
    code = processes.run(command, cwd=ROOT, on_line=said.append)
    assert code == 0, "\n".join(said[-40:])
    report = json.loads(said[-1])
    assert report["identical"], report
    assert report["dvc_consistent"], report
    assert report["orphans"] == 0
    assert report["kills"] == dict.fromkeys(KINDS, 1)
    assert report["images_repeated_max"] <= 2 * 400
