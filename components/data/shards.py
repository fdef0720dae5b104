"""Training arrays on disk: uint8 [n, H, W, C] .npy shards for train and holdout, and the index that names them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from components.config import InputError
from components.data.files import write_json
from components.data.images import Uint8

FORMAT = 1
SHARD_IMAGES = 4096
SPLITS = ("train", "holdout")
MIN_IMAGES = 2  # a split's covariance needs two


def split_of(digest: str, holdout: float) -> str:
    """The split of an image by its content digest alone: other images cannot move it."""
    return "holdout" if int(digest[:8], 16) / 2**32 < holdout else "train"


def split(digests: list[str], holdout: float) -> dict[str, list[str]]:
    """Sorted content digests of each split.

    Raises:
        InputError: a split would have fewer than MIN_IMAGES.
    """
    splits: dict[str, list[str]] = {name: [] for name in SPLITS}
    for digest in sorted(digests):
        splits[split_of(digest, holdout)].append(digest)
    if min(len(members) for members in splits.values()) < MIN_IMAGES:
        counts = " and ".join(f"{len(members)} in {name}" for name, members in splits.items())
        raise InputError(
            f"preprocess.holdout {holdout} leaves {counts} of {len(digests)} different images; "
            f"allowed: at least {MIN_IMAGES} in each: give more images or another preprocess.holdout"
        )
    return splits


def write_shards(folder: Path, images: Uint8, order: dict[str, list[int]]) -> str:
    """Writes the shards of each split and index.json.

    Args:
        images: [N, H, W, C], may be memory-mapped: one image is copied at a time.
        order: positions in `images` of each split's images, in the order in which they are stored.

    Returns:
        The data digest: SHA-256 of resolution, channels and splits as canonical JSON.
    """
    _, height, _, channels = images.shape
    splits = {name: _write_split(folder, name, images, members) for name, members in order.items()}
    index: dict[str, Any] = {"resolution": height, "channels": channels, "splits": splits}
    canonical = json.dumps(index, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    write_json(folder / "index.json", {"format": FORMAT, "digest": digest, **index})
    return digest


def _write_split(folder: Path, name: str, images: Uint8, members: list[int]) -> list[dict[str, str | int]]:
    starts = range(0, len(members), SHARD_IMAGES)
    parts = [members[start : start + SHARD_IMAGES] for start in starts]
    return [_write_shard(folder / f"{name}-{number:05d}.npy", images, part) for number, part in enumerate(parts)]


def _write_shard(path: Path, images: Uint8, members: list[int]) -> dict[str, str | int]:
    with path.open("wb") as file:
        shape = (len(members), *images.shape[1:])
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for member in members:
            file.write(images[member].tobytes())
    with path.open("rb") as file:
        return {"file": path.name, "images": len(members), "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
