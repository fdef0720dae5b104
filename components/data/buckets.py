"""Originals byte for byte, in tar buckets by content digest: the same bytes whatever order the files came in."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO

from components.config import InputError
from components.data.archives import MAX_FILE_BYTES, Refused
from components.data.files import write_json_lines

BUCKETS = 512  # as many as keep `dvc push` of 35,000 small files within twice the time of one archive


@dataclass(frozen=True)
class Stored:
    """What write_buckets took in."""

    files: int
    bytes: int
    buckets: int
    refused: int


def write_buckets(files: Iterable[tuple[str, bytes | Refused]], folder: Path) -> Stored:
    """Writes tar buckets, manifest.jsonl and refused.jsonl into an empty folder; equal contents share one member."""
    manifest: list[tuple[str, str, int]] = []  # name, sha256, bytes
    refused: list[tuple[str, str]] = []  # name, reason
    arrived: dict[str, tuple[int, int]] = {}  # sha256 -> offset in the spool, bytes
    spool = folder / "spool"
    with spool.open("w+b") as file:
        for name, content in files:
            if isinstance(content, Refused):
                refused.append((name, content.reason))
                continue
            digest = hashlib.sha256(content).hexdigest()
            manifest.append((name, digest, len(content)))
            if digest not in arrived:
                arrived[digest] = (file.tell(), len(content))
                file.write(content)
        buckets = 0
        for bucket, digests in groupby(sorted(arrived), _bucket):
            buckets += 1
            _write_bucket(folder / f"{bucket}.tar", file, {digest: arrived[digest] for digest in digests})
    spool.unlink()
    manifest.sort()
    rows = ({"name": name, "sha256": digest, "bytes": size} for name, digest, size in manifest)
    write_json_lines(folder / "manifest.jsonl", rows)
    write_json_lines(folder / "refused.jsonl", ({"name": name, "reason": reason} for name, reason in sorted(refused)))
    total = sum(size for _, _, size in manifest)
    return Stored(files=len(manifest), bytes=total, buckets=buckets, refused=len(refused))


def _bucket(digest: str) -> str:
    """The first of the three-digit prefixes that share a bucket: in the order of digests."""
    return f"{int(digest[:3], 16) & -(4096 // BUCKETS):03x}"


def _write_bucket(path: Path, spool: BinaryIO, members: dict[str, tuple[int, int]]) -> None:
    """Plain USTAR, written straight: tarfile's addfile() costs more than the contents."""
    template = tarfile.TarInfo("0" * 64).tobuf(tarfile.USTAR_FORMAT)  # owner 0, time 0, mode 0644
    with path.open("wb") as file:
        for digest, (offset, size) in members.items():
            header = bytearray(template)
            header[:64] = digest.encode()
            header[124:135] = b"%011o" % size
            header[148:156] = b" " * 8
            header[148:156] = b"%06o\0 " % sum(header)
            spool.seek(offset)
            file.write(header + spool.read(size) + bytes(-size % tarfile.BLOCKSIZE))
        file.write(bytes(2 * tarfile.BLOCKSIZE))  # the end mark


@dataclass(frozen=True, slots=True)
class Original:
    """One distinct content of the source: where its bytes lie in its bucket, and all its names, sorted."""

    sha256: str
    offset: int
    bytes: int
    names: tuple[str, ...]

    @property
    def bucket(self) -> str:
        """The bucket's file name."""
        return f"{_bucket(self.sha256)}.tar"


def read_manifest(folder: Path) -> list[Original]:
    """The originals sorted by sha256; where each lies follows from their sizes, since a bucket is sorted too.

    Raises:
        InputError: no manifest, or not one that ingest wrote.
    """
    contents: dict[str, list[Any]] = {}  # sha256 -> bytes and names
    path = folder / "manifest.jsonl"
    try:
        with path.open(encoding="utf-8") as file:
            for row in map(json.loads, file):
                digest, size = row["sha256"], row["bytes"]
                if not re.fullmatch("[0-9a-f]{64}", digest) or not 0 <= size <= MAX_FILE_BYTES:
                    raise ValueError(f"sha256 {digest!r}, bytes {size!r}")
                contents.setdefault(digest, [size]).append(str(row["name"]))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; allowed: a folder made by ingest") from None
    except (ValueError, KeyError, TypeError, RecursionError, OSError) as error:
        raise InputError(f"{path} is damaged ({error!r}); allowed: what ingest wrote") from None
    originals = []
    bucket, end = "", 0
    for digest in sorted(contents):
        size, *found = contents.pop(digest)  # a million of them are held once
        if _bucket(digest) != bucket:
            bucket, end = _bucket(digest), 0
        originals.append(Original(digest, end + tarfile.BLOCKSIZE, size, tuple(found)))
        end += tarfile.BLOCKSIZE + size + -size % tarfile.BLOCKSIZE
    return originals


def read_refused(folder: Path) -> list[dict[str, str]]:
    """The rows {name, reason} of what the source held and ingest could not take.

    Raises:
        InputError: no such file, or not one that ingest wrote.
    """
    path = folder / "refused.jsonl"
    try:
        rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        return [{"name": str(row["name"]), "reason": str(row["reason"])} for row in rows]
    except (ValueError, KeyError, TypeError, RecursionError, OSError) as error:
        raise InputError(f"{path} is damaged ({error!r}); allowed: what ingest wrote") from None


def read_originals(folder: Path, originals: Iterable[Original]) -> Iterator[tuple[Original, bytes]]:
    """Streams contents; neighbours of one bucket are read through one open file.

    Raises:
        InputError: a bucket is missing or not as it was written.
    """
    for bucket, members in groupby(originals, key=attrgetter("bucket")):
        path = folder / bucket
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}; allowed: what ingest wrote") from None
        try:
            for original in members:
                try:
                    content = os.pread(descriptor, original.bytes, original.offset)
                except OSError as error:
                    raise InputError(f"{path}: {error.strerror}; allowed: what ingest wrote") from None
                if hashlib.sha256(content).hexdigest() != original.sha256:
                    raise InputError(f"{path}: {original.sha256} is damaged; allowed: what ingest wrote")
                yield original, content
        finally:
            os.close(descriptor)
