"""StyleGAN2's networks: sizes as published, modulation against a loop over images, gains, and the skip connections."""

import math

import numpy as np
import pytest
import torch
from scipy.signal import upfirdn
from torch.nn import functional as F

from components.models import build_discriminator, build_generator
from components.models.layers import RELU_GAIN, EqualConv2d, fir, fir_downsample, fir_upsample, minibatch_stddev
from components.models.stylegan2 import ModulatedConv2d, StyledLayer

CONFIG = {"format": 1, "arch": "stylegan2", "channels": 3}
FULL = CONFIG | {"latent_dim": 512, "channel_base": 16384, "channel_max": 512}
SMALL = CONFIG | {"resolution": 32, "latent_dim": 16, "channel_base": 256, "channel_max": 16}


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.fixture
def generator():
    torch.manual_seed(0)
    return build_generator(SMALL)


def inputs(generator, images=4):
    random = torch.Generator().manual_seed(1)
    w = generator.mapping(torch.randn(images, generator.latent_dim, generator=random))
    noise = [torch.randn(images, 1, *shape, generator=random) for shape in generator.noise_shapes()]
    return generator.truncate(w, 1.0), noise


@pytest.mark.parametrize(
    ("resolution", "parameters_g", "parameters_d"),
    [
        (32, 19_947_539, 21_507_073),
        (64, 22_243_608, 23_407_361),
        (128, 22_949_277, 23_882_369),
        (256, 23_191_522, 24_001_089),
    ],
)
def test_parameters_are_as_many_as_published(resolution, parameters_g, parameters_d):
    with torch.device("meta"):
        networks = [build(FULL | {"resolution": resolution}) for build in (build_generator, build_discriminator)]
    assert [count(network) for network in networks] == [parameters_g, parameters_d]


@pytest.mark.parametrize("resolution", [32, 64, 128, 256, 512, 1024])
def test_images_and_logits_have_their_shapes(resolution):
    with torch.device("meta"):
        config = FULL | {"resolution": resolution}
        generator, discriminator = build_generator(config), build_discriminator(config)
        images = generator.synthesis(*inputs_on_meta(generator))
        assert images.shape == (4, 3, resolution, resolution)
        assert discriminator(images).shape == (4,)


def inputs_on_meta(generator):
    return torch.empty(4, generator.num_layers, 512), [torch.empty(4, 1, *s) for s in generator.noise_shapes()]


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("gain", [1.0, math.sqrt(2)])
def test_modulated_convolution_against_a_loop_over_images(up, gain):
    """Each image by a kernel of its own, scaled by its style and brought to unit norm (equations 1 and 3)."""
    torch.manual_seed(0)
    layer = ModulatedConv2d(5, 7, 3, 16, gain=gain, up=up).double()
    x, w = torch.randn(3, 5, 8, 8, dtype=torch.float64), torch.randn(3, 16, dtype=torch.float64)
    styles = layer.style(w)
    for image, style, result in zip(x, styles, layer(x, styles) * layer.demodulation(styles), strict=True):
        kernel = layer.weight * style[:, None, None]
        kernel = kernel / torch.sqrt(kernel.square().sum((1, 2, 3), keepdim=True) + 1e-8)
        if up:  # zeros between the pixels, the kernel turned about, then the filter
            spread = torch.zeros(1, 5, 17, 17, dtype=torch.float64)
            spread[:, :, 1:16:2, 1:16:2] = image
            expected = fir(F.conv2d(spread, kernel.flip(2, 3), padding=1), padding=1, gain=4.0)
        else:
            expected = F.conv2d(image[None], kernel, padding=1)
        torch.testing.assert_close(result, gain * expected[0])


def test_demodulation_keeps_unit_variance():
    torch.manual_seed(0)
    layer = ModulatedConv2d(64, 64, 3, 32, gain=1.0)
    style = layer.style(5 * torch.randn(8, 32))
    inner = (layer(torch.randn(8, 64, 16, 16), style) * layer.demodulation(style))[:, :, 1:-1, 1:-1]
    torch.testing.assert_close(inner.var((0, 2, 3)).mean(), torch.tensor(1.0), atol=0.05, rtol=0)


def fir_by_scipy(x, up=1, down=1, gain=1.0):
    row = np.array([1, 3, 3, 1]) / 8 * math.sqrt(gain)
    for axis in (2, 3):
        x = upfirdn(row, x, up=up, down=down, axis=axis)
    return x


def test_filters_against_scipy():
    x = torch.randn(2, 3, 10, 10, dtype=torch.float64)
    full = fir_by_scipy(x.numpy())
    np.testing.assert_allclose(fir(x, padding=2).numpy(), full[:, :, 1:-1, 1:-1], atol=1e-12)
    up = fir_by_scipy(x.numpy(), up=2, gain=4.0)
    np.testing.assert_allclose(fir_upsample(x).numpy(), up[:, :, 1:21, 1:21], atol=1e-12)
    np.testing.assert_allclose(fir_downsample(x).numpy(), full[:, :, 2:12:2, 2:12:2], atol=1e-12)


def test_downsampling_convolution_is_the_filter_and_every_second_pixel():
    conv = EqualConv2d(3, 5, 3, resample="fir_down").double()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    full = F.conv2d(fir(x, padding=2), conv.weight * conv.scale, conv.bias)
    torch.testing.assert_close(conv(x), full[:, :, ::2, ::2])


