"""Splits, baselines and the report, on small sets whose answers are known."""

import numpy as np
import pytest

from components.config import Evaluate, InputError
from components.data.dataset import ImageSet
from components.evaluation.evaluate import blur_to_8, mean_image, measure, split_train, table
from tests.preprocessing import write_shards

NAMES = {"real", "untrained", "mean_image", "repeated_image", "blurred_8x8"}


@pytest.fixture
def sets(tmp_path):
    """140 train and 30 holdout images: a coloured square in a corner, on white."""
    rng = np.random.default_rng(0)
    images = np.full((170, 16, 16, 3), 255, np.uint8)
    for image in images:
        top, left = rng.integers(0, 8, 2)
        image[top : top + 8, left : left + 8] = rng.integers(0, 200, 3)
    write_shards(tmp_path, images, {"train": list(range(140)), "holdout": list(range(140, 170))})
    return ImageSet.open(tmp_path, "train"), ImageSet.open(tmp_path, "holdout")


def params(samples):
    return Evaluate(
        **{"extractor": "random_conv", "weights": "", "weights_sha256": "", "input_size": 64, "samples": samples},
        **{"metric": "frechet", "every_kimg": 0.0, "pick": "last", "psi": 0.7},
    )


@pytest.mark.parametrize(
    ("count", "samples", "size"), [(1800, 900, 900), (1000, 900, 500), (2000, 900, 900), (5, 9, 2)]
)
def test_the_train_images_are_parted(count, samples, size):
    split = split_train(count, samples)
    assert len(split.aside) == size
    assert sorted([*split.aside, *split.reference]) == list(range(count))
    np.testing.assert_array_equal(split_train(count, samples).aside, split.aside)


def test_too_few_train_images_say_what_to_change():
    with pytest.raises(
        InputError, match=r"3 train images; allowed: at least 4 .* ingest\.source .* preprocess\.holdout"
    ):
        split_train(3, 900)


def test_report(sets):
    train, holdout = sets
    aside = split_train(140, 60).aside
    asked = []

    def perfect(seeds):
        asked.extend(seeds)
        return train[aside[np.array(seeds)]]

    def black(seeds):
        return np.zeros((len(seeds), 16, 16, 3), np.uint8)

    report = measure(params(60), train, holdout, perfect, black)
    assert asked == list(range(60))
    assert report["extractor"] == "random_conv"
    assert report["samples"] == 60
    assert report["data_digest"] == train.digest
    for name in ("train", "holdout"):
        baselines = report[name]["baselines"]
        assert set(baselines) == NAMES
        assert report[name]["frechet_random_conv"] == pytest.approx(baselines["real"], abs=1e-6)
        for spoilt in NAMES - {"real"}:
            assert baselines[spoilt] > baselines["real"], (name, spoilt)
    assert measure(params(60), train, holdout, perfect, black) == report

    lines = table(report).splitlines()
    assert len(lines) == 7
    assert lines[0].split() == ["frechet_random_conv,", "N", "=", "60", "train", "holdout"]
    assert lines[1].split()[-2:] == [f"{report[name]['frechet_random_conv']:.2f}" for name in ("train", "holdout")]


def test_mean_image(sets):
    train, _ = sets
    members = np.arange(0, 140, 2)
    np.testing.assert_array_equal(mean_image(train, members), np.rint(train[members].mean(0)).astype(np.uint8))


def test_blur_to_8_keeps_what_8x8_holds():
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    np.testing.assert_array_equal(blur_to_8(small), small)
    checks = np.indices((32, 32)).sum(0)[None, :, :, None].repeat(3, axis=3) % 2 * 200
    np.testing.assert_array_equal(blur_to_8(checks.astype(np.uint8)), np.full((1, 32, 32, 3), 100))
