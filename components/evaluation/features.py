"""Feature extractors: uint8 images to a few numbers each, by a network whose digest says exactly which one it was.

N images, H × W pixels, C channels, d features.
"""

from __future__ import annotations

import hashlib
import json
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

Uint8 = npt.NDArray[np.uint8]


class Extractor(Protocol):
    """What the metrics need to know of an extractor.

    Attributes:
        name: as in params.yaml and in the names of metrics.
        digest: SHA-256 over preprocessing, architecture and weights; distances compare only under the same digest.
        dim: d.
    """

    name: str
    digest: str
    dim: int

    def __call__(self, images: Uint8) -> Tensor:
        """[N, H, W, C] uint8 to [N, d] float32."""
        ...


class RandomConv:
    """A fixed random convolutional network on RGB images: no learned weight, nothing to download.

    Colour and layout are random projections of the image averaged to a 4 × 4 grid. Four levels (64², 32², 16², 8²) of
    random band-pass 3 × 3 filters on the image and on the responses of the level above, made positive and bounded by
    |x| / (1 + |x|), give texture (random projections of each map's mean and root mean square) and form (random
    projections of the maps averaged to a 4 × 4 grid). Each of these nine groups has a fixed scale: the distance
    of game sprites from their mean image, on average, is 24 in layout and 10 in each other group.

    Reference: that random filters serve as texture statistics, Ustyuzhaninov et al. 2017, "What does it take to
    generate natural textures?".
    """

    name = "random_conv"
    SEED = 0
    SIZE = 64
    LEVELS = 4
    MAPS = 16
    GRID = 4
    LAYOUT, TEXTURE, FORM = 16, 6, 6  # features of a group: layout once, texture and form at every level
    SCALES = (3.5, 25.0, 16.0, 16.0, 18.0, 21.0, 24.0, 32.0, 20.0)  # see docs/evaluation.md
    DESCRIPTION = (
        "RGB uint8 / 127.5 - 1; bicubic 64x64, antialias, align_corners=False, not clamped; layout: mean on 4x4 grid, "
        "projected; level: replicate-pad 1, conv 3x3 on [image, maps], |x| / (1 + |x|); texture: projected [mean, rms] "
        "of maps; form: maps' mean on 4x4 grid, projected; next level: 2x2 means of image and maps; weights in order "
        "of use: filters, spatial mean removed, unit norm, and projections / sqrt(fan-in); groups scaled"
    )

    def __init__(self) -> None:
        rng = np.random.RandomState(self.SEED)  # the legacy stream, frozen for good
        cells = self.GRID**2
        self._layout = _projection(rng, 3 * cells, self.LAYOUT)
        self._levels: list[tuple[Tensor, Tensor, Tensor]] = []
        channels = 3
        for _ in range(self.LEVELS):
            filters = _filters(rng, self.MAPS, channels)
            texture = _projection(rng, 2 * self.MAPS, self.TEXTURE)
            form = _projection(rng, cells * self.MAPS, self.FORM)
            self._levels.append((filters, texture, form))
            channels = 3 + self.MAPS
        self.dim = self.LAYOUT + self.LEVELS * (self.TEXTURE + self.FORM)
        self.digest = self._digest()

    def _digest(self) -> str:
        identity = {"name": self.name, "seed": self.SEED, "scales": self.SCALES, "description": self.DESCRIPTION}
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True, separators=(",", ":")).encode())
        for weight in (self._layout, *(weight for level in self._levels for weight in level)):
            digest.update(weight.numpy().astype("<f4").tobytes())
        return digest.hexdigest()

    @torch.inference_mode()
    def __call__(self, images: Uint8) -> Tensor:
        """[N, H, W, 3] uint8 to [N, 64] float32."""
        assert images.shape[3:] == (3,), images.shape
        x = torch.tensor(images).permute(0, 3, 1, 2).float() / 127.5 - 1
        if x.shape[2:] != (self.SIZE, self.SIZE):
            x = F.interpolate(x, size=(self.SIZE, self.SIZE), mode="bicubic", align_corners=False, antialias=True)
        groups = [_on_grid(x, self.GRID) @ self._layout]
        inputs = x
        for filters, texture, form in self._levels:
            maps = F.conv2d(F.pad(inputs, (1, 1, 1, 1), mode="replicate"), filters).abs()
            maps = maps / (1 + maps)
            moments = torch.cat([maps.mean((2, 3)), maps.square().mean((2, 3)).sqrt()], dim=1)
            groups += [moments @ texture, _on_grid(maps, self.GRID) @ form]
            x = F.avg_pool2d(x, 2)
            inputs = torch.cat([x, F.avg_pool2d(maps, 2)], dim=1)
        return torch.cat([scale * group for scale, group in zip(self.SCALES, groups, strict=True)], dim=1)


def _on_grid(maps: Tensor, cells: int) -> Tensor:
    """[N, K, h, w] averaged to cells × cells, flattened."""
    return F.adaptive_avg_pool2d(maps, cells).flatten(1)


def _filters(rng: np.random.RandomState, out: int, channels: int) -> Tensor:
    """[out, channels, 3, 3], blind to constant inputs, of unit norm: white noise keeps its variance."""
    weights = rng.standard_normal((out, channels, 3, 3))
    weights -= weights.mean(axis=(2, 3), keepdims=True)
    weights /= np.sqrt(np.square(weights).sum(axis=(1, 2, 3), keepdims=True))
    return torch.from_numpy(weights.astype(np.float32))


def _projection(rng: np.random.RandomState, fan_in: int, out: int) -> Tensor:
    return torch.from_numpy((rng.standard_normal((fan_in, out)) / np.sqrt(fan_in)).astype(np.float32))


_EXTRACTORS = {RandomConv.name: RandomConv}


def build_extractor(name: str) -> Extractor:
    """The extractor of that name (components.config.EXTRACTORS)."""
    return _EXTRACTORS[name]()