def test_a_styled_layer_adds_noise_and_bias_after_demodulation():
    layer = StyledLayer(4, 6, 8)
    layer.noise_strength.data.fill_(0.3)
    layer.bias.data.normal_()
    x, w, noise = torch.randn(2, 4, 8, 8), torch.randn(2, 8), torch.randn(2, 1, 8, 8)
    style = layer.conv.style(w)
    expected = F.leaky_relu(
        layer.conv(x, style) * layer.conv.demodulation(style) + 0.3 * noise + layer.bias[:, None, None], 0.2
    )
    torch.testing.assert_close(layer(x, w, noise), expected)


def test_left_out_gains_leave_the_paper_s_numbers(generator):
    """With every √2 where the paper has it, activations and image are the same."""
    ws, noise = inputs(generator)
    ws = torch.randn_like(ws)  # each layer its own
    for block in generator.blocks.values():
        block.layer1.noise_strength.data.fill_(0.2)
        block.layer1.bias.data.normal_()

    def activated(layer, x, w, noise):
        style = layer.conv.style(w)
        kernel = layer.conv.weight[None] * style[:, None, :, None, None]
        kernel = kernel * torch.rsqrt(kernel.square().sum((2, 3, 4), keepdim=True) + 1e-8)
        if layer.conv.up:
            one = [
                fir(F.conv_transpose2d(image[None], k.transpose(0, 1), stride=2), padding=1, gain=4.0)
                for image, k in zip(x, kernel, strict=True)
            ]
        else:
            one = [F.conv2d(image[None], k, padding=1) for image, k in zip(x, kernel, strict=True)]
        out = torch.cat(one) + noise * layer.noise_strength + layer.bias[:, None, None]
        return F.leaky_relu(out, 0.2) * math.sqrt(2)

    x, image, layer, source = None, None, 0, iter(noise)
    for block in generator.blocks.values():
        if x is None:
            x = block.constant.expand(len(ws), -1, -1, -1)
        else:
            x, layer = activated(block.layer0, x, ws[:, layer], next(source)), layer + 1
        x, layer = activated(block.layer1, x, ws[:, layer], next(source)), layer + 1
        to_image = block.to_image
        style = to_image.style(ws[:, layer]) / math.sqrt(x.shape[1])
        own = torch.einsum("nchw,nc,oc->nohw", x, style, to_image.weight)
        own = own + to_image.bias[:, None, None]
        image = own if image is None else fir_upsample(image) + own
    torch.testing.assert_close(generator.synthesis(ws, noise), image, atol=1e-4, rtol=1e-4)


def test_the_discriminator_s_left_out_gains_leave_the_paper_s_numbers():
    torch.manual_seed(1)
    discriminator = build_discriminator(SMALL)
    images = torch.randn(4, 3, 32, 32)

    def conv(layer, x, gain=RELU_GAIN, stride=1):
        weight = layer.weight / math.sqrt(layer.weight[0].numel())
        x = F.conv2d(x, weight, layer.bias, stride=stride, padding=weight.shape[-1] // 2 if stride == 1 else 0)
        return gain * F.leaky_relu(x, 0.2)

    x = conv(discriminator.from_image, images)
    for block in discriminator.blocks.values():
        skip = F.conv2d(fir_downsample(x), block.skip.weight / math.sqrt(x.shape[1])) * math.sqrt(0.5)
        x = skip + conv(block.conv1, fir(conv(block.conv0, x), padding=2), gain=1.0, stride=2)
    head = discriminator.head
    x = conv(head.conv, minibatch_stddev(x)).flatten(1)
    x = math.sqrt(2) * F.leaky_relu(x @ head.hidden.weight.T / math.sqrt(x.shape[1]) + head.hidden.bias, 0.2)
    expected = x @ head.logit.weight.T / math.sqrt(x.shape[1]) + head.logit.bias
    torch.testing.assert_close(discriminator(images), expected[:, 0], atol=1e-4, rtol=1e-4)


def test_the_mapping_network_is_two_layers_after_pixel_norm(generator):
    z = torch.randn(3, 16)
    x = z / z.square().mean(1, keepdim=True).sqrt()
    for layer in generator.mapping.layers:
        assert layer.weight.std().item() == pytest.approx(100, rel=0.2)
        x = F.leaky_relu(0.01 * (x @ layer.weight.T / 4 + layer.bias), 0.2) * math.sqrt(2)
    torch.testing.assert_close(generator.mapping(z), x, atol=1e-4, rtol=1e-4)


def test_every_parameter_gets_a_gradient(generator):
    torch.manual_seed(1)
    discriminator = build_discriminator(SMALL)
    ws, noise = inputs(generator)
    discriminator(generator.synthesis(ws, noise)).sum().backward()
    for network in (generator, discriminator):
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


def test_new_resolutions_begin_without_effect(generator):
    """A generator that took over a smaller one's weights draws the smaller one's picture, enlarged."""
    small = build_generator(SMALL | {"resolution": 16})
    generator.load_state_dict(generator.state_dict() | small.state_dict())
    generator.begin_at(16)
    ws, noise = inputs(generator)
    expected = fir_upsample(small.synthesis(ws[:, :-2], noise[:-2]))
    torch.testing.assert_close(generator.synthesis(ws, noise), expected, atol=1e-5, rtol=1e-5)
