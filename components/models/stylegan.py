"""StyleGAN: mapping network, constant input, AdaIN, noise, progressive growing (Karras et al. 2018).

Legend: N images, C channels, D latent dimension, L layers (two for each resolution from 4²). Images are [N, C, H, W]
in about [-1, 1]; w is [N, D], one w for each layer is ws [N, L, D].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from components.config import Train
from components.models import growing, interface
from components.models.growth import batch_at, grown, rate_at
from components.models.layers import EqualConv2d, EqualLinear, adain, blur, pixel_norm, resolutions
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


class Generator(growing.Generator):
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

    def features(self, size: int, x: Tensor | None, ws: Tensor, noise: list[Tensor]) -> Tensor:
        """See growing.Generator."""
        last = 2 * len(resolutions(size))
        layers = slice(last - 2, last)
        out: Tensor = self.blocks[str(size)](x, ws[:, layers], noise[layers], self.dtype)
        return out


class Discriminator(growing.Discriminator):
    """The generator mirrored."""

    def __init__(self, sizes: interface.Sizes) -> None:
        super().__init__(sizes, blurred=True)


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
