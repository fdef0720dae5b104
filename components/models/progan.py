"""ProGAN: progressive growing, pixel norm, equalized learning rate, WGAN-GP (Karras et al. 2017).

Legend: N images, C image channels, D latent dimension, W feature maps, H height and width of them. Images are
[N, C, H, W] in about [-1, 1]; w is z scaled to unit mean square, one for the whole network.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from components.config import Train
from components.models import growing, interface
from components.models.growth import grown
from components.models.layers import RELU_GAIN, EqualConv2d, from_latent, pixel_norm
from components.models.second_order import leaky_relu_


class PixelNorm(nn.Module):
    """z [N, D] to unit mean square."""

    def forward(self, z: Tensor) -> Tensor:
        return pixel_norm(z)


class FromLatent(nn.Module):
    """The 4×4 convolution of a single pixel padded by 3, as a matrix product: [N, D] → [N, W, *grid]."""

    def __init__(self, latent_dim: int, width: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(latent_dim, width, *grid))
        self.bias = nn.Parameter(torch.zeros(width))
        self.scale = RELU_GAIN / math.sqrt(math.prod(self.weight.shape[2:]) * latent_dim)

    def forward(self, w: Tensor) -> Tensor:
        return from_latent(w, self.weight * self.scale) + self.bias.to(w.dtype)[:, None, None]


class GeneratorBlock(nn.Module):
    """One resolution of the generator: two convolutions, each with LeakyReLU and pixel norm, and one to the image."""

    def __init__(self, first: FromLatent | EqualConv2d, width: int, image_channels: int) -> None:
        super().__init__()
        self.conv0 = first
        self.conv1 = EqualConv2d(width, width, 3)
        self.to_image = EqualConv2d(width, image_channels, 1, gain=1.0)

    def forward(self, x: Tensor) -> Tensor:
        x = pixel_norm(leaky_relu_(self.conv0(x)))
        return pixel_norm(leaky_relu_(self.conv1(x)))


class Generator(growing.Generator):
    """Grows from 4²; enlarges by nearest neighbours."""

    def __init__(self, sizes: interface.Sizes) -> None:
        super().__init__(sizes, num_layers=1)
        self.mapping = PixelNorm()
        self.blocks = nn.ModuleDict()
        widths = sizes.widths()
        for size, width in widths.items():
            first = FromLatent(sizes.latent_dim, width, sizes.grid) if size == 4 else None
            conv = first or EqualConv2d(widths[size // 2], width, 3, resample="up")
            self.blocks[str(size)] = GeneratorBlock(conv, width, sizes.channels)

    def features(self, size: int, x: Tensor | None, ws: Tensor, noise: list[Tensor]) -> Tensor:
        """See growing.Generator."""
        out: Tensor = self.blocks[str(size)](ws[:, 0].to(self.dtype) if x is None else x)
        return out


class Discriminator(growing.Discriminator):
    """The generator mirrored, without pixel norm; halves by means of 2×2 pixels."""

    def __init__(self, sizes: interface.Sizes) -> None:
        super().__init__(sizes, blurred=False)


def recipe(config: Train, resolution: int) -> interface.Recipe:
    """WGAN-GP on points between reals and fakes, one step of D for each of G, growth (Karras et al. 2017, A.1)."""

    def phase(nimg: int) -> interface.Phase:
        size, alpha = grown(nimg, config.progan, resolution)
        return interface.Phase(
            resolution=size,
            alpha=alpha,
            batch=config.batch,
            learning_rate=config.learning_rate,
            gamma=2 * config.gamma,  # λ (‖∇‖ - 1)², whole: a step takes half of γ
            ema_kimg=config.ema_kimg,
        )

    return interface.Recipe(phase=phase, loss="wasserstein", penalties=("mixed",), penalty_norm=1.0)
