"""What is kept of the pictures that opened: one of each content, and by choice one of those alike; and its split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from components.config import InputError, Preprocess
from components.data import similarity
from components.data.buckets import Original
from components.data.taking import Rows

MIN_IMAGES = 2  # a split's covariance needs two
PHRASE = ("near-duplicate of", "mirror image of", "recolouring of")  # in the order of similarity.KINDS
Twins = list[tuple[int, int, int]]  # original, frame, position of the row with the same content


@dataclass(frozen=True)
class Selection:
    """Positions are those in `rows`, one for each distinct content, sorted by content digest."""

    rows: Rows
    names: list[str]  # the first name of each
    pairs: similarity.Pairs
    groups: npt.NDArray[Any]  # the first position of those alike
    kept: npt.NDArray[np.bool_]
    held_out: npt.NDArray[np.bool_]
    keeper: npt.NDArray[np.int64]  # the position that is kept instead; its own where kept
    twins: Twins

    def digest(self, position: int) -> str:
        """Its content digest, in hexadecimal."""
        return str(self.rows["digest"][position].tobytes().hex())


def select(rows: Rows, originals: Sequence[Original], params: Preprocess) -> Selection:
    """Drops duplicates, finds those alike, and splits: a group lies on the side of its smallest content digest.

    Raises:
        InputError: a split would have fewer than MIN_IMAGES.
    """
    names = [original.names[0] for original in originals]
    rank = np.empty(len(names), np.int64)
    rank[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
    rows, twins = _distinct(rows, rank)
    names = [_name(names[original], frame) for original, frame in rows[["original", "frame"]].tolist()]
    choices = {kind: getattr(params, kind) for kind in similarity.KINDS}
    alike = similarity.pairs(rows["hashes"], [kind for kind, choice in choices.items() if choice != "ignore"])
    to_drop = similarity.pairs(rows["hashes"], [kind for kind, choice in choices.items() if choice == "drop"])
    groups = similarity.groups(len(rows), alike)
    held_out = holds_out(rows["digest"][groups], params.holdout)
    keeper = _keepers(rows, to_drop)
    kept = keeper == np.arange(len(rows))
    _check_splits(held_out[kept], groups, params.holdout)
    return Selection(rows, names, alike, groups, kept, held_out, keeper, twins)


def _distinct(rows: Rows, rank: npt.NDArray[Any]) -> tuple[Rows, Twins]:
    """One row of each content digest, sorted by it: of equal ones the first by name; and the other ones."""
    words = np.ascontiguousarray(rows["digest"]).view(">u8")
    order = np.lexsort((rows["frame"], rank[rows["original"]], *words.T[::-1]))
    new = np.ones(len(rows), np.bool_)
    new[1:] = (words[order[1:]] != words[order[:-1]]).any(1)
    position = np.cumsum(new) - 1
    others = rows[["original", "frame"]][order[~new]].tolist()
    twins = [(original, frame, at) for (original, frame), at in zip(others, position[~new].tolist(), strict=True)]
    return rows[order[new]], twins


def _name(name: str, frame: int) -> str:
    return f"{name}#{frame}" if frame else name


def duplicates(chosen: Selection, originals: Sequence[Original]) -> Iterator[dict[str, str]]:
    """A row for every name that is not the first of its content: name, of."""
    of = dict(enumerate(chosen.names))
    for position, (original, frame) in enumerate(chosen.rows[["original", "frame"]].tolist()):
        for name in originals[original].names[1:]:
            yield {"name": _name(name, frame), "of": of[position]}
    for original, frame, position in chosen.twins:
        for name in originals[original].names:
            yield {"name": _name(name, frame), "of": of[position]}


def dropped(chosen: Selection) -> list[dict[str, str]]:
    """A row for each picture that is left out because it is like another: name, reason."""
    kinds = chosen.pairs[["first", "second", "kind"]].tolist() if not chosen.kept.all() else []
    phrase = {(first, second): PHRASE[kind] for first, second, kind in kinds}
    found = []
    for lost in np.flatnonzero(~chosen.kept).tolist():
        keeper = int(chosen.keeper[lost])
        how = phrase.get((min(lost, keeper), max(lost, keeper)), "like others that are like it, and")
        found.append({"name": chosen.names[lost], "reason": f"{how} {chosen.names[keeper]}"})
    return found


def _keepers(rows: Rows, drop: similarity.Pairs) -> npt.NDArray[np.int64]:
    """For each position the one kept of its group: the one with the most pixels, of equal ones the first."""
    groups = similarity.groups(len(rows), drop)
    area = rows["width"].astype(np.int64) * rows["height"]
    order = np.lexsort((np.arange(len(rows)), -area, groups))
    first = np.ones(len(rows), np.bool_)
    first[1:] = groups[order[1:]] != groups[order[:-1]]
    keeper = np.empty(len(rows), np.int64)
    keeper[groups[order[first]]] = order[first]
    return keeper[groups]


def holds_out(digests: npt.NDArray[np.uint8], holdout: float) -> npt.NDArray[np.bool_]:
    """Whether each content digest [N, 32] lies in the holdout: by its last four bytes, so that others cannot move it.

    Not the first: the smallest digest of many begins with zeros, and large groups would crowd into the holdout.
    """
    last = np.ascontiguousarray(digests[:, -4:]).view(">u4")[:, 0]
    return np.asarray(last / 2**32 < holdout)


def _check_splits(held_out: npt.NDArray[np.bool_], groups: npt.NDArray[Any], holdout: float) -> None:
    counts = {"train": int((~held_out).sum()), "holdout": int(held_out.sum())}
    if min(counts.values()) < MIN_IMAGES:
        said = " and ".join(f"{count} in {name}" for name, count in counts.items())
        allowed = f"at least {MIN_IMAGES} in each: give more images or another preprocess.holdout"
        largest = int(np.bincount(groups).max())
        if largest > 1:
            allowed += f"; {largest} lie on one side for being alike: see near_duplicates, mirrors and recolours"
        raise InputError(
            f"preprocess.holdout {holdout} leaves {said} of {len(held_out)} different images; allowed: {allowed}"
        )
