"""StyleGAN: mapping network, constant input, AdaIN, noise, progressive growing (Karras et al. 2018).

Legend: N images, C channels, D latent dimension, L layers (two for each resolution from 4²). Images are [N, C, H, W]
in about [-1, 1]; w is [N, D], one w for each layer is ws [N, L, D]. Networks take the resolution they work at and α,
the weight of that resolution's own image in the fade-in (1 when there is no fade).
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from components.models.layers import (
    LEAK,
    EqualConv2d,
    EqualLinear,
    adain,
    blur,
    downsample,
    minibatch_stddev,
    pixel_norm,
    upsample,
)

MAPPING_LAYERS = 8
MAPPING_LR_MULTIPLIER = 0.01
W_AVG_BETA = 0.995


def _channels(resolution: int, channel_base: int, channel_max: int) -> int:
    return min(channel_base // resolution, channel_max)


def _resolutions(resolution: int) -> list[int]:
    """4, 8, … up to the resolution."""
    assert resolution >= 4, resolution
    assert math.log2(resolution).is_integer(), resolution
    return [2**power for power in range(2, int(math.log2(resolution)) + 1)]


class MappingNetwork(nn.Module):
    """z [N, D] → w [N, D]: pixel norm, then eight fully connected layers at a hundredth of the learning rate."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            EqualLinear(latent_dim, latent_dim, lr_multiplier=MAPPING_LR_MULTIPLIER) for _ in range(MAPPING_LAYERS)
        )

    def forward(self, z: Tensor) -> Tensor:
        x = pixel_norm(z)
        for layer in self.layers:
            x = F.leaky_relu(layer(x), LEAK)
        return x


