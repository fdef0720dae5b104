"""What is kept of the pictures that opened: one of each content, and by choice one of those alike; and its split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from components.config import InputError, Preprocess
from components.data import similarity
from components.data.buckets import Original
from components.data.taking import Rows

MIN_IMAGES = 2  # a split's covariance needs two
PHRASE = {"near_duplicates": "near-duplicate", "mirrors": "mirror image", "recolours": "recolouring"}


@dataclass(frozen=True)
class Selection:
    """Positions are those in `rows`, one for each distinct content, sorted by content digest."""

    rows: Rows
    names: list[str]  # the first name of each
    pairs: list[similarity.Pair]
    groups: npt.NDArray[Any]  # the first position of those alike
    kept: npt.NDArray[np.bool_]
    held_out: npt.NDArray[np.bool_]
    dropped: list[dict[str, str]]  # name, reason


def select(rows: Rows, originals: Sequence[Original], params: Preprocess) -> Selection:
    """Drops duplicates, finds those alike, and splits: a group lies on the side of its smallest content digest.

    Raises:
        InputError: a split would have fewer than MIN_IMAGES.
    """
    rows = _distinct(rows)
    names = [_name(originals[row["original"]], int(row["frame"])) for row in rows[["original", "frame"]]]
    alike = [pair for pair in similarity.pairs(rows["hashes"]) if getattr(params, pair.kind) != "ignore"]
    groups = similarity.groups(len(rows), alike)
    held_out = holds_out(rows["digest"][groups], params.holdout)
    keeper = _keepers(rows, [pair for pair in alike if getattr(params, pair.kind) == "drop"])
    kept = keeper == np.arange(len(rows))
    kinds = {frozenset((pair.first, pair.second)): PHRASE[pair.kind] for pair in reversed(alike)}
    dropped = [
        {
            "name": names[lost],
            "reason": f"{kinds.get(frozenset((lost, keeper[lost])), 'like one like')} of {names[keeper[lost]]}",
        }
        for lost in np.flatnonzero(~kept).tolist()
    ]
    _check_splits(held_out[kept], params.holdout)
    return Selection(rows, names, alike, groups, kept, held_out, dropped)


def _distinct(rows: Rows) -> Rows:
    """One row of each content digest, sorted by it: of equal ones the first in the manifest's order."""
    words = np.ascontiguousarray(rows["digest"]).view(">u8")
    order = np.lexsort((rows["frame"], rows["original"], *words.T[::-1]))
    new = np.ones(len(rows), np.bool_)
    new[1:] = (words[order[1:]] != words[order[:-1]]).any(1)
    return rows[order[new]]


def _name(original: Original, frame: int) -> str:
    return f"{original.names[0]}#{frame}" if frame else original.names[0]


def _keepers(rows: Rows, drop: list[similarity.Pair]) -> npt.NDArray[np.int64]:
    """For each position the one kept of its group: the one with the most pixels, of equal ones the first."""
    groups = similarity.groups(len(rows), drop)
    area = rows["width"].astype(np.int64) * rows["height"]
    order = np.lexsort((np.arange(len(rows)), -area, groups))
    first = np.ones(len(rows), np.bool_)
    first[1:] = groups[order[1:]] != groups[order[:-1]]
    keeper_of = dict(zip(groups[order[first]].tolist(), order[first].tolist(), strict=True))
    return np.array([keeper_of[group] for group in groups.tolist()], np.int64)


def holds_out(digests: npt.NDArray[np.uint8], holdout: float) -> npt.NDArray[np.bool_]:
    """Whether each content digest [N, 32] lies in the holdout: by its last four bytes, so that others cannot move it.

    Not the first: the smallest digest of many begins with zeros, and large groups would crowd into the holdout.
    """
    last = np.ascontiguousarray(digests[:, -4:]).view(">u4")[:, 0]
    return np.asarray(last / 2**32 < holdout)


def _check_splits(held_out: npt.NDArray[np.bool_], holdout: float) -> None:
    counts = {"train": int((~held_out).sum()), "holdout": int(held_out.sum())}
    if min(counts.values()) < MIN_IMAGES:
        said = " and ".join(f"{count} in {name}" for name, count in counts.items())
        raise InputError(
            f"preprocess.holdout {holdout} leaves {said} of {len(held_out)} different images; "
            f"allowed: at least {MIN_IMAGES} in each: give more images or another preprocess.holdout"
        )
