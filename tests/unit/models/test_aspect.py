"""Images that are not square: every arch draws and judges them, from a coarsest map of their proportions."""

import pytest
import torch

from components.config import ARCHS
from components.models import build_discriminator, build_generator

CONFIG = {"format": 1, "resolution": 32, "channels": 3, "latent_dim": 8, "channel_base": 128, "channel_max": 16}


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("grid", [(3, 4), (4, 3)])
def test_images_have_the_proportions_of_the_grid(arch, grid):
    config = CONFIG | {"arch": arch, "grid": list(grid)}
    generator, discriminator = build_generator(config), build_discriminator(config)
    ws = generator.truncate(generator.to_w(torch.randn(4, 8)), 1.0)
    noise = [torch.randn(4, 1, *shape) for shape in generator.noise_shapes()]
    images = generator.synthesis(ws, noise)
    assert images.shape == (4, 3, 8 * grid[0], 8 * grid[1])
    assert discriminator(images).shape == (4,)
    generator.growth = (16, 1.0)  # drawn at half the size, then enlarged
    assert generator.synthesis(ws, noise).shape == images.shape


def test_wide_networks_too():
    """Wide enough for the strided convolutions that only square maps have."""
    config = CONFIG | {"arch": "dcgan", "grid": [3, 4], "channel_base": 2048, "channel_max": 128}
    images = torch.randn(2, 3, 24, 32)
    assert build_discriminator(config)(images).shape == (2,)
    generator = build_generator(config)
    assert generator.synthesis(torch.randn(2, 1, 8), []).shape == images.shape


@pytest.mark.parametrize("arch", ARCHS)
def test_without_a_grid_it_is_square(arch):
    plain, square = (build_generator(CONFIG | {"arch": arch} | more) for more in ({}, {"grid": [4, 4]}))
    assert [p.shape for p in plain.parameters()] == [p.shape for p in square.parameters()]
