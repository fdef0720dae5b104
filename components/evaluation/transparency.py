"""Extractors of transparent images: what they show over two backgrounds, and what their alpha alone is like.

N images of 4 channels, H × W pixels, d features. Pixels are premultiplied RGBA in 0..255.
"""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from components.evaluation.extractor import Extractor, measuring

BACKGROUNDS = ("#ffffff", "#202020")


class OnBackgrounds(Extractor):
    """Another extractor's features of the images over white and over near black, one after the other.

    Over one background alone, what has its colour cannot be told from what is transparent.

    Reference: Porter and Duff 1984, "Compositing Digital Images" ("over").
    """

    channels = 4
    published = False

    def __init__(self, extractor: Extractor) -> None:
        self._extractor = extractor
        self.name, self.device = f"{extractor.name}_rgba", extractor.device
        self.dim = len(BACKGROUNDS) * extractor.dim
        self.digest = _digest({"extractor": extractor.digest, "over": BACKGROUNDS, "composites": "clamped to 0..255"})

    @measuring()
    def features(self, pixels: Tensor) -> Tensor:
        """[N, 4, H, W] float32 to [N, d]."""
        return torch.cat([self._extractor.features(image) for image in composites(pixels)], dim=1)


def composites(pixels: Tensor) -> list[Tensor]:
    """[N, 4, H, W] over each of BACKGROUNDS, [N, 3, H, W] in 0..255 and not rounded."""
    colour, through = pixels[:, :3], 1 - pixels[:, 3:] / 255
    backgrounds = [colour.new_tensor([*bytes.fromhex(name[1:])]).view(1, 3, 1, 1) for name in BACKGROUNDS]
    return [torch.addcmul(colour, through, background).clamp_(0, 255) for background in backgrounds]


class AlphaStatistics(Extractor):
    """What alpha is like, without colour: where the images are opaque, how soft their edges are, and how long.

    Features: the mean on a 4 × 4 grid (16); the shares of pixels that are transparent to the eye (0 to 7 after
    rounding), 8 to 63, 64 to 127, 128 to 191, 192 to 247, and opaque to the eye (248 to 255) (6); along rows and along
    columns, how much alpha changes from side to side in all, as a multiple of 255 (2). A network seldom gives 0 and 255
    to the level, and nobody sees that. Each group is scaled so that its variances among real sprites add up to about 1.
    """

    name = "alpha"
    channels = 4
    published = False
    dim = 24
    GRID = 4
    BOUNDS = (-0.5, 7.5, 63.5, 127.5, 191.5, 247.5, 255.5)
    SCALES = (1.0, 5.0, 0.75)
    DESCRIPTION = (
        "alpha / 255: mean on 4x4 grid; shares between bounds of 0..255; sum of absolute differences of "
        "neighbours in a row, mean of rows, then of columns; groups scaled"
    )

    def __init__(self, device: str = "cpu") -> None:
        self.device = torch.device(device)
        self.digest = _digest({"bounds": self.BOUNDS, "scales": self.SCALES, "description": self.DESCRIPTION})

    @measuring()
    def features(self, pixels: Tensor) -> Tensor:
        """[N, 4, H, W] float32 to [N, 24]."""
        alpha = pixels[:, 3:] / 255
        layout = F.adaptive_avg_pool2d(alpha, self.GRID).flatten(1)
        levels = pixels[:, 3]
        shares = [((levels > low) & (levels <= high)).float().mean((1, 2)) for low, high in pairwise(self.BOUNDS)]
        edges = [alpha.diff(dim=dim).abs().sum(dim).mean((1, 2)) for dim in (3, 2)]
        groups = (layout, torch.stack(shares, dim=1), torch.stack(edges, dim=1))
        return torch.cat([scale * group for scale, group in zip(self.SCALES, groups, strict=True)], dim=1)


def _digest(identity: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
