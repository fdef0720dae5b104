"""Originals byte for byte, in tar buckets by content digest: the same bytes whatever order the files came in."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from components.config import InputError
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
    write_json_lines(folder / "refused.jsonl", [])
    return Stored(files=len(manifest), bytes=sum(size for _, _, size in manifest), buckets=len(waiting))


def bucket_name(digest: str) -> str:
    """The file of data/raw that holds a content."""
    return f"{digest[:2]}.tar"


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


@dataclass(frozen=True, slots=True)
class Original:
    """One distinct content of the source: where its bytes lie, and all its names, sorted."""

    sha256: str
    bucket: str  # file name
    offset: int
    bytes: int
    names: tuple[str, ...]


def read_manifest(folder: Path) -> list[Original]:
    """The originals sorted by sha256; where each lies follows from their sizes, since a bucket is sorted too.

    Raises:
        InputError: no manifest, or not one that ingest wrote.
    """
    names: dict[str, list[str]] = defaultdict(list)
    sizes: dict[str, int] = {}
    path = folder / "manifest.jsonl"
    try:
        with path.open(encoding="utf-8") as file:
            for row in map(json.loads, file):
                names[row["sha256"]].append(row["name"])
                sizes[row["sha256"]] = row["bytes"]
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; allowed: a folder made by ingest") from None
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise InputError(f"{path} is damaged ({error}); allowed: what ingest wrote") from None
    originals = []
    ends: dict[str, int] = defaultdict(int)
    for digest, size in sorted(sizes.items()):
        bucket = bucket_name(digest)
        offset = ends[bucket] + tarfile.BLOCKSIZE
        ends[bucket] = offset + size + -size % tarfile.BLOCKSIZE
        originals.append(Original(digest, bucket, offset, size, tuple(names[digest])))
    return originals


def read_refused(folder: Path) -> list[dict[str, str]]:
    """The rows {name, reason} of what the source held and ingest could not take."""
    with (folder / "refused.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def read_originals(folder: Path, originals: Iterable[Original]) -> Iterator[tuple[Original, bytes]]:
    """Streams contents; neighbours of one bucket are read through one open file.

    Raises:
        InputError: a bucket is missing or not as it was written.
    """
    for bucket, members in groupby(originals, key=attrgetter("bucket")):
        path = folder / bucket
        try:
            with path.open("rb") as file:
                for original in members:
                    file.seek(original.offset)
                    content = file.read(original.bytes)
                    if hashlib.sha256(content).hexdigest() != original.sha256:
                        raise InputError(f"{path}: {original.sha256} is damaged; allowed: what ingest wrote")
                    yield original, content
        except OSError as error:
            raise InputError(f"{path}: {error.strerror or error}; allowed: what ingest wrote") from None
