"""The networks' parts against their equations, scipy and the unfused steps."""

import math

import numpy as np
import pytest
import scipy.ndimage
import torch
from torch.nn import functional as F

from components.models.layers import (
    EqualConv2d,
    EqualLinear,
    adain,
    blur,
    minibatch_stddev,
    pixel_norm,
)


def test_adain_gives_each_channel_the_styles_mean_and_deviation():
    x = torch.randn(3, 5, 16, 16) * 7 + 2
    style = torch.randn(3, 10)
    out = adain(x, style)
    torch.testing.assert_close(out.mean(dim=(2, 3)), style[:, 5:], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(out.std(dim=(2, 3), correction=0), (style[:, :5] + 1).abs(), atol=1e-4, rtol=1e-4)


def test_equalized_rate_scales_at_run_time_and_keeps_unit_variance():
    torch.manual_seed(0)
    layer = EqualLinear(512, 512, gain=1.0)
    assert layer.weight.std().item() == pytest.approx(1, abs=0.02)
    x = torch.randn(64, 512)
    torch.testing.assert_close(layer(x), F.linear(x, layer.weight / math.sqrt(512), layer.bias))
    assert layer(x).std().item() == pytest.approx(1, abs=0.05)
    conv = EqualConv2d(64, 64, 3)
    image = torch.randn(2, 64, 8, 8)
    torch.testing.assert_close(
        conv(image), F.conv2d(image, conv.weight * math.sqrt(2 / (64 * 9)), conv.bias, padding=1), atol=1e-4, rtol=1e-4
    )


def test_learning_rate_multiplier_divides_weights_and_multiplies_the_output():
    torch.manual_seed(0)
    layer = EqualLinear(256, 256, gain=math.sqrt(2), lr_multiplier=0.01)
    assert layer.weight.std().item() == pytest.approx(100, rel=0.02)
    layer.bias.data.fill_(3.0)
    x = torch.randn(4, 256)
    expected = x @ layer.weight.T * (0.01 * math.sqrt(2) / 16) + 0.03
    torch.testing.assert_close(layer(x), expected, atol=1e-4, rtol=1e-4)


def test_blur_is_scipys_convolution_with_1_2_1():
    x = np.random.default_rng(0).standard_normal((9, 12))
    kernel = np.outer([1, 2, 1], [1, 2, 1]) / 16
    expected = scipy.ndimage.convolve(x, kernel, mode="constant")
    np.testing.assert_allclose(blur(torch.from_numpy(x)[None, None])[0, 0].numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("size", [4, 7])
def test_fused_upsampling_equals_enlarging_then_convolving(size):
    conv = EqualConv2d(3, 5, 3, resample="up").double()
    x = torch.randn(2, 3, size, size, dtype=torch.float64)
    enlarged = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    torch.testing.assert_close(conv(x), F.conv2d(enlarged, conv.weight * conv.scale, conv.bias, padding=1))


def test_fused_downsampling_equals_convolving_then_averaging():
    conv = EqualConv2d(3, 5, 3, resample="down").double()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    full = F.conv2d(x, conv.weight * conv.scale, conv.bias, padding=1)
    torch.testing.assert_close(conv(x), full.reshape(2, 5, 4, 2, 4, 2).mean(dim=(3, 5)))


def test_pixel_norm_gives_unit_mean_square():
    torch.testing.assert_close(pixel_norm(torch.randn(6, 32) * 9).square().mean(1), torch.ones(6), atol=1e-5, rtol=1e-5)


def test_minibatch_stddev_against_a_loop_over_groups():
    x = torch.randn(8, 3, 4, 4)
    out = minibatch_stddev(x)
    torch.testing.assert_close(out[:, :3], x)
    for group in range(2):
        images = x[4 * group : 4 * group + 4].numpy()
        expected = np.mean([np.std(images[:, c, i, j]) for c in range(3) for i in range(4) for j in range(4)])
        np.testing.assert_allclose(out[4 * group : 4 * group + 4, 3].numpy(), expected, rtol=1e-4)


def test_minibatch_stddev_of_a_workers_slice_is_that_of_the_whole_batch():
    x = torch.randn(16, 3, 4, 4)
    torch.testing.assert_close(torch.cat([minibatch_stddev(x[:8]), minibatch_stddev(x[8:])]), minibatch_stddev(x))
