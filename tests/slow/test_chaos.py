"""A run under disturbances of real processes ends where an undisturbed one does, and leaves nothing behind."""

import json
import sys

from components import processes
from tests.conftest import ROOT

KINDS = ("raylet", "in a save", "Prefect worker and flow", "store in an upload", "Prefect server")
SIZE = ("--seed", "1", "--kimg", "12", "--kills", str(len(KINDS)))


def test_a_run_survives_kills_of_whatever_carries_it():
    """Of these kinds; the others: tests/integration, and test_full_disk.py and test_clock.py here."""
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
