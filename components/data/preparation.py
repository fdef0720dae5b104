"""From buckets of originals to shards: decode, reject, drop duplicates, composite, split, report."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from components.config import InputError, Preprocess
from components.data.buckets import read_manifest, read_originals
from components.data.compositing import FORMATS, RejectedError, composite, content_digest, decode, fit
from components.data.files import write_json, write_json_lines
from components.data.images import Uint8, grid, save_png
from components.data.shards import split, write_shards

PREVIEW_PAIRS, PREVIEW_SIDE = 24, 128


@dataclass
class Outcome:
    """What became of the originals. The pixels kept lie in a spool file, in the order of their digests here."""

    kept: list[str] = field(default_factory=list)  # content digests
    rejected: list[dict[str, str]] = field(default_factory=list)  # name, reason
    duplicates: int = 0
    pairs: list[Uint8] = field(default_factory=list)  # before, after, before, ...


def prepare(raw: Path, folder: Path, params: Preprocess) -> dict[str, Any]:
    """Fills an empty folder with shards, index.json, rejected.jsonl, report.json and preview.png.

    Returns:
        The report: in, kept, rejected, duplicates, train, holdout, preprocess. in = kept + rejected + duplicates.

    Raises:
        InputError: `raw` is not what ingest wrote, no usable image, or too few for both splits.
    """
    names = read_manifest(raw)
    spool = folder / "spool"
    outcome = _composite_all(raw, names, spool, params)
    kept, rejected = outcome.kept, sorted(outcome.rejected, key=itemgetter("name", "reason"))
    if not kept:
        raise InputError(f"no usable image: {_reasons(rejected)}; allowed: {', '.join(FORMATS)} files that open")
    splits = split(kept, params.holdout)
    counts = {
        "in": sum(map(len, names.values())),
        "kept": len(kept),
        "rejected": len(rejected),
        "duplicates": outcome.duplicates,
        **{name: len(members) for name, members in splits.items()},
    }
    assert counts["in"] == counts["kept"] + counts["rejected"] + counts["duplicates"], counts
    report = {**counts, "preprocess": asdict(params)}

    rows = {digest: row for row, digest in enumerate(kept)}
    images = np.memmap(spool, np.uint8, "r", shape=(len(kept), params.resolution, params.resolution, 3))
    write_shards(folder, images, {name: [rows[digest] for digest in members] for name, members in splits.items()})
    spool.unlink()
    write_json_lines(folder / "rejected.jsonl", rejected)
    save_png(folder / "preview.png", grid(np.stack(outcome.pairs), columns=8, margin=4))
    write_json(folder / "report.json", report)
    return report


def _composite_all(raw: Path, names: dict[str, list[str]], spool: Path, params: Preprocess) -> Outcome:
    """Decodes every original; the pixels of the first of each content go to the spool."""
    outcome, seen = Outcome(), set()
    with spool.open("wb") as file:
        for original, content in read_originals(raw):
            try:
                image = decode(content)
            except RejectedError as error:
                outcome.rejected += [{"name": name, "reason": str(error)} for name in names[original]]
                continue
            digest = content_digest(image)
            outcome.duplicates += len(names[original]) - (digest not in seen)
            if digest in seen:
                continue
            seen.add(digest)
            outcome.kept.append(digest)
            pixels = composite(fit(image, params.resolution), params.background_rgb)
            file.write(pixels.tobytes())
            if len(outcome.kept) <= PREVIEW_PAIRS:
                outcome.pairs += [_before(image), _after(pixels)]
    return outcome


def _reasons(rejected: list[dict[str, str]]) -> str:
    counts = Counter(row["reason"] for row in rejected)
    return ", ".join(f"{count} {reason}" for reason, count in counts.most_common())


def _before(image: Image.Image) -> Uint8:
    """The original on a checkerboard of 8-pixel squares."""
    y, x = np.indices((PREVIEW_SIDE, PREVIEW_SIDE)) // 8
    return composite(fit(image, PREVIEW_SIDE), np.where((x + y) % 2, 112, 144)[..., None])


def _after(pixels: Uint8) -> Uint8:
    """What is trained on, each pixel a square."""
    return np.asarray(Image.fromarray(pixels).resize((PREVIEW_SIDE, PREVIEW_SIDE), Image.Resampling.BOX))
