"""Files and folders that appear whole or not at all: written under a temporary name, then renamed."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

from components.config import InputError


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Yields a fresh empty sibling folder that takes the place of `folder` when the block succeeds.

    When the block raises, `folder` stays as it was. What a killed process left is removed by the next call.

    Raises:
        InputError: something else than a folder is there, or another process writes beside it.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; allowed: a folder, or nothing yet")
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = folder.with_name(f".{folder.name}.partial")
    old = folder.with_name(f".{folder.name}.old")
    with _locked(folder.parent):
        if old.exists() and not folder.exists():  # killed between the two renames
            old.rename(folder)
        for leftover in (fresh, old):
            _remove(leftover)
        fresh.mkdir()
        try:
            yield fresh
            if folder.exists():
                folder.rename(old)
            fresh.rename(folder)
        except BaseException:
            _remove(fresh)
            raise
        _remove(old)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps other processes out of a folder while the block lasts; the lock ends with its process, however it ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise InputError(f"another process is writing in {folder}; allowed: one at a time") from None
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file atomically; its folder is made where it is missing."""
    write_pieces(path, [content])


def write_pieces(path: Path, pieces: Iterable[bytes]) -> None:
    """Writes a file atomically, piece by piece."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with fresh.open("wb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def write_json(path: Path, content: Any) -> None:
    """Writes JSON atomically: sorted keys, two spaces, a final newline; NaN and infinity are refused."""
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


def write_json_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Writes one JSON object a line, atomically."""
    write_pieces(path, (json.dumps(row, allow_nan=False).encode() + b"\n" for row in rows))


def append_json_line(path: Path, row: dict[str, Any]) -> None:
    """Adds one JSON object to a file's lines and syncs it; no half line stays, of a full disk or of a killed writer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(row).encode() + b"\n"
    with path.open("a+b", buffering=0) as file:
        size = _whole(file)
        try:
            if file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            os.fsync(file.fileno())
        except OSError:
            os.ftruncate(file.fileno(), size)
            raise


def _whole(file: FileIO) -> int:
    """Cuts off the half line at a file's end, if there is one. Returns its size."""
    size = file.seek(0, os.SEEK_END)
    if size:
        file.seek(size - 1)
        if file.read(1) != b"\n":
            file.seek(0)
            size = file.read().rfind(b"\n") + 1
            os.ftruncate(file.fileno(), size)
    return size


def fingerprint(path: Path) -> tuple[int, int, int]:
    """What tells two contents of a file apart, without reading it: inode, bytes and time.

    Raises:
        FileNotFoundError: it is not there.
    """
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file that may be growing, or not be there yet.

    Raises:
        InputError: one of them is no JSON.
    """
    content = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    try:
        return [json.loads(line) for line in content if line.endswith("\n")]
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); allowed: one JSON object a line") from None
