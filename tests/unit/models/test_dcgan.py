"""DCGAN's networks against the same layers of torch.nn, and against the classic loop's counts."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from components.config import load_params
from components.models import build_discriminator, build_generator, build_recipe

CONFIG = {"format": 1, "arch": "dcgan", "resolution": 64, "channels": 3, "latent_dim": 100}
FULL = CONFIG | {"channel_base": 2048, "channel_max": 512}
SMALL = CONFIG | {"latent_dim": 10, "channel_base": 256, "channel_max": 32}


@pytest.fixture(params=[8, 16, 64])
def networks(request):
    torch.manual_seed(0)
    config = SMALL | {"resolution": request.param}
    return build_generator(config), build_discriminator(config)


def plain_generator(own):
    """The paper's layers, with the weights of ours."""
    layers = []
    for number, (size, layer) in enumerate(own.layers.items()):
        inner, outer = layer.weight.shape[:2]
        conv = nn.ConvTranspose2d(inner, outer, 4, 2 if number else 1, 1 if number else 0, bias=False)
        conv.weight.data.copy_(layer.weight)
        norm = nn.BatchNorm2d(outer)
        norm.weight.data.copy_(own.norms[size].weight)
        layers += [conv, norm, nn.ReLU()]
    conv = nn.ConvTranspose2d(own.to_image.weight.shape[0], 3, 4, 2, 1, bias=False)
    conv.weight.data.copy_(own.to_image.weight)
    return nn.Sequential(*layers, conv, nn.Tanh())


def plain_discriminator(own):
    kernels = [own.from_image.weight, *(layer.weight for layer in own.layers.values())]
    layers = []
    for number, kernel in enumerate(kernels):
        conv = nn.Conv2d(kernel.shape[1], kernel.shape[0], 4, 2, 1, bias=False)
        conv.weight.data.copy_(kernel)
        layers.append(conv)
        if number:
            norm = nn.BatchNorm2d(kernel.shape[0])
            norm.weight.data.copy_(list(own.norms.values())[number - 1].weight)
            layers.append(norm)
        layers.append(nn.LeakyReLU(0.2))
    last = nn.Conv2d(kernels[-1].shape[0], 1, 4, 1, 0, bias=False)
    last.weight.data.copy_(own.logit.weight)
    return nn.Sequential(*layers, last)


def draw(generator, z):
    return generator.synthesis(generator.truncate(generator.mapping(z), 1.0), [])


def test_parameters_at_64_are_the_classic_loop_s():
    with torch.device("meta"):
        counts = [sum(p.numel() for p in build(FULL).parameters()) for build in (build_generator, build_discriminator)]
    assert counts == [3_576_704, 2_765_568]


def test_widths_at_64_are_the_paper_s():
    with torch.device("meta"):
        generator, discriminator = build_generator(FULL), build_discriminator(FULL)
    kernels = [*(layer.weight for layer in generator.layers.values()), generator.to_image.weight]
    assert [tuple(kernel.shape[:2]) for kernel in kernels] == [(100, 512), (512, 256), (256, 128), (128, 64), (64, 3)]
    kernels = [discriminator.from_image.weight, *(layer.weight for layer in discriminator.layers.values())]
    assert [tuple(k.shape[:2]) for k in kernels] == [(64, 3), (128, 64), (256, 128), (512, 256)]


def test_the_generator_is_its_layers_of_torch(networks):
    own, plain = networks[0], plain_generator(networks[0])
    z, goal = torch.randn(6, 10), torch.randn(6, 3, own.resolution, own.resolution)
    for _ in range(3):  # the running statistics move alike
        ours, theirs = draw(own, z), plain(z[:, :, None, None])
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    for image in (ours, theirs):
        (image * goal).sum().backward()
    weights = [*(layer.weight for layer in own.layers.values()), own.to_image.weight]
    for weight, conv in zip(weights, [m for m in plain if isinstance(m, nn.ConvTranspose2d)], strict=True):
        torch.testing.assert_close(weight.grad, conv.weight.grad, rtol=1e-3, atol=1e-3)
    own.eval(), plain.eval()
    with torch.no_grad():
        torch.testing.assert_close(draw(own, z), plain(z[:, :, None, None]), rtol=1e-4, atol=1e-5)


def test_the_discriminator_is_its_layers_of_torch(networks):
    own, plain = networks[1], plain_discriminator(networks[1])
    ours, theirs = (torch.randn(6, 3, own.resolution, own.resolution).requires_grad_() for _ in range(2))
    theirs.data.copy_(ours.data)
    logits, expected = own(ours), plain(theirs).flatten()
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    logits.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-6)
    for weight, conv in zip(
        [own.from_image.weight, *(layer.weight for layer in own.layers.values()), own.logit.weight],
        [m for m in plain if isinstance(m, nn.Conv2d)],
        strict=True,
    ):
        torch.testing.assert_close(weight.grad, conv.weight.grad, rtol=1e-3, atol=1e-5)


def test_weights_begin_as_published():
    torch.manual_seed(0)
    for network in (build_generator(FULL), build_discriminator(FULL)):
        for name, parameter in network.named_parameters():
            if parameter.ndim == 4:
                assert parameter.std().item() == pytest.approx(0.02, rel=0.05), name
                assert abs(parameter.mean().item()) < 0.001, name
            elif name.endswith("weight"):
                assert parameter.mean().item() == pytest.approx(1, abs=0.01), name
                assert parameter.std().item() == pytest.approx(0.02, rel=0.3), name
            else:
                assert not parameter.any(), name


def test_a_picture_of_an_evaluated_generator_is_its_latent_s_alone(networks):
    generator, z = networks[0], torch.randn(6, 10)
    draw(generator, z)
    generator.eval()
    with torch.no_grad():
        torch.testing.assert_close(draw(generator, z)[2:3], draw(generator, z[2:3]), rtol=1e-4, atol=1e-6)


def test_bfloat16_is_near_float32():
    torch.manual_seed(0)
    exact = build_generator(SMALL), build_discriminator(SMALL)
    half = build_generator(SMALL, torch.bfloat16), build_discriminator(SMALL, torch.bfloat16)
    for own, other in zip(half, exact, strict=True):
        own.load_state_dict(other.state_dict())
    z, images = torch.randn(8, 10), torch.randn(8, 3, 64, 64)
    for one, other in ((draw(half[0], z), draw(exact[0], z)), (half[1](images), exact[1](images))):
        assert one.dtype == torch.float32
        assert (one - other).abs().mean() < 0.03 * other.abs().mean()


def test_the_recipe_is_the_paper_s():
    config = load_params("params.yaml").train
    recipe = build_recipe(replace(config, arch="dcgan", batch=64, learning_rate=0.0002, ema_kimg=0.0), 64)
    assert (recipe.loss, recipe.penalties, recipe.path_length_every) == ("logistic", (), 0)
    for nimg in (0, 10**6):
        phase = recipe.phase(nimg)
        assert (phase.beta1, phase.beta2, phase.learning_rate, phase.batch) == (0.5, 0.999, 0.0002, 64)
