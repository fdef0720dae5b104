"""The metrics on random_conv, of drawn creatures and real sprites: what each must notice, and what it cannot."""

import io
import itertools
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from components.data.procedural import PLANS, draw_creature, ellipse_of
from components.evaluation.candidates import blur_to_8
from components.evaluation.metrics import compare, prepare
from components.evaluation.random_conv import RandomConv
from tests.preprocessing import on_white

EXTRACTOR = RandomConv()
COUNT = 495  # of each half: 55 creatures of each body plan
TUXEMON = Path(__file__).parents[4] / "shared/data/tuxemon.zip"


def features(images):
    return EXTRACTOR(images).numpy()


def measure(images, reference):
    """The value of every metric."""
    return {name: found.value for name, found in compare(features(images), reference).items()}


def blurred(images, sigma):
    reach = int(3 * sigma) + 1
    kernel = torch.exp(-torch.arange(-reach, reach + 1.0).square() / (2 * sigma**2))
    kernel = (kernel / kernel.sum())[None, None, None].repeat(3, 1, 1, 1)
    x = F.pad(torch.tensor(images).permute(0, 3, 1, 2).float(), (reach,) * 4, mode="replicate")
    x = F.conv2d(F.conv2d(x, kernel, groups=3), kernel.mT, groups=3)
    return x.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()


def noisy(images, sigma):
    noise = np.random.default_rng(0).normal(0, sigma, images.shape)
    return np.rint(images + noise).clip(0, 255).astype(np.uint8)


def of_plans(images, count):
    """As many images, from the first `count` body plans alone."""
    kept = np.flatnonzero(np.arange(len(images)) % len(PLANS) < count)
    return images[np.resize(kept, len(images))]


@pytest.fixture(scope="module")
def drawn():
    return [Image.fromarray(draw_creature(0, index, 32)) for index in range(2 * COUNT)]


@pytest.fixture(scope="module")
def creatures(drawn):
    return np.stack([on_white(image) for image in drawn])


@pytest.fixture(scope="module")
def reference(creatures):
    return prepare(features(creatures[COUNT:]))


@pytest.fixture(scope="module")
def real(creatures, reference):
    return measure(creatures[:COUNT], reference)


@pytest.mark.parametrize(
    ("spoil", "strengths"),
    [(blurred, (0.5, 1.0, 2.0)), (noisy, (6, 18, 54)), (of_plans, (7, 4, 1))],
    ids=["blur", "noise", "dropped modes"],
)
def test_distances_grow_with(spoil, strengths, creatures, reference, real):
    ladder = [real, *(measure(spoil(creatures[:COUNT], strength), reference) for strength in strengths)]
    floor = real["frechet"]
    for better, worse in itertools.pairwise(ladder):
        assert worse["frechet"] > 1.2 * better["frechet"], ladder
        assert worse["frechet_infinity"] > better["frechet_infinity"] + 0.2 * floor, ladder
        assert worse["kernel"] > better["kernel"], ladder
    assert min(ladder[-1]["frechet"], ladder[-1]["frechet_infinity"]) > 10 * floor, ladder


@pytest.mark.parametrize("count", [7, 4, 1])
def test_coverage_is_the_share_of_modes_and_recall_falls_with_it(count, creatures, reference, real):
    found = measure(of_plans(creatures[:COUNT], count), reference)
    assert found["coverage"] == pytest.approx(count / len(PLANS), abs=0.03)
    assert found["recall"] < count / len(PLANS) + 0.03
    assert found["precision"] > real["precision"] - 0.05


def test_blur_lowers_precision_and_coverage(creatures, reference, real):
    slight, strong = (measure(blurred(creatures[:COUNT], sigma), reference) for sigma in (0.5, 1.0))
    for name in ("precision", "recall", "density", "coverage"):
        assert slight[name] < 0.9 * real[name]
        assert strong[name] < 0.05


def test_one_image_is_precise_and_covers_nothing(creatures, reference):
    found = measure(np.repeat(creatures[:1], COUNT, axis=0), reference)
    assert found["precision"] == 1
    assert found["recall"] == 0
    assert found["coverage"] < 0.02


def test_reals_are_no_distance_apart_where_bias_is_removed(creatures):
    of_all, found = features(creatures), []
    for seed in range(6):
        order = np.random.RandomState(seed).permutation(len(of_all))
        one = compare(of_all[order[:COUNT]], prepare(of_all[order[COUNT:]]))
        found.append([one[name].value for name in ("frechet", "frechet_infinity", "kernel")])
    floor, infinity, kernel = np.mean(found, axis=0)
    assert abs(infinity) < floor / 10
    assert abs(kernel) < floor / 10


def test_ellipses_are_no_creatures(drawn, reference, real):
    ellipses = np.stack([on_white(Image.fromarray(ellipse_of(np.asarray(image)))) for image in drawn[:COUNT]])
    found = measure(ellipses, reference)
    assert found["frechet"] > 5 * real["frechet"]
    assert found["precision"] < 0.05


def test_one_image_is_about_as_bad_as_a_strong_blur(creatures, reference, real):
    blur = measure(blur_to_8(creatures[:COUNT]), reference)["frechet"]
    repeated = measure(np.repeat(creatures[:1], COUNT, axis=0), reference)["frechet"]
    assert 1 / 3 < repeated / blur < 3
    assert min(blur, repeated) > 20 * real["frechet"]


@pytest.mark.skipif(not TUXEMON.exists(), reason="shared data absent: ../shared/data/tuxemon.zip")
def test_real_sprites():
    with zipfile.ZipFile(TUXEMON) as archive:
        names = [name for name in archive.namelist() if name.endswith(".png")]
        opened = [Image.open(io.BytesIO(archive.read(name))).convert("RGBA") for name in names]
    sprites = np.stack([on_white(image, 64) for image in opened])
    sprites = sprites[np.random.RandomState(0).permutation(len(sprites))]
    reals, reference = sprites[:340], prepare(features(sprites[340:]))
    real = measure(reals, reference)
    assert abs(real["frechet_infinity"]) < real["frechet"] / 2
    for spoilt, times in ((blurred(reals, 1.0), 4), (blur_to_8(reals), 15), (noisy(reals, 36), 8), (reals[:1], 20)):
        found = measure(np.resize(spoilt, reals.shape), reference)
        assert found["frechet"] > times * real["frechet"]
        assert found["coverage"] < 0.8 * real["coverage"]
