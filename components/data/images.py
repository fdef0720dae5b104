"""Pages of pictures: image arrays laid out in a grid, and PNG files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from components.data.files import write_bytes

Uint8 = npt.NDArray[np.uint8]


def grid(images: Uint8, columns: int, margin: int = 2, paper: int = 255) -> Uint8:
    """Lays images out row by row on paper of that grey, with `margin` pixels around each.

    Args:
        images: [N, H, W, C], N at least 1.
        columns: images a row; a last row may be shorter.

    Returns:
        [rows * (H + margin) + margin, columns * (W + margin) + margin, C]
    """
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    step_y, step_x = height + margin, width + margin
    page = np.full((rows * step_y + margin, columns * step_x + margin, channels), paper, np.uint8)
    for index, image in enumerate(images):
        top, left = margin + index // columns * step_y, margin + index % columns * step_x
        page[top : top + height, left : left + width] = image
    return page


def encode_png(array: Uint8) -> bytes:
    """The PNG of [H, W, C] with 1 (grey), 3 (RGB) or 4 (RGBA) channels."""
    buffer = io.BytesIO()
    Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array).save(buffer, format="PNG")
    return buffer.getvalue()


def save_png(path: Path, array: Uint8) -> None:
    """Writes encode_png's bytes atomically."""
    write_bytes(path, encode_png(array))
