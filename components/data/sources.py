"""Where originals come from: a folder, an archive, or a descriptor, each read as a stream of (name, bytes)."""

from __future__ import annotations

import os
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import yaml

from components.config import InputError
from components.data.archives import Files, check_size, read_tar, read_zip, refusing, tar_mode
from components.data.images import encode_png
from components.data.procedural import draw_creature

ALLOWED = "a folder, a .zip or .tar(.gz, .bz2, .xz) archive, or a .yaml descriptor"
DRAWN_KEYS = {"count": (1, 10**7), "size": (8, 1024), "seed": (0, 2**31 - 1)}


def read_source(path: Path) -> Files:
    """Streams the files of a source, one in memory at a time; the order is the source's own.

    Raises:
        InputError: nothing there, neither folder nor archive nor descriptor, empty, damaged or encrypted,
            a special file or a link that leads outside, a file above MAX_FILE_BYTES.
    """
    files = _reader(path)
    try:
        first = next(files)
    except StopIteration:
        message = f"ingest.source {str(path)!r} holds no files; allowed: at least one that is not hidden"
        raise InputError(message) from None
    yield first
    yield from files


def _reader(path: Path) -> Files:
    if path.is_dir():
        return read_folder(path)
    if not path.is_file():
        what = "is neither a file nor a folder" if path.exists() else "does not exist"
        raise InputError(f"ingest.source {str(path)!r} {what}; allowed: {ALLOWED}")
    with refusing(path, "cannot be read", ALLOWED), path.open("rb") as file:
        head = file.read(512)
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return read_zip(path)
    if head[257:262] == b"ustar" or tar_mode(head) != "r:":
        return read_tar(path)
    if path.suffix in (".yaml", ".yml"):
        return read_descriptor(path)
    if tarfile.is_tarfile(path):
        return read_tar(path)
    if zipfile.is_zipfile(path):
        return read_zip(path)
    raise InputError(f"ingest.source {str(path)!r} is neither an archive nor a descriptor; allowed: {ALLOWED}")


def read_folder(root: Path) -> Files:
    """Streams a folder's files, recursively, sorted; hidden ones are skipped. Names are relative, with '/'."""
    for path in _walk(root, os.path.realpath(root)):
        name = path.relative_to(root).as_posix()
        with refusing(path, "cannot be read", "readable files"):
            check_size(name, path.stat().st_size)
            content = path.read_bytes()
        yield name, content


def _walk(folder: Path, root: str) -> Iterator[Path]:
    with refusing(folder, "cannot be read", "readable folders"):
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    for path in paths:
        if path.is_symlink():
            target = Path(os.path.realpath(path))
            if not (target.is_relative_to(root) and target.is_file()):
                raise InputError(f"{str(path)!r} is a link; allowed: links to files inside the source folder")
            yield path
        elif path.is_dir():
            yield from _walk(path, root)
        elif path.is_file():
            yield path
        else:
            raise InputError(f"{str(path)!r} is a {_special(path)}; allowed: files and folders")


def _special(path: Path) -> str:
    mode = path.lstat().st_mode
    return "FIFO" if stat.S_ISFIFO(mode) else "socket" if stat.S_ISSOCK(mode) else "device"


def read_descriptor(path: Path) -> Files:
    """Streams what a YAML descriptor stands for. `kind: drawn` is the built-in set: count, size, seed."""
    with refusing(path, "is not a YAML descriptor", ALLOWED):
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise ValueError(str(error)) from None
    if not isinstance(content, dict) or content.get("kind") != "drawn":
        kind = content.get("kind") if isinstance(content, dict) else None
        raise InputError(f"{str(path)!r}: kind is {kind!r}; allowed: drawn")
    keys = content.keys() - {"kind"}
    if keys != DRAWN_KEYS.keys():
        named = ", ".join(sorted(map(str, keys)))
        raise InputError(f"{str(path)!r}: the keys are kind, {named}; allowed: exactly kind, {', '.join(DRAWN_KEYS)}")
    for key, (low, high) in DRAWN_KEYS.items():
        if type(content[key]) is not int or not low <= content[key] <= high:
            raise InputError(f"{str(path)!r}: {key} is {content[key]!r}; allowed: a whole number, {low} to {high}")
    return _drawn(content["count"], content["size"], content["seed"])


def _drawn(count: int, size: int, seed: int) -> Files:
    for index in range(count):
        yield f"{index:07d}.png", encode_png(draw_creature(seed, index, size))
