"""From buckets of originals to shards: decode, reject, drop duplicates, fit, split, report.

Two passes over an executor. The first takes batches of originals: workers write pixels to spool files and give back a
row of facts for each picture. The second writes, from the spool, the shards in the order of content digests, and the
pages for people. Nothing depends on the number of workers or on the order of the files.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from components.config import InputError, Preprocess
from components.data import pages, report, shards
from components.data.buckets import Original, read_manifest, read_refused
from components.data.decoding import FORMATS
from components.data.files import write_json, write_json_lines
from components.data.images import Uint8
from components.data.selection import Selection, dropped, duplicates, select
from components.data.taking import ROW, Rows, batches, spool_file, take
from components.executor import Spread, WorkerKilledError

PREVIEWED = 16  # pictures on the page
MAX_LABELS = 2**16
NO_LABEL = "no label"


def prepare(raw: Path, folder: Path, params: Preprocess, spread: Spread) -> dict[str, Any]:
    """Fills an empty folder with shards, index.json, tables of what became of each picture, report and pages.

    Returns:
        The report. in = kept + rejected + duplicates + similar; with params.frames "all" it counts frames.

    Raises:
        InputError: `raw` is not what ingest wrote, no usable image, or too few for both splits.
    """
    raw, folder = raw.resolve(), folder.resolve()  # workers may have another working folder
    originals = read_manifest(raw)
    spool = folder / "spool"
    spool.mkdir()
    rows, rejected = _take_all(raw, spool, originals, params, spread)
    rejected += read_refused(raw)
    if not len(rows):
        raise InputError(f"no usable image: {report.reasons(rejected)}; allowed: {', '.join(FORMATS)} files that open")
    opened = sum(len(originals[position].names) for position in rows["original"].tolist())
    chosen = select(rows, originals, params)
    summary = report.summarise(chosen, opened, rejected, params)

    jobs = [
        *_shard_jobs(folder, spool, chosen, params),
        _preview_job(folder / "preview.png", raw, spool, originals, chosen, params),
        _report_job(folder / "report.html", spool, summary, chosen, params),
    ]
    splits: dict[str, list[shards.Entry]] = {split: [] for split in shards.SPLITS}
    for split, entry in filter(None, spread(_call, jobs)):
        splits[split].append(entry)
    shutil.rmtree(spool)
    shards.write_index(folder, shape_of(params), splits, _write_labels(folder, chosen) if params.labels else None)

    rejected = sorted(rejected + dropped(chosen), key=itemgetter("name", "reason"))
    write_json_lines(folder / "images.jsonl", _image_rows(chosen, params))
    write_json_lines(folder / "rejected.jsonl", rejected)
    write_json_lines(folder / "duplicates.jsonl", sorted(duplicates(chosen, originals), key=itemgetter("name")))
    write_json_lines(folder / "pairs.jsonl", report.pair_rows(chosen))
    write_json(folder / "report.json", summary)
    return summary


def _take_all(
    raw: Path, spool: Path, originals: list[Original], params: Preprocess, spread: Spread
) -> tuple[Rows, list[dict[str, str]]]:
    """The rows of all pictures that open, and name and reason of those that do not."""
    rows, rejected = [np.empty(0, ROW)], []
    try:
        for taken in spread(partial(take, raw=raw, spool=spool, params=params), batches(originals)):
            rows.append(taken.rows)
            for position, reason in taken.rejected:
                rejected += [{"name": name, "reason": reason} for name in originals[position].names]
    except WorkerKilledError as error:
        first, last = (error.task.originals[end].names[0] for end in (0, -1))
        allowed = "a source without it"
        raise InputError(
            f"a file from {first!r} to {last!r} kills each worker that takes it; allowed: {allowed}"
        ) from None
    return np.concatenate(rows), rejected


def shape_of(params: Preprocess) -> shards.Shape:
    """[H, W, C] of a training image."""
    return *params.size, params.channels


def _call(job: Callable[[], Any]) -> Any:
    return job()


def _split_positions(chosen: Selection, split: str) -> Rows:
    return np.flatnonzero(chosen.kept & (chosen.held_out == (split == "holdout")))


def _shard_jobs(folder: Path, spool: Path, chosen: Selection, params: Preprocess) -> Iterator[Callable[[], Any]]:
    step = shards.images_a_shard(shape_of(params))
    for split in shards.SPLITS:
        places = _places(chosen, _split_positions(chosen, split))
        for number, start in enumerate(range(0, len(places), step)):
            path = folder / f"{split}-{number:05d}.npy"
            yield partial(_write_shard, split, path, spool, places[start : start + step], params)


def _preview_job(
    path: Path, raw: Path, spool: Path, originals: list[Original], chosen: Selection, params: Preprocess
) -> Callable[[], Any]:
    shown = np.flatnonzero(chosen.kept)[:: -(-int(chosen.kept.sum()) // PREVIEWED)]
    before = [(originals[position], frame) for position, frame in chosen.rows[["original", "frame"]][shown].tolist()]
    return partial(pages.save_preview, path, raw, before, _pixels(spool, chosen, shown, params), params)


def _report_job(
    path: Path, spool: Path, summary: dict[str, Any], chosen: Selection, params: Preprocess
) -> Callable[[], Any]:
    pairs = [(row, _pixels(spool, chosen, ends, params)) for row, ends in report.pictured(chosen)]
    return partial(pages.save_html, path, summary, pairs)


def _write_shard(split: str, path: Path, spool: Path, places: Rows, params: Preprocess) -> tuple[str, shards.Entry]:
    return split, shards.write_shard(path, len(places), shape_of(params), _read_spool(spool, places, params))


def _places(chosen: Selection, positions: Rows) -> Rows:
    """Where the pixels lie: [n, 2], number of the spool file and place in it."""
    return np.stack([chosen.rows["spool"][positions], chosen.rows["place"][positions]], axis=1)


def _read_spool(spool: Path, places: Rows, params: Preprocess) -> Iterator[bytes]:
    size = int(np.prod(shape_of(params)))
    for number, place in places.tolist():
        with spool_file(spool, number).open("rb", buffering=0) as file:
            yield os.pread(file.fileno(), size, place * size)


def _pixels(spool: Path, chosen: Selection, positions: Rows, params: Preprocess) -> list[Uint8]:
    read = _read_spool(spool, _places(chosen, positions), params)
    return [np.frombuffer(pixels, np.uint8).reshape(shape_of(params)) for pixels in read]


def _write_labels(folder: Path, chosen: Selection) -> dict[str, Any]:
    of_each = [_label(name) for name in chosen.names]
    numbers = {label: number for number, label in enumerate(sorted(set(of_each)))}
    if len(numbers) > MAX_LABELS:
        raise InputError(f"preprocess.labels finds {len(numbers)} first folders; allowed: at most {MAX_LABELS}")
    labels = np.array([numbers[label] for label in of_each], np.uint16)
    files = {
        split: shards.write_labels(folder / f"{split}-labels.npy", labels[_split_positions(chosen, split)])
        for split in shards.SPLITS
    }
    return {"names": list(numbers), **files}


def _label(name: str) -> str:
    """The first folder of a name; NO_LABEL where it lies in none."""
    return name.partition("/")[0] if "/" in name else NO_LABEL


def _image_rows(chosen: Selection, params: Preprocess) -> Iterator[dict[str, Any]]:
    """In stored order, so that the n-th row of a split is its n-th image."""
    for split in shards.SPLITS:
        for position in _split_positions(chosen, split).tolist():
            name = chosen.names[position]
            label = {"label": _label(name)} if params.labels else {}
            yield {"split": split, "digest": chosen.digest(position), "name": name, **label}
