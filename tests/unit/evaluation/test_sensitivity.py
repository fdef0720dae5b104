"""frechet_random_conv on drawn creatures and real sprites: what it must notice, and how much against its floor."""

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
from components.evaluation.frechet import frechet
from components.evaluation.random_conv import RandomConv
from tests.preprocessing import on_white

EXTRACTOR = RandomConv()
COUNT = 495  # of each half: 55 creatures of each body plan
TUXEMON = Path(__file__).parents[4] / "shared/data/tuxemon.zip"


def found(images):
    return statistics(EXTRACTOR, lambda at: images[at], len(images))


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
    return found(creatures[COUNT:])


@pytest.fixture(scope="module")
def floor(creatures, reference):
    return frechet(found(creatures[:COUNT]), reference)


@pytest.mark.parametrize(
    ("spoil", "strengths"),
    [(blurred, (0.5, 1.0, 2.0)), (noisy, (6, 18, 54)), (of_plans, (7, 4, 1))],
    ids=["blur", "noise", "dropped modes"],
)
def test_grows_with(spoil, strengths, creatures, reference, floor):
    reals = creatures[:COUNT]
    distances = [frechet(found(spoil(reals, strength)), reference) for strength in strengths]
    ladder = [floor, *distances]
    assert all(worse > 1.2 * better for better, worse in itertools.pairwise(ladder)), ladder
    assert distances[-1] > 10 * floor, ladder


def test_ellipses_are_no_creatures(drawn, reference, floor):
    ellipses = np.stack([on_white(Image.fromarray(ellipse_of(np.asarray(image)))) for image in drawn[:COUNT]])
    assert frechet(found(ellipses), reference) > 5 * floor


def test_one_image_is_about_as_bad_as_a_strong_blur(creatures, reference, floor):
    blur = frechet(found(blur_to_8(creatures[:COUNT])), reference)
    repeated = frechet(found(np.repeat(creatures[:1], COUNT, axis=0)), reference)
    assert 1 / 3 < repeated / blur < 3
    assert min(blur, repeated) > 20 * floor


@pytest.mark.skipif(not TUXEMON.exists(), reason="shared data absent: ../shared/data/tuxemon.zip")
def test_real_sprites():
    with zipfile.ZipFile(TUXEMON) as archive:
        names = [name for name in archive.namelist() if name.endswith(".png")]
        opened = [Image.open(io.BytesIO(archive.read(name))).convert("RGBA") for name in names]
    sprites = np.stack([on_white(image, 64) for image in opened])
    sprites = sprites[np.random.RandomState(0).permutation(len(sprites))]
    reals, reference = sprites[:340], found(sprites[340:])
    floor = frechet(found(reals), reference)
    for spoilt, times in ((blurred(reals, 1.0), 4), (blur_to_8(reals), 15), (noisy(reals, 36), 8), (reals[:1], 20)):
        spoilt = np.resize(spoilt, reals.shape)
        assert frechet(found(spoilt), reference) > times * floor
