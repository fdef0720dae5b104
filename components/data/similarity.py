"""Near-duplicates, mirrors and recolours: perceptual hashes, the pairs among them, and the groups that pairs make.

The hash is the DCT hash (pHash) that the library ImageHash calls phash, 256 bits of a 32×32 thumbnail, computed for a
batch at once in exact whole numbers: the holdout split depends on it, so it may not depend on a machine. A picture has
three: of its luminance over mid-grey, of that mirrored, and of its edges, which a change of colours leaves where they
were. Reference: Zauner 2010, Implementation and Benchmarking of Perceptual Image Hash Functions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from components.data.images import Uint8
from components.data.resampling import Planes

SIDE = 32  # pixels of the thumbnail
LOW = 16  # lowest frequencies that become bits, each way
HASH_BYTES = LOW**2 // 8
LUMINANCE_BITS, EDGE_BITS = 14, 10  # two are alike that differ in no more; below 16, see _close
FLAT = 8  # levels: a thumbnail with less contrast has no hash, or all blanks would be alike
KINDS = ("near_duplicates", "mirrors", "recolours")

Ints = npt.NDArray[Any]  # of whole numbers
Hashes = npt.NDArray[np.uint8]  # [N, 3, HASH_BYTES]: luminance, mirrored luminance, edges; all 0 where there is none


@dataclass(frozen=True)
class Pair:
    """Two positions, first below second, that are alike: in how many of 256 bits they differ."""

    kind: str
    first: int
    second: int
    bits: int


def thumbnail(square: Planes, levels: int) -> Uint8:
    """Means over SIDE × SIDE equal areas of a fitted square [R, 4, R] with values 0..levels.

    Returns:
        [4, SIDE, SIDE]
    """
    side = square.shape[0]
    overlaps = _overlaps(side).astype(square.dtype)
    rows = overlaps @ square.reshape(side, 4 * side)
    sums = rows.reshape(SIDE * 4, side) @ overlaps.T
    sums /= overlaps[0].sum() ** 2 * (levels // 255)
    return np.asarray(sums.reshape(SIDE, 4, SIDE).swapaxes(0, 1).astype(np.uint8))


@lru_cache(maxsize=4)
def _overlaps(side: int) -> npt.NDArray[np.float64]:
    """[SIDE, side]: how far each of `side` pixels lies in each of SIDE equal parts, in the largest unit that fits both.

    Sums with these weights are whole numbers below 2^24 up to side 256, and below 2^53 at any.
    """
    unit = math.gcd(side, SIDE)
    part, pixel = side // unit, SIDE // unit
    starts, pixels = np.arange(SIDE)[:, None] * part, np.arange(side)[None] * pixel
    overlaps = np.minimum(starts + part, pixels + pixel) - np.maximum(starts, pixels)
    return np.asarray(np.clip(overlaps, 0, None), np.float64)


def hashes(thumbnails: Uint8) -> Hashes:
    """The hashes of thumbnails [N, 4, SIDE, SIDE], premultiplied.

    Returns:
        [N, 3, HASH_BYTES]
    """
    planes = thumbnails.astype(np.int16)
    planes[:, :3] += 128 * (255 - planes[:, 3:]) // 255
    red, green, blue, _ = planes.swapaxes(0, 1)
    luminance = (299 * red.astype(np.int32) + 587 * green.astype(np.int32) + 114 * blue.astype(np.int32)) // 1000
    plain, edges = np.split(_low_frequencies(np.concatenate([luminance, _edges(planes)])), 2)
    mirrored = plain * (-1.0) ** np.arange(LOW)  # a mirrored cosine is the same one, or its negative
    low = np.stack([plain, mirrored, edges], axis=1).reshape(-1, 3, LOW**2)
    found = np.packbits(low > np.median(low, axis=2, keepdims=True), axis=2)
    found[np.ptp(luminance, (1, 2)) < FLAT] = 0
    return found


def _edges(planes: Ints) -> Ints:
    """The strongest step of any channel to the right and down, cut at 64 levels: where edges are, not how strong."""
    steps = np.zeros((2, len(planes), SIDE, SIDE), np.int16)
    np.abs(np.diff(planes, axis=2)).max(1, out=steps[0, :, :-1])
    np.abs(np.diff(planes, axis=3)).max(1, out=steps[1, :, :, :-1])
    return np.asarray(np.minimum(steps[0] + steps[1], 64) * np.int32(255) // 64)


@lru_cache(maxsize=1)
def _cosines() -> npt.NDArray[np.float64]:
    """[LOW, SIDE] of the DCT-II in whole numbers of 1/2^15, so that two passes stay below 2^53."""
    angles = np.outer(np.arange(LOW), 2 * np.arange(SIDE) + 1) * np.pi / (2 * SIDE)
    return np.asarray(np.rint(np.cos(angles) * 2**15))


def _low_frequencies(grey: Ints) -> npt.NDArray[np.float64]:
    """The lowest coefficients of the DCT-II, [N, SIDE, SIDE] to [N, LOW, LOW], as exact whole numbers."""
    columns = grey.reshape(-1, SIDE).astype(np.float64) @ _cosines().T
    return np.asarray(_cosines() @ columns.reshape(-1, SIDE, LOW))


def pairs(found: Hashes) -> list[Pair]:
    """The pairs that are alike, sorted; of several kinds, the first of KINDS. Equal hashes are chained: a-b, b-c."""
    rows = found.reshape(len(found), -1)
    usable = np.flatnonzero(rows.any(1))
    whole = np.ascontiguousarray(rows[usable]).view(f"V{rows.shape[1]}")[:, 0]
    order = np.argsort(whole, kind="stable")
    equal = np.flatnonzero(whole[order[1:]] == whole[order[:-1]])
    chained = np.stack([usable[order[equal]], usable[order[equal + 1]], np.zeros_like(equal)], axis=1)
    distinct = np.sort(usable[np.delete(order, equal + 1)])
    luminance, mirrored, edges = (np.ascontiguousarray(found[distinct, kind]) for kind in range(3))
    alike = [
        (KINDS[0], chained),
        (KINDS[0], _close(distinct, luminance, luminance, LUMINANCE_BITS)),
        (KINDS[1], _close(distinct, luminance, mirrored, LUMINANCE_BITS)),
        (KINDS[2], _close(distinct, edges, edges, EDGE_BITS)),
    ]
    known: dict[tuple[int, int], Pair] = {}
    for kind, rows_of_kind in alike:
        for first, second, bits in rows_of_kind.tolist():
            known.setdefault((first, second), Pair(kind, first, second, bits))
    return sorted(known.values(), key=lambda pair: (KINDS.index(pair.kind), pair.bits, pair.first, pair.second))


def _close(positions: Ints, left: Uint8, right: Uint8, limit: int) -> Ints:
    """Rows (first, second, bits), each once, where left of one and right of the other differ in at most `limit` bits.

    By the pigeonhole principle two hashes that differ in fewer than 16 bits agree in one of 16 bands of 16 bits: only
    those that share a band are compared.
    """
    both = left if right is left else np.concatenate([left, right])
    place = np.resize(positions, len(both))
    is_right = np.arange(len(both)) >= len(left)
    words = both.view(np.uint64)
    found = [np.empty((3, 0), np.int64)]
    for band in both.view(np.uint16).T:
        order = np.argsort(band, kind="stable")
        here = np.arange(len(order))
        for reach in range(1, len(order)):
            here = here[: np.searchsorted(here, len(order) - reach)]
            here = here[band[order[here]] == band[order[here + reach]]]
            if not len(here):
                break
            one, two = order[here], order[here + reach]
            bits = np.bitwise_count(words[one] ^ words[two]).sum(1, dtype=np.int64)
            near = (bits <= limit) & (place[one] != place[two])
            if right is not left:
                near &= is_right[one] != is_right[two]
            one, two = place[one[near]], place[two[near]]
            found.append(np.stack([np.minimum(one, two), np.maximum(one, two), bits[near]]))
    first, second, bits = np.concatenate(found, axis=1)
    _, once = np.unique(first << 32 | second, return_index=True)
    return np.stack([first, second, bits], axis=1)[once]


def groups(count: int, alike: list[Pair]) -> Ints:
    """For each of `count` positions the smallest position that pairs connect it with, however far (union-find)."""
    parent = list(range(count))

    def root(position: int) -> int:
        while parent[position] != position:
            parent[position] = parent[parent[position]]
            position = parent[position]
        return position

    for pair in alike:
        low, high = sorted((root(pair.first), root(pair.second)))
        parent[high] = low
    return np.array([root(position) for position in range(count)], np.int64)
