"""R3GAN's parts against loops, scipy and closed forms; its initialisation's promise; its schedules' arithmetic."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.signal import upfirdn
from torch.autograd import gradgradcheck
from torch.func import functional_call
from torch.nn import functional as F

from components.config import R3gan, load_params
from components.models import build_discriminator, build_generator, build_recipe
from components.models.interface import Sizes
from components.models.r3gan import Discriminator, Downsample, Pointwise, ResidualBlock, Upsample
from components.training.ema import ema_beta
from components.training.losses import LOSSES

CONFIG = {"format": 1, "arch": "r3gan", "channels": 3, "latent_dim": 64}
SMALL = CONFIG | {"resolution": 16, "latent_dim": 8, "channel_base": 256, "channel_max": 32}
FFHQ64 = CONFIG | {"resolution": 64, "channel_base": 24576, "channel_max": 768}
SCHEDULES = R3gan(decay_kimg=1000, final_learning_rate=5e-5, final_gamma=0.2, penalty_every=4)
TRAIN = replace(
    load_params("params.yaml").train,
    arch="r3gan",
    learning_rate=2e-4,
    gamma=2.0,
    ema_kimg=500,
    batch=8,
    r3gan=SCHEDULES,
)


def awake(network):
    """A network in which the last convolution of each block has left zero."""
    torch.manual_seed(2)
    for module in network.modules():
        if isinstance(module, ResidualBlock):
            module.contract.data.normal_(0, 0.1)
    return network


@pytest.fixture
def generator():
    torch.manual_seed(0)
    return awake(build_generator(SMALL))


@pytest.fixture
def discriminator():
    torch.manual_seed(1)
    return awake(build_discriminator(SMALL))


def draw(generator, z):
    return generator.synthesis(generator.truncate(generator.mapping(z), 1.0), [])


# ── the residual block ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_block_begins_as_the_identity():
    torch.manual_seed(0)
    x = torch.randn(2, 32, 6, 6)
    assert torch.equal(ResidualBlock(32, blocks=8)(x), x)


@pytest.mark.parametrize(("width", "groups"), [(8, 1), (12, 1), (16, 2), (28, 2), (32, 4)])
def test_a_block_against_a_loop_over_its_groups(width, groups):
    torch.manual_seed(0)
    block = awake(ResidualBlock(width, blocks=8)).double()
    block.expand_bias.data.normal_()
    block.grouped_bias.data.normal_()
    x = torch.randn(2, width, 5, 5, dtype=torch.float64)
    hidden = F.leaky_relu(F.conv2d(x, block.expand[:, :, None, None], block.expand_bias), 0.2)
    size, parts = 2 * width // groups, []
    for group in range(groups):
        own = slice(group * size, group * size + size)
        parts.append(F.conv2d(hidden[:, own], block.grouped[own], block.grouped_bias[own], padding=1))
    expected = x + F.conv2d(F.leaky_relu(torch.cat(parts, 1), 0.2), block.contract[:, :, None, None])
    torch.testing.assert_close(block(x), expected)


def test_groups_of_the_paper_for_ffhq_64():
    with torch.device("meta"):
        networks = build_generator(FFHQ64), build_discriminator(FFHQ64)
    for network in networks:
        groups = {name: [b.groups for b in s if isinstance(b, ResidualBlock)] for name, s in network.stages.items()}
        assert groups == {"4": [96] * 2, "8": [96] * 2, "16": [96] * 2, "32": [96] * 2, "64": [48] * 2}


@pytest.mark.parametrize("width", range(1, 70))
def test_groups_divide_any_width_and_are_no_narrower_than_16(width):
    with torch.device("meta"):
        groups = ResidualBlock(width, blocks=2).groups
    assert 2 * width % groups == 0
    assert groups == 1 or 2 * width // groups >= 16
    assert width % 8 or groups == width // 8


def test_published_sizes_give_these_numbers_of_parameters():
    """Counted from the description: two blocks at 4², 8², 16², 32² of 768 and at 64² of 384."""

    def block(width):
        return 2 * width**2 + 2 * width + 2 * width * 16 * 9 + 2 * width + 2 * width**2

    shared = 2 * (4 * block(768) + block(384)) + 768 * 384 + 384 * 3 + 768 * 16
    with torch.device("meta"):
        networks = build_generator(FFHQ64), build_discriminator(FFHQ64)
    counts = [sum(p.numel() for p in network.parameters()) for network in networks]
    assert counts == [shared + 64 * 768, shared + 768]


# ── initialisation ────────────────────────────────────────────────────────────────────────────────────────────────


def test_inside_a_block_the_mean_square_is_one_but_for_the_depth():
    """MSR keeps it over each LeakyReLU; L^(-1/4) on the weights is L^(-1/2) on the square."""
    torch.manual_seed(0)
    block, blocks = ResidualBlock(256, blocks=16), 16
    hidden = F.leaky_relu(F.conv2d(torch.randn(8, 256, 12, 12), block.expand[:, :, None, None]), 0.2)
    assert hidden.square().mean().item() == pytest.approx(blocks**-0.5, rel=0.03)
    mixed = F.leaky_relu(F.conv2d(hidden, block.grouped, groups=block.groups), 0.2)
    assert mixed.square().mean().item() == pytest.approx(blocks**-1, rel=0.08)


@torch.no_grad()
def test_at_first_the_mean_square_is_the_same_at_every_depth():
    """Of what is constant over the image, away from borders, where the filters meet zeros."""
    config = CONFIG | {"resolution": 16, "channels": 256, "channel_base": 4096, "channel_max": 512}
    torch.manual_seed(0)
    generator, discriminator = build_generator(config), build_discriminator(config)
    generator.basis.fill_(1.0)
    seen = []
    for stage in (*generator.stages.values(), *discriminator.stages.values()):
        stage.register_forward_hook(
            lambda _, __, out: seen.append(out[:, :, out.shape[2] // 2, out.shape[3] // 2].square().mean().item())
        )
    draw(generator, torch.randn(64, 64))
    discriminator(torch.randn(64, 256, 1, 1).expand(-1, -1, 16, 16))
    assert len(seen) == 6
    assert seen == pytest.approx([1.0] * 6, rel=0.15)


@torch.no_grad()
def test_logits_begin_with_unit_variance():
    torch.manual_seed(0)
    discriminator = Discriminator(Sizes(resolution=4, channels=64, latent_dim=8, channel_base=4096, channel_max=1024))
    assert discriminator(torch.randn(512, 64, 4, 4)).square().mean().item() == pytest.approx(1, rel=0.15)


# ── resampling ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_resampling_is_scipys_with_1_2_1():
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 10))
    up = down = x
    for axis in (2, 3):
        half = down.shape[axis] // 2
        up = upfirdn([0.5, 1, 0.5], up, up=2, axis=axis).take(range(1, 1 + 2 * up.shape[axis]), axis)
        shifted = np.concatenate([np.zeros_like(down.take([0], axis)), down], axis)
        down = upfirdn([0.25, 0.5, 0.25], shifted, down=2, axis=axis).take(range(1, 1 + half), axis)
    given = torch.from_numpy(x)
    np.testing.assert_allclose(Upsample(3, 3).double()(given).numpy(), up, atol=1e-12)
    np.testing.assert_allclose(Downsample(3, 3).double()(given).numpy(), down, atol=1e-12)


def test_changing_the_width_commutes_with_resampling():
    """Both work on the fewer pixels: G mixes channels before it enlarges, D after it has halved."""
    torch.manual_seed(0)
    x = torch.randn(2, 6, 8, 8, dtype=torch.float64)
    for changing, same in ((Upsample(6, 4), Upsample(4, 4)), (Downsample(6, 4), Downsample(4, 4))):
        expected = same.double()(F.conv2d(x, changing.double().mix.weight[:, :, None, None]))
        torch.testing.assert_close(changing(x), expected)


# ── the networks ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("resolution", [32, 64, 128, 256, 512, 1024])
def test_shapes(resolution):
    config = CONFIG | {"resolution": resolution, "channel_base": 24576, "channel_max": 768, "channels": 4}
    with torch.device("meta"), torch.no_grad():
        images = draw(build_generator(config), torch.randn(2, 64))
        logits = build_discriminator(config)(images)
    assert (images.shape, images.dtype) == ((2, 4, resolution, resolution), torch.float32)
    assert (logits.shape, logits.dtype) == ((2,), torch.float32)


def test_generator_begins_with_its_basis_scaled_by_z():
    generator = build_generator(CONFIG | {"resolution": 4, "channel_base": 64, "channel_max": 16})
    z = torch.randn(5, 64)
    expected = torch.einsum("nd,wd,whv,cw->nchv", z, generator.scale, generator.basis, generator.to_image.weight)
    torch.testing.assert_close(draw(generator, z), expected, atol=1e-5, rtol=1e-5)


def test_discriminator_ends_with_a_kernel_for_each_map():
    discriminator = Discriminator(Sizes(resolution=4, channels=3, latent_dim=8, channel_base=64, channel_max=16))
    images = torch.randn(5, 3, 4, 4)
    maps = F.conv2d(images, discriminator.from_image.weight[:, :, None, None])
    features = F.conv2d(maps, discriminator.basis[:, None], groups=16).flatten(1)
    torch.testing.assert_close(discriminator(images), features @ discriminator.logit[0], atol=1e-5, rtol=1e-5)


def test_truncation_leaves_z_because_half_of_it_is_half_the_picture(generator):
    z = torch.randn(3, 8)
    truncated = generator.synthesis(generator.truncate(generator.mapping(z), 0.5), [])
    torch.testing.assert_close(truncated, draw(generator, z))
    torch.testing.assert_close(draw(generator, 0.5 * z), 0.5 * draw(generator, z), atol=0.05, rtol=0.05)


def test_every_parameter_gets_a_gradient(generator, discriminator):
    torch.manual_seed(3)
    reals = torch.randn(4, 3, 16, 16)
    LOSSES["relativistic"].generator(discriminator(reals), discriminator(draw(generator, torch.randn(4, 8)))).backward()
    for network in (generator, discriminator):
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


def test_double_backward_of_the_discriminator():
    """With respect to images and a weight, as the gradient penalties need it."""
    torch.manual_seed(0)
    discriminator = Discriminator(
        Sizes(resolution=8, channels=1, latent_dim=8, channel_base=32, channel_max=6, dtype=torch.float64)
    )
    awake(discriminator.double())
    images = torch.randn(2, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    name = "stages.8.0.grouped"

    def logits(images, weight):
        return functional_call(discriminator, {name: weight}, (images,))

    weight = discriminator.get_parameter(name).detach().clone().requires_grad_()
    assert gradgradcheck(logits, (images, weight), fast_mode=True)


def test_bfloat16_draws_and_judges_as_float32_does(generator, discriminator):
    z, images = torch.randn(4, 8), torch.randn(4, 3, 16, 16)
    half = build_generator(SMALL, torch.bfloat16), build_discriminator(SMALL, torch.bfloat16)
    for own, other in zip(half, (generator, discriminator), strict=True):
        own.load_state_dict(other.state_dict())
    for rough, fine in ((draw(half[0], z), draw(generator, z)), (half[1](images), discriminator(images))):
        assert rough.dtype == torch.float32
        assert 0 < (rough - fine).norm() / fine.norm() < 0.02


def test_pointwise_is_a_1x1_convolution_in_either_memory_format():
    layer, x = Pointwise(5, 7), torch.randn(2, 5, 3, 4)
    expected = F.conv2d(x, layer.weight[:, :, None, None])
    torch.testing.assert_close(layer(x), expected)
    out = layer(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(out, expected)
    assert out.is_contiguous(memory_format=torch.channels_last)


# ── the recipe ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("nimg", "done"),
    [(0, 0.0), (250_000, (2 - math.sqrt(2)) / 4), (500_000, 0.5), (1_000_000, 1.0), (2_000_000, 1.0)],
)
def test_schedules_follow_half_a_cosine_to_the_end_of_the_decay(nimg, done):
    phase = build_recipe(TRAIN, 64).phase(nimg)
    assert phase.learning_rate == pytest.approx(2e-4 - 1.5e-4 * done)
    assert phase.gamma == pytest.approx(2.0 - 1.8 * done)
    assert phase.beta2 == pytest.approx(0.9 + 0.09 * done)
    assert phase.ema_kimg == pytest.approx(500 * done, abs=1e-6)
    assert phase.augment == pytest.approx(done)
    assert (phase.resolution, phase.alpha, phase.batch) == (64, 1.0, 8)


def test_the_average_begins_as_the_generator_itself():
    assert ema_beta(4, build_recipe(TRAIN, 64).phase(0).ema_kimg) == 0


def test_the_recipe_has_the_papers_loss_and_penalties():
    recipe = build_recipe(TRAIN, 64)
    assert (recipe.loss, recipe.penalties, recipe.penalty_every) == ("relativistic", ("real", "fake"), 4)
    assert (recipe.path_length_every, recipe.style_mixing, recipe.w_avg_beta) == (0, 0, 1)
