"""Real sprites at 64² by changing params alone."""

import json
import sys

import pytest

from tests.conftest import ROOT

TUXEMON = ROOT / "../shared/data/tuxemon.zip"
BASELINES = {"untrained", "mean_image", "repeated_image"}


def read(project, name):
    return json.loads((project.path / name).read_text())


@pytest.mark.timeout(2400)
def test_real_sprites_at_64_by_params_alone(project):
    if not TUXEMON.exists():
        pytest.skip("shared data absent: ../shared/data/tuxemon.zip")
    project.set(
        {
            "ingest.source": str(TUXEMON.resolve()),
            "preprocess.resolution": 64,
            "train.total_kimg": 1,
            "execution.threads": 0,
            "evaluate.samples": 300,
        }
    )
    done = project.run(sys.executable, "-m", "dvc", "repro")
    assert done.returncode == 0, done.stdout[-5000:]
    report = read(project, "data/shards/report.json")
    assert (report["in"], report["kept"], report["duplicates"], report["rejected"]) == (757, 744, 12, 1)
    config = read(project, "models/candidate/config.json")
    assert (config["resolution"], config["channels"]) == (64, 3)
    metrics = read(project, "reports/metrics.json")
    assert metrics["counts"] == {"samples": 300, "train": report["train"] - 300, "holdout": report["holdout"]}
    registered = read(project, "reports/registered.json")
    passed = {check["name"]: check["passed"] for check in registered["verdict"]}
    assert set(passed) >= {"memorised", "coverage", "collapse alarm"} | BASELINES
    assert registered["alias"] == ("champion" if all(passed.values()) else "challenger")
