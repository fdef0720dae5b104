"""Cards with labels: pictures of 3:4 in two folders go the whole way, and the model draws the label asked for."""

import json
import sys

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def trained(module_project):
    """Forty fire and twenty water cards, each with a disc at a place of its own."""
    y, x = np.mgrid[:40, :30]
    random = np.random.default_rng(0)
    for label, colour, count in (("fire", (220, 60, 20), 40), ("water", (20, 90, 220), 20)):
        folder = module_project.path / "cards" / label
        folder.mkdir(parents=True)
        for number in range(count):
            card = np.full((40, 30, 3), 250, np.uint8)
            card[(x - random.integers(8, 22)) ** 2 + (y - random.integers(8, 32)) ** 2 < 60] = colour
            Image.fromarray(card).save(folder / f"{number}.png")
    module_project.set(
        {
            **{
                "ingest.source": "cards",
                "preprocess.aspect": "3:4",
                "preprocess.resolution": 32,
                "preprocess.labels": True,
            },
            **{
                "preprocess.near_duplicates": "ignore",
                "preprocess.mirrors": "ignore",
                "preprocess.recolours": "ignore",
            },
            **{"train.arch": "stylegan2", "train.gamma": 0.1, "train.labels": True, "train.mirror": True},
        }
    )
    module_project.stages("ingest", "preprocess", "train", "evaluate", "register")
    return module_project


def draw(project, *arguments):
    out = project.path / "page.png"
    argv = ["-m", "components.generation", "--model", "models:/bestiary-generator/1", "--out", str(out)]
    done = project.run(sys.executable, *argv, "--seeds", "0-3", *arguments)
    return done, np.asarray(Image.open(out)) if done.returncode == 0 else None


def test_the_model_knows_its_labels_and_proportions(trained):
    config = json.loads((trained.path / "models/candidate/config.json").read_text())
    assert config["grid"] == [4, 3]
    assert list(config["labels"]) == ["fire", "water"]
    assert config["labels"]["fire"] > config["labels"]["water"] > 0
    rows = [json.loads(line) for line in (trained.path / "data/shards/images.jsonl").read_text().splitlines()]
    metrics = json.loads((trained.path / "reports/metrics.json").read_text())
    assert set(metrics["labels"]) == {row["label"] for row in rows if row["split"] == "holdout"} != set()


def test_a_registered_model_draws_a_label(trained):
    pages = [draw(trained, "--label", label)[1] for label in ("fire", "water")]
    assert pages[0].shape == (2 * 34 + 2, 2 * 26 + 2, 3)
    assert (pages[0] != pages[1]).any()
    _, own = draw(trained)
    assert own.shape == pages[0].shape


def test_an_unknown_label_is_refused(trained):
    done, _ = draw(trained, "--label", "grass")
    assert done.returncode == 2
    assert "error: label is 'grass'; allowed: fire, water" in done.stdout


def test_labels_are_refused_where_the_data_has_none(trained):
    trained.set({"preprocess.labels": False})
    done = trained.run(sys.executable, "-m", "pipelines.train")
    trained.set({"preprocess.labels": True})
    assert done.returncode == 2
    assert "train.labels is True; allowed: false, or preprocess.labels: true" in done.stdout
