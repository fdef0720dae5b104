"""The demo, as `make demo` runs it."""

import json
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT
from tests.trainings import lines

MUST_BEAT = ("untrained", "mean_image", "repeated_image")


def read(project, name):
    return json.loads((project.path / name).read_text())


@pytest.mark.timeout(2400)
def test_the_demo_makes_creatures(project):
    """Its generator beats what shows no creatures, its samples differ, and it becomes the champion."""
    shutil.copy(ROOT / "params.yaml", project.path)
    done = project.run(sys.executable, "-m", "flows")
    assert done.returncode == 0, done.stdout[-5000:]
    metrics, about = read(project, "reports/metrics.json"), read(project, "reports/evaluation.json")
    own, floor, baselines = (metrics[group] for group in ("holdout", "holdout_floor", "holdout_baselines"))
    metric = about["metric"]
    assert floor[metric] < own[metric] < min(baselines[name] for name in MUST_BEAT), metrics
    assert own["coverage"] > 0.3 * floor["coverage"]
    assert metrics["memorisation"]["share"] < 0.05
    assert metrics["collapse"]["alarm"] == 0
    run = project.path / "runs" / about["run_key"]
    exams = lines(run / "evaluations.jsonl")
    assert [round(exam["kimg"]) for exam in exams] == [10, 20, 30, 40, 42]
    assert exams[-1]["holdout"][metric] < 0.5 * exams[0]["holdout"][metric]
    seen = {(record["resolution"], record["alpha"] < 1) for record in lines(run / "metrics.jsonl")}
    assert seen == {(8, False), (16, True), (16, False), (32, True), (32, False)}
    assert read(project, "reports/registered.json")["alias"] == "champion"
    grid = project.path / "grid.png"
    model = ["--model", "models:/bestiary-generator@challenger", "--seeds", "0-63", "--out", str(grid)]
    assert project.run(sys.executable, "-m", "components.generation", *model).returncode == 0
    page = np.asarray(Image.open(grid), dtype=float)[2:, 2:]
    pictures = page.reshape(8, 34, 8, 34, 3)[:, :32, :, :32].swapaxes(1, 2).reshape(64, -1)
    distances = np.sqrt(np.square(pictures[:, None] - pictures).mean(-1))[np.triu_indices(64, 1)]
    assert distances.min() > 5, "two samples are the same picture"
