"""From what networks draw to pixels: levels 0..255, where no premultiplied colour exceeds its alpha.

N images, C channels: 3 for RGB, 4 for premultiplied RGBA; H × W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor


def levels(images: Tensor) -> Tensor:
    """[N, C, H, W] in about [-1, 1] to float32 in [0, 255], not rounded; of 4 channels colour is at most alpha."""
    scaled = (images.float() + 1).mul(127.5).clamp(0, 255)
    if images.shape[1] == 3:
        return scaled
    alpha = scaled[:, 3:]
    return torch.cat([torch.minimum(scaled[:, :3], alpha), alpha], dim=1)


def pixels(images: Tensor) -> Tensor:
    """[N, C, H, W] in about [-1, 1] to uint8 [N, H, W, C]: levels(), rounded, channels last."""
    return levels(images).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
