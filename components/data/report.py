"""What the preprocess stage says of a set: counts, sizes, forms, colour and alpha, rejections, and what is alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from components.config import Preprocess
from components.data.selection import Selection
from components.data.similarity import KINDS
from components.data.taking import ALPHA, Rows

PICTURED = 12  # pairs of a kind
COMMON = 12  # rows of a table


def summarise(chosen: Selection, opened: int, rejected: list[dict[str, str]], params: Preprocess) -> dict[str, Any]:
    """report.json: a function of the originals and params alone.

    Args:
        opened: pictures that could be decoded, duplicates counted.
        rejected: name and reason of the files that could not.
    """
    kept = chosen.rows[chosen.kept]
    held_out = int(chosen.held_out[chosen.kept].sum())
    counts = {
        "in": opened + len(rejected),
        "kept": len(kept),
        "rejected": len(rejected),
        "duplicates": opened - len(chosen.rows),
        "similar": int((~chosen.kept).sum()),
        "train": len(kept) - held_out,
        "holdout": held_out,
    }
    sizes = np.unique(chosen.groups, return_counts=True)[1]
    return {
        **counts,
        "reasons": dict(Counter(row["reason"] for row in rejected).most_common()),
        "forms": _common(form.decode() for form in kept["form"].tolist()),
        "sizes": _common(f"{width}x{height}" for width, height in kept[["width", "height"]].tolist()),
        "width": _spread(kept["width"]),
        "height": _spread(kept["height"]),
        "alpha": {name: int((kept["alpha"] == number).sum()) for number, name in enumerate(ALPHA)},
        "visible": _share(kept["visible"]),
        "colour": _colour(kept),
        "pixel_art": int(kept["art"].sum()),
        "pairs": {kind: int((chosen.pairs["kind"] == number).sum()) for number, kind in enumerate(KINDS)},
        "alike": {"groups": int((sizes > 1).sum()), "images": int(sizes[sizes > 1].sum()), "largest": int(sizes.max())},
        "preprocess": asdict(params),
    }


def _common(values: Iterator[str]) -> dict[str, int]:
    counter = Counter(values)
    common = dict(sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:COMMON])
    rest = counter.total() - sum(common.values())
    return common | ({"other": rest} if rest else {})


def _spread(values: Rows) -> dict[str, int]:
    return {"min": int(values.min()), "median": int(np.median(values)), "max": int(values.max())}


def _share(values: Rows) -> float:
    return round(float(values.mean()) / 255, 4)


def _colour(kept: Rows) -> dict[str, list[int]]:
    """Mean and standard deviation over the pictures of each one's mean colour, 0..255."""
    colour = kept["colour"].astype(np.float64)
    return {"mean": np.rint(colour.mean(0)).astype(int).tolist(), "std": np.rint(colour.std(0)).astype(int).tolist()}


def pair_rows(chosen: Selection) -> Iterator[dict[str, Any]]:
    """All pairs that are alike, for pairs.jsonl."""
    return (_row(chosen, pair) for pair in chosen.pairs)


def _row(chosen: Selection, pair: Any) -> dict[str, Any]:
    kind, bits, first, second = pair.item()
    both = {"first": chosen.names[first], "second": chosen.names[second]}
    digests = {f"{side}_digest": chosen.digest(at) for side, at in (("first", first), ("second", second))}
    return {"kind": KINDS[kind], "bits": bits, **both, **digests}


def pictured(chosen: Selection) -> Iterator[tuple[dict[str, Any], Rows]]:
    """Of each kind some pairs, from the closest to the least alike: their row and the two positions."""
    for number in range(len(KINDS)):
        found = chosen.pairs[chosen.pairs["kind"] == number]
        for pair in found[:: max(1, -(-len(found) // PICTURED))]:
            yield _row(chosen, pair), np.array([pair["first"], pair["second"]])


def reasons(rejected: list[dict[str, str]]) -> str:
    """ "3 truncated, 2 empty file"."""
    counts = Counter(row["reason"] for row in rejected)
    return ", ".join(f"{count} {reason}" for reason, count in counts.most_common()) or "the source is empty"
