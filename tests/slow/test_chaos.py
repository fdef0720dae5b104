"""A run under disturbances of real processes ends where an undisturbed one does, and leaves nothing behind."""

import json
import sys

import pytest

from benchmarks.chaos.kinds import KINDS
from components import processes
from tests.conftest import ROOT

ELSEWHERE = {"full disk", "clock"}  # test_full_disk.py, test_clock.py: not every machine lets them
STRUCK = [kind for kind in KINDS if kind not in ELSEWHERE]
SIZE = ("--seed", "1", "--kimg", "12", "--kills", str(len(STRUCK)))


@pytest.mark.timeout(2400)  # a quarter of an hour on two cores that are idle
def test_a_run_survives_each_kind_of_disturbance():
    said = []
    command = [sys.executable, "-m", "benchmarks.chaos", *SIZE, "--kinds", *STRUCK]
    code = processes.run(command, cwd=ROOT, on_line=said.append)
    assert code == 0, "\n".join(said[-40:])
    report = json.loads(said[-1])
    assert report["identical"], report
    assert report["dvc_consistent"], report
    assert report["orphans"] == 0
    assert report["kills"] == dict.fromkeys(STRUCK, 1)
    assert report["images_repeated_max"] <= 2 * 400
