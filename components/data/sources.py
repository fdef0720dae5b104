"""Where originals come from: a folder, an archive, or a descriptor, each read as a stream of (name, content)."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from components.config import InputError
from components.data.archives import Files, Refused, check_size, is_tar, printable, read_tar, read_zip, refusing
from components.data.compression import is_compressed
from components.data.descriptors import S3, Combined, Drawn, HuggingFace, Kaggle, Part, Url, read_descriptor
from components.data.folders import Entry, check_unchanged, read_entry, read_folder, walk
from components.data.images import encode_png
from components.data.procedural import draw_creature

ALLOWED = "a folder, a .zip or .tar(.gz, .bz2, .xz, .zst) archive, or a .yaml descriptor"
FOLDER_DESCRIPTOR = "source.yaml"


def read_source(path: Path) -> Files:
    """Streams what a source holds, one file in memory at a time; the order is the source's own.

    Names are printable; Refused stands for what is there but cannot be taken as a file.

    Raises:
        InputError: nothing there, neither folder nor archive nor descriptor, without a file, damaged or encrypted,
            out of reach, changed while it was read, an archive that expands beyond measure, a file above
            MAX_FILE_BYTES.
    """
    files = 0
    for name, content in _reader(path):
        files += isinstance(content, bytes)
        yield printable(name), content
    if not files:
        raise InputError(f"ingest.source {str(path)!r} holds no files; allowed: at least one that is not hidden")


def _reader(path: Path) -> Files:
    if path.is_dir():
        return _described_folder(path) if (path / FOLDER_DESCRIPTOR).is_file() else read_folder(path)
    if not path.is_file():
        what = "is neither a file nor a folder" if path.exists() else "does not exist"
        raise InputError(f"ingest.source {str(path)!r} {what}; allowed: {ALLOWED}")
    files = _archive(path)
    if files is None and path.suffix in (".yaml", ".yml"):
        files = _described(read_descriptor(path), path)
    if files is None:
        raise InputError(f"ingest.source {str(path)!r} is neither an archive nor a descriptor; allowed: {ALLOWED}")
    return files


def _archive(path: Path) -> Files | None:
    """The members of an archive, known by its bytes; None where it is none."""
    with refusing(path, "cannot be read", ALLOWED), path.open("rb") as file:
        head = file.read(512)
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return read_zip(path)
    if is_compressed(head) or is_tar(head):
        return read_tar(path)
    return read_zip(path) if zipfile.is_zipfile(path) else None  # one with something in front of it


def _described(source: Drawn | Url | S3 | Kaggle | HuggingFace | Combined, path: Path) -> Files:
    """What the descriptor read from `path` stands for."""
    match source:
        case Drawn():
            return _drawn(source)
        case Url() | S3(as_of=None):
            return _downloaded(source)
        case S3(as_of=as_of) if as_of is not None:
            from components.data.object_store import read_prefix

            return read_prefix(source.uri, source.endpoint, as_of)
        case Kaggle():
            from components.data.hubs import read_kaggle

            return read_kaggle(source.dataset, source.version)
        case HuggingFace():
            from components.data.hubs import read_hugging_face

            return read_hugging_face(source.repo, source.revision, source.folder)
        case Combined():
            return _combined(source, path)
    raise AssertionError(source)


def _drawn(source: Drawn) -> Files:
    for index in range(source.count):
        yield f"{index:07d}.png", encode_png(draw_creature(source.seed, index, source.size))


def _downloaded(source: Url | S3) -> Files:
    """An archive's members, or the one file that was fetched, under its name at the server."""
    if isinstance(source, Url):
        from components.data.downloads import fetch_url

        path, address = fetch_url(source.url, source.sha256, source.bytes), urlsplit(source.url).path
    else:
        from components.data.object_store import fetch_object

        path = fetch_object(source.uri, source.endpoint, source.version, source.sha256)
        address = source.uri
    files = _archive(path)
    if files is not None:
        yield from files
        return
    name = PurePosixPath(unquote(address)).name or "file"
    check_size(name, path.stat().st_size)
    yield name, path.read_bytes()


def _labelled(part: Part, files: Files) -> Files:
    for name, content in files:
        yield (f"{part.label}/{name}" if part.label else name), content


def _combined(source: Combined, path: Path) -> Files:
    for part in source.parts:
        if isinstance(part.source, str):
            raise InputError(
                f"{str(path)!r} has a part with path {part.source!r}; allowed: kinds; "
                f"paths are for a {FOLDER_DESCRIPTOR} in the folder that ingest.source names, which is tracked whole"
            )
        yield from _labelled(part, _described(part.source, path))


def _described_folder(root: Path) -> Files:
    """A folder as its source.yaml says; what no part names is there, but not taken."""
    entries = walk(root)
    path = root / FOLDER_DESCRIPTOR
    source = read_descriptor(path)
    parts = source.parts if isinstance(source, Combined) else (Part(source=source),)
    named = [part.source for part in parts if isinstance(part.source, str)]
    for part in parts:
        files = _inner(root, entries, part.source) if isinstance(part.source, str) else _described(part.source, path)
        yield from _labelled(part, files)
    for entry in entries:
        if entry.name != FOLDER_DESCRIPTOR and not any(_below(entry.name, path) for path in named):
            unnamed = Refused(f"named by no part of {FOLDER_DESCRIPTOR}")
            yield entry.name, entry.state if isinstance(entry.state, Refused) else unnamed
    check_unchanged(root, entries)


def _inner(root: Path, entries: list[Entry], name: str) -> Iterator[tuple[str, bytes | Refused]]:
    """A part that is a folder, an archive or another descriptor inside the folder of source.yaml."""
    path, where = root / name, f"{str(root / FOLDER_DESCRIPTOR)!r}: path {name!r}"
    inside = [entry for entry in entries if _below(entry.name, name)]
    if [entry.name for entry in inside] != [name]:
        if not inside:
            raise InputError(
                f"{where} names nothing in the folder; allowed: a folder, an archive or a descriptor there"
            )
        for entry in inside:
            yield entry.name[len(name) + 1 :], read_entry(root, entry)
        return
    if isinstance(inside[0].state, Refused):
        raise InputError(f"{where} is {inside[0].state.reason}; allowed: a folder, an archive or a descriptor there")
    files = _archive(path)
    if files is None and path.suffix in (".yaml", ".yml") and name != FOLDER_DESCRIPTOR:
        source = read_descriptor(path)
        if isinstance(source, Combined):
            raise InputError(f"{where} is combined itself; allowed: a folder, an archive or a descriptor of one kind")
        files = _described(source, path)
    if files is None:
        raise InputError(f"{where} is neither an archive nor a descriptor; allowed: {ALLOWED}")
    yield from files


def _below(name: str, path: str) -> bool:
    return name == path or name.startswith(f"{path}/")
