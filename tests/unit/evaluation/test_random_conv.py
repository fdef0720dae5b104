"""The random_conv extractor: pinned identity, and answers known without running it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from components.evaluation.random_conv import CHUNK, RandomConv

DIGEST = "b564a91713b417a4c18c2ba2778daf9e22519e603cfd29c1a4da4752d7612e57"


def noise_images(count, size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def as_described(extractor, images):
    """The extractor's description word for word, in float64."""
    x = torch.tensor(images).permute(0, 3, 1, 2).double() / 127.5 - 1
    x = F.interpolate(x, size=(64, 64), mode="bicubic", align_corners=False, antialias=True)
    groups, inputs = [F.adaptive_avg_pool2d(x, 4).flatten(1) @ extractor._layout.double()], x
    for filters, texture, form in extractor._levels:
        maps = F.conv2d(F.pad(inputs, (1, 1, 1, 1), mode="replicate"), filters.double()).abs()
        maps = maps / (1 + maps)
        moments = torch.cat([maps.mean((2, 3)), maps.square().mean((2, 3)).sqrt()], dim=1)
        groups += [moments @ texture.double(), F.adaptive_avg_pool2d(maps, 4).flatten(1) @ form.double()]
        x = F.avg_pool2d(x, 2)
        inputs = torch.cat([x, F.avg_pool2d(maps, 2)], dim=1)
    return torch.cat([scale * group for scale, group in zip(extractor.SCALES, groups, strict=True)], dim=1)


def test_digest_is_pinned_and_covers_the_weights():
    class OtherSeed(RandomConv):
        SEED = 1

    class OtherWeights(RandomConv):
        def _digest(self):
            self._levels[-1][-1][0, 0] += 1e-3
            return super()._digest()

    class OtherPreprocessing(RandomConv):
        DESCRIPTION = RandomConv.DESCRIPTION.replace("bicubic", "bilinear")

    extractor = RandomConv()
    assert (extractor.name, extractor.digest) == ("random_conv", DIGEST)
    others = {cls().digest for cls in (OtherSeed, OtherWeights, OtherPreprocessing)}
    assert len(others | {DIGEST}) == 4


@pytest.mark.parametrize("size", [16, 64, 100])
def test_features_are_what_the_description_says(size):
    extractor, images = RandomConv(), noise_images(3, size)
    torch.testing.assert_close(extractor(images).double(), as_described(extractor, images), rtol=1e-5, atol=1e-4)


def test_an_image_s_features_do_not_depend_on_its_batch():
    extractor, images = RandomConv(), noise_images(CHUNK + 3, 32)
    together = extractor(images)
    assert together.shape == (CHUNK + 3, extractor.dim)
    assert together.dtype == torch.float32
    for number in range(CHUNK + 3):
        torch.testing.assert_close(extractor(images[number : number + 1])[0], together[number], rtol=1e-4, atol=1e-4)


def test_views_that_only_can_be_read_serve_as_well():
    extractor, images = RandomConv(), noise_images(4, 32)
    images.flags.writeable = False
    mirrored = images[:, :, ::-1]
    torch.testing.assert_close(extractor(mirrored), extractor(mirrored.copy()), rtol=0, atol=0)


@pytest.mark.parametrize("size", [32, 64])
def test_floats_are_neither_rounded_nor_changed(size):
    extractor, images = RandomConv(), noise_images(4, size)
    pixels = torch.tensor(images).permute(0, 3, 1, 2).float()
    before = extractor.features(pixels)
    torch.testing.assert_close(before, extractor(images), rtol=1e-5, atol=1e-4)
    assert pixels.numpy().astype(np.uint8).transpose(0, 2, 3, 1).tobytes() == images.tobytes()
    direction = torch.rand(pixels.shape, generator=torch.Generator().manual_seed(0))
    little, twice = (extractor.features(pixels + step * direction) - before for step in (0.1, 0.2))
    assert little.norm() > 0.01
    torch.testing.assert_close(twice, 2 * little, rtol=0, atol=0.03 * float(twice.abs().max()))


@pytest.mark.parametrize("size", [8, 32, 64, 128])
def test_texture_and_form_are_blind_to_flat_images_and_layout_is_linear(size):
    extractor = RandomConv()
    flat = [np.full((1, size, size, 3), level, np.uint8) for level in (0, 51, 255)]
    black, dark, white = (extractor(image)[0] for image in flat)
    for features in (black, dark, white):
        torch.testing.assert_close(features[16:], torch.zeros(48), rtol=0, atol=1e-3)
    torch.testing.assert_close(white[:16], -black[:16], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(dark[:16], 0.6 * black[:16], rtol=1e-4, atol=1e-4)


def test_the_filters_keep_the_variance_of_white_noise():
    for filters, _, _ in RandomConv()._levels:
        torch.testing.assert_close(filters.square().sum((1, 2, 3)), torch.ones(16))
        torch.testing.assert_close(filters.sum((2, 3)), torch.zeros(filters.shape[:2]), rtol=0, atol=1e-5)
