"""From a decoded picture to training pixels: premultiply, fit to a frame, lay over a background.

Pixels travel as planes [H, 4, W] of premultiplied whole numbers, so a result is the same on any machine: 8-bit sRGB
values, or by choice 16-bit linear light. Reference: Porter and Duff 1984, Compositing Digital Images ("over",
premultiplied); IEC 61966-2-1 (the sRGB curve).
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from components.config import Preprocess
from components.data.images import Uint8
from components.data.resampling import EIGHT, SIXTEEN, Depth, Planes, resample

STRIP_PIXELS = 2**18
ART_COLOURS = 64  # pixel art has at most so many different pixels
Colour = tuple[int, int, int]
WHITE: Colour = (255, 255, 255)


def visible_pixels(image: Image.Image) -> Uint8:
    """The pixels of an RGBA image, [H, W, 4] straight, with colour set to 0 where alpha is 0: what is seen."""
    width, height = image.size
    words = np.frombuffer(image.tobytes(), "<u4")  # alpha is the high byte; faster than asarray(image)
    return np.where(words < 2**24, 0, words).astype("<u4", copy=False).view(np.uint8).reshape(height, width, 4)


def content_digest(pixels: Uint8) -> bytes:
    """SHA-256 over width, height and the visible pixels [H, W, 4]: the same however they were stored."""
    height, width, _ = pixels.shape
    digest = hashlib.sha256(struct.pack(">II", width, height))
    digest.update(pixels.data)
    return digest.digest()


def premultiply(pixels: Uint8) -> Uint8:
    """Straight RGBA [H, W, 4] to premultiplied planes: round(colour · alpha / 255).

    Returns:
        [H, 4, W], colour at most alpha.
    """
    height, width, _ = pixels.shape
    planes = np.empty((height, 4, width), np.uint8)
    for rows in _strips(planes):
        strip = planes[rows]
        strip[:] = pixels[rows].transpose(0, 2, 1)
        product = strip[:, :3].astype(np.uint16)
        product *= strip[:, 3:]
        strip[:, :3] = _divided_by_255(product)
    return planes


def _strips(planes: Planes) -> Iterator[slice]:
    """Rows at a time, so that wider copies of a large picture take a few MiB."""
    height, _, width = planes.shape
    step = max(1, STRIP_PIXELS // width)
    return (slice(top, top + step) for top in range(0, height, step))


def _divided_by_255(product: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    """round(product / 255) for products of two bytes, in place (Blinn 1994, Compositing, Part 1)."""
    product += 128
    product += product >> 8
    product >>= 8
    return product


def alpha_kind(planes: Uint8) -> Literal["opaque", "hard", "soft"]:
    """Whether alpha is 255 throughout, 0 or 255, or also between."""
    alpha = planes[:, 3]
    if (alpha - np.uint8(1) < 254).any():  # 0 wraps round to 255
        return "soft"
    return "opaque" if alpha.all() else "hard"


def art_block(planes: Uint8) -> int:
    """The side in pixels of the squares that pixel art without soft alpha is made of; 0 if it has too many colours."""
    height, _, width = planes.shape
    pixels = np.ascontiguousarray(planes.transpose(0, 2, 1)).view(np.uint32)[..., 0]
    sample = pixels[:: -(-height // 32), :: -(-width // 32)]
    if len(np.unique(sample)) > ART_COLOURS or len(np.unique(pixels)) > ART_COLOURS:
        return 0
    rows = np.flatnonzero((pixels[1:] != pixels[:-1]).any(1)) + 1
    columns = np.flatnonzero((pixels[:, 1:] != pixels[:, :-1]).any(0)) + 1
    return math.gcd(height, width, *rows.tolist(), *columns.tolist())


def content_box(planes: Planes) -> tuple[slice, slice]:
    """Rows and columns that hold everything visible; there must be something."""
    rows, columns = (np.flatnonzero(planes[:, 3].any(axis)) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def fit(planes: Planes, block: int, params: Preprocess) -> Planes:
    """Puts a picture into the frame of params' size by their trim, margin and shape.

    Args:
        planes: [H, 4, W] of premultiply() or to_linear(), with something visible.
        block: of pixel art, which is scaled by the largest whole number that fits; 0 for all else, and for Lanczos.

    Returns:
        [H, 4, W] of params.size, whole numbers up to 255 (float32), or up to 65535 in linear light (float64).
    """
    if block > 1:
        planes = planes[::block, :, ::block]
    if params.trim:
        rows, columns = content_box(planes)
        planes = planes[rows, :, columns]
    if params.shape == "crop":
        planes = _centre(planes, params.inner)
    depth = EIGHT if planes.dtype == np.uint8 else SIXTEEN
    (height, width), (inner_height, inner_width) = planes.shape[::2], params.inner
    times = min(inner_height // height, inner_width // width)
    if block and times:
        scaled = planes.repeat(times, axis=0).repeat(times, axis=2).astype(depth.dtype)
    else:
        tall = height * inner_width >= width * inner_height
        inner, side = (inner_height, height) if tall else (inner_width, width)
        height, width = (max(1, (2 * pixels * inner + side) // (2 * side)) for pixels in (height, width))
        if params.shape == "crop":
            height, width = params.inner  # what was cut out has these proportions to half a pixel
        scaled = resample(planes, height, width, depth)
        np.minimum(scaled[:, :3], scaled[:, 3:], out=scaled[:, :3])  # Lanczos overshoots
    height, _, width = scaled.shape
    if (height, width) == params.size:
        return scaled
    top, left = (params.size[0] - height) // 2, (params.size[1] - width) // 2
    frame = np.zeros((params.size[0], 4, params.size[1]), depth.dtype)
    frame[top : top + height, :, left : left + width] = scaled
    return frame


def _centre(planes: Planes, inner: tuple[int, int]) -> Planes:
    """The largest part in the middle that has the proportions of `inner`, height and width."""
    height, _, width = planes.shape
    rows = max(1, min(height, (2 * width * inner[0] + inner[1]) // (2 * inner[1])))
    columns = max(1, min(width, (2 * height * inner[1] + inner[0]) // (2 * inner[0])))
    top, left = (height - rows) // 2, (width - columns) // 2
    return planes[top : top + rows, :, left : left + columns]


def composite(square: Planes, background: Colour) -> Uint8:
    """Lays a fitted picture over a background, in the light it comes in: colour + background · (1 - alpha).

    Args:
        square: [H, 4, W] of fit().
        background: sRGB, 0..255.

    Returns:
        [H, W, 3] sRGB.
    """
    colours = np.asarray(background, np.uint16)[:, None]
    if _depth(square) is EIGHT:
        eight = square.astype(np.uint8)
        over = eight[:, :3] + _divided_by_255(~eight[:, 3:] * colours).astype(np.uint8)
    else:
        over = _encode(square[:, :3] + np.rint(_curve()[colours] * (65535 - square[:, 3:]) / 65535))
    return np.ascontiguousarray(over.transpose(0, 2, 1))


def transparent(square: Planes) -> Uint8:
    """A fitted picture as premultiplied sRGB with alpha, colour at most alpha.

    Returns:
        [H, W, 4]
    """
    depth = _depth(square)
    if depth is EIGHT:
        return square.transpose(0, 2, 1).astype(np.uint8)
    colour, alpha = square[:, :3], square[:, 3:]
    straight = np.rint(np.divide(colour * 65535, alpha, out=np.zeros_like(colour), where=alpha > 0))
    eight = np.rint(alpha / 257)
    premultiplied = np.rint(_encode(straight) * eight / 255)
    return np.concatenate([premultiplied, eight], axis=1).transpose(0, 2, 1).astype(np.uint8)


def border_colour(planes: Uint8) -> Colour | None:
    """The mean colour of what is visible of a picture's outermost pixels; None where nothing of them is."""
    edge = np.concatenate([planes[0].T, planes[-1].T, planes[:, :, 0], planes[:, :, -1]]).astype(np.int64)
    alpha = int(edge[:, 3].sum())
    if not alpha:
        return None
    red, green, blue = ((510 * edge[:, :3].sum(0) + alpha) // (2 * alpha)).tolist()
    return red, green, blue


def background(planes: Uint8, digest: bytes, palette: list[Colour] | None) -> Colour:
    """The colour under one picture: of the palette, by its content digest; its border's where there is no palette."""
    if palette is None:
        return border_colour(planes) or WHITE
    return palette[int.from_bytes(digest[8:16], "big") % len(palette)]


def _depth(square: Planes) -> Depth:
    return EIGHT if square.dtype == EIGHT.dtype else SIXTEEN


@lru_cache(maxsize=1)
def _curve() -> npt.NDArray[np.uint16]:
    """The sRGB curve: linear light 0..65535 of each 8-bit value."""
    levels = [value / 255 for value in range(256)]
    light = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in levels]
    return np.array([round(65535 * x) for x in light], np.uint16)


@lru_cache(maxsize=1)
def _inverse() -> Uint8:
    """The 8-bit sRGB value nearest in light to each linear 0..65535."""
    curve = _curve().astype(np.int64)
    return np.searchsorted((curve[1:] + curve[:-1] + 1) // 2, np.arange(65536), side="right").astype(np.uint8)


def _encode(light: Planes) -> Uint8:
    return _inverse()[light.astype(np.int64)]


def to_linear(pixels: Uint8) -> npt.NDArray[np.uint16]:
    """Straight sRGB [H, W, 4] to premultiplied planes of linear light, 0..65535.

    Returns:
        [H, 4, W]
    """
    height, width, _ = pixels.shape
    planes = np.empty((height, 4, width), np.uint16)
    for rows in _strips(planes):
        alpha = pixels[rows, :, 3].astype(np.uint32)[:, None]
        planes[rows, :3] = (_curve()[pixels[rows, :, :3].transpose(0, 2, 1)] * alpha + 127) // 255
        planes[rows, 3:] = alpha * 257
    return planes
