"""Originals byte for byte, in tar buckets by content digest: the same bytes whatever order the files came in."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from components.config import InputError
from components.data.archives import read_tar
from components.data.files import write_json_lines


@dataclass(frozen=True)
class Stored:
    """What write_buckets took in."""

    files: int
    bytes: int
    buckets: int


def write_buckets(files: Iterable[tuple[str, bytes]], folder: Path) -> Stored:
    """Writes `<2 hex>.tar` buckets and manifest.jsonl into an empty folder; equal contents share one member."""
    manifest: list[tuple[str, str, int]] = []  # name, sha256, bytes
    waiting: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)  # bucket -> sha256 -> offset, bytes
    for name, content in files:
        digest = hashlib.sha256(content).hexdigest()
        manifest.append((name, digest, len(content)))
        bucket = waiting[digest[:2]]
        if digest not in bucket:
            with _unsorted(folder, digest[:2]).open("ab") as file:
                bucket[digest] = (file.tell(), len(content))
                file.write(content)
    for prefix, members in waiting.items():
        _write_bucket(folder, prefix, members)
    manifest.sort()
    rows = ({"name": name, "sha256": digest, "bytes": size} for name, digest, size in manifest)
    write_json_lines(folder / "manifest.jsonl", rows)
    return Stored(files=len(manifest), bytes=sum(size for _, _, size in manifest), buckets=len(waiting))


def _unsorted(folder: Path, prefix: str) -> Path:
    return folder / f"{prefix}.unsorted"


def _write_bucket(folder: Path, prefix: str, members: dict[str, tuple[int, int]]) -> None:
    unsorted = _unsorted(folder, prefix)
    with unsorted.open("rb") as file, tarfile.open(folder / f"{prefix}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for digest, (offset, size) in sorted(members.items()):
            info = tarfile.TarInfo(digest)  # owner 0, time 0, mode 0644
            info.size = size
            file.seek(offset)
            tar.addfile(info, io.BytesIO(file.read(size)))
    unsorted.unlink()


def read_manifest(folder: Path) -> dict[str, list[str]]:
    """The names in the source of each sha256.

    Raises:
        InputError: no manifest.
    """
    names: dict[str, list[str]] = defaultdict(list)
    try:
        with (folder / "manifest.jsonl").open(encoding="utf-8") as file:
            for row in map(json.loads, file):
                names[row["sha256"]].append(row["name"])
    except FileNotFoundError:
        raise InputError(f"{folder}/manifest.jsonl does not exist; allowed: a folder made by ingest") from None
    return dict(names)


def read_originals(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Streams each distinct content with its sha256, sorted by it.

    Raises:
        InputError: a bucket is missing or not as it was written.
    """
    waiting = set(read_manifest(folder))
    for bucket in sorted(folder.glob("*.tar")):
        for digest, content in read_tar(bucket):
            if digest not in waiting or hashlib.sha256(content).hexdigest() != digest:
                raise InputError(f"{bucket}: {digest} is not what the manifest names; allowed: what ingest wrote")
            waiting.remove(digest)
            yield digest, content
    if waiting:
        raise InputError(f"{folder} lacks {len(waiting)} contents of its manifest; allowed: what ingest wrote")
