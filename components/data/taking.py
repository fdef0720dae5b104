"""What a preprocessing worker does: a batch of originals to pixels in a spool file, and a row of facts for each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from components.config import Preprocess
from components.data import compositing, similarity
from components.data.buckets import Original, read_originals
from components.data.decoding import RejectedError, decode
from components.data.images import Uint8

BATCH_IMAGES, BATCH_BYTES = 64, 16 * 2**20
ALPHA = ("opaque", "hard", "soft")
ROW = np.dtype(  # of one picture: all that the stage's own process ever holds of it
    [
        ("original", np.int32),  # position in the manifest's order
        ("frame", np.int32),
        ("spool", np.int32),  # number of the spool file
        ("place", np.int32),  # in it
        ("digest", np.uint8, 32),
        ("hashes", np.uint8, (3, similarity.HASH_BYTES)),
        ("width", np.uint32),
        ("height", np.uint32),
        ("form", "S12"),  # format and mode of the file: "PNG P"
        ("alpha", np.uint8),  # position in ALPHA
        ("art", np.bool_),
        ("visible", np.uint8),  # mean alpha
        ("colour", np.uint8, 3),  # mean of what is visible
    ]
)
Rows = npt.NDArray[Any]  # [n] of ROW


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive originals: the first's position in the manifest's order, and the batch's own number."""

    number: int
    first: int
    originals: list[Original]


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a batch: its rows, and (position in the manifest's order, reason) of what was rejected."""

    rows: Rows
    rejected: list[tuple[int, str]]


def batches(originals: Iterable[Original]) -> Iterator[Batch]:
    """Cuts the manifest into batches of up to BATCH_IMAGES or about BATCH_BYTES; the same ones wherever they run."""
    number = first = size = 0
    members: list[Original] = []
    for original in originals:
        if members and (len(members) == BATCH_IMAGES or size + original.bytes > BATCH_BYTES):
            yield Batch(number, first, members)
            number, first, size, members = number + 1, first + len(members), 0, []
        members.append(original)
        size += original.bytes
    if members:
        yield Batch(number, first, members)


def take(batch: Batch, *, raw: Path, spool: Path, params: Preprocess) -> Taken:
    """Decodes, fits and composites a batch; its pixels go to `spool`/<number>, in the order of the rows.

    Raises:
        InputError: a bucket of `raw` is not as it was written.
    """
    rejected: list[tuple[int, str]] = []
    rows: list[tuple[Any, ...]] = []
    thumbnails: list[Uint8] = []
    palette = params.palette
    with spool_file(spool, batch.number).open("wb", buffering=2**20) as file:
        for position, (_, content) in enumerate(read_originals(raw, batch.originals), batch.first):
            try:
                frames = decode(content, all_frames=params.frames == "all", max_pixels=params.max_pixels)
                for number, frame in enumerate(frames):
                    seen = compositing.visible_pixels(frame.image)
                    digest, planes = compositing.content_digest(seen), compositing.premultiply(seen)
                    alpha = compositing.alpha_kind(planes)
                    block = compositing.art_block(planes) if params.pixel_art and alpha != "soft" else 0
                    light = compositing.to_linear(seen) if params.linear_light else planes
                    del seen  # as large as the picture
                    square = compositing.fit(light, block, params)
                    if not square[:, 3].any():
                        rejected.append((position, "nothing visible within the frame"))
                        continue
                    if params.channels == 4:
                        pixels = compositing.transparent(square)
                    else:
                        pixels = compositing.composite(square, compositing.background(planes, digest, palette))
                    file.write(np.ascontiguousarray(pixels).data)
                    thumbnails.append(similarity.thumbnail(planes))
                    height, _, width = planes.shape
                    form = f"{frame.format} {frame.mode}".encode()
                    rows.append((position, number, digest, width, height, form, ALPHA.index(alpha), block > 0))
            except RejectedError as error:
                rejected.append((position, str(error)))
    return Taken(_table(batch.number, rows, thumbnails, params), rejected)


def _table(spool: int, rows: list[tuple[Any, ...]], thumbnails: list[Uint8], params: Preprocess) -> Rows:
    table = np.zeros(len(rows), ROW)
    if not rows:
        return table
    table["spool"], table["place"] = spool, np.arange(len(rows))
    names = ("original", "frame", "digest", "width", "height", "form", "alpha", "art")
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    table["digest"] = np.frombuffer(b"".join(columns.pop("digest")), np.uint8).reshape(-1, 32)
    for name, column in columns.items():
        table[name] = column
    stack = np.stack(thumbnails)
    means = stack.mean((1, 3))
    table["visible"] = means[:, 3]
    table["colour"] = np.minimum(255 * means[:, :3] / np.maximum(means[:, 3:], 1e-3), 255)
    if any(getattr(params, kind) != "ignore" for kind in similarity.KINDS):
        for start in range(0, len(stack), BATCH_IMAGES):
            table["hashes"][start : start + BATCH_IMAGES] = similarity.hashes(stack[start : start + BATCH_IMAGES])
    return table


def spool_file(spool: Path, number: int) -> Path:
    """Where the pixels of a batch lie."""
    return spool / f"{number:06d}"
