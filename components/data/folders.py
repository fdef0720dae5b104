"""Folders as streams of (name, content): walked twice, so that one that changes meanwhile is refused."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from components.config import InputError
from components.data.archives import Files, Refused, changed, check_size, refusing, special


@dataclass(frozen=True)
class Entry:
    """A thing in a folder as a walk found it; nothing has been opened."""

    name: str  # relative, with "/"
    state: tuple[int, int] | Refused  # bytes and mtime in ns


def read_folder(root: Path) -> Files:
    """Streams a folder's files, recursively, sorted.

    Raises:
        InputError: something cannot be read, is above MAX_FILE_BYTES, or changes before the whole folder is read.
    """
    entries = walk(root)
    for entry in entries:
        yield entry.name, read_entry(root, entry)
    check_unchanged(root, entries)


def walk(root: Path) -> list[Entry]:
    """All that a folder holds, sorted folder by folder. Hidden folders are not entered, links to folders neither."""
    try:
        return list(_walk(str(root), "", os.path.realpath(root)))
    except FileNotFoundError:
        raise changed(root) from None


def check_unchanged(root: Path, entries: list[Entry]) -> None:
    """Refuses a folder in which a second walk finds something else than the first did."""
    different = set(entries) ^ set(walk(root))
    if different:
        raise changed(root / min(entry.name for entry in different))


def read_entry(root: Path, entry: Entry) -> bytes | Refused:
    """The content of a file that a walk found, if it is still the same one."""
    if isinstance(entry.state, Refused):
        return entry.state
    path, size = root / entry.name, entry.state[0]
    check_size(entry.name, size)
    try:
        with refusing(path, "cannot be read", "readable files"), open(path, "rb", opener=_open_at_once) as file:
            content = file.read(size + 1)
            status = os.fstat(file.fileno())
    except InputError:
        if not path.exists():
            raise changed(path) from None
        raise
    if len(content) != size or _state(status) != entry.state:
        raise changed(path)
    return content


def _open_at_once(path: str, flags: int) -> int:
    """Opens a file; a FIFO that has taken its place is not waited for."""
    return os.open(path, flags | os.O_NONBLOCK)


def _walk(folder: str, prefix: str, root: str) -> Iterator[Entry]:
    with refusing(Path(folder), "cannot be read", "readable folders"), os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        name, is_folder = prefix + entry.name, entry.is_dir(follow_symlinks=False)
        if entry.name.startswith("."):
            yield Entry(name, Refused("hidden folder" if is_folder else "hidden file"))
        elif is_folder:
            yield from _walk(entry.path, f"{name}/", root)
        elif entry.is_symlink():
            yield Entry(name, _link_state(entry.path, root))
        else:
            yield Entry(name, _state(entry.stat(follow_symlinks=False)))


def _link_state(path: str, root: str) -> tuple[int, int] | Refused:
    target = os.path.realpath(path)
    if not Path(target).is_relative_to(root):
        return Refused("a link that leads outside the folder")
    try:
        status = Path(target).stat()
    except OSError:  # nothing there, or a circle of links
        return Refused("a link that leads nowhere")
    return Refused("a link to a folder") if stat.S_ISDIR(status.st_mode) else _state(status)


def _state(status: os.stat_result) -> tuple[int, int] | Refused:
    if not stat.S_ISREG(status.st_mode):
        return Refused(special(status.st_mode))
    return status.st_size, status.st_mtime_ns
