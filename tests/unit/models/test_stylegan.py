"""StyleGAN's networks: sizes as published, growth, truncation, styles and noise."""

import pytest
import torch

from components.models import build_discriminator, build_generator
from components.models.layers import downsample, upsample

CONFIG = {"format": 1, "arch": "stylegan", "resolution": 32, "channels": 3, "latent_dim": 16}
SMALL = CONFIG | {"channel_base": 256, "channel_max": 16}


@pytest.fixture
def generator():
    torch.manual_seed(0)
    return build_generator(SMALL)


@pytest.fixture
def discriminator():
    torch.manual_seed(1)
    return build_discriminator(SMALL)


def inputs(generator, count=3):
    random = torch.Generator().manual_seed(0)
    w = generator.mapping(torch.randn(count, generator.latent_dim, generator=random))
    noise = [torch.randn(count, 1, *shape, generator=random) for shape in generator.noise_shapes()]
    return generator.truncate(w, 1.0), noise


def test_the_full_size_has_the_published_number_of_parameters():
    """26.2 million for 1024² (Karras et al. 2018, section 2)."""
    with torch.device("meta"):
        full = build_generator(
            CONFIG | {"resolution": 1024, "latent_dim": 512, "channel_base": 16384, "channel_max": 512}
        )
    assert sum(p.numel() for p in full.parameters()) / 1e6 == pytest.approx(26.2, abs=0.05)
    assert full.num_layers == 18


def test_generator_fade_in(generator):
    ws, noise = inputs(generator)
    small = generator.synthesis(ws, noise, resolution=16)
    large = generator.synthesis(ws, noise, resolution=32)
    assert large.shape == (3, 3, 32, 32)
    torch.testing.assert_close(generator.synthesis(ws, noise, resolution=32, alpha=0.0), upsample(small))
    torch.testing.assert_close(
        generator.synthesis(ws, noise, resolution=32, alpha=0.25), 0.75 * upsample(small) + 0.25 * large
    )


def test_discriminator_fade_in(discriminator):
    images = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(discriminator(images, alpha=0.0), discriminator(downsample(images)))
    logits = discriminator(images)
    assert logits.shape == (4,)
    torch.testing.assert_close(discriminator(images, alpha=1 - 1e-7), logits, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(discriminator(images, alpha=0.5), logits)


def test_truncation_moves_the_first_layers_towards_the_mean(generator):
    generator.w_avg.copy_(torch.randn(16))
    w = torch.randn(2, 16)
    ws = generator.truncate(w, 0.25, cutoff=4)
    assert ws.shape == (2, 8, 16)
    expected = generator.w_avg + 0.25 * (w - generator.w_avg)
    for layer in range(8):
        torch.testing.assert_close(ws[:, layer], expected if layer < 4 else w)
    torch.testing.assert_close(generator.truncate(w, 0.0)[:, 0], generator.w_avg.expand(2, -1))


def test_fine_styles_leave_the_coarse_image_alone(generator):
    """With another w from 16² on, what was drawn at 8² is the same: styles are local to their resolution."""
    ws, noise = inputs(generator)
    changed = ws.clone()
    changed[:, 4:] = torch.randn(3, 1, 16)
    torch.testing.assert_close(
        generator.synthesis(ws, noise, resolution=8), generator.synthesis(changed, noise, resolution=8)
    )
    assert not torch.allclose(generator.synthesis(ws, noise), generator.synthesis(changed, noise))


def test_noise_begins_without_effect_and_then_has_one(generator):
    ws, noise = inputs(generator)
    silent = [torch.zeros_like(n) for n in noise]
    torch.testing.assert_close(generator.synthesis(ws, noise), generator.synthesis(ws, silent))
    for block in generator.blocks.values():
        block.layer1.noise_weight.data.fill_(0.5)
    assert not torch.allclose(generator.synthesis(ws, noise), generator.synthesis(ws, silent))


def test_every_parameter_gets_a_gradient_at_full_growth(generator, discriminator):
    ws, noise = inputs(generator, count=4)
    discriminator(
        generator.synthesis(ws, noise, resolution=generator.resolution, alpha=0.5), alpha=0.5
    ).sum().backward()
    unused = ("blocks.4.to_image", "blocks.8.to_image", "blocks.4.from_image", "blocks.8.from_image")
    for module in (generator, discriminator):
        for name, parameter in module.named_parameters():
            if not name.startswith(unused):
                assert parameter.grad is not None, name
                assert parameter.grad.abs().sum() > 0, name


def test_a_generator_draws_as_far_as_it_has_grown(generator):
    """Between two resolutions: the fade's picture, enlarged to the finished size."""
    growing = build_generator(SMALL | {"growth": [16, 0.25]})
    growing.load_state_dict(generator.state_dict())
    ws, noise = inputs(generator)
    expected = upsample(generator.synthesis(ws, noise, resolution=16, alpha=0.25))
    torch.testing.assert_close(growing.synthesis(ws, noise), expected, rtol=0, atol=0)
    finished = generator.synthesis(ws, noise)
    torch.testing.assert_close(finished, generator.synthesis(ws, noise, resolution=32), rtol=0, atol=0)
    assert finished.shape == expected.shape
