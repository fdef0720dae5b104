"""Zip and tar archives as streams of (name, bytes), one member in memory at a time; nothing is extracted to disk."""

from __future__ import annotations

import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from components.config import InputError

Files = Iterator[tuple[str, bytes]]

MAX_FILE_BYTES = 256 * 2**20  # one file is held in memory at a time
TarMode = Literal["r:", "r:gz", "r:bz2", "r:xz"]
TAR_MODES: dict[bytes, TarMode] = {b"\x1f\x8b": "r:gz", b"BZh": "r:bz2", b"\xfd7zXZ\0": "r:xz"}
DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,  # zipfile's word for a compression or an encryption it lacks
    ValueError,
)


@contextmanager
def refusing(path: Path, what: str, allowed: str) -> Iterator[None]:
    """Turns what readers raise on bad bytes into an InputError about `path`."""
    try:
        yield
    except InputError:
        raise
    except DAMAGE as error:
        raise InputError(f"{str(path)!r} {what} ({error or type(error).__name__}); allowed: {allowed}") from None


def check_size(name: str, size: int) -> None:
    """Refuses a file above MAX_FILE_BYTES."""
    if size > MAX_FILE_BYTES:
        raise InputError(f"{name!r} in ingest.source has {size} bytes; allowed: at most {MAX_FILE_BYTES} a file")


def read_zip(path: Path) -> Files:
    """Streams the regular members of a zip archive."""
    with refusing(path, "is a damaged zip archive", "an intact one"), zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)  # 0 where the archive was not made on Unix
            if member.is_dir() or kind not in (0, stat.S_IFREG):
                continue
            if member.flag_bits & 1:
                raise InputError(f"{str(path)!r} is encrypted; allowed: an archive without a password")
            check_size(member.filename, member.file_size)
            yield member.filename, archive.read(member)


def tar_mode(head: bytes) -> TarMode:
    """The compression that a file's first bytes name; "r:" where they name none."""
    return next((mode for magic, mode in TAR_MODES.items() if head.startswith(magic)), "r:")


def read_tar(path: Path) -> Files:
    """Streams the regular members of a tar archive, plain or compressed. A hard link repeats another member."""
    with path.open("rb") as file:
        mode = tar_mode(file.read(8))
    with refusing(path, "is a damaged tar archive", "an intact one"), tarfile.open(path, mode) as archive:
        for member in archive:
            reader = archive.extractfile(member) if member.isreg() else None
            if reader is not None:
                check_size(member.name, member.size)
                yield member.name, reader.read()
        _check_tar_end(archive)


def _check_tar_end(archive: tarfile.TarFile) -> None:
    """tarfile takes a broken header for the end; the true end is a block of zeros. Reads on to prove checksums."""
    file: Any = archive.fileobj
    file.seek(archive.offset)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("no end mark where the members end")
    while file.read(2**20):
        pass
