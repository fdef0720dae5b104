"""DCGAN: strided convolutions with batch normalisation (Radford et al. 2015).

Legend: N images of this worker's slice of a batch, C image channels, W feature maps, H height and width of them, D
latent dimension. Images are [N, C, H, W] in [-1, 1]; features are channels last. w is z: one for the whole network.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from components.config import Train
from components.models import interface
from components.models.batch_norm import BatchNorm
from components.models.layers import from_latent
from components.models.second_order import LEAK
from components.models.strided import double, halve

DEVIATION = 0.02  # of all weights, at first
BETA1, BETA2 = 0.5, 0.999  # Adam's


def _kernel(first: int, second: int, shape: tuple[int, int] = (4, 4)) -> nn.Parameter:
    """Weights [first, second, *shape] of N(0, 0.02)."""
    return nn.Parameter(DEVIATION * torch.randn(first, second, *shape))


class FromLatent(nn.Module):
    """Transposed convolution of one pixel, as a matrix product: [N, D] → [N, W, *grid], 4×4 of a square image."""

    def __init__(self, latent_dim: int, width: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.weight = _kernel(latent_dim, width, grid)

    def forward(self, z: Tensor) -> Tensor:
        return from_latent(z, self.weight)


class Up(nn.Module):
    """Transposed 4×4 convolution of stride 2: [N, in, H, H] → [N, out, 2H, 2H]."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.weight = _kernel(width_in, width)

    def forward(self, x: Tensor) -> Tensor:
        return double(x, self.weight.to(x.dtype))


class Down(nn.Module):
    """4×4 convolution of stride 2: [N, in, 2H, 2H] → [N, out, H, H]."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.weight = _kernel(width, width_in)

    def forward(self, x: Tensor) -> Tensor:
        return halve(x, self.weight.to(x.dtype))


class ToLogit(nn.Module):
    """One convolution of the whole coarsest map: [N, W, *grid] → [N] float32."""

    def __init__(self, width: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.weight = _kernel(1, width, grid)

    def forward(self, x: Tensor) -> Tensor:
        rows, weight = (y.permute(0, 2, 3, 1).flatten(1) for y in (x, self.weight))
        return F.linear(rows.to(weight.dtype), weight).squeeze(1)


class Generator(interface.Generator):
    """One transposed convolution for each resolution from 4², batch norm and ReLU between them, tanh at the end."""

    def __init__(self, sizes: interface.Sizes) -> None:
        super().__init__(sizes, num_layers=1)
        self.mapping = nn.Identity()
        widths = sizes.widths()
        self.layers, self.norms = nn.ModuleDict(), nn.ModuleDict()
        for size in list(widths)[:-1]:
            first = FromLatent(sizes.latent_dim, widths[size], sizes.grid) if size == 4 else None
            self.layers[str(size)] = first or Up(widths[size // 2], widths[size])
            self.norms[str(size)] = BatchNorm(widths[size], DEVIATION)
        self.to_image = Up(widths[sizes.resolution // 2], sizes.channels)

    def synthesis(
        self, ws: Tensor, noise: list[Tensor], *, resolution: int | None = None, alpha: float = 1.0
    ) -> Tensor:
        """Draws images; see interface.Generator. It does not grow."""
        assert ws.shape[1:] == (1, self.latent_dim), ws.shape
        assert resolution in (None, self.resolution), resolution
        x = ws[:, 0].to(self.dtype)
        for size, layer in self.layers.items():
            x = self.norms[size](layer(x)).relu_()
        return torch.tanh(self.to_image(x).float())


class Discriminator(interface.Discriminator):
    """The generator mirrored: LeakyReLU, and batch norm behind all but the first convolution and the last."""

    def __init__(self, sizes: interface.Sizes) -> None:
        super().__init__()
        widths, self.resolution, self.dtype = sizes.widths(), sizes.resolution, sizes.dtype
        self.from_image = Down(sizes.channels, widths[self.resolution // 2])
        self.layers, self.norms = nn.ModuleDict(), nn.ModuleDict()
        for size in list(widths)[-3::-1]:
            self.layers[str(size)] = Down(widths[2 * size], widths[size])
            self.norms[str(size)] = BatchNorm(widths[size], DEVIATION, keeps_statistics=False)
        self.logit = ToLogit(widths[4], sizes.grid)

    def forward(self, images: Tensor, *, labels: Tensor | None = None, alpha: float = 1.0) -> Tensor:
        """Judges images of its resolution, each beside all others of the batch; see interface.Discriminator."""
        assert max(images.shape[2:]) == self.resolution, images.shape
        x = images.to(self.dtype).contiguous(memory_format=torch.channels_last)
        x = F.leaky_relu_(self.from_image(x), LEAK)
        for size, layer in self.layers.items():
            x = F.leaky_relu_(self.norms[size](layer(x)), LEAK)
        logits: Tensor = self.logit(x)
        return logits


def recipe(config: Train, resolution: int) -> interface.Recipe:
    """Logistic loss without a penalty, Adam (0.5, 0.999) (Radford et al. 2015, section 4)."""

    def phase(nimg: int) -> interface.Phase:
        return interface.Phase(
            resolution=resolution,
            batch=config.batch,
            learning_rate=config.learning_rate,
            beta1=BETA1,
            beta2=BETA2,
            gamma=0.0,
            ema_kimg=config.ema_kimg,
        )

    return interface.Recipe(phase=phase, penalties=())
