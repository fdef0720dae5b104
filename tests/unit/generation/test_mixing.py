"""Style mixing: what each picture on the page shares with its row and its column."""

import numpy as np
import pytest
import torch

from components.generation.mixing import style_mixing
from components.models import build_generator


@pytest.fixture(scope="module")
def generator():
    return make(channels=3)


def make(channels):
    config = {"arch": "stylegan", "channel_base": 128, "channel_max": 16, "channels": channels}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_generator({"format": 1, "resolution": 16, "latent_dim": 8, **config}).eval()


def test_a_transparent_page_has_a_transparent_corner():
    page = style_mixing(make(channels=4), rows=[1], columns=[2], psi=1.0)
    assert page.shape == (4, 16, 16, 4)
    assert not page[0].any()
    assert page[1:, ..., 3].any()


def test_page(generator):
    page = style_mixing(generator, rows=[1, 2], columns=[3, 2, 4], psi=1.0).reshape(3, 4, 16, 16, 3)
    assert (page[0, 0] == 255).all()
    np.testing.assert_array_equal(page[2, 0], page[0, 2])  # one seed, one picture
    np.testing.assert_allclose(page[2, 2].astype(int), page[2, 0], atol=1)  # mixed with itself
    for row in (1, 2):
        for column in (1, 3):
            assert (page[row, column] != page[row, 0]).any()
            assert (page[row, column] != page[0, column]).any()


def test_psi_0_shows_one_picture(generator):
    page = style_mixing(generator, rows=[1], columns=[2, 3], psi=0.0)
    np.testing.assert_allclose(page[1:].astype(int), np.broadcast_to(page[1], page[1:].shape), atol=1)
