"""From an original's bytes to pictures: each frame as upright straight-alpha sRGB, or one short reason why not.

The bytes decide, never the name. A frame is decoded when it is asked for, so that memory holds one.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

from PIL import ExifTags, Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import Blend, Disposal, PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from components.data.colour import scale_transparent_colour, to_rgba

Reader = type[ImageFile.ImageFile]

# The readers themselves, not Image.open: that tries them in turn, and its own limit of pixels is a global.
READERS: tuple[tuple[re.Pattern[bytes], Reader], ...] = (
    (re.compile(rb"\x89PNG"), PngImageFile),
    (re.compile(rb"\xff\xd8\xff"), JpegImageFile),
    (re.compile(rb"GIF8[79]a"), GifImageFile),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), WebPImageFile),
    (re.compile(rb"BM"), BmpImageFile),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), TiffImageFile),
    (re.compile(rb"P[1-6f]\s"), PpmImageFile),
)
FORMATS = tuple(str(reader.format) for _, reader in READERS)
ANIMATED = (PngImageFile, GifImageFile, WebPImageFile)
OTHERS = (
    ("HTML", re.compile(rb"\s*<(!doctype html|html|head|body)\b", re.IGNORECASE)),
    ("SVG", re.compile(rb"\s*(<[?!].*)?<svg\b", re.DOTALL)),
    ("PDF", re.compile(rb"%PDF")),
    ("an archive", re.compile(rb"PK[\3\5]|\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!|(?s:.{257})ustar")),
    ("a Git LFS pointer", re.compile(rb"version https://git-lfs")),
    ("text", re.compile(rb"[\t\n\f\r\x20-\x7e\x80-\xff]+\Z")),
)
NOT_TAKEN = (  # images all the same
    ("AVIF or HEIC", re.compile(rb"....ftyp(avi[fs]|hei[cx]|mif1)", re.DOTALL)),
    ("ICO", re.compile(rb"\0\0[\1\2]\0")),
    ("JPEG 2000", re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51")),
    ("QOI", re.compile(rb"qoif")),
    ("DDS", re.compile(rb"DDS ")),
    ("Photoshop", re.compile(rb"8BPS")),
)
MAX_SIDE = 65535
MAX_ANIMATION = 16  # times max_pixels, over all frames
METADATA = {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"}  # where Pillow finds an orientation
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
BAD_BYTES = (  # what Pillow raises on them
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, OverflowError),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)


class RejectedError(ValueError):
    """An original that is no usable image; the message is a short phrase for rejected.jsonl."""


@dataclass(frozen=True)
class Frame:
    """One picture of an original."""

    image: Image.Image  # RGBA: straight alpha, upright, sRGB
    format: str  # "PNG"
    mode: str  # how the file stores pixels, in Pillow's words: "P", "RGBA", "I;16"


def decode(content: bytes, *, all_frames: bool, max_pixels: int) -> Iterator[Frame]:
    """The frames of an original, composed as a viewer shows them.

    Args:
        all_frames: every frame of an animated GIF, WebP or PNG that shows anything; otherwise the first.
        max_pixels: of one frame; all frames of an animation together may have 16 times as many.

    Raises:
        RejectedError: while iterating: empty, no image, truncated, damaged, too large, of unknown range, or blank.
    """
    reader = _reader(content)
    frames = _frames(reader, content, all_frames, max_pixels)
    may_warn = reader is not PngImageFile or b"acTL" in content  # about oddities, which are no concern of the caller's
    while True:
        try:
            with warnings.catch_warnings(action="ignore") if may_warn else nullcontext():
                frame = next(frames, None)
        except RejectedError:
            raise
        except BAD_BYTES as error:
            raise RejectedError(_reason(str(error).lower(), reader, content)) from None
        if frame is None:
            return
        yield frame


def _reader(content: bytes) -> Reader:
    for signature, reader in READERS:
        if signature.match(content):
            return reader
    if not content:
        raise RejectedError("empty file")
    head = content[:1024].removeprefix(b"\xef\xbb\xbf")
    for name, pattern in NOT_TAKEN:
        if pattern.match(head):
            raise RejectedError(f"format {name} is not taken; convert it to PNG")
    for name, pattern in OTHERS:
        if pattern.match(head):
            raise RejectedError(f"not an image: looks like {name}")
    raise RejectedError("not an image")


def _frames(reader: Reader, content: bytes, all_frames: bool, max_pixels: int) -> Iterator[Frame]:
    image = reader(io.BytesIO(content))
    stored = image.mode
    count = getattr(image, "n_frames", 1) if all_frames and reader in ANIMATED else 1
    _check_size(image.size, count, max_pixels)
    if stored == "F" or (stored == "I" and reader is not PpmImageFile):  # PPM's is 16 bits
        raise RejectedError(f"pixel mode {stored} of unknown range")
    scale_transparent_colour(image)
    if count > 1 and isinstance(image, PngImageFile):
        pictures = _composed_png(image, count)
    else:
        pictures = _composed(image, count, max_pixels)
    blank = True
    for picture in pictures:
        picture = _upright(image, picture)
        if picture.getbbox() is None:
            continue
        blank = False
        picture.info = {}  # what it says of profile and orientation is done
        yield Frame(picture, str(reader.format), stored)
    if blank:
        raise RejectedError("nothing visible: fully transparent")


def _composed(image: ImageFile.ImageFile, count: int, max_pixels: int) -> Iterator[Image.Image]:
    for number in range(count):
        if number:
            image.seek(number)
            _check_size(image.size, count, max_pixels)  # a GIF's frames may outgrow it
        image.load()
        picture = to_rgba(image)
        yield picture.copy() if count > 1 and picture is image else picture  # the next frame is drawn on the image


def _composed_png(image: PngImageFile, count: int) -> Iterator[Image.Image]:
    """Frames of an APNG, composed here: Pillow blends alpha like a colour, and draws on the animation's stand-in."""
    canvas = Image.new("RGBA", image.size)
    for number in range(1 if image.default_image else 0, count):
        image.seek(number)
        image.blend_op = Blend.OP_SOURCE  # the frame itself, as stored
        image.load()
        box, below = image.info["bbox"], canvas
        drawn = to_rgba(image.crop(box))
        canvas = canvas.copy()
        if image.info["blend"] == Blend.OP_OVER:
            canvas.alpha_composite(drawn, box[:2])
        else:
            canvas.paste(drawn, box)
        yield canvas
        if image.info["disposal"] == Disposal.OP_PREVIOUS:
            canvas = below
        elif image.info["disposal"] == Disposal.OP_BACKGROUND:
            canvas = canvas.copy()
            canvas.paste((0, 0, 0, 0), box)


