"""R3GAN: residual blocks of grouped convolutions without normalisation, relativistic loss (Huang et al. 2024).

Legend: N images, C image channels, W feature maps, H height and width of them (two numbers where images are not
square), D latent dimension, K labels. Images are [N, C, H, H] in about [-1, 1]; features are [N, W, H, H], channels
last. w is z, and with labels the label's vector behind it: one w for the whole network.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from components.config import Train
from components.models import interface
from components.models.layers import BINOMIAL_3, low_pass
from components.models.second_order import LEAK, conv2d, leaky_relu_

BLOCKS_PER_STAGE = 2
EXPANSION = 2  # of the feature maps inside a block
GROUP_WIDTH = 16  # feature maps
LEAKY_GAIN = math.sqrt(2 / (1 + LEAK**2))  # keeps the mean square over a LeakyReLU: He et al. 2015, equation 14


def _groups(hidden: int) -> int:
    """The most groups that divide `hidden` feature maps and have at least 16 of them, or all."""
    return next(count for count in range(max(hidden // GROUP_WIDTH, 1), 0, -1) if hidden % count == 0)


def _random(*shape: int, gain: float = 1.0) -> nn.Parameter:
    """Normal weights [out, in, …] of variance gain² / fan_in."""
    return nn.Parameter(torch.randn(shape) * gain / math.sqrt(math.prod(shape[1:])))


def _rows(x: Tensor) -> Tensor:
    """[N, W, H, H] → [N·H·H, W], of which a 1×1 convolution is a matrix product; a view for channels last."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _maps(rows: Tensor, like: Tensor) -> Tensor:
    """[N·H·H, W] → [N, W, H, H], with the N and H of `like`."""
    return rows.view(len(like), *like.shape[2:], -1).permute(0, 3, 1, 2)


class Pointwise(nn.Module):
    """1×1 convolution without bias: [N, in, H, H] → [N, out, H, H]."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.weight = _random(width, width_in)

    def forward(self, x: Tensor) -> Tensor:
        return _maps(F.linear(_rows(x), self.weight.to(x.dtype)), x)


class ResidualBlock(nn.Module):
    """x + 1×1(LeakyReLU(grouped 3×3(LeakyReLU(1×1(x))))), twice as wide inside: [N, W, H, H] → same shape.

    The last convolution begins at zero and the gain of the other two is scaled by L^(-1/4), L the network's blocks:
    then a step of the optimiser changes its output as much whatever the depth, without normalisation.
    Reference: Huang et al. 2024, section 4; Zhang et al. 2019 (Fixup), section 3, with three layers a block.
    """

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        hidden, gain = EXPANSION * width, LEAKY_GAIN * blocks**-0.25
        self.groups = _groups(hidden)
        self.expand = _random(hidden, width, gain=gain)
        self.expand_bias = nn.Parameter(torch.zeros(hidden))
        self.grouped = _random(hidden, hidden // self.groups, 3, 3, gain=gain)
        self.grouped_bias = nn.Parameter(torch.zeros(hidden))
        self.contract = nn.Parameter(torch.zeros(width, hidden))

    def forward(self, x: Tensor) -> Tensor:
        rows, dtype = _rows(x), x.dtype
        hidden = leaky_relu_(torch.addmm(self.expand_bias.to(dtype), rows, self.expand.to(dtype).T))
        weight, bias = self.grouped.to(dtype), self.grouped_bias.to(dtype)
        maps = leaky_relu_(conv2d(_maps(hidden, x), weight, bias, padding=1, groups=self.groups))
        return _maps(torch.addmm(rows, _rows(maps), self.contract.to(dtype).T), x)


class Resampling(nn.Module):
    """Between two stages: the filter [1, 2, 1] ⊗ [1, 2, 1] and, where the width changes, a 1×1 convolution.

    The two commute, so the 1×1 convolution works where there are fewer pixels. Enlarging is the transpose of halving
    times four: both are centred on the even pixels.
    """

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.mix = Pointwise(width_in, width) if width != width_in else nn.Identity()


class Upsample(Resampling):
    """[N, in, H, H] → [N, out, 2H, 2H]."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.mix(x)
        kernel = low_pass(x, BINOMIAL_3, gain=4.0)
        return F.conv_transpose2d(x, kernel, stride=2, padding=1, output_padding=1, groups=x.shape[1])


