"""The parts that networks are built of: equalized learning rate, pixel norm, filters, resampling, AdaIN, stddev.

Legend: N images, C channels, H height, W width, D latent dimension. Activations are [N, C, H, W] in the dtype of the
input; parameters are float32 and are cast where they are used.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from components.models.second_order import conv2d

RELU_GAIN = math.sqrt(2)  # He et al. 2015
BINOMIAL_3, BINOMIAL_4 = (1, 2, 1), (1, 3, 3, 1)  # taps of low-pass filters


def resolutions(resolution: int) -> list[int]:
    """4, 8, … up to the resolution, a power of two."""
    assert resolution >= 4, resolution
    assert math.log2(resolution).is_integer(), resolution
    return [2**power for power in range(2, int(math.log2(resolution)) + 1)]


def width_at(resolution: int, channel_base: int, channel_max: int) -> int:
    """Feature maps at a resolution. Reference: Karras et al. 2018, the public configuration."""
    return min(channel_base // resolution, channel_max)


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
        return torch.addmm(
            self.bias.to(x.dtype), x, self.weight.to(x.dtype).T, beta=self.lr_multiplier, alpha=self.scale
        )


class EqualConv2d(nn.Module):
    """Convolution with equalized learning rate, optionally fused with a resampling by two.

    resample="up" is nearest-neighbour enlargement followed by the convolution, as one transposed 4×4 convolution;
    resample="down" is the convolution followed by a 2×2 mean, as one strided 4×4 convolution. Both are equal to the
    two steps they replace and need 4/9 of their multiplications. resample="fir_down" is the filter of fir() followed by
    the convolution at every second pixel.
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
            return conv2d(x, _widen(weight), bias, stride=2, padding=1)
        if self.resample == "fir_down":
            return conv2d(fir(x, padding=weight.shape[-1] // 2 + 1), weight, bias, stride=2)
        return conv2d(x, weight, bias, padding=weight.shape[-1] // 2)


def _widen(weight: Tensor) -> Tensor:
    """A [O, I, k, k] kernel convolved with the kernel of a 2×2 mean: [O, I, k + 1, k + 1]."""
    return F.avg_pool2d(weight, 2, stride=1, padding=1)


@lru_cache(maxsize=64)
def _filter(taps: tuple[int, ...], gain: float, channels: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Kept, so that a pass copies nothing to a GPU; made outside inference mode, so that training may use it later."""
    with torch.inference_mode(False):
        row = torch.tensor(taps, dtype=dtype, device=device)
        kernel = torch.outer(row, row)
        return (gain / kernel.sum() * kernel).expand(channels, 1, -1, -1).contiguous()


def low_pass(x: Tensor, taps: tuple[int, ...], gain: float = 1.0) -> Tensor:
    """The depthwise kernel taps ⊗ taps for x [N, C, H, W], of sum `gain`: [C, 1, k, k]."""
    return _filter(taps, gain, x.shape[1], x.dtype, x.device)


def blur(x: Tensor) -> Tensor:
    """Low-pass filter with the normalised kernel [1, 2, 1] ⊗ [1, 2, 1], zero padding: [N, C, H, W] → same shape.

    Reference: Zhang 2019; Karras et al. 2018, section 2.
    """
    return conv2d(x, low_pass(x, BINOMIAL_3), padding=1, groups=x.shape[1])


def fir(x: Tensor, *, padding: int, gain: float = 1.0) -> Tensor:
    """Low-pass filter with [1, 3, 3, 1] ⊗ [1, 3, 3, 1]: [N, C, H, W] → [N, C, H + 2 · padding - 3, …].

    Reference: Karras et al. 2019, appendix B.
    """
    return conv2d(x, low_pass(x, BINOMIAL_4, gain), padding=padding, groups=x.shape[1])


def fir_upsample(x: Tensor) -> Tensor:
    """Enlarges by two: zeros between pixels, then fir() with a gain of 4."""
    return F.conv_transpose2d(x, low_pass(x, BINOMIAL_4, 4.0), stride=2, padding=1, groups=x.shape[1])


def fir_downsample(x: Tensor) -> Tensor:
    """Halves: fir(), then every second pixel."""
    return conv2d(x, low_pass(x, BINOMIAL_4), stride=2, padding=1, groups=x.shape[1])


def upsample(x: Tensor) -> Tensor:
    """Nearest-neighbour enlargement by two."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


def downsample(x: Tensor) -> Tensor:
    """Mean of 2×2 pixels."""
    return F.avg_pool2d(x, 2)


def from_latent(z: Tensor, weight: Tensor) -> Tensor:
    """The transposed convolution of one pixel: z [N, D] with weight [D, C, H, W] to [N, C, H, W], channels last.

    As a matrix product; the weight is cast to z's dtype.
    """
    weight = weight.to(z.dtype).permute(0, 2, 3, 1)
    return (z @ weight.reshape(len(weight), -1)).view(-1, *weight.shape[1:]).permute(0, 3, 1, 2)


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