def _check_size(size: tuple[int, int], count: int, max_pixels: int) -> None:
    width, height = size
    if max(size) > MAX_SIDE:
        raise RejectedError(f"{width}×{height} pixels, a side above {MAX_SIDE}")
    if width * height > max_pixels:
        raise RejectedError(f"{width}×{height} pixels, more than max_pixels {max_pixels}")
    if count * width * height > MAX_ANIMATION * max_pixels:
        frames = f"{count} frames of {width}×{height} pixels"
        raise RejectedError(f"{frames}, more than {MAX_ANIMATION} times max_pixels {max_pixels}")


def _upright(image: ImageFile.ImageFile, picture: Image.Image) -> Image.Image:
    """The picture turned as the image's metadata say. A TIFF is turned already: Pillow does that when it loads."""
    if METADATA.isdisjoint(image.info):
        return picture
    with warnings.catch_warnings(action="ignore"):
        try:
            orientation = image.getexif().get(ExifTags.Base.Orientation)
        except BAD_BYTES:  # viewers, too, show a picture whose metadata they cannot read
            return picture
    return picture.transpose(TURNS[orientation]) if orientation in TURNS else picture


def _reason(message: str, reader: Reader, content: bytes) -> str:
    if "too large" in message or "too much memory" in message or "decompression bomb" in message:
        return "decompression bomb"
    return "truncated" if "truncated" in message or not _is_whole(reader, content) else "damaged"


def _is_whole(reader: Reader, content: bytes) -> bool:
    """Whether the file reaches as far as its format says, where that is plain to see."""
    match reader.format:
        case "PNG":
            return b"IEND" in content
        case "JPEG":
            return b"\xff\xd9" in content[-64:]
        case "GIF":
            return content.endswith(b";")
        case "WEBP":
            return len(content) >= 8 + int.from_bytes(content[4:8], "little")
        case "BMP":
            return len(content) >= int.from_bytes(content[2:6], "little")
        case "TIFF":
            order: Literal["little", "big"] = "little" if content.startswith(b"I") else "big"
            directory = int.from_bytes(content[4:8], order)
            entries = int.from_bytes(content[directory : directory + 2], order)
            return len(content) >= directory + 2 + 12 * entries
    return True