class Downsample(Resampling):
    """[N, in, 2H, 2H] → [N, out, H, H]."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.mix(conv2d(x, low_pass(x, BINOMIAL_3), stride=2, padding=1, groups=x.shape[1]))
        return out


class Mapping(nn.Module):
    """z [N, D] → w: z itself; with labels [z, the label's learned vector], [N, 2D]."""

    def __init__(self, latent_dim: int, labels: int) -> None:
        super().__init__()
        self.embedding = _embedding(labels, latent_dim)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return z if self.embedding is None else torch.cat([z, self.embedding[labels]], dim=1)


def _embedding(labels: int, width: int) -> nn.Parameter | None:
    """A linear layer on one of K labels: a vector each, [K, width] of unit variance."""
    return _random(labels, width, gain=math.sqrt(width)) if labels else None


def _blocks(width: int, stages: int) -> list[nn.Module]:
    """The residual blocks of one of a network's stages."""
    return [ResidualBlock(width, BLOCKS_PER_STAGE * stages) for _ in range(BLOCKS_PER_STAGE)]


class Generator(interface.Generator):
    """A learned 4×4 basis scaled by z, stages from 4² to the resolution, and a 1×1 convolution to the image.

    The image is nearly proportional to z: a shorter z is a paler picture, half transparent where there is alpha. So
    truncation leaves z as it is.
    """

    truncated_layers = 0

    def __init__(self, sizes: interface.Sizes) -> None:
        w_dim = 2 * sizes.latent_dim if sizes.labels else sizes.latent_dim
        super().__init__(sizes, num_layers=1, w_dim=w_dim)
        self.mapping = Mapping(sizes.latent_dim, len(sizes.labels))
        widths = sizes.widths()
        self.basis = nn.Parameter(torch.randn(widths[4], *sizes.grid))
        self.scale = _random(widths[4], w_dim)
        self.stages = nn.ModuleDict()
        for size, width in widths.items():
            first = [] if size == 4 else [Upsample(widths[size // 2], width)]
            self.stages[str(size)] = nn.Sequential(*first, *_blocks(width, len(widths)))
        self.to_image = Pointwise(widths[sizes.resolution], sizes.channels)

    def synthesis(
        self, ws: Tensor, noise: list[Tensor], *, resolution: int | None = None, alpha: float = 1.0
    ) -> Tensor:
        """Draws images; see interface.Generator. It does not grow."""
        assert ws.shape[1:] == (1, len(self.w_avg)), ws.shape
        assert resolution in (None, self.resolution), resolution
        scale = F.linear(ws[:, 0], self.scale)
        x = (scale[:, :, None, None] * self.basis).to(self.dtype, memory_format=torch.channels_last)
        for stage in self.stages.values():
            x = stage(x)
        image: Tensor = self.to_image(x).float()
        return image


class Discriminator(interface.Discriminator):
    """The generator mirrored; ends with a kernel of its own for each 4×4 feature map and a linear layer.

    With labels that layer gives a vector, and the logit is its product with the label's (Miyato and Koyama 2018).
    """

    def __init__(self, sizes: interface.Sizes) -> None:
        super().__init__()
        widths, self.resolution, self.dtype = sizes.widths(), sizes.resolution, sizes.dtype
        self.from_image = Pointwise(sizes.channels, widths[self.resolution])
        self.stages = nn.ModuleDict()
        for size, width in reversed(widths.items()):
            last = [] if size == 4 else [Downsample(width, widths[size // 2])]
            self.stages[str(size)] = nn.Sequential(*_blocks(width, len(widths)), *last)
        self.basis = nn.Parameter(torch.randn(widths[4], *sizes.grid) / math.sqrt(math.prod(sizes.grid)))
        self.logit = _random(sizes.latent_dim if sizes.labels else 1, widths[4])
        self.embedding = _embedding(len(sizes.labels), sizes.latent_dim)

    def forward(self, images: Tensor, *, labels: Tensor | None = None, alpha: float = 1.0) -> Tensor:
        """Judges images of its resolution."""
        assert max(images.shape[2:]) == self.resolution, images.shape
        x = self.from_image(images.to(self.dtype, memory_format=torch.channels_last))
        for stage in self.stages.values():
            x = stage(x)
        features = (x.to(self.basis.dtype) * self.basis).sum(dim=(2, 3))
        logits = F.linear(features, self.logit)
        if self.embedding is not None:
            return (logits * self.embedding[labels]).sum(1) / math.sqrt(logits.shape[1])
        return logits.squeeze(1)


def cosine(start: float, end: float, progress: float) -> float:
    """From start, at progress 0, to end, at progress 1 and from then on, along half a cosine."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def recipe(config: Train, resolution: int) -> interface.Recipe:
    """Relativistic loss with R1 and R2; rates, γ, average and augmentation follow a cosine (Huang et al. 2024)."""
    ends = config.r3gan

    def phase(nimg: int) -> interface.Phase:
        progress = nimg / (ends.decay_kimg * 1000)
        return interface.Phase(
            resolution=resolution,
            batch=config.batch,
            learning_rate=cosine(config.learning_rate, ends.final_learning_rate, progress),
            beta2=cosine(0.9, 0.99, progress),
            gamma=cosine(config.gamma, ends.final_gamma, progress),
            ema_kimg=cosine(0.0, config.ema_kimg, progress),
            augment=cosine(0.0, 1.0, progress),
        )

    return interface.Recipe(
        phase=phase, loss="relativistic", penalties=("real", "fake"), penalty_every=ends.penalty_every
    )
