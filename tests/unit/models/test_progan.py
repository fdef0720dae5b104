"""ProGAN's networks against the paper's table and the steps written out in torch; its schedule."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from components.config import load_params
from components.models import build_discriminator, build_generator, build_recipe
from components.models.layers import RELU_GAIN, downsample, upsample

CONFIG = {"format": 1, "arch": "progan", "resolution": 32, "channels": 3, "latent_dim": 16}
SMALL = CONFIG | {"channel_base": 256, "channel_max": 16}
PARAMS = load_params("params.yaml").train
RECIPE = replace(PARAMS, arch="progan", progan=replace(PARAMS.progan, stable_kimg=600, fade_kimg=600), gamma=10.0)


@pytest.fixture
def networks():
    torch.manual_seed(0)
    networks = build_generator(SMALL), build_discriminator(SMALL)
    for network in networks:
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.data = 0.3 * torch.randn_like(parameter)
    return networks


def draw(generator, z, **phase):
    return generator.synthesis(generator.truncate(generator.mapping(z), 1.0), [], **phase)


def test_the_full_size_has_the_published_number_of_parameters():
    """23.1 million each at 1024², with that resolution's own image layers alone (Karras et al. 2017, table 2)."""
    full = CONFIG | {"resolution": 1024, "latent_dim": 512, "channel_base": 16384, "channel_max": 512}
    with torch.device("meta"):
        networks = build_generator(full), build_discriminator(full)
    for network in networks:
        counts = {name: p.numel() for name, p in network.named_parameters()}
        unused = sum(n for name, n in counts.items() if "_image" in name and "blocks.1024." not in name)
        assert (sum(counts.values()) - unused) / 1e6 == pytest.approx(23.1, abs=0.05)


def normed(x):
    return x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()


def conv(layer, x, gain=RELU_GAIN):
    weight = layer.weight * gain / math.sqrt(layer.weight[0].numel())
    return F.conv2d(x, weight, layer.bias, padding=weight.shape[-1] // 2)


def leaky(x):
    return F.leaky_relu(x, 0.2)


def test_the_generator_is_the_papers_steps(networks):
    own, _ = networks
    z = torch.randn(3, 16)
    first = own.blocks["4"].conv0
    kernel = first.weight.permute(1, 0, 2, 3).flip(2, 3) * math.sqrt(
        2 / (16 * 16)
    )  # as a convolution of the padded pixel
    x = F.conv2d(normed(z)[:, :, None, None], kernel, first.bias, padding=3)
    for size, block in own.blocks.items():
        x = normed(leaky(x if size == "4" else conv(block.conv0, upsample(x))))
        x = normed(leaky(conv(block.conv1, x)))
    torch.testing.assert_close(draw(own, z), conv(block.to_image, x, gain=1.0), rtol=1e-3, atol=1e-4)


def test_the_discriminator_is_the_papers_steps(networks):
    _, own = networks
    images = torch.randn(4, 3, 32, 32)
    x = leaky(conv(own.blocks["32"].from_image, images))
    for size in ("32", "16", "8"):
        block = own.blocks[size]
        x = leaky(downsample(conv(block.conv1, leaky(conv(block.conv0, x)))))
    deviation = x.std(0, correction=0).mean().expand(4, 1, 4, 4)
    head = own.blocks["4"]
    x = leaky(conv(head.conv, torch.cat([x, deviation], 1))).flatten(1)
    x = leaky(F.linear(x, head.hidden.weight * math.sqrt(2 / 256), head.hidden.bias))
    expected = F.linear(x, head.logit.weight / 4, head.logit.bias).squeeze(1)
    torch.testing.assert_close(own(images), expected, rtol=1e-3, atol=1e-4)


def test_weights_begin_with_unit_variance():
    torch.manual_seed(0)
    for network in (build_generator(CONFIG | {"channel_base": 4096, "channel_max": 128}), build_discriminator(SMALL)):
        weights = torch.cat([p.flatten() for name, p in network.named_parameters() if name.endswith("weight")])
        assert weights.std().item() == pytest.approx(1, abs=0.02)
        assert not any(p.any() for name, p in network.named_parameters() if name.endswith("bias"))


def test_both_networks_fade(networks):
    generator, discriminator = networks
    z, images = torch.randn(4, 16), torch.randn(4, 3, 32, 32)
    small, large = draw(generator, z, resolution=16), draw(generator, z, resolution=32)
    faded = draw(generator, z, resolution=32, alpha=0.25)
    torch.testing.assert_close(faded, 0.75 * upsample(small) + 0.25 * large, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(discriminator(images, alpha=0.0), discriminator(downsample(images)))
    assert not torch.allclose(discriminator(images, alpha=0.5), discriminator(images))


def test_it_grows_from_4_by_its_own_schedule_with_one_batch_and_rate():
    phases = {kimg: build_recipe(RECIPE, 64).phase(kimg * 1000) for kimg in (0, 599, 600, 900, 1800, 4500, 20_000)}
    assert {kimg: (phase.resolution, phase.alpha) for kimg, phase in phases.items()} == {
        **{0: (4, 1), 599: (4, 1), 600: (8, 0), 900: (8, 0.5), 1800: (16, 0)},
        **{4500: (64, 0.5), 20_000: (64, 1)},
    }
    for phase in phases.values():
        assert (phase.batch, phase.learning_rate) == (RECIPE.batch, RECIPE.learning_rate)
        assert (phase.beta1, phase.beta2) == (0, 0.99)
