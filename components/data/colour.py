"""From any pixel mode, with or without an ICC profile, to straight-alpha RGBA in sRGB, 8 bits a channel.

Reference: ICC.1:2022, profiles; TIFF 6.0, BitsPerSample and PhotometricInterpretation; PNG third edition, tRNS.
"""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms, ImageFile
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, TiffImageFile

DEEP_GREYS = ("I", "I;16", "I;16B", "I;16L", "I;16N")
GREYS = ("1", "L", "LA", "La", *DEEP_GREYS)
GREY_STEPS = {"L;2": 85, "L;4": 17}  # of a PNG's shallow greys, by Pillow's raw mode
SPACES = {"RGBA": "RGB", "L": "GRAY", "CMYK": "CMYK"}  # what a profile must describe, by mode of the pixels
ROUNDING = 1  # how far 8-bit values move under a profile that is sRGB in other words


def scale_transparent_colour(image: ImageFile.ImageFile) -> None:
    """Before loading: a PNG names its transparent colour at its own bit depth; Pillow would compare 8-bit pixels."""
    if image.format != "PNG" or "transparency" not in image.info:
        return
    colour, raw_mode = image.info["transparency"], image.tile[0].args
    if raw_mode in GREY_STEPS:
        image.info["transparency"] = colour * GREY_STEPS[raw_mode]
    if raw_mode == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in colour)


def to_rgba(image: Image.Image) -> Image.Image:
    """A loaded image as straight-alpha RGBA in sRGB: itself where it is that already, else a new one.

    Deep greys keep their high byte. A profile that is broken, or describes other pixels than these, is ignored.
    """
    rgba = _straight(image)
    profile = image.info.get("icc_profile")
    if not profile:
        return rgba
    pixels = image if image.mode == "CMYK" else rgba.getchannel("R") if image.mode in GREYS else rgba
    transform = _to_srgb(profile, pixels.mode)
    if transform is None:
        return rgba
    converted = transform.apply(pixels)
    converted.putalpha(rgba.getchannel("A"))
    return converted


def _straight(image: Image.Image) -> Image.Image:
    if image.mode == "RGBA":
        return image
    if image.mode in DEEP_GREYS:
        return _high_byte(image)
    if image.mode == "LAB":  # straight to RGBA, Pillow would leave alpha at 0
        image = image.convert("RGB")
    if image.mode == "La":
        image = image.convert("LA")
    return image.convert("RGBA")


def _high_byte(image: Image.Image) -> Image.Image:
    """Grey of 16 bits, or of a TIFF's own depth; Pillow would clip it at 255."""
    grey, depth = np.asarray(image), 16
    if isinstance(image, TiffImageFile):
        (depth,) = image.tag_v2[BITSPERSAMPLE]
        if image.tag_v2[PHOTOMETRIC_INTERPRETATION] == 0:  # white is zero
            grey = 2**depth - 1 - grey
    alpha = np.where(grey == image.info.get("transparency", -1), 0, 255).astype(np.uint8)
    high = (grey >> (depth - 8)).astype(np.uint8)
    return Image.fromarray(np.stack([high, high, high, alpha], axis=-1))


@lru_cache(maxsize=16)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From pixels of that mode to sRGB; None where the profile is sRGB, is broken, or describes other pixels."""
    target = "RGBA" if mode == "RGBA" else "RGB"
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != SPACES[mode]:
            return None
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        flags = ImageCms.Flags.NOOPTIMIZE if mode == "L" else ImageCms.Flags.NONE  # optimized, dark greys are coarse
        transform = ImageCms.ImageCmsTransform(source, srgb, mode, target, ImageCms.Intent.PERCEPTUAL, flags=flags)
    except (OSError, ValueError):
        return None
    return None if mode != "CMYK" and _changes_nothing(transform, mode) else transform


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether every grey and a lattice of colours stay where they are: a profile's name would promise less."""
    ramp, steps = np.arange(256, dtype=np.uint8), np.arange(0, 256, 15, dtype=np.uint8)
    lattice = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
    greys = np.stack([ramp] * 3, axis=-1)[None]
    probe = Image.fromarray(greys if mode == "L" else np.concatenate([greys, lattice], axis=1))
    moved = transform.apply(probe.convert(mode)).convert("RGB")
    return bool(np.abs(np.asarray(moved, np.int16) - np.asarray(probe, np.int16)).max() <= ROUNDING)
