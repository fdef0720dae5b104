"""From an original's bytes to training pixels: decode to RGBA, fit in premultiplied alpha, composite to RGB.

All of it is integer arithmetic on 8 bits, so the pixels are the same on any machine.
Reference: Porter and Duff 1984, Compositing Digital Images ("over", with premultiplied colour).
"""

from __future__ import annotations

import hashlib
import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from components.data.images import Uint8

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM")
SIXTEEN_BIT_GREY = ("I;16", "I;16B", "I;16L", "I;16N")
GREY_STEPS = {"L;2": 85, "L;4": 17}
DEEP_MODES = ("I", "F")  # whose range is unknown
DECODER_ERRORS = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, OverflowError)


class RejectedError(ValueError):
    """An original that is no usable image; the message is a short phrase for rejected.jsonl."""


def decode(content: bytes) -> Image.Image:
    """The first frame of an original as an upright straight-alpha RGBA image.

    Raises:
        RejectedError: empty, not an image, truncated, damaged, too large, or of unknown range.
    """
    if not content:
        raise RejectedError("empty file")
    with _rejecting(), Image.open(io.BytesIO(content), formats=FORMATS) as image:
        if image.mode in DEEP_MODES:
            raise RejectedError(f"pixel mode {image.mode} of unknown range")
        _scale_transparent_colour(image)
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return _to_rgba(image)


@contextmanager
def _rejecting() -> Iterator[None]:
    """Turns what Pillow raises on bad bytes into a RejectedError; its warnings about oddities are dropped."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except RejectedError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise RejectedError("decompression bomb") from None
    except UnidentifiedImageError:
        raise RejectedError("not an image") from None
    except (*DECODER_ERRORS, struct.error, zlib.error) as error:
        raise RejectedError("truncated" if "truncated" in str(error).lower() else "damaged") from None


def _scale_transparent_colour(image: ImageFile.ImageFile) -> None:
    """A PNG names its transparent colour at its own bit depth; Pillow would compare it with 8-bit pixels."""
    if image.format != "PNG" or "transparency" not in image.info:
        return
    colour, raw_mode = image.info["transparency"], image.tile[0].args
    if raw_mode in GREY_STEPS:
        image.info["transparency"] = colour * GREY_STEPS[raw_mode]
    if raw_mode == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in colour)


def _to_rgba(image: Image.Image) -> Image.Image:
    if image.mode in SIXTEEN_BIT_GREY:  # Pillow would clip these at 255
        grey = np.asarray(image)
        alpha = np.where(grey == image.info.get("transparency", -1), 0, 255).astype(np.uint8)
        high = (grey >> 8).astype(np.uint8)
        return Image.fromarray(np.stack([high, high, high, alpha], axis=-1))
    return image.convert("RGBA")


def content_digest(image: Image.Image) -> str:
    """SHA-256 over width, height and RGBA pixels, colour zeroed where alpha is 0: what is seen, however stored."""
    pixels = np.array(image).view("<u4")  # alpha is the high byte
    pixels[pixels < 2**24] = 0
    return hashlib.sha256(struct.pack(">II", *image.size) + pixels.tobytes()).hexdigest()


def fit(image: Image.Image, resolution: int) -> Uint8:
    """Scales the longer side to `resolution` (Lanczos, premultiplied) and centres on transparency.

    Args:
        image: RGBA, straight alpha.

    Returns:
        [resolution, resolution, 4], premultiplied: colour is at most alpha.
    """
    longer = max(image.size)
    width, height = (max(1, (2 * side * resolution + longer) // (2 * longer)) for side in image.size)
    scaled = np.array(image.convert("RGBa").resize((width, height), Image.Resampling.LANCZOS))
    np.minimum(scaled[..., :3], scaled[..., 3:], out=scaled[..., :3])  # Lanczos overshoots
    left, top = (resolution - width) // 2, (resolution - height) // 2
    square = np.zeros((resolution, resolution, 4), np.uint8)
    square[top : top + height, left : left + width] = scaled
    return square


def composite(premultiplied: Uint8, background: npt.ArrayLike) -> Uint8:
    """Lays pixels over a background: round(colour + background * (255 - alpha) / 255).

    Args:
        premultiplied: [..., 4], colour at most alpha.
        background: 0..255, broadcast against [..., 3].

    Returns:
        [..., 3]
    """
    colour, alpha = premultiplied[..., :3].astype(np.int32), premultiplied[..., 3:].astype(np.int32)
    over = colour + (np.asarray(background, np.int32) * (255 - alpha) + 127) // 255
    return over.astype(np.uint8)
