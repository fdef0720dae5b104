"""What extractors share: the resize, held to Pillow's, and the conditions under which they compute."""

import numpy as np
import pytest
import torch
from PIL import Image

from components.evaluation.extractor import measuring, resize


@pytest.mark.parametrize(("source", "size"), [(17, 64), (32, 64), (64, 299), (100, 64), (300, 64), (512, 299)])
@pytest.mark.parametrize("hard", [False, True], ids=["noise", "black and white"])
def test_the_resize_is_pillow_s(source, size, hard):
    planes = np.random.default_rng(0).uniform(0, 255, (2, source, source)).astype(np.float32)
    planes = np.float32(255) * (planes > 128) if hard else planes
    found = resize(torch.tensor(planes)[None], size)[0].numpy()
    expected = [np.asarray(Image.fromarray(plane).resize((size, size), Image.Resampling.BICUBIC)) for plane in planes]
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.01)  # of 255


def test_the_right_size_is_left_as_it_is():
    pixels = torch.rand(2, 3, 64, 64)
    assert resize(pixels, 64) is pixels


def test_measuring_needs_no_gradients_and_computes_in_full_float32():
    def seen():
        return torch.backends.cudnn.allow_tf32, torch.is_inference_mode_enabled()

    before = seen()
    with measuring():
        assert seen() == (False, True)
    assert seen() == before
