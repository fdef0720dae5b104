"""Images to a training device: copied from the memory map step by step, or gathered from a copy that lives there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from components.data.dataset import ImageSet

Feed = Callable[[NDArray[np.int64]], Tensor]  # indices [B] to uint8 [B, H, W, C] on the device
RESIDENT_SHARE = 0.25  # of a GPU's free memory that the images may take
CHUNK = 4096  # images copied at once


def feed(data: ImageSet, device: torch.device) -> Feed:
    """The whole set on the GPU where it fits; else the memory map, as on a CPU, whose page cache holds it anyway."""
    room = RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
    return resident(data, device) if int(np.prod(data.shape)) <= room else mapped(data, device)


def mapped(data: ImageSet, device: torch.device) -> Feed:
    """Gathers on the host and copies."""
    return lambda indices: torch.from_numpy(data[indices]).to(device)


def resident(data: ImageSet, device: torch.device) -> Feed:
    """Copies the set to the device once, as uint8, and gathers there."""
    images = torch.empty(data.shape, dtype=torch.uint8, device=device)
    for start in range(0, len(data), CHUNK):
        indices = np.arange(start, min(start + CHUNK, len(data)))
        images[start : start + len(indices)] = torch.from_numpy(data[indices])
    return lambda indices: images[torch.from_numpy(indices).to(device)]
