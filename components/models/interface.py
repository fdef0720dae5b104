"""What trainer, evaluation, generation and registry know of an arch: two networks and a recipe.

An arch is one module here with the classes Generator and Discriminator and the function recipe(config, resolution);
ARCHS in __init__.py names it. Legend: N images, C channels, H × W pixels, D size of w, L layers that take a w each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from components.models.layers import resolutions, width_at


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What a generator and its discriminator are built from."""

    resolution: int  # of the finished image's longer side, pixels
    channels: int  # of the image
    grid: tuple[int, int] = (4, 4)  # rows and columns of the coarsest feature maps; 4 on the longer side
    labels: dict[str, int] = field(default_factory=dict)  # names and how many images have each; none: no labels
    latent_dim: int  # of z
    channel_base: int
    channel_max: int
    growth: tuple[int, float] | None = None  # the resolution it draws at and its fade-in weight; None: it is finished
    dtype: torch.dtype = torch.float32  # of the convolutions

    def shape(self, size: int) -> tuple[int, int]:
        """Height and width in pixels where the longer side has `size`."""
        return size * self.grid[0] // 4, size * self.grid[1] // 4

    def widths(self) -> dict[int, int]:
        """Feature maps at 4², 8², … up to the resolution: channel_base / r, at most channel_max."""
        return {size: width_at(size, self.channel_base, self.channel_max) for size in resolutions(self.resolution)}


class Generator(nn.Module):
    """z [N, latent_dim] → w [N, D] → images [N, C, H, W] in about [-1, 1].

    An arch sets `mapping`, a module from z to w (from z and labels, where it has them), and defines synthesis().

    Attributes:
        latent_dim: size of z.
        resolution: of the finished image's longer side, pixels.
        sizes: what it is built from.
        labels: their names and how many train images have each; a label is a position in them.
        channels: C.
        num_layers: L.
        w_avg: [D], the running mean of w, centre of truncation.
        growth: how far it has grown: the resolution it draws at, and that one's fade-in weight α.
        dtype: of the convolutions.
    """

    w_avg: Tensor
    mapping: nn.Module
    truncated_layers: int | None = None  # the first so many; None: all

    def __init__(self, sizes: Sizes, *, num_layers: int, w_dim: int = 0) -> None:
        super().__init__()
        self.sizes, self.labels = sizes, sizes.labels
        self.resolution, self.channels, self.dtype = sizes.resolution, sizes.channels, sizes.dtype
        self.latent_dim, self.num_layers = sizes.latent_dim, num_layers
        self.growth = sizes.growth or (sizes.resolution, 1.0)
        self.register_buffer("w_avg", torch.zeros(w_dim or sizes.latent_dim))

    def to_w(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """z [N, latent_dim] and labels [N], where there are any → w [N, D]."""
        w: Tensor = self.mapping(z) if labels is None else self.mapping(z, labels)
        return w

    def draw_labels(self, randoms: Sequence[torch.Generator]) -> Tensor | None:
        """Labels [N], one from each of N random generators on the CPU, as often as train images have them; or None."""
        if not self.labels:
            return None
        counts = torch.tensor([*self.labels.values()], dtype=torch.float32)
        drawn = [torch.multinomial(counts, 1, generator=random) for random in randoms]
        return torch.cat(drawn).to(self.w_avg.device)

    def noise_shapes(self) -> list[tuple[int, int]]:
        """Height and width of each noise input; none where an arch has no noise."""
        return []

    def truncate(self, w: Tensor, psi: float, cutoff: int | None = None) -> Tensor:
        """w [N, D] → ws [N, L, D]: w_avg + ψ · (w - w_avg) in the first `cutoff` layers, w in the rest.

        Reference: Karras et al. 2018, appendix B.
        """
        ws = w[:, None].expand(-1, self.num_layers, -1)
        cutoff = self.truncated_layers if cutoff is None else cutoff
        below = torch.arange(self.num_layers, device=w.device) < (self.num_layers if cutoff is None else cutoff)
        return torch.lerp(self.w_avg.expand_as(ws), ws, torch.where(below, psi, 1.0)[:, None])

    def synthesis(
        self, ws: Tensor, noise: list[Tensor], *, resolution: int | None = None, alpha: float = 1.0
    ) -> Tensor:
        """Draws images.

        Args:
            ws: [N, L, D].
            noise: for each of noise_shapes(), [N, 1, h, w] standard normal.
            resolution: of the images, where an arch grows; None: the finished size, enlarged from what it grew to.
            alpha: fade-in weight of that resolution's own image, in [0, 1].

        Returns:
            [N, C, H, W] float32.
        """
        raise NotImplementedError

    def begin_at(self, resolution: int) -> None:
        """Told once that weights up to this resolution are trained ones, so that what is above can begin quietly."""


class Discriminator(nn.Module):
    """Images [N, C, H, W] → logits [N] float32, above 0 for "real"; built from Sizes."""

    def forward(self, images: Tensor, *, labels: Tensor | None = None, alpha: float = 1.0) -> Tensor:
        """Judges images, with their labels [N] where there are any, at the resolution they come in.

        Where an arch grows, α fades in that resolution's blocks.
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Phase:
    """What may change from step to step; a function of the images shown, never of how long the run is meant to be."""

    resolution: int  # pixels
    alpha: float = 1.0  # weight of that resolution's own image, [0, 1]; 1 when there is no fade
    batch: int  # images, over all workers
    learning_rate: float
    beta1: float = 0.0
    beta2: float = 0.99
    gamma: float  # weight of the gradient penalties, half of it for each
    ema_kimg: float  # half-life of the averaged generator
    augment: float = 1.0  # share of train.augment.p, where that is fixed


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How an arch is trained: what its paper fixes, and its schedule under the numbers of params.yaml."""

    phase: Callable[[int], Phase]  # of the step that begins after so many images
    loss: str = "logistic"  # a name in training/losses.py
    penalties: tuple[str, ...] = ("real",)  # of D's gradient on: reals (R1), fakes (R2), mixed images between them
    penalty_norm: float = 0.0  # that the penalties pull the gradient's norm to
    penalty_every: int = 1  # steps; above 1 a step of its own with the gradient times as much (lazy)
    path_length_every: int = 0  # steps; 0 for no path-length penalty
    path_length_weight: float = 0.0
    style_mixing: float = 0.0  # probability of a second latent from a random layer on
    w_avg_beta: float = 1.0  # decay of w_avg in a step
