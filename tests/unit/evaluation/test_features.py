"""The random_conv extractor: pinned identity, and answers known without running it."""

import numpy as np
import pytest
import torch

from components.evaluation.features import RandomConv, build_extractor

DIGEST = "b564a91713b417a4c18c2ba2778daf9e22519e603cfd29c1a4da4752d7612e57"


def noise_images(count, size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def test_digest_is_pinned_and_covers_the_weights():
    class OtherSeed(RandomConv):
        SEED = 1

    class OtherWeights(RandomConv):
        def _digest(self):
            self._levels[-1][-1][0, 0] += 1e-3
            return super()._digest()

    class OtherPreprocessing(RandomConv):
        DESCRIPTION = RandomConv.DESCRIPTION.replace("bicubic", "bilinear")

    extractor = build_extractor("random_conv")
    assert (extractor.name, extractor.digest) == ("random_conv", DIGEST)
    others = {cls().digest for cls in (OtherSeed, OtherWeights, OtherPreprocessing)}
    assert len(others | {DIGEST}) == 4


def test_an_image_s_features_do_not_depend_on_its_batch():
    extractor, images = RandomConv(), noise_images(5, 32)
    together = extractor(images)
    assert together.shape == (5, extractor.dim)
    assert together.dtype == torch.float32
    for number in range(5):
        torch.testing.assert_close(extractor(images[number : number + 1])[0], together[number], rtol=1e-4, atol=1e-4)


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
