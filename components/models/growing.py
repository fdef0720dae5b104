"""What networks that grow share: they work at any resolution up to their own, and fade one in over the one below.

Legend: N images, C channels, D latent dimension, L layers, W feature maps, H height and width of them. Images are
[N, C, H, W] in about [-1, 1]. α is the weight of a resolution's own image in the fade-in (1 when there is no fade).
Reference: Karras et al. 2017, section 2 and table 2.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from components.models import interface
from components.models.layers import (
    EqualConv2d,
    EqualLinear,
    blur,
    downsample,
    minibatch_stddev,
    resolutions,
    upsample,
)
from components.models.second_order import leaky_relu_


class Generator(interface.Generator):
    """Blocks for 4², 8², …, each with a 1×1 convolution `to_image`; an arch sets `blocks` and defines features()."""

    blocks: nn.ModuleDict

    def features(self, size: int, x: Tensor | None, ws: Tensor, noise: list[Tensor]) -> Tensor:
        """[N, W, H, H'] of that size from x, the features of half the size (None at 4²), ws [N, L, D] and all noise."""
        raise NotImplementedError

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
        for size in sizes:
            x, previous = self.features(size, x, ws, noise), x
        image = self._to_image(x, sizes[-1])
        if alpha < 1 and previous is not None:
            image = torch.lerp(upsample(self._to_image(previous, sizes[-2])), image, alpha)
        return image

    def _to_image(self, x: Tensor | None, size: int) -> Tensor:
        image: Tensor = cast(EqualConv2d, self.blocks[str(size)].to_image)(x).float()
        return image


class DiscriminatorBlock(nn.Module):
    """One resolution of the discriminator: a 1×1 convolution from the image, then halving."""

    def __init__(self, channels: int, channels_out: int, image_channels: int, *, blurred: bool) -> None:
        super().__init__()
        self.blurred = blurred
        self.from_image = EqualConv2d(image_channels, channels, 1)
        self.conv0 = EqualConv2d(channels, channels, 3)
        self.conv1 = EqualConv2d(channels, channels_out, 3, resample="down")

    def forward(self, x: Tensor) -> Tensor:
        x = leaky_relu_(self.conv0(x))
        return leaky_relu_(self.conv1(blur(x) if self.blurred else x))


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
    """Shrinks from the resolution that images come in; with `blurred`, every halving is behind a low-pass filter."""

    def __init__(self, sizes: interface.Sizes, *, blurred: bool) -> None:
        super().__init__()
        widths, self.dtype = sizes.widths(), sizes.dtype
        self.blocks = nn.ModuleDict()
        for size, width in widths.items():
            if size == 4:
                self.blocks["4"] = DiscriminatorHead(width, sizes)
            else:
                self.blocks[str(size)] = DiscriminatorBlock(width, widths[size // 2], sizes.channels, blurred=blurred)

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
