"""Lanczos resampling as two banded matrix products over whole numbers, so that the result is exact on any machine.

Pixels and weights are whole numbers small enough that every sum stays below 2^p, p the bits of the float's mantissa: no
product or sum rounds, whatever the order in which a BLAS adds. Rounding happens twice: between the passes, to
fractions of a level, and at the end. (Pillow's resize rounds to 8 bits and clips between the passes, which moves
edges by several levels.) Planes are [H, C, W]: rows are contiguous for the first product, and the second needs no
transposition.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Planes = npt.NDArray[Any]  # [H, C, W]
SUPPORT = 3  # of Lanczos, in pixels of the coarser grid
BAND = 16  # rows of a product: more of them multiply more zeros, fewer cost more calls
BAND_NUMBERS = 2**24  # fewer rows, where more numbers than this would be copied as floats


@dataclass(frozen=True)
class Depth:
    """The whole numbers that a float type holds exactly: level·2^first, level·2^(keep + second) and their sums."""

    levels: int  # the highest pixel value
    dtype: str
    first: int  # bits of the weights of the first pass
    keep: int  # bits kept below a level between the passes
    second: int


EIGHT = Depth(levels=255, dtype="float32", first=15, keep=4, second=11)
SIXTEEN = Depth(levels=65535, dtype="float64", first=22, keep=8, second=22)


@dataclass(frozen=True)
class Band:
    """Output rows start..stop from input rows low..high."""

    start: int
    stop: int
    low: int
    high: int
    weights: npt.NDArray[Any]  # [stop - start, high - low]
    columns: npt.NDArray[Any]  # the same transposed, contiguous


def lanczos(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """sinc(x)·sinc(x / 3) within ±3, 0 beyond. Reference: Duchon 1979."""
    return np.where(np.abs(x) < SUPPORT, np.sinc(x) * np.sinc(x / SUPPORT), 0)


@lru_cache(maxsize=256)
def bands(source: int, target: int, bits: int, dtype: str, height: int = BAND) -> tuple[Band, ...]:
    """The weights from `source` to `target` samples as whole numbers; each output's add up to 2^bits.

    Downscaling widens the filter by the scale (antialiasing); beyond an edge the rest of the filter is normalised.
    """
    scale = source / target
    width = max(scale, 1.0)
    centres = (np.arange(target) + 0.5) * scale - 0.5
    lows = np.maximum(np.floor(centres - SUPPORT * width).astype(int) + 1, 0)
    highs = np.minimum(np.ceil(centres + SUPPORT * width).astype(int), source)
    found = []
    for start in range(0, target, height):
        stop = min(start + height, target)
        low, high = int(lows[start]), int(highs[stop - 1])
        real = lanczos((np.arange(low, high)[None] - centres[start:stop, None]) / width)
        rising = np.rint((real / real.sum(1, keepdims=True)).cumsum(1) * 2**bits)
        whole = np.diff(rising, prepend=0)  # rounded as a running sum: any stretch of a long filter keeps its weight
        weights = whole.astype(dtype)
        found.append(Band(start, stop, low, high, weights, np.ascontiguousarray(weights.T)))
    return tuple(found)


def resample(planes: Planes, height: int, width: int, depth: Depth = EIGHT) -> Planes:
    """Lanczos-resamples whole numbers 0..depth.levels; the float copies of the input are made band by band.

    Args:
        planes: [H, C, W], unsigned integers.

    Returns:
        [height, C, width], depth.dtype, whole numbers in 0..depth.levels.
    """
    rows, channels, columns = planes.shape
    tall = np.empty((height, channels * columns), depth.dtype)
    copied = channels * columns * max(1, rows // height)  # numbers made floats for one more row of a band
    for band in bands(rows, height, depth.first, depth.dtype, min(BAND, max(1, BAND_NUMBERS // copied))):
        part = planes[band.low : band.high].reshape(band.high - band.low, -1).astype(depth.dtype)
        np.matmul(band.weights, part, out=tall[band.start : band.stop])
    tall *= 2.0 ** (depth.keep - depth.first)
    np.rint(tall, out=tall)
    flat = tall.reshape(height * channels, columns)
    out = np.empty((height * channels, width), depth.dtype)
    for band in bands(columns, width, depth.second, depth.dtype):
        np.matmul(flat[:, band.low : band.high], band.columns, out=out[:, band.start : band.stop])
    out *= 2.0 ** -(depth.keep + depth.second)
    np.rint(out, out=out)
    np.clip(out, 0, depth.levels, out=out)
    return out.reshape(height, channels, width)
