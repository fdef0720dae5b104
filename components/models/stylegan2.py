"""StyleGAN2: modulated convolutions, a skip generator and a residual discriminator (Karras et al. 2019 and 2020).

Legend: N images, C channels, D latent dimension, L layers, K labels. Images are [N, C, H, W] in about [-1, 1]; w is
[N, D], one w for each layer is ws [N, L, D].

LeakyReLU has a gain of √2 in the paper. Here it has none: the layer after it takes the √2 into its styles or weights,
which gives the same numbers and spares a pass over the activations.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from components.config import Train
from components.models import interface
from components.models.layers import (
    RELU_GAIN,
    EqualConv2d,
    EqualLinear,
    fir,
    fir_downsample,
    fir_upsample,
    minibatch_stddev,
    pixel_norm,
    resolutions,
)
from components.models.second_order import conv2d, conv_transpose2d, leaky_relu_

MAPPING_LAYERS = 2
MAPPING_LR_MULTIPLIER = 0.01
W_AVG_BETA = 0.995
EMA_RAMP_UP = 0.05  # the average's half-life is at most this share of the images shown
R1_EVERY, PATH_LENGTH_EVERY = 16, 4  # steps


class LabelEmbedding(nn.Module):
    """Labels [N] of K → [N, D]: a learned vector each, pixel-normed."""

    def __init__(self, labels: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(labels, width))

    def forward(self, labels: Tensor) -> Tensor:
        return pixel_norm(self.weight[labels])


class MappingNetwork(nn.Module):
    """z [N, D] → w [N, D]: pixel norm, then two fully connected layers at a hundredth of the learning rate.

    With labels their embedding comes in beside z. Reference: Karras et al. 2020, appendix C, "Conditional training".
    """

    def __init__(self, latent_dim: int, labels: int) -> None:
        super().__init__()
        widths = [2 * latent_dim if labels else latent_dim, *[latent_dim] * MAPPING_LAYERS]
        self.layers = nn.ModuleList(
            EqualLinear(before, after, gain=1.0, lr_multiplier=MAPPING_LR_MULTIPLIER)
            for before, after in pairwise(widths)
        )
        self.embedding = LabelEmbedding(labels, latent_dim) if labels else None

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        x = pixel_norm(z)
        if self.embedding is not None:
            x = torch.cat([x, self.embedding(labels)], dim=1)
        for layer in self.layers:
            x = RELU_GAIN * leaky_relu_(layer(x))
        return x


class ModulatedConv2d(nn.Module):
    """A convolution whose input channels are scaled by a style for each image, and its output to unit variance.

    The style scales activations, and demodulation() the result; the weights stay one set for the batch. The result
    equals a convolution of each image with weights of its own, w'_ijk / √(Σ w'² + ε) with w'_ijk = s_i · w_ijk.

    Args:
        gain: of the activations that come in, left to this layer.
        up: enlarges by two: a transposed convolution, then fir().

    Reference: Karras et al. 2019, equations 1 to 3.
    """

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, latent_dim: int, *, gain: float, up: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels_out, channels_in, kernel, kernel))
        self.style = EqualLinear(latent_dim, channels_in, gain=1.0)
        nn.init.ones_(self.style.bias)
        self.gain, self.up = gain, up

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """x [N, C_in, H, W], style [N, C_in] → [N, C_out, H', W'], to be demodulated."""
        x = x * (self.gain * style).to(x.dtype)[:, :, None, None]
        weight = self.weight.to(x.dtype)
        if self.up:
            x = fir(conv_transpose2d(x, weight.transpose(0, 1), stride=2), padding=1, gain=4.0)
        else:
            x = conv2d(x, weight, padding=weight.shape[-1] // 2)
        return x

    def demodulation(self, style: Tensor) -> Tensor:
        """What the output has to be multiplied by: [N, C_out, 1, 1]."""
        return torch.rsqrt(style.square() @ self.weight.square().sum((2, 3)).T + 1e-8)[:, :, None, None]


class StyledLayer(nn.Module):
    """A modulated 3×3 convolution, demodulation, noise with a learned strength, bias, LeakyReLU."""

    def __init__(
        self, channels_in: int, channels_out: int, latent_dim: int, *, gain: float = RELU_GAIN, up: bool = False
    ) -> None:
        super().__init__()
        self.conv = ModulatedConv2d(channels_in, channels_out, 3, latent_dim, gain=gain, up=up)
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(channels_out))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        style = self.conv.style(w)
        x = self.conv(x, style)
        x = torch.addcmul(self.bias.to(x.dtype)[:, None, None], x, self.conv.demodulation(style).to(x.dtype))
        return leaky_relu_(x.add_((noise * self.noise_strength).to(x.dtype)))


class ToImage(nn.Module):
    """A modulated 1×1 convolution to the image's channels, without demodulation.

    The style scales the few weights here: for each image a matrix product over its pixels.
    """

    def __init__(self, channels: int, image_channels: int, latent_dim: int) -> None:
        super().__init__()
        self.style = EqualLinear(latent_dim, channels, gain=1.0)
        nn.init.ones_(self.style.bias)
        self.weight = nn.Parameter(torch.randn(image_channels, channels))
        self.bias = nn.Parameter(torch.zeros(image_channels))
        self.gain = RELU_GAIN / math.sqrt(channels)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """x [N, C_in, H, W], w [N, D] → [N, C, H, W] float32."""
        count, channels, height, width = x.shape
        weights = (self.gain * self.style(w))[:, :, None] * self.weight.T  # [N, C_in, C]
        pixels = x.permute(0, 2, 3, 1).reshape(count, height * width, channels)
        image: Tensor = (pixels @ weights.to(x.dtype)).float() + self.bias
        return image.reshape(count, height, width, -1).permute(0, 3, 1, 2)


class SynthesisBlock(nn.Module):
    """One resolution of the generator: two styled layers (one at 4²), and its share of the image."""

    def __init__(self, channels_in: int, channels: int, sizes: interface.Sizes) -> None:
        super().__init__()
        latent_dim, image_channels = sizes.latent_dim, sizes.channels
        if channels_in == 0:
            self.constant = nn.Parameter(torch.randn(channels, *sizes.grid))
        else:
            self.layer0 = StyledLayer(channels_in, channels, latent_dim, up=True)
        self.layer1 = StyledLayer(channels, channels, latent_dim, gain=1.0 if channels_in == 0 else RELU_GAIN)
        self.to_image = ToImage(channels, image_channels, latent_dim)


class Generator(interface.Generator):
    """Images of all resolutions from 4² on are enlarged and added up (a skip generator)."""

    def __init__(self, sizes: interface.Sizes) -> None:
        widths = sizes.widths()
        super().__init__(sizes, num_layers=2 * len(widths))
        self.mapping = MappingNetwork(sizes.latent_dim, len(sizes.labels))
        self.blocks = nn.ModuleDict()
        width_in = 0
        for size, width in widths.items():
            self.blocks[str(size)] = SynthesisBlock(width_in, width, sizes)
            width_in = width

    def noise_shapes(self) -> list[tuple[int, int]]:
        """Height and width of each styled layer's noise."""
        sizes = [size for size in resolutions(self.resolution) for _ in range(1 if size == 4 else 2)]
        return [self.sizes.shape(size) for size in sizes]

    def begin_at(self, resolution: int) -> None:
        """Resolutions above add nothing to the image at first."""
        for size, block in self.blocks.items():
            if int(size) > resolution:
                nn.init.zeros_(cast(SynthesisBlock, block).to_image.weight)

    def synthesis(
        self, ws: Tensor, noise: list[Tensor], *, resolution: int | None = None, alpha: float = 1.0
    ) -> Tensor:
        """Draws images; see interface.Generator. It does not grow."""
        assert resolution in (None, self.resolution), resolution
        assert ws.shape[1:] == (self.num_layers, self.latent_dim), ws.shape
        styles, noises = iter(ws.unbind(1)), iter(noise)
        x, image = None, cast(Tensor | None, None)
        w = next(styles)
        for block in cast(dict[str, SynthesisBlock], self.blocks).values():
            if x is None:
                start = block.constant.to(self.dtype).expand(len(ws), -1, -1, -1)
                x = start.contiguous(memory_format=torch.channels_last)
            else:
                x = block.layer0(x, w, next(noises))
                w = next(styles)
            x = block.layer1(x, w, next(noises))
            w = next(styles)  # of this resolution's image, and of the next one's first layer
            own: Tensor = block.to_image(x, w)
            image = own if image is None else fir_upsample(image) + own
        assert image is not None
        return image


