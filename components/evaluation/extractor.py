"""What every feature extractor is: images to a few numbers each, under a digest that says by which computation.

N images, H × W pixels, C channels, d features, S the side that an extractor resizes to.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from components.data.images import Uint8


class Extractor(Protocol):
    """What the metrics need to know of an extractor.

    Attributes:
        name: as in params.yaml and in the names of metrics.
        digest: SHA-256 over all that decides a feature; distances compare only under the same digest.
        dim: d.
        channels: C of the images that it takes: 3 for RGB, 4 for premultiplied RGBA.
        published: whether distances on its features may bear the names of published ones, FID and KID.
        device: where it computes.
    """

    name: str
    digest: str
    dim: int
    channels: int
    published: bool
    device: torch.device

    def features(self, pixels: Tensor) -> Tensor:
        """[N, C, H, W] float32 in 0..255, which need not be whole numbers, to [N, d] float32 on the same device."""
        ...

    def __call__(self, images: Uint8) -> Tensor:
        """[N, H, W, C] uint8 to [N, d] float32 on the CPU."""
        assert images.shape[3:] == (self.channels,), images.shape
        copied = torch.from_numpy(np.array(images, order="C"))  # mirrored views have no tensor
        return self.features(copied.to(self.device).permute(0, 3, 1, 2).float()).cpu()


@contextmanager
def measuring() -> Iterator[None]:
    """No gradients, and convolutions in full float32, so that features on a GPU are those on a CPU up to rounding."""
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def resize(pixels: Tensor, size: int) -> Tensor:
    """[N, C, H, W] to [N, C, S, S], bicubic and antialiased: what is shrunk is averaged first. Values overshoot.

    Reference: Parmar et al. 2022, "On Aliased Resizing and Surprising Subtleties in GAN Evaluation".
    """
    if pixels.shape[2:] == (size, size):
        return pixels
    planes = pixels.contiguous()  # faster than with the channels last
    return F.interpolate(planes, size=(size, size), mode="bicubic", align_corners=False, antialias=True)
