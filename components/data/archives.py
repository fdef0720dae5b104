"""Zip and tar archives as streams of (name, content), one member in memory at a time; nothing is extracted to disk."""

from __future__ import annotations

import lzma
import posixpath
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.config import InputError
from components.data.compression import Unpacked, check_expansion, expansion_limit

MAX_FILE_BYTES = 256 * 2**20  # one file is held in memory at a time
TAR_HEADER_TYPES = (  # what only says more of the next member; it is read whole
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)
MAX_TAR_HEADER_BYTES = 2**20
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


@dataclass(frozen=True)
class Refused:
    """Stands for a thing that is there but cannot be taken as a file."""

    reason: str


Files = Iterator[tuple[str, bytes | Refused]]


@contextmanager
def refusing(path: Path, what: str, allowed: str) -> Iterator[None]:
    """Turns what readers raise on bad bytes into an InputError about `path`."""
    try:
        yield
    except InputError:
        raise
    except DAMAGE as error:
        raise InputError(f"{str(path)!r} {what} ({error or type(error).__name__}); allowed: {allowed}") from None


def changed(path: Path) -> InputError:
    """What is said of a source that is not the same after its reading as before."""
    return InputError(f"{str(path)!r} changed while it was read; run it again")


@contextmanager
def unchanged(path: Path) -> Iterator[None]:
    """Refuses a file that changes while the block reads it; a damage found meanwhile may well come from that."""

    def state() -> tuple[int, int, int] | None:
        try:
            status = path.stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns

    before = state()
    try:
        yield
    except InputError:
        if state() != before:
            raise changed(path) from None
        raise
    if state() != before:
        raise changed(path)


def check_size(name: str, size: int) -> None:
    """Refuses a file above MAX_FILE_BYTES."""
    if size > MAX_FILE_BYTES:
        raise InputError(f"{name!r} in ingest.source has {size} bytes; allowed: at most {MAX_FILE_BYTES} a file")


def printable(name: str) -> str:
    """The name, with escapes for control characters, undecodable bytes and lone surrogates: fit for a line."""

    def escape(match: re.Match[str]) -> str:
        code = ord(match[0])
        return f"\\x{code & 0xFF:02x}" if code < 0x100 or 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"

    return re.sub("[\0-\x1f\x7f-\x9f\ud800-\udfff]", escape, name)


def special(mode: int) -> str:
    """A word for what is neither a file nor a folder, by its st_mode."""
    words = {stat.S_IFLNK: "a link", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    return words.get(stat.S_IFMT(mode), "a device")


def member_name(name: str) -> tuple[str, Refused | None]:
    """The name of an archive's member without "./" and the like, and what speaks against it."""
    slashes = name.replace("\\", "/")
    if slashes.startswith("/") or re.match("[A-Za-z]:/", slashes) or posixpath.normpath(slashes).split("/")[0] == "..":
        return name, Refused("path leads outside the archive")
    name = posixpath.normpath(name)
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))
    return name, Refused("hidden file") if hidden else None


def read_zip(path: Path) -> Files:
    """Streams the members of a zip archive."""
    with unchanged(path), refusing(path, "is a damaged zip archive", "an intact one"), zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        check_expansion(path, sum(member.file_size for member in members), expansion_limit(path))
        if any(member.flag_bits & 1 for member in members):
            raise InputError(f"{str(path)!r} is encrypted; allowed: an archive without a password")
        for member in members:
            if member.is_dir() and not member.file_size:
                continue
            name, objection = member_name(_zip_name(member))
            yield name, objection or _zip_content(path, archive, member)


def _zip_name(member: zipfile.ZipInfo) -> str:
    """UTF-8 where it can be that: Info-ZIP's zip writes it without the flag, and zipfile then reads code page 437.

    With the slashes that archives made on Windows may lack.
    """
    name = member.orig_filename
    if not member.flag_bits & 0x800:
        with suppress(UnicodeError):
            name = name.encode("cp437").decode()
    return name.replace("\\", "/") if member.create_system == 0 else name


def _zip_content(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes | Refused:
    mode = member.external_attr >> 16  # 0 where the archive was not made on Unix
    if member.is_dir():
        return Refused("a folder with contents")
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return Refused(special(mode))
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others expand without a bound
        raise InputError(
            f"{str(path)!r}: {member.filename!r} has zip compression {member.compress_type}; allowed: stored, deflated"
        )
    check_size(member.filename, member.file_size)
    with archive.open(member) as reader:
        content = reader.read(member.file_size + 1)  # a bound: without one a member that lies is expanded whole
    if len(content) != member.file_size:
        raise zipfile.BadZipFile(f"{member.filename!r} is shorter than the directory says")
    return content


class _TarHeader(tarfile.TarInfo):
    """A tar header that is one: tarfile takes a broken one for the archive's end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _TarHeader:
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if buf.count(0) == tarfile.BLOCKSIZE:
                raise  # the true end
            raise tarfile.ReadError(f"no end mark where the members end: {error}") from None
        if header.size < 0 or (header.type in TAR_HEADER_TYPES and header.size > MAX_TAR_HEADER_BYTES):
            raise tarfile.ReadError(f"a header of {header.size} bytes")
        return header


def is_tar(head: bytes) -> bool:
    """Whether a file's first 512 bytes are a tar header or the end mark of an empty tar archive."""
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return head[257:262] == b"ustar" or head == bytes(tarfile.BLOCKSIZE)
    return True


def read_tar(path: Path) -> Files:
    """Streams the members of a tar archive, plain or compressed."""
    with unchanged(path), refusing(path, "is a damaged tar archive", "an intact one"), path.open("rb") as file:
        unpacked: Any = Unpacked(path, file)
        options: dict[str, Any] = {"tarinfo": _TarHeader, "encoding": "utf-8", "errors": "surrogateescape"}
        with tarfile.open(fileobj=unpacked, mode="r|", **options) as archive:
            internals: Any = archive
            while (member := archive.next()) is not None:
                internals.members.clear()  # else every header stays in memory
                if not (member.isdir() and not member.size):
                    name, objection = member_name(member.name)
                    yield name, objection or _tar_content(archive, member)
            while rest := internals.fileobj.read(2**20):  # to the end, which proves checksums
                if rest.count(0) != len(rest):
                    raise tarfile.ReadError("data after the end mark")


def _tar_content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes | Refused:
    if member.islnk() or member.issym():
        return Refused("a link")
    if member.isdir():
        return Refused("a folder with contents")
    if not member.isreg():
        return Refused("a FIFO" if member.isfifo() else "a device" if member.isdev() else "a special file")
    if member.issparse():  # a few bytes can stand for any number of zeros
        return Refused("a sparse file")
    check_size(member.name, member.size)
    reader = archive.extractfile(member)
    assert reader is not None
    return reader.read()