class StyledLayer(nn.Module):
    """What follows every convolution: noise with a learned weight a channel, bias, LeakyReLU, AdaIN."""

    def __init__(self, channels: int, latent_dim: int) -> None:
        super().__init__()
        self.noise_weight = nn.Parameter(torch.zeros(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.style = EqualLinear(latent_dim, 2 * channels, gain=1.0)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        weight, bias = self.noise_weight[:, None, None].to(x.dtype), self.bias[:, None, None].to(x.dtype)
        x = F.leaky_relu(x + torch.addcmul(bias, weight, noise.to(x.dtype)), LEAK)
        return adain(x, self.style(w))


class SynthesisBlock(nn.Module):
    """One resolution of the generator: two styled layers and a 1×1 convolution to the image."""

    def __init__(self, channels_in: int, channels: int, image_channels: int, latent_dim: int, *, first: bool) -> None:
        super().__init__()
        if first:
            self.constant = nn.Parameter(torch.ones(1, channels, 4, 4))
        else:
            self.conv0 = EqualConv2d(channels_in, channels, 3, bias=False, resample="up")
        self.layer0 = StyledLayer(channels, latent_dim)
        self.conv1 = EqualConv2d(channels, channels, 3, bias=False)
        self.layer1 = StyledLayer(channels, latent_dim)
        self.to_image = EqualConv2d(channels, image_channels, 1, gain=1.0)

    def forward(self, x: Tensor | None, ws: Tensor, noise: list[Tensor], dtype: torch.dtype) -> Tensor:
        if x is None:
            x = self.constant.to(dtype).expand(len(ws), -1, -1, -1).contiguous(memory_format=torch.channels_last)
        else:
            x = blur(self.conv0(x))
        x = self.layer0(x, ws[:, 0], noise[0])
        out: Tensor = self.layer1(self.conv1(x), ws[:, 1], noise[1])
        return out


class Generator(nn.Module):
    """z → w → image.

    Attributes:
        latent_dim: D.
        resolution: of the finished image, pixels.
        channels: C of the image.
        num_layers: L.
        w_avg: [D], the running mean of w, centre of truncation.
        growth: how far it has grown: the resolution it draws at, and that one's fade-in weight α.
        dtype: of the convolutions.
    """

    w_avg: Tensor

    def __init__(
        self,
        *,
        resolution: int,
        channels: int,
        latent_dim: int,
        channel_base: int,
        channel_max: int,
        growth: tuple[int, float] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.resolution, self.channels, self.latent_dim, self.dtype = resolution, channels, latent_dim, dtype
        self.growth = growth or (resolution, 1.0)
        self.mapping = MappingNetwork(latent_dim)
        self.blocks = nn.ModuleDict()
        width = 0
        for size in _resolutions(resolution):
            width_in, width = width, _channels(size, channel_base, channel_max)
            self.blocks[str(size)] = SynthesisBlock(width_in, width, channels, latent_dim, first=size == 4)
        self.num_layers = 2 * len(self.blocks)
        self.register_buffer("w_avg", torch.zeros(latent_dim))

    def noise_shapes(self) -> list[tuple[int, int]]:
        """Height and width of each layer's noise."""
        return [(size, size) for size in _resolutions(self.resolution) for _ in range(2)]

    def truncate(self, w: Tensor, psi: float, cutoff: int = 8) -> Tensor:
        """w [N, D] → ws [N, L, D]: w_avg + ψ · (w - w_avg) in the first `cutoff` layers, w in the rest.

        Reference: Karras et al. 2018, appendix B.
        """
        ws = w[:, None].expand(-1, self.num_layers, -1)
        strength = torch.where(torch.arange(self.num_layers, device=w.device) < cutoff, psi, 1.0)[:, None]
        return torch.lerp(self.w_avg.expand_as(ws), ws, strength)

    def synthesis(
        self, ws: Tensor, noise: list[Tensor], *, resolution: int | None = None, alpha: float = 1.0
    ) -> Tensor:
        """Draws images.

        Args:
            ws: [N, L, D].
            noise: for each layer used, [N, 1, h, w] standard normal.
            resolution: of the images; None: of as far as it has grown, and enlarged to the finished size.
            alpha: fade-in weight of that resolution's own image, in [0, 1].

        Returns:
            [N, C, resolution, resolution] float32.
        """
        if resolution is None:
            grown, alpha = self.growth
            image = self.synthesis(ws, noise, resolution=grown, alpha=alpha)
            while image.shape[-1] < self.resolution:
                image = upsample(image)
            return image
        sizes = _resolutions(resolution)
        assert ws.shape[1:] == (self.num_layers, self.latent_dim), ws.shape
        x, previous = None, None
        for number, size in enumerate(sizes):
            layers = slice(2 * number, 2 * number + 2)
            if size == sizes[-1]:
                previous = x
            x = self.blocks[str(size)](x, ws[:, layers], noise[layers], self.dtype)
        image = self._to_image(x, sizes[-1])
        if alpha < 1 and previous is not None:
            image = torch.lerp(upsample(self._to_image(previous, sizes[-2])), image, alpha)
        return image

    def _to_image(self, x: Tensor | None, size: int) -> Tensor:
        block = cast(SynthesisBlock, self.blocks[str(size)])
        image: Tensor = block.to_image(x).float()
        return image


class DiscriminatorBlock(nn.Module):
    """One resolution of the discriminator: a 1×1 convolution from the image, then halving."""

    def __init__(self, channels: int, channels_out: int, image_channels: int) -> None:
        super().__init__()
        self.from_image = EqualConv2d(image_channels, channels, 1)
        self.conv0 = EqualConv2d(channels, channels, 3)
        self.conv1 = EqualConv2d(channels, channels_out, 3, resample="down")

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.conv0(x), LEAK)
        return F.leaky_relu(self.conv1(blur(x)), LEAK)


class DiscriminatorHead(nn.Module):
    """The 4² end of the discriminator: minibatch standard deviation, a convolution and two linear layers."""

    def __init__(self, channels: int, image_channels: int) -> None:
        super().__init__()
        self.from_image = EqualConv2d(image_channels, channels, 1)
        self.conv = EqualConv2d(channels + 1, channels, 3)
        self.hidden = EqualLinear(16 * channels, channels)
        self.logit = EqualLinear(channels, 1, gain=1.0)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.conv(minibatch_stddev(x)), LEAK)
        x = F.leaky_relu(self.hidden(x.float().flatten(1)), LEAK)
        logits: Tensor = self.logit(x)
        return logits.squeeze(1)


class Discriminator(nn.Module):
    """Images [N, C, H, W] → logits [N] float32, above 0 for "real"."""

    def __init__(
        self,
        *,
        resolution: int,
        channels: int,
        channel_base: int,
        channel_max: int,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.dtype = dtype
        self.blocks = nn.ModuleDict()
        for size in _resolutions(resolution):
            width = _channels(size, channel_base, channel_max)
            if size == 4:
                self.blocks["4"] = DiscriminatorHead(width, channels)
            else:
                narrower = _channels(size // 2, channel_base, channel_max)
                self.blocks[str(size)] = DiscriminatorBlock(width, narrower, channels)

    def forward(self, images: Tensor, *, alpha: float = 1.0) -> Tensor:
        """Judges images at the resolution they come in; α fades in that resolution's blocks."""
        sizes = _resolutions(images.shape[-1])[::-1]
        images = images.to(self.dtype).contiguous(memory_format=torch.channels_last)
        x = self._from_image(images, sizes[0])
        for number, size in enumerate(sizes):
            x = self.blocks[str(size)](x)
            if number == 0 and alpha < 1 and len(sizes) > 1:
                x = torch.lerp(self._from_image(downsample(images), sizes[1]), x, alpha)
        return x

    def _from_image(self, images: Tensor, size: int) -> Tensor:
        block = cast(DiscriminatorBlock | DiscriminatorHead, self.blocks[str(size)])
        return F.leaky_relu(block.from_image(images), LEAK)
