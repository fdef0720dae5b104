"""Copies planted among fresh images: found, and few others; the calibration's promise in simulations."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.data.compositing import fit, transparent
from components.data.procedural import draw_creature
from components.evaluation.memorisation import (
    calibrated,
    layout,
    memorisation,
    mirrored,
    nearest_train,
    train_groups,
)
from tests.preprocessing import PARAMS, on_white, planes_of, replace

TUXEMON = Path(__file__).parents[4] / "shared/data/tuxemon.zip"
CELLS = 64  # numbers of a description of one channel


def pictures(count, channels=3, size=16, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, channels), dtype=np.uint8)


def points(count, seed):
    return np.random.default_rng(seed).standard_normal((count, CELLS)).astype(np.float32)


@pytest.mark.parametrize("channels", [3, 4])
def test_a_description_is_the_correlation_of_cells(channels):
    images = pictures(6, channels)
    described = layout(images)
    assert (described.shape, described.dtype) == ((6, CELLS * channels), np.float32)
    cells = images.reshape(6, 8, 2, 8, 2, channels).mean((2, 4)).reshape(6, -1)
    expected = 2 - 2 * np.corrcoef(cells)
    np.testing.assert_allclose(np.square(described[:, None] - described).sum(2), expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(mirrored(described), layout(images[:, :, ::-1]))
    for number in range(6):
        np.testing.assert_array_equal(layout(images[number : number + 1])[0], described[number])


def test_brightness_and_contrast_do_not_matter_and_flat_images_are_all_alike():
    images = pictures(4) // 2
    np.testing.assert_allclose(layout(images * 2), layout(images), rtol=0, atol=1e-6)
    np.testing.assert_allclose(layout(images + np.uint8(90)), layout(images), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(layout(np.full((1, 16, 16, 3), 200, np.uint8)), np.zeros((1, 192)))


def test_nearest_is_that_of_all_distances():
    queries, train = points(30, 0), points(80, 1)
    train[7], queries[3] = mirrored(queries[2:3])[0], train[9]
    found = nearest_train(queries, train)
    distances = np.linalg.norm(queries[:, None] - np.stack([train, mirrored(train)])[:, None], axis=3).min(0)
    np.testing.assert_array_equal(found.position, distances.argmin(1))
    np.testing.assert_allclose(
        found.score, distances.min(1) / np.sort(distances, axis=1)[:, :50].mean(1), rtol=1e-4, atol=1e-6
    )
    assert (found.position[2], found.mirrored[2], found.position[3], found.mirrored[3]) == (7, True, 9, False)
    group = np.arange(80) // 40
    alike = np.zeros(30, np.int64), group
    others = nearest_train(queries, train, alike)
    np.testing.assert_array_equal(others.position, nearest_train(queries, train[40:]).position + 40)
    np.testing.assert_allclose(others.score, distances[:, 40:].min(1) / distances[:, 40:].mean(1), rtol=1e-4)


@pytest.mark.parametrize(("train", "holdout", "rank"), [(50, 2, 1), (60, 20, 1), (150, 60, 2), (300, 30, 3)])
def test_fresh_images_are_flagged_as_often_as_promised(train, holdout, rank):
    rates, known = [], train + holdout
    for seed in range(60):
        parts = np.split(points(known + 300, seed), [train, known])
        found = memorisation(parts[2], parts[0], parts[1], np.arange(train))
        assert found.expected == pytest.approx((rank + 1) / (known + 1))
        rates.append(found.rate.value)
    error = np.std(rates) / np.sqrt(len(rates))
    assert rank / (known + 1) - 3 * error < np.mean(rates) < found.expected + 3 * error
    assert error < found.expected / 6


def test_few_train_images_flag_more_fresh_ones_than_their_rank_says():
    """Leave-one-out scores are not exchangeable with fresh ones: on unit vectors 1 / 53 is too low, 2 / 53 holds."""
    rates = []
    for seed in range(200):
        drawn = points(252, seed)
        train, held, fresh = np.split(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), [50, 52])
        rates.append(memorisation(fresh, train, held, np.arange(50)).rate.value)
    error = np.std(rates) / np.sqrt(len(rates))
    assert 1 / 53 + 3 * error < np.mean(rates) < 2 / 53 + error


@pytest.mark.parametrize(
    ("known", "threshold", "share"),
    [
        (np.arange(1, 400) / 400, 4 / 400, 5 / 400),
        (np.full(399, 0.5), np.nextafter(0.5, 0), 2 / 400),
        (np.r_[0.1, 0.2, np.full(397, 0.5)], np.nextafter(0.5, 0), 4 / 400),
        (np.r_[0.1, 0.2, 0.3, 0.3, np.full(395, 0.5)], 0.3, 5 / 400),
        (np.r_[np.zeros(100), np.full(299, 0.5)], 0, 101 / 400),
        (np.zeros(399), 0, 1),
        (np.array([0.7, 0.6]), 0.6, 2 / 3),
        (np.array([0.7]), 0.7, 1),
    ],
    ids=["no tie", "one tie", "above a tie", "a tie within", "twins", "all equal", "two", "one"],
)
def test_the_threshold_lies_below_a_tie_and_the_share_is_what_it_flags(known, threshold, share):
    assert calibrated(np.random.default_rng(0).permutation(known)) == (threshold, pytest.approx(share))


def test_fresh_images_that_equal_train_images_are_expected():
    """Of 40 layouts 30 % of all images have one, as a set of flat tiles and icons has."""
    rng, palette = np.random.default_rng(0), points(40, 1)
    images = points(1500, 2)
    images[rng.random(1500) < 0.3] = palette[0]
    train, held, fresh = np.split(images, [1000, 1100])
    found = memorisation(fresh, train, held, np.arange(1000))
    assert found.threshold == 0
    assert found.expected == pytest.approx(0.3, abs=0.04)
    assert found.rate.value == pytest.approx(found.expected, abs=0.06)
    everything_copied = memorisation(train[:300], train, held, np.arange(1000))
    assert everything_copied.rate.value == 1


@pytest.mark.parametrize("twins", [1, 49, 60, 200])
def test_a_copy_of_an_image_with_many_twins_scores_0(twins):
    train = np.concatenate([points(500, 0), np.repeat(points(1, 1), twins + 1, axis=0)])
    groups = np.minimum(np.arange(len(train)), 500)
    samples = np.concatenate([np.repeat(train[-1:], 5, axis=0), mirrored(train[-1:]), points(180, 2)])
    found = memorisation(samples, train, points(75, 3), groups)
    np.testing.assert_array_equal(found.nearest.score[:6], 0)
    assert (found.nearest.score[6:] > 0.5).all()
    assert found.flagged[:6].tolist() == [0, 1, 2, 3, 4, 5]
    assert len(found.flagged) < 6 + 12
    assert found.nearest.mirrored[:6].tolist() == [False] * 5 + [True]


def test_near_duplicates_in_the_train_set_do_not_hide_copies():
    original, fresh = points(120, 0), points(330, 1)
    train = np.concatenate([original, original + 0.05 * points(120, 2)])
    copies = mirrored(original[:30] + 0.2 * points(30, 3))
    samples = np.concatenate([fresh[:300], copies])
    found = memorisation(samples, train, fresh[300:], np.tile(np.arange(120), 2))
    assert set(range(300, 330)) <= set(found.flagged.tolist())
    assert len(found.flagged) <= 30 + 12
    blind = memorisation(samples, train, fresh[300:], np.arange(240))
    assert len(blind.flagged) < 10
    everything_alike = memorisation(samples, train, fresh[300:], np.zeros(240, np.int64))
    assert everything_alike.expected == pytest.approx(2 / 31)


def spoilt(images):
    """Flipped, with noise of σ 8."""
    noise = np.random.default_rng(3).normal(0, 8, images.shape)
    return np.rint(images[:, :, ::-1] + noise).clip(0, 255).astype(np.uint8)


def find_planted(images, train, holdout, fresh):
    """A tenth of the samples are copies: the share found, the share of the others flagged, and what was found."""
    images = images[np.random.default_rng(0).permutation(len(images))]
    reals, held, others = np.split(images[: train + holdout + fresh], [train, train + holdout])
    copied = np.random.default_rng(1).choice(train, fresh // 9, replace=False)
    samples = np.concatenate([others, spoilt(reals[copied])])
    found = memorisation(layout(samples), layout(reals), layout(held), np.arange(train))
    right = found.nearest.position[fresh:] == copied
    flagged = np.isin(np.arange(len(samples)), found.flagged)
    assert found.rate.low <= flagged.mean() <= found.rate.high
    assert (found.nearest.score[found.flagged] <= found.threshold).all()
    return (right & flagged[fresh:]).mean(), flagged[:fresh].mean(), found


def test_planted_copies_of_drawn_creatures():
    images = np.stack([on_white(Image.fromarray(draw_creature(0, index, 32))) for index in range(855)])
    caught, false, found = find_planted(images, 510, 75, 270)
    assert caught > 0.95
    assert false < 0.03
    assert found.nearest.mirrored[270:].mean() > 0.95
    assert found.closest(30).tolist() == found.flagged[:30].tolist()


@pytest.mark.skipif(not TUXEMON.exists(), reason="shared data absent: ../shared/data/tuxemon.zip")
@pytest.mark.parametrize("channels", [3, 4])
def test_planted_copies_of_real_sprites(channels):
    with zipfile.ZipFile(TUXEMON) as archive:
        names = [name for name in archive.namelist() if name.endswith(".png")]
        opened = [Image.open(io.BytesIO(archive.read(name))).convert("RGBA") for name in names]
    squares = [fit(planes_of(image), 0, replace(PARAMS, resolution=64)) for image in opened if image.getextrema()[3][1]]
    images = np.stack([on_white(image, 64) for image in opened] if channels == 3 else [*map(transparent, squares)])
    images = images[np.sort(np.unique(images, axis=0, return_index=True)[1])]
    caught, false, _ = find_planted(images, 480, 75, 180)
    assert caught > 0.95
    assert false < 0.04


def test_groups_of_the_train_images(tmp_path):
    rows = [("train", "a"), ("holdout", "b"), ("train", "c"), ("train", "d"), ("train", "e")]
    pairs = [("b", "x"), ("c", "dropped"), ("dropped", "d")]
    images = [json.dumps({"split": split, "digest": digest, "name": "one.png"}) for split, digest in rows]
    alike = [json.dumps({"kind": "mirrors", "bits": 0, "first_digest": a, "second_digest": b}) for a, b in pairs]
    (tmp_path / "images.jsonl").write_text("\n".join(images) + "\n")
    (tmp_path / "pairs.jsonl").write_text("\n".join(alike) + "\n")
    a, c, d, e = train_groups(tmp_path, 4).tolist()
    assert c == d
    assert len({a, c, e}) == 3
