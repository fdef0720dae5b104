"""Resampling against the filter in double precision, Pillow, and the range in which floats are exact."""

import math

import numpy as np
import pytest
from PIL import Image

from components.data import resampling
from components.data.resampling import EIGHT, SIXTEEN, bands, resample

SIZES = [(128, 64), (64, 64), (100, 64), (37, 64), (5, 32), (1, 8), (300, 7), (2000, 64), (40000, 8)]


def lanczos_matrix(source, target):
    """The filter as its definition says, in double precision."""
    scale = source / target
    width = max(1.0, scale)
    rows = np.zeros((target, source))
    for out in range(target):
        x = (np.arange(source) + 0.5 - (out + 0.5) * scale) / width
        rows[out] = np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)
    return rows / rows.sum(1, keepdims=True)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, 4, width), np.uint8)


@pytest.mark.parametrize(("source", "target"), [(128, 64), (100, 64), (37, 64), (5, 32), (300, 7)])
def test_it_is_lanczos_rounded_once(source, target):
    planes = noise(source, source + 3)
    rows, columns = lanczos_matrix(source, target), lanczos_matrix(source + 3, target)
    exact = np.clip(np.einsum("ih,hcw,jw->icj", rows, planes.astype(float), columns), 0, 255)
    assert np.abs(resample(planes, target, target) - exact).max() < 0.8  # 0.5 of it is rounding to whole levels
    # with 16 bits the levels are 257 times finer
    fine = resample(planes.astype(np.uint16) * 257, target, target, SIXTEEN)
    assert np.abs(fine / 257 - exact).max() < 0.01


def test_it_agrees_with_pillow_where_pillow_does_not_clip_between_its_passes():
    y, x = np.mgrid[0:128, 0:128]
    smooth = (127 + 60 * np.sin(x / 9) * np.cos(y / 7)).astype(np.uint8)
    ours = resample(np.stack([smooth] * 4, axis=1), 64, 64)[:, 0]
    pillow = np.asarray(Image.fromarray(smooth).resize((64, 64), Image.Resampling.LANCZOS))
    assert np.abs(ours - pillow).max() <= 1
    assert (ours == pillow).mean() > 0.75  # it rounds twice to whole levels


@pytest.mark.parametrize("value", [0, 1, 254, 255])
@pytest.mark.parametrize(("source", "target"), SIZES)
def test_a_flat_picture_stays_as_it_is(source, target, value):
    flat = np.full((source, 1, 9), value, np.uint8)
    assert (resample(flat, target, 5) == value).all()


@pytest.mark.parametrize("depth", [EIGHT, SIXTEEN])
@pytest.mark.parametrize(("source", "target"), SIZES)
def test_no_sum_leaves_the_whole_numbers_that_the_float_holds(source, target, depth):
    exact = 2 ** (np.finfo(depth.dtype).nmant + 1)
    for band in bands(source, target, depth.first, depth.dtype):
        assert (band.weights == np.rint(band.weights)).all()
        assert (band.weights.sum(1) == 2**depth.first).all()
        positive = np.clip(band.weights, 0, None).sum(1).max()
        highest = depth.levels * positive  # and no partial sum is higher
        assert depth.levels * np.abs(band.weights).sum(1).max() < exact
        kept = math.ceil(highest / 2**depth.first * 2**depth.keep)
        for second in bands(source, target, depth.second, depth.dtype):
            assert kept * np.abs(second.weights).sum(1).max() < exact


def test_the_order_of_addition_changes_nothing():
    planes = noise(130, 66)
    flipped = resample(planes[::-1], 32, 16)[::-1]
    np.testing.assert_array_equal(resample(planes[:, [3, 2, 1, 0]], 32, 16)[:, [3, 2, 1, 0]], resample(planes, 32, 16))
    # mirrored weights are rounded as running sums from the other end, so a level may differ, no more
    assert np.abs(flipped - resample(planes, 32, 16)).max() <= 1


def test_the_height_of_bands_changes_nothing(monkeypatch):
    planes = noise(300, 40)
    expected = resample(planes, 40, 16)
    monkeypatch.setattr(resampling, "BAND_NUMBERS", 4000)
    np.testing.assert_array_equal(resample(planes, 40, 16), expected)


def test_a_long_filter_keeps_its_weight():
    ramp = np.repeat(np.arange(40000) * 255 // 39999, 1).astype(np.uint8)[:, None, None]
    out = resample(np.broadcast_to(ramp, (40000, 1, 2)), 8, 2)[:, 0, 0]
    assert np.abs(out - (np.arange(8) + 0.5) / 8 * 255).max() < 5
