"""Pairs along latent paths: near each other, apart by the derivative times ε, and each seed's own."""

import pytest
import torch

from components.generation.paths import EPSILON, path_pairs
from components.models import build_generator

CONFIG = {
    **{"format": 1, "arch": "stylegan", "resolution": 16, "channels": 3},
    **{"latent_dim": 8, "channel_base": 128, "channel_max": 16},
}


@pytest.fixture(scope="module")
def generator():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_generator(CONFIG).eval().requires_grad_(False)


def test_a_pair_does_not_depend_on_its_neighbours(generator):
    together = path_pairs(generator, [3, 7, 11])
    alone = path_pairs(generator, [7])
    for many, one in zip(together, alone, strict=True):
        torch.testing.assert_close(many[1:2], one, rtol=1e-4, atol=1e-4)
    assert (together[0][0] - together[0][1]).abs().max() > 0.01


def test_the_step_is_the_derivative_along_the_line_in_w(generator):
    """Central differences of the synthesis at the same w, with the noise of the seed."""
    seed, step = 5, 1e-2
    rng = torch.Generator().manual_seed(seed)
    z, other = (torch.randn(1, generator.latent_dim, generator=rng) for _ in range(2))
    t = torch.rand(1, generator=rng)
    noise = [torch.randn(1, 1, *shape, generator=rng) for shape in generator.noise_shapes()]
    begin, end = generator.mapping(z), generator.mapping(other)

    def at(position):
        return generator.synthesis(generator.truncate(torch.lerp(begin, end, position), 1.0), noise)

    slope = (at(t + step) - at(t - step)) / (2 * step)
    here, there = path_pairs(generator, [seed])
    difference = (there - here) / EPSILON - slope
    assert difference.abs().max() < 0.05 * slope.abs().max()
    assert difference.square().mean() < 1e-3 * slope.square().mean()
