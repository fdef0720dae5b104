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

from components.config import Train
from components.models import interface
from components.models.growth import batch_at, grown, rate_at
from components.models.layers import (
    EqualConv2d,
    EqualLinear,
    adain,
    blur,
    downsample,
    minibatch_stddev,
    pixel_norm,
    resolutions,
    upsample,
)
from components.models.second_order import leaky_relu_

MAPPING_LAYERS = 8
MAPPING_LR_MULTIPLIER = 0.01
W_AVG_BETA = 0.995


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
            x = leaky_relu_(layer(x))
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
        x = leaky_relu_(x + torch.addcmul(bias, weight, noise.to(x.dtype)))
        return adain(x, self.style(w))


class SynthesisBlock(nn.Module):
    """One resolution of the generator: two styled layers and a 1×1 convolution to the image."""

    def __init__(self, channels_in: int, channels: int, sizes: interface.Sizes) -> None:
        super().__init__()
        latent_dim, image_channels = sizes.latent_dim, sizes.channels
        if channels_in == 0:
            self.constant = nn.Parameter(torch.ones(1, channels, *sizes.grid))
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


class Generator(interface.Generator):
    """Grows from 4²: each resolution has two layers with a style and a noise each, and an image of its own."""

    truncated_layers = 8

    def __init__(self, sizes: interface.Sizes) -> None:
        widths = sizes.widths()
        super().__init__(sizes, num_layers=2 * len(widths))
        self.mapping = MappingNetwork(sizes.latent_dim)
        self.blocks = nn.ModuleDict()
        width_in = 0
        for size, width in widths.items():
            self.blocks[str(size)] = SynthesisBlock(width_in, width, sizes)
            width_in = width

    def noise_shapes(self) -> list[tuple[int, int]]:
        """Height and width of each layer's noise."""
        return [self.sizes.shape(size) for size in resolutions(self.resolution) for _ in range(2)]

    def synthesis(
        self, ws: Tensor, noise: list[Tensor], *, resolution: int | None = None, alpha: float = 1.0
    ) -> Tensor:
        """Draws images; see interface.Generator."""
        if resolution is None:
            grown, alpha = self.growth
            image = self.synthesis(ws, noise, resolution=grown, alpha=alpha)
            while max(image.shape[2:]) < self.resolution:
                image = upsample(image)
            return image
        sizes = resolutions(resolution)
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
        x = leaky_relu_(self.conv0(x))
        return leaky_relu_(self.conv1(blur(x)))


class DiscriminatorHead(nn.Module):
    """The 4² end of the discriminator: minibatch standard deviation, a convolution and two linear layers."""

    def __init__(self, channels: int, sizes: interface.Sizes) -> None:
        super().__init__()
        self.from_image = EqualConv2d(sizes.channels, channels, 1)
        self.conv = EqualConv2d(channels + 1, channels, 3)
        self.hidden = EqualLinear(math.prod(sizes.grid) * channels, channels)
        self.logit = EqualLinear(channels, 1, gain=1.0)

    def forward(self, x: Tensor) -> Tensor:
        x = leaky_relu_(self.conv(minibatch_stddev(x)))
        x = leaky_relu_(self.hidden(x.float().flatten(1)))
        logits: Tensor = self.logit(x)
        return logits.squeeze(1)


class Discriminator(interface.Discriminator):
    """The generator mirrored: shrinks from the resolution that images come in."""

    def __init__(self, sizes: interface.Sizes) -> None:
        super().__init__()
        widths, self.dtype = sizes.widths(), sizes.dtype
        self.blocks = nn.ModuleDict()
        for size, width in widths.items():
            if size == 4:
                self.blocks["4"] = DiscriminatorHead(width, sizes)
            else:
                self.blocks[str(size)] = DiscriminatorBlock(width, widths[size // 2], sizes.channels)

    def forward(self, images: Tensor, *, labels: Tensor | None = None, alpha: float = 1.0) -> Tensor:
        """Judges images at the resolution they come in; α fades in that resolution's blocks. There are no labels."""
        sizes = resolutions(max(images.shape[2:]))[::-1]
        images = images.to(self.dtype).contiguous(memory_format=torch.channels_last)
        x = self._from_image(images, sizes[0])
        for number, size in enumerate(sizes):
            x = self.blocks[str(size)](x)
            if number == 0 and alpha < 1 and len(sizes) > 1:
                x = torch.lerp(self._from_image(downsample(images), sizes[1]), x, alpha)
        return x

    def _from_image(self, images: Tensor, size: int) -> Tensor:
        block = cast(DiscriminatorBlock | DiscriminatorHead, self.blocks[str(size)])
        return leaky_relu_(block.from_image(images))


def recipe(config: Train, resolution: int) -> interface.Recipe:
    """Logistic loss, R1 in every step, growth with its batches and rates (Karras et al. 2018, appendix C)."""

    def phase(nimg: int) -> interface.Phase:
        size, alpha = grown(nimg, config.stylegan, resolution)
        return interface.Phase(
            resolution=size,
            alpha=alpha,
            batch=batch_at(size, config.batch, resolution),
            learning_rate=rate_at(size, config.learning_rate),
            gamma=config.gamma,
            ema_kimg=config.ema_kimg,
        )

    return interface.Recipe(phase=phase, style_mixing=config.stylegan.style_mixing, w_avg_beta=W_AVG_BETA)
