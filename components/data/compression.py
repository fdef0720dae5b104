"""Compressed files as forward-only streams of bytes: gzip, bzip2, xz and Zstandard, known by their first bytes."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from components.config import InputError

MIN_EXPANSION, MAX_RATIO = 2**30, 100  # an archive may always expand to 1 GiB, and beyond that to 100 times its size
CHUNK = 2**16
ZSTD_PIECE = 512  # bytes; four of them can stand for 128 KiB, and the decoder gives out all at once


def expansion_limit(path: Path) -> int:
    """The most bytes that an archive may expand to."""
    return max(MIN_EXPANSION, MAX_RATIO * path.stat().st_size)


def check_expansion(path: Path, size: int, limit: int) -> None:
    """Refuses an archive that expands beyond its limit."""
    if size > limit:
        raise InputError(
            f"{str(path)!r} expands to more than {limit} bytes; "
            f"allowed: at most {MIN_EXPANSION} or {MAX_RATIO} times its own size, whichever is more"
        )


class Unpacked:
    """The bytes that a file holds when its compression, if any, is undone: read once, forward, to its very end."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        head = file.read(8)
        file.seek(0)
        unpack = next((unpack for magic, unpack in UNPACKERS.items() if head.startswith(magic)), _plain)
        self._chunks = unpack(file)
        self._path, self._limit, self._taken = path, expansion_limit(path), 0

    def read(self, _: int = 0) -> bytes:
        """The next bytes, as many as come at once; empty at the end.

        Raises:
            InputError: the file expands beyond expansion_limit().
        """
        chunk = next(self._chunks, b"")
        self._taken += len(chunk)
        check_expansion(self._path, self._taken, self._limit)
        return chunk


def _plain(file: BinaryIO) -> Iterator[bytes]:
    return iter(partial(file.read, CHUNK), b"")


def _gzip(file: BinaryIO) -> Iterator[bytes]:
    return iter(partial(gzip.GzipFile(fileobj=file).read, CHUNK), b"")


def _bzip2(file: BinaryIO) -> Iterator[bytes]:
    return iter(partial(bz2.BZ2File(file).read, CHUNK), b"")


def _xz(file: BinaryIO) -> Iterator[bytes]:
    return iter(partial(lzma.LZMAFile(file).read, CHUNK), b"")


def _zstd(file: BinaryIO) -> Iterator[bytes]:
    """Frame after frame. The package's own reader takes a file that is cut for one that ends."""
    import zstandard

    frame = None
    try:
        while piece := file.read(ZSTD_PIECE):
            while piece:
                frame = frame or zstandard.ZstdDecompressor().decompressobj()
                chunk, piece = frame.decompress(piece), b""
                if frame.eof:
                    piece, frame = frame.unused_data, None
                if chunk:
                    yield chunk
    except zstandard.ZstdError as error:
        raise OSError(str(error)) from None
    if frame is not None:
        raise EOFError("the file ended before its last frame did")


UNPACKERS: dict[bytes, Callable[[BinaryIO], Iterator[bytes]]] = {
    b"\x1f\x8b": _gzip,
    b"BZh": _bzip2,
    b"\xfd7zXZ\0": _xz,
    b"\x28\xb5\x2f\xfd": _zstd,
}


def is_compressed(head: bytes) -> bool:
    """Whether a file's first bytes name a compression."""
    return head.startswith(tuple(UNPACKERS))
