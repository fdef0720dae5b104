"""The parts that networks are built of: equalized learning rate, pixel norm, blur, fused resampling, AdaIN, stddev.

Legend: N images, C channels, H height, W width, D latent dimension. Activations are [N, C, H, W] in the dtype of the
input; parameters are float32 and are cast where they are used.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEAK = 0.2  # slope of every LeakyReLU
RELU_GAIN = math.sqrt(2)  # He et al. 2015


class EqualLinear(nn.Module):
    """Fully connected layer with equalized learning rate: [N, in] → [N, out].

    Weights are stored as N(0, 1 / lr_multiplier) and scaled by lr_multiplier · gain / √fan_in at run time.
    Reference: Karras et al. 2017, section 4.1; the multiplier: Karras et al. 2018, appendix C.
    """

    def __init__(
        self, features_in: int, features_out: int, *, gain: float = RELU_GAIN, lr_multiplier: float = 1.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(features_out, features_in) / lr_multiplier)
        self.bias = nn.Parameter(torch.zeros(features_out))
        self.scale = lr_multiplier * gain / math.sqrt(features_in)
        self.lr_multiplier = lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight * self.scale, self.bias * self.lr_multiplier
        return F.linear(x, weight.to(x.dtype), bias.to(x.dtype))


class EqualConv2d(nn.Module):
    """Convolution with equalized learning rate, optionally fused with a resampling by two.

    resample="up" is nearest-neighbour enlargement followed by the convolution, as one transposed 4×4 convolution;
    resample="down" is the convolution followed by a 2×2 mean, as one strided 4×4 convolution. Both are equal to the
    two steps they replace and need 4/9 of their multiplications.
    Reference: Karras et al. 2017, section 4.1; the fusion: Karras et al. 2018, section 2 ("bilinear sampling").
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        *,
        gain: float = RELU_GAIN,
        bias: bool = True,
        resample: str | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels_out, channels_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(channels_out)) if bias else None
        self.scale = gain / math.sqrt(channels_in * kernel**2)
        self.resample = resample

    def forward(self, x: Tensor) -> Tensor:
        weight = (self.weight * self.scale).to(x.dtype)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        if self.resample == "up":
            return F.conv_transpose2d(x, 4 * _widen(weight.flip(2, 3)).transpose(0, 1), bias, stride=2, padding=1)
        if self.resample == "down":
            return F.conv2d(x, _widen(weight), bias, stride=2, padding=1)
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)


def _widen(weight: Tensor) -> Tensor:
    """A [O, I, k, k] kernel convolved with the kernel of a 2×2 mean: [O, I, k + 1, k + 1]."""
    return F.avg_pool2d(weight, 2, stride=1, padding=1)


def blur(x: Tensor) -> Tensor:
    """Low-pass filter with the normalised kernel [1, 2, 1] ⊗ [1, 2, 1], zero padding: [N, C, H, W] → same shape.

    Reference: Zhang 2019; Karras et al. 2018, section 2.
    """
    row = x.new_tensor([0.25, 0.5, 0.25])
    return F.conv2d(x, torch.outer(row, row).expand(x.shape[1], 1, 3, 3), padding=1, groups=x.shape[1])


def upsample(x: Tensor) -> Tensor:
    """Nearest-neighbour enlargement by two."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


def downsample(x: Tensor) -> Tensor:
    """Mean of 2×2 pixels."""
    return F.avg_pool2d(x, 2)


def pixel_norm(x: Tensor) -> Tensor:
    """Scales each feature vector to unit mean square over dimension 1. Reference: Karras et al. 2017, section 4.2."""
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)


def adain(x: Tensor, style: Tensor) -> Tensor:
    """Adaptive instance normalisation: normalises each channel of each image, then x · (y_s + 1) + y_b.

    Args:
        x: [N, C, H, W].
        style: [N, 2C], y_s then y_b.

    Reference: Karras et al. 2018, equation 1.
    """
    count, channels, height, width = x.shape
    pixels = x.permute(0, 2, 3, 1).reshape(count, height * width, channels).float()
    # Means as a matrix product: on CPUs, for channels_last, twice as fast as a reduction over height and width.
    averaging = pixels.new_full((count, 1, height * width), 1 / (height * width))
    centred = pixels - averaging @ pixels
    scale, shift = style.unsqueeze(1).chunk(2, dim=2)
    scale = (scale + 1) * torch.rsqrt(averaging @ centred.square() + 1e-8)
    out = torch.addcmul(shift, centred, scale).to(x.dtype)
    return out.reshape(count, height, width, channels).permute(0, 3, 1, 2)


def minibatch_stddev(x: Tensor, group: int = 4) -> Tensor:
    """Appends one channel: the standard deviation over groups of consecutive images, averaged over everything else.

    Groups are consecutive, so that workers holding consecutive slices of a batch form the groups of the whole batch.

    Args:
        x: [N, C, H, W], N a multiple of `group` or below it.

    Returns:
        [N, C + 1, H, W]. Reference: Karras et al. 2017, section 3.
    """
    count, channels, height, width = x.shape
    group = min(group, count)
    assert count % group == 0, f"{count} images do not divide into groups of {group}"
    grouped = x.float().reshape(count // group, group, channels, height, width)
    deviation = torch.sqrt(grouped.var(1, correction=0) + 1e-8).mean(dim=(1, 2, 3))
    feature = deviation.repeat_interleave(group).reshape(count, 1, 1, 1).expand(count, 1, height, width)
    return torch.cat([x, feature.to(x.dtype)], dim=1)
