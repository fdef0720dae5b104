"""Pages of pictures: image arrays laid out in a grid, straight and premultiplied alpha, and PNG files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from components.data.files import write_bytes

Uint8 = npt.NDArray[np.uint8]


def grid(images: Uint8, columns: int, margin: int = 2, paper: int = 255) -> Uint8:
    """Lays images out row by row on paper of that grey, with `margin` pixels around each; RGBA on transparent paper.

    Args:
        images: [N, H, W, C], N at least 1.
        columns: images a row; a last row may be shorter.

    Returns:
        [rows * (H + margin) + margin, columns * (W + margin) + margin, C]
    """
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    step_y, step_x = height + margin, width + margin
    blank = 0 if channels == 4 else paper
    page = np.full((rows * step_y + margin, columns * step_x + margin, channels), blank, np.uint8)
    for index, image in enumerate(images):
        top, left = margin + index // columns * step_y, margin + index % columns * step_x
        page[top : top + height, left : left + width] = image
    return page


def straight(pixels: Uint8) -> Uint8:
    """Premultiplied RGBA [..., 4] as files hold it: round(255 · colour / alpha), 0 where alpha is 0; RGB as it is.

    premultiplied() gives the pixels back, all of them.
    """
    if pixels.shape[-1] == 3:
        return pixels
    colour, alpha = pixels[..., :3].astype(np.int64), pixels[..., 3:].astype(np.int64)
    divided = (510 * colour + alpha) // np.maximum(2 * alpha, 1)
    return np.concatenate([divided.astype(np.uint8), pixels[..., 3:]], axis=-1)


def premultiplied(pixels: Uint8) -> Uint8:
    """Straight RGBA [..., 4] as networks and metrics know it: round(colour · alpha / 255); RGB as it is."""
    if pixels.shape[-1] == 3:
        return pixels
    product = pixels[..., :3].astype(np.int64) * pixels[..., 3:]
    return np.concatenate([((2 * product + 255) // 510).astype(np.uint8), pixels[..., 3:]], axis=-1)


def framed(image: Uint8, side: int, paper: tuple[int, int, int] = (255, 255, 255)) -> Uint8:
    """[H, W, 3] scaled to `side` pixels on its longer side, in the middle of [side, side, 3] of `paper`."""
    height, width = (pixels * side // max(image.shape[:2]) for pixels in image.shape[:2])
    page = Image.new("RGB", (side, side), paper)
    scaled = Image.fromarray(image).resize((width, height), Image.Resampling.BOX)
    page.paste(scaled, ((side - width) // 2, (side - height) // 2))
    return np.asarray(page)


def encode_png(array: Uint8) -> bytes:
    """The PNG of [H, W, C] with 1 (grey), 3 (RGB) or 4 (RGBA) channels, straight alpha."""
    buffer = io.BytesIO()
    Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array).save(buffer, format="PNG")
    return buffer.getvalue()


def save_png(path: Path, array: Uint8) -> None:
    """Writes encode_png's bytes atomically."""
    write_bytes(path, encode_png(array))
