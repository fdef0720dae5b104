"""Reading for training: memory-mapped uint8 shards, and an order of images that needs no state.

Images are [N, H, W, C] uint8. Where a run stands in the data is three integers: seed, epoch and offset in it; the
last two are divmod(images shown so far, N). The next images are a function of them alone, for the global batch, of
which each worker takes a consecutive part: so a run resumes exactly at any step and with any number of workers.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from components.config import InputError
from components.data.shards import FORMAT, index_digest


class ImageSet:
    """One split of the preprocessed data, memory-mapped.

    Attributes:
        shape: (N, H, W, C).
        digest: the data digest of index.json, the same for both splits.
        split_digest: of this split's images alone.
        labels: [N], positions in label_names; None where the set has none.
        label_names: in order.
    """

    labels: NDArray[np.uint16] | None = None
    label_names: tuple[str, ...] = ()

    def __init__(self, shards: list[NDArray[np.uint8]], digest: str, split_digest: str = "") -> None:
        self._shards = shards
        self._starts = np.cumsum([0] + [len(shard) for shard in shards])
        self.shape: tuple[int, int, int, int] = (int(self._starts[-1]), *shards[0].shape[1:])
        self.digest, self.split_digest = digest, split_digest

    @classmethod
    def open(cls, folder: Path, split: str) -> ImageSet:
        """Opens "train" or "holdout" of a folder of shards.

        Raises:
            InputError: no index, one of another format, or a shard that is missing or is not what the index says.
        """
        try:
            index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
            if index["format"] != FORMAT:
                raise InputError(f"{folder}/index.json has format {index['format']}; allowed: {FORMAT}: dvc repro")
            digest, entries = index["digest"], index["splits"][split]
            if not entries or index_digest(index) != digest:
                raise ValueError("index.json is not as it was written")
            shards = [np.load(folder / entry["file"], mmap_mode="r") for entry in entries]
            known = index["labels"]
            labels = np.load(folder / known[split]["file"]) if known else None
        except InputError:
            raise
        except (
            OSError,
            EOFError,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            RecursionError,
            BadZipFile,
        ) as error:
            raise InputError(f"{folder}: not a folder of shards made by the preprocess stage: {error}") from None
        for entry, shard in zip(entries, shards, strict=True):
            if shard.dtype != np.uint8 or shard.shape != (
                entry["images"],
                *index["shape"],
            ):
                raise InputError(f"{folder / entry['file']}: not the shard that index.json describes")
        if labels is not None and (
            labels.dtype != np.uint16
            or len(labels) != sum(len(shard) for shard in shards)
            or labels.max() >= len(known["names"])
        ):
            raise InputError(f"{folder / known[split]['file']}: not the labels that index.json describes")
        digests = [entry["sha256"] for entry in entries]
        images = cls(shards, digest, hashlib.sha256("".join(digests).encode()).hexdigest())
        if known:
            images.labels, images.label_names = labels, tuple(known["names"])
        return images

    def named_labels(self) -> list[str]:
        """The label of each image; none where the set has none."""
        return [] if self.labels is None else [self.label_names[number] for number in self.labels]

    def label_counts(self) -> dict[str, int]:
        """How many images have each label, names in order."""
        counts = Counter(self.named_labels())
        return {name: counts[name] for name in self.label_names}

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Gathers images: indices [B] in [0, N) → [B, H, W, C]."""
        out = np.empty((len(indices), *self.shape[1:]), np.uint8)
        shard_of = np.searchsorted(self._starts, indices, side="right") - 1
        for number in np.unique(shard_of):
            rows = shard_of == number
            out[rows] = self._shards[number][indices[rows] - self._starts[number]]
        return out


@lru_cache(maxsize=2)
def _epoch_order(seed: int, epoch: int, count: int) -> NDArray[Any]:
    return np.random.default_rng([seed, epoch]).permutation(count)


def batch_indices(*, seed: int, nimg: int, batch: int, count: int) -> NDArray[np.int64]:
    """The images of the step that begins after nimg images were shown.

    Every epoch shows each of `count` images once, in an order of its own; a batch may span epochs.

    Returns:
        int64 [batch], values in [0, count).
    """
    positions = np.arange(nimg, nimg + batch)
    epochs, offsets = np.divmod(positions, count)
    out = np.empty(batch, np.int64)
    for epoch in np.unique(epochs):
        rows = epochs == epoch
        out[rows] = _epoch_order(seed, int(epoch), count)[offsets[rows]]
    return out
