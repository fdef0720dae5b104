"""The offline extractor: a fixed random convolutional network on RGB images, with nothing to learn or download.

N images, H × W pixels, K maps of h × w, d features.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from components.evaluation.extractor import Extractor, measuring, resize

CHUNK = 16  # images at once on a CPU: more of them leave its caches
LAST = torch.channels_last


class RandomConv(Extractor):
    """Layout, texture and form of an image, by random filters and projections of one seed.

    Colour and layout are random projections of the image averaged to a 4 × 4 grid. Four levels (64², 32², 16², 8²) of
    random band-pass 3 × 3 filters on the image and on the responses of the level above, made positive and bounded by
    |x| / (1 + |x|), give texture (random projections of each map's mean and root mean square) and form (random
    projections of the maps averaged to a 4 × 4 grid). Each of these nine groups has a fixed scale: the distance
    of game sprites from their mean image, on average, is 24 in layout and 10 in each other group.

    Reference: that random filters serve as texture statistics, Ustyuzhaninov et al. 2017, "What does it take to
    generate natural textures?".
    """

    name = "random_conv"
    channels = 3
    published = False
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

    def __init__(self, device: str = "cpu") -> None:
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
        self.device = torch.device(device)
        self._layout = self._layout.to(device)
        self._levels = [
            (filters.to(device, memory_format=LAST), texture.to(device), form.to(device))
            for filters, texture, form in self._levels
        ]

    def _digest(self) -> str:
        identity = {"name": self.name, "seed": self.SEED, "scales": self.SCALES, "description": self.DESCRIPTION}
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True, separators=(",", ":")).encode())
        for weight in (self._layout, *(weight for level in self._levels for weight in level)):
            digest.update(weight.numpy().astype("<f4").tobytes())
        return digest.hexdigest()

    @measuring()
    def features(self, pixels: Tensor) -> Tensor:
        """[N, 3, H, W] float32 to [N, 64]."""
        chunk = CHUNK if self.device.type == "cpu" else len(pixels)
        return torch.cat([self._features(part) for part in torch.split(pixels, chunk)])

    def _features(self, pixels: Tensor) -> Tensor:
        x = resize((pixels / 127.5).sub_(1), self.SIZE).contiguous(memory_format=LAST)
        inputs, groups = x, []
        for filters, texture, form in self._levels:
            maps = F.conv2d(F.pad(inputs, (1, 1, 1, 1), mode="replicate"), filters).abs_()
            room = maps + 1
            maps.div_(room)
            rms = torch.square(maps, out=room).mean((2, 3)).sqrt_()
            halved, x = F.avg_pool2d(maps, 2), F.avg_pool2d(x, 2)
            cells = F.adaptive_avg_pool2d(halved, self.GRID)
            groups += [torch.cat([cells.mean((2, 3)), rms], dim=1) @ texture, cells.flatten(1) @ form]
            inputs = torch.cat([x, halved], dim=1)
        groups.insert(0, x.flatten(1) @ self._layout)  # after the last level x is the mean on the grid
        return torch.cat([scale * group for scale, group in zip(self.SCALES, groups, strict=True)], dim=1)


def _filters(rng: np.random.RandomState, out: int, channels: int) -> Tensor:
    """[out, channels, 3, 3], blind to constant inputs, of unit norm: white noise keeps its variance."""
    weights = rng.standard_normal((out, channels, 3, 3))
    weights -= weights.mean(axis=(2, 3), keepdims=True)
    weights /= np.sqrt(np.square(weights).sum(axis=(1, 2, 3), keepdims=True))
    return torch.from_numpy(weights.astype(np.float32))


def _projection(rng: np.random.RandomState, fan_in: int, out: int) -> Tensor:
    return torch.from_numpy((rng.standard_normal((fan_in, out)) / np.sqrt(fan_in)).astype(np.float32))
