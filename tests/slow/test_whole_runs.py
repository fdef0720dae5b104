"""Runs of real size: the demo, shortened, and real sprites at 64² by changing params alone."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
TUXEMON = ROOT / "../shared/data/tuxemon.zip"
MUST_BEAT = ("untrained", "mean_image", "repeated_image")


def read(project, name):
    return json.loads((project.path / name).read_text())


@pytest.mark.timeout(2400)
def test_the_demo_makes_creatures(project):
    """Its generator beats what shows no creatures, its samples differ, and it becomes the champion."""
    shutil.copy(ROOT / "params.yaml", project.path)
    project.set({"train.total_kimg": 26})  # of 42: enough to judge, in half the time
    done = project.run(sys.executable, "-m", "flows")
    assert done.returncode == 0, done.stdout[-5000:]
    metrics = read(project, "reports/metrics.json")
    for split in ("train", "holdout"):
        own, baselines = metrics[split]["frechet_random_conv"], metrics[split]["baselines"]
        assert own < min(baselines[name] for name in MUST_BEAT), metrics
    run = project.path / "runs" / metrics["run_key"]
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    seen = {(record["resolution"], record["alpha"] < 1) for record in records}
    assert seen == {(8, False), (16, True), (16, False), (32, True), (32, False)}
    assert read(project, "reports/registered.json")["alias"] == "champion"
    grid = project.path / "grid.png"
    model = ["--model", "models:/bestiary-generator@challenger", "--seeds", "0-63", "--out", str(grid)]
    assert project.run(sys.executable, "-m", "components.generation", *model).returncode == 0
    page = np.asarray(Image.open(grid), dtype=float)[2:, 2:]
    pictures = page.reshape(8, 34, 8, 34, 3)[:, :32, :, :32].swapaxes(1, 2).reshape(64, -1)
    distances = np.sqrt(np.square(pictures[:, None] - pictures).mean(-1))[np.triu_indices(64, 1)]
    assert distances.min() > 5, "two samples are the same picture"


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
    assert metrics["samples"] == 300
    registered = read(project, "reports/registered.json")
    own, earned = metrics["holdout"]["frechet_random_conv"], [row["passed"] for row in registered["verdict"]]
    assert earned == [own < metrics["holdout"]["baselines"][name] for name in MUST_BEAT]
    assert registered["alias"] == ("champion" if all(earned) else "challenger")
