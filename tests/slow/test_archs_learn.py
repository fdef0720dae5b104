"""A short training of each arch on the drawn creatures beats its untrained self and the mean image."""

import json
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECIPES = {  # the demo grows stylegan to the same end in test_whole_runs.py
    "dcgan": {"train.learning_rate": 0.0005, "train.latent_dim": 100, "train.channel_max": 128},
    "progan": {
        **{"train.learning_rate": 0.002, "train.progan.stable_kimg": 1, "train.progan.fade_kimg": 1},
    },
    "stylegan2": {"train.learning_rate": 0.0025, "train.gamma": 1.0, "train.augment.kind": "ada"},
    "r3gan": {
        **{"train.learning_rate": 0.0005, "train.gamma": 1.0, "train.latent_dim": 64, "train.r3gan.penalty_every": 4},
        **{"train.r3gan.decay_kimg": 12, "train.r3gan.final_gamma": 0.5, "train.r3gan.final_learning_rate": 0.0002},
    },
}


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("arch", RECIPES)
def test_it_learns(project, arch):
    shutil.copy(ROOT / "params.yaml", project.path)
    project.set({"train.arch": arch, "train.total_kimg": 12, "train.ema_kimg": 0.5, **RECIPES[arch]})
    project.stages("ingest", "preprocess", "train", "evaluate")
    metrics = json.loads((project.path / "reports/metrics.json").read_text())
    metric = json.loads((project.path / "reports/evaluation.json").read_text())["metric"]
    own, baselines = metrics["holdout"][metric], metrics["holdout_baselines"]
    assert own < min(baselines[name] for name in ("untrained", "mean_image")), (own, baselines)
