"""Transparent images: composites held to Pillow's, and statistics of alphas whose answers are known."""

import numpy as np
import pytest
import torch
from PIL import Image

from components.evaluation.random_conv import RandomConv
from components.evaluation.transparency import BACKGROUNDS, AlphaStatistics, OnBackgrounds, composites

GRID, HISTOGRAM, EDGES = slice(16), slice(16, 22), slice(22, 24)


def straight(count, size):
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (count, size, size, 4), dtype=np.uint8)
    pictures[0, ..., 3] = 255
    pictures[1, ..., 3] = 0
    return pictures


def premultiplied(pictures):
    colour = np.rint(pictures[..., :3] * (pictures[..., 3:] / 255))
    return np.concatenate([colour, pictures[..., 3:]], axis=3).astype(np.uint8)


def over(picture, colour):
    """Pillow's composite of a straight picture, [H, W, 3]."""
    page = Image.new("RGBA", picture.shape[1::-1], colour)
    page.alpha_composite(Image.fromarray(picture))
    return np.asarray(page.convert("RGB"))


def planes(pictures):
    return torch.tensor(pictures).permute(0, 3, 1, 2).float()


def test_composites_are_pillow_s_within_rounding():
    pictures = straight(6, 24)
    found = composites(planes(premultiplied(pictures)))
    for composite, colour in zip(found, BACKGROUNDS, strict=True):
        expected = np.stack([over(picture, colour) for picture in pictures]).transpose(0, 3, 1, 2)
        np.testing.assert_allclose(composite, expected, rtol=0, atol=1.01)
    np.testing.assert_array_equal(found[0][1], np.full((3, 24, 24), 255))
    np.testing.assert_array_equal(found[1][1], np.full((3, 24, 24), 32))


def test_colour_above_alpha_does_not_outshine_white():
    glow = np.full((1, 8, 8, 4), [255, 128, 0, 0], np.uint8)
    assert composites(planes(glow))[0].max() == 255


def test_features_are_those_of_both_composites():
    plain, pictures = RandomConv(), straight(4, 32)
    extractor = OnBackgrounds(plain)
    assert (extractor.name, extractor.dim, extractor.channels) == ("random_conv_rgba", 128, 4)
    opaque = pictures[:1]
    expected = plain(opaque[..., :3])
    torch.testing.assert_close(extractor(opaque), torch.cat([expected, expected], dim=1), rtol=1e-4, atol=1e-4)
    found = extractor(premultiplied(pictures))
    halves = [plain.features(composite) for composite in composites(planes(premultiplied(pictures)))]
    torch.testing.assert_close(found, torch.cat(halves, dim=1), rtol=1e-4, atol=1e-4)
    assert (found[2, :64] - found[2, 64:]).norm() > 1


def test_a_digest_covers_the_extractor_and_the_backgrounds(monkeypatch):
    class OtherSeed(RandomConv):
        SEED = 1

    plain, other = OnBackgrounds(RandomConv()).digest, OnBackgrounds(OtherSeed()).digest
    monkeypatch.setattr("components.evaluation.transparency.BACKGROUNDS", ("#ffffff", "#000000"))
    assert len({plain, other, OnBackgrounds(RandomConv()).digest, RandomConv().digest}) == 4


def alpha_of(levels):
    """Features without their scales, of alphas [N, H, W]; colour must not matter."""
    colour = np.random.default_rng(0).integers(0, 256, (*levels.shape, 3))
    found = AlphaStatistics()(np.concatenate([colour, levels[..., None]], axis=3).astype(np.uint8)).numpy()
    grid, histogram, edges = AlphaStatistics.SCALES
    return found / np.repeat([grid, histogram, edges], [16, 6, 2]).astype(np.float32)


@pytest.mark.parametrize("size", [16, 32, 128])
def test_an_opaque_square(size):
    """A quarter of the image in its middle: each row and column of it has two edges of full height."""
    quarter = size // 4
    levels = np.zeros((1, size, size))
    levels[0, quarter:-quarter, quarter:-quarter] = 255
    found = alpha_of(levels)[0]
    expected = np.zeros((4, 4))
    expected[1:3, 1:3] = 1
    np.testing.assert_allclose(found[GRID].reshape(4, 4), expected, atol=1e-6)
    np.testing.assert_allclose(found[HISTOGRAM], [0.75, 0, 0, 0, 0, 0.25], atol=1e-6)
    np.testing.assert_allclose(found[EDGES], [1, 1], atol=1e-6)


@pytest.mark.parametrize(
    ("level", "place"), [(0, 0), (7, 0), (8, 1), (63, 1), (64, 2), (128, 3), (191, 3), (192, 4), (247, 4), (248, 5)]
)
def test_one_level_everywhere(level, place):
    found = alpha_of(np.full((1, 16, 16), level))[0]
    np.testing.assert_allclose(found[GRID], np.full(16, level / 255), rtol=1e-5)
    np.testing.assert_allclose(found[HISTOGRAM], np.eye(6)[place], atol=1e-6)
    np.testing.assert_allclose(found[EDGES], [0, 0], atol=1e-6)


def test_stripes_have_edges_in_one_direction():
    levels = np.tile([0, 51], (1, 16, 8))
    np.testing.assert_allclose(alpha_of(levels)[0, EDGES], [15 / 5, 0], atol=1e-5)


def test_floats_near_a_level_count_as_that_level():
    pixels = torch.full((2, 4, 8, 8), 247.4)
    pixels[1] = 247.6
    np.testing.assert_array_equal(AlphaStatistics().features(pixels)[:, HISTOGRAM] / 5, np.eye(6)[[4, 5]])


def test_alpha_s_digest_is_pinned():
    """A change of what is computed must be described, and then this changes."""
    assert AlphaStatistics().digest == "c24690dbaf4b2dbebc3ae4376aef14a10065b19e63693e03f0609521d11934d3"
