"""Near-duplicates, mirrors and recolours: perceptual hashes, the pairs among them, and the groups that pairs make.

The hash is the DCT hash (pHash) that the library ImageHash calls phash, 256 bits of a 32×32 thumbnail, computed for a
batch at once in exact whole numbers: the holdout split depends on it, so it may not depend on a machine. A picture has
three: of its luminance over mid-grey, of that mirrored, and of its edges, which a change of colours leaves where they
were. Reference: Zauner 2010, Implementation and Benchmarking of Perceptual Image Hash Functions.
"""

from __future__ import annotations

from collections.abc import Container
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from components.data.images import Uint8
from components.data.resampling import resample

SIDE = 32  # pixels of the thumbnail
LOW = 16  # lowest frequencies that become bits, each way
HASH_BYTES = LOW**2 // 8
LUMINANCE_BITS, EDGE_BITS = 14, 10  # two are alike that differ in no more; below 16, see _close
FLAT = 8  # levels: a thumbnail with less contrast has no hash, or all blanks would be alike
KINDS = ("near_duplicates", "mirrors", "recolours")
REACH = 64  # neighbours compared within a band: bounds work and pairs where very many are alike

Ints = npt.NDArray[Any]  # of whole numbers
Hashes = npt.NDArray[np.uint8]  # [N, 3, HASH_BYTES]: luminance, mirrored luminance, edges; all 0 where there is none
PAIR = np.dtype([("kind", np.int32), ("bits", np.int32), ("first", np.int64), ("second", np.int64)])
Pairs = npt.NDArray[Any]  # [n] of PAIR: position in KINDS, bits of 256 that differ, two positions, first below second


def thumbnail(planes: Uint8) -> Uint8:
    """A picture [H, 4, W], premultiplied, squeezed into the square that the hashes see.

    It is taken from the picture itself, so that what is alike does not depend on how it will be fitted.

    Returns:
        [SIDE, 4, SIDE]
    """
    small = resample(planes, SIDE, SIDE).astype(np.uint8)
    np.minimum(small[:, :3], small[:, 3:], out=small[:, :3])  # Lanczos overshoots
    return small


def hashes(thumbnails: Uint8) -> Hashes:
    """The hashes of thumbnails [N, SIDE, 4, SIDE].

    Returns:
        [N, 3, HASH_BYTES]
    """
    planes = thumbnails.swapaxes(1, 2).astype(np.int16)
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


def pairs(found: Hashes, kinds: Container[str] = KINDS) -> Pairs:
    """The pairs that are alike in one of `kinds`, sorted by kind and bits; a pair of several is the first of KINDS.

    Pictures with equal hashes are chained (a-b, b-c), not all paired.
    """
    rows = found.reshape(len(found), -1)
    alike = [np.empty(0, PAIR)]
    distinct = np.flatnonzero(rows.any(1))
    chain = next((number for number in (0, 2) if KINDS[number] in kinds), None)  # equal ones are no mirrors
    if chain is not None:
        whole = np.ascontiguousarray(rows[distinct]).view(f"V{rows.shape[1]}")[:, 0]
        order = np.argsort(whole, kind="stable")
        equal = np.flatnonzero(whole[order[1:]] == whole[order[:-1]])
        chained = np.zeros(len(equal), PAIR)
        chained["kind"] = chain
        chained["first"], chained["second"] = distinct[order[equal]], distinct[order[equal + 1]]
        alike.append(chained)
        distinct = np.sort(distinct[np.delete(order, equal + 1)])
    luminance, mirrored, edges = (np.ascontiguousarray(found[distinct, kind]) for kind in range(3))
    compared = (
        (luminance, luminance, LUMINANCE_BITS),
        (luminance, mirrored, LUMINANCE_BITS),
        (edges, edges, EDGE_BITS),
    )
    alike += [_close(n, distinct, *how) for n, how in enumerate(compared) if KINDS[n] in kinds]
    joined = np.concatenate(alike)
    once = np.unique(joined["first"] << 32 | joined["second"], return_index=True)[1]  # the first is of the first kind
    joined = joined[once]
    return joined[np.lexsort((joined["second"], joined["first"], joined["bits"], joined["kind"]))]


def _close(kind: int, positions: Ints, left: Uint8, right: Uint8, limit: int) -> Pairs:
    """The pairs, each once, where left of one and right of the other differ in at most `limit` bits.

    By the pigeonhole principle two hashes that differ in fewer than 16 bits agree in one of 16 bands of 16 bits: those
    that share a band are compared, each with the REACH next ones in the order of the two bands after it.
    """
    both = left if right is left else np.concatenate([left, right])
    place = np.resize(positions, len(both))
    is_right = np.arange(len(both)) >= len(left)
    words, bands = both.view(np.uint64), both.view(np.uint16).T
    found = [np.empty(0, PAIR)]
    for number, band in enumerate(bands):
        order = np.lexsort((bands[number - 2], bands[number - 1], band))
        here = np.arange(len(order))
        for reach in range(1, REACH + 1):
            here = here[: np.searchsorted(here, len(order) - reach)]
            here = here[band[order[here]] == band[order[here + reach]]]
            if not len(here):
                break
            one, two = order[here], order[here + reach]
            bits = np.bitwise_count(words[one] ^ words[two]).sum(1, dtype=np.int32)
            near = (bits <= limit) & (place[one] != place[two])
            if right is not left:
                near &= is_right[one] != is_right[two]
            one, two = place[one[near]], place[two[near]]
            rows = np.zeros(len(one), PAIR)
            rows["kind"], rows["bits"] = kind, bits[near]
            rows["first"], rows["second"] = np.minimum(one, two), np.maximum(one, two)
            found.append(rows)
        joined = np.concatenate(found)  # a pair that agrees in many bands is held once
        found = [joined[np.unique(joined["first"] << 32 | joined["second"], return_index=True)[1]]]
    return found[0]


def groups(count: int, alike: Pairs) -> Ints:
    """For each of `count` positions the smallest position that pairs connect it with, however far."""
    smallest = np.arange(count)
    while True:
        low = np.minimum(smallest[alike["first"]], smallest[alike["second"]])
        before = smallest.copy()
        np.minimum.at(smallest, alike["first"], low)
        np.minimum.at(smallest, alike["second"], low)
        np.minimum.at(smallest, before, smallest)  # what a representative learns
        smallest = smallest[smallest]
        if (smallest == before).all():
            return smallest
