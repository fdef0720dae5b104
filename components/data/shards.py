"""Training arrays on disk: uint8 [n, H, W, C] .npy shards for train and holdout, and the index that names them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from components.data.files import write_json

FORMAT = 3
SHARD_BYTES = 128 * 2**20
SPLITS = ("train", "holdout")

Shape = tuple[int, int, int]  # of an image: H, W, C
Entry = dict[str, str | int]  # of the index: file, images, sha256


def images_a_shard(shape: Shape) -> int:
    """How many images of [H, W, C] bytes make a full shard."""
    return max(1, SHARD_BYTES // int(np.prod(shape)))


def write_shard(path: Path, count: int, shape: Shape, pixels: Iterable[bytes]) -> Entry:
    """Writes one shard of `count` images and returns its entry of the index."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
        np.lib.format.write_array_header_1_0(file, header)
        file.flush()
        digest.update(path.read_bytes())
        for image in pixels:
            file.write(image)
            digest.update(image)
        file.flush()
        os.fsync(file.fileno())
    return {"file": path.name, "images": count, "sha256": digest.hexdigest()}


def write_labels(path: Path, labels: npt.NDArray[np.uint16]) -> Entry:
    """Writes one split's labels, [n] in its stored order, and returns their entry of the index."""
    np.save(path, labels, allow_pickle=False)
    return {"file": path.name, "images": len(labels), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def write_index(folder: Path, shape: Shape, splits: dict[str, list[Entry]], labels: dict[str, Any] | None) -> str:
    """Writes index.json.

    Args:
        splits: the entries of each split's shards, in stored order.
        labels: their names, and the entry of each split's labels; None where the set has none.

    Returns:
        The data digest: SHA-256 of all that the index says, as canonical JSON.
    """
    index: dict[str, Any] = {"shape": shape, "labels": labels, "splits": splits}
    digest = index_digest(index)
    write_json(folder / "index.json", {"format": FORMAT, "digest": digest, **index})
    return digest


def index_digest(index: dict[str, Any]) -> str:
    """The data digest of what an index says, without its "format" and "digest"."""
    said = {key: value for key, value in index.items() if key not in ("format", "digest")}
    return hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