class DiscriminatorBlock(nn.Module):
    """Halves: two 3×3 convolutions beside a 1×1 one, each branch scaled by √½, added up.

    Args:
        gain: of the activations that come in, left to this block.
    """

    def __init__(self, channels: int, channels_out: int, *, gain: float) -> None:
        super().__init__()
        self.conv0 = EqualConv2d(channels, channels, 3, gain=gain)
        self.conv1 = EqualConv2d(channels, channels_out, 3, gain=RELU_GAIN, resample="fir_down")
        self.skip = EqualConv2d(channels, channels_out, 1, gain=gain * math.sqrt(0.5), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        skip: Tensor = self.skip(fir_downsample(x))
        x = leaky_relu_(self.conv0(x))
        return skip.add_(leaky_relu_(self.conv1(x)))  # its gain is √2 · √½


class DiscriminatorHead(nn.Module):
    """The 4² end: minibatch standard deviation, a convolution and two linear layers.

    With labels the last one gives a vector [N, channels], and the logit is its product with the label's, as embedded,
    over √channels. Reference: Miyato and Koyama 2018, equation 3.
    """

    def __init__(self, channels: int, sizes: interface.Sizes) -> None:
        super().__init__()
        labels = len(sizes.labels)
        self.conv = EqualConv2d(channels + 1, channels, 3, gain=1.0)
        self.hidden = EqualLinear(math.prod(sizes.grid) * channels, channels)
        self.logit = EqualLinear(channels, channels if labels else 1)
        self.embedding = LabelEmbedding(labels, channels) if labels else None

    def forward(self, x: Tensor, labels: Tensor | None) -> Tensor:
        x = leaky_relu_(self.conv(minibatch_stddev(x)))
        x = leaky_relu_(self.hidden(x.float().flatten(1)))
        logits: Tensor = self.logit(x)
        if self.embedding is not None:
            logits = (logits * self.embedding(labels)).sum(1, keepdim=True) / math.sqrt(logits.shape[1])
        return logits.squeeze(1)


class Discriminator(interface.Discriminator):
    """A residual network from the image down to 4²."""

    def __init__(self, sizes: interface.Sizes) -> None:
        super().__init__()
        widths, self.resolution, self.dtype = sizes.widths(), sizes.resolution, sizes.dtype
        self.from_image = EqualConv2d(sizes.channels, widths[self.resolution], 1, gain=1.0)
        self.blocks = nn.ModuleDict()
        for size, width in reversed(widths.items()):
            if size > 4:
                gain = RELU_GAIN if size == self.resolution else 1.0
                self.blocks[str(size)] = DiscriminatorBlock(width, widths[size // 2], gain=gain)
        self.head = DiscriminatorHead(widths[4], sizes)

    def forward(self, images: Tensor, *, labels: Tensor | None = None, alpha: float = 1.0) -> Tensor:
        """Judges images of the finished size; see interface.Discriminator. It does not grow."""
        assert max(images.shape[2:]) == self.resolution, images.shape
        x = images.to(self.dtype).contiguous(memory_format=torch.channels_last)
        x = leaky_relu_(self.from_image(x))
        for block in self.blocks.values():
            x = block(x)
        logits: Tensor = self.head(x, labels)
        return logits


def recipe(config: Train, resolution: int) -> interface.Recipe:
    """Logistic loss with lazy R1 and path-length penalties (Karras et al. 2019, section 3; 2020, appendix)."""

    def phase(nimg: int) -> interface.Phase:
        return interface.Phase(
            resolution=resolution,
            batch=config.batch,
            learning_rate=config.learning_rate,
            gamma=config.gamma,
            ema_kimg=min(config.ema_kimg, EMA_RAMP_UP * nimg / 1000),
        )

    weight = config.stylegan2.path_length_weight
    return interface.Recipe(
        phase=phase,
        penalty_every=R1_EVERY,
        path_length_every=PATH_LENGTH_EVERY if weight else 0,
        path_length_weight=weight,
        style_mixing=config.stylegan2.style_mixing,
        w_avg_beta=W_AVG_BETA,
    )
