"""Descriptors: YAML files that say where images come from, read into frozen dataclasses with every key checked."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from components.config import InputError
from components.data.archives import refusing


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """The built-in set."""

    count: int
    size: int  # pixels, width and height
    seed: int


@dataclass(frozen=True, kw_only=True)
class Url:
    """An archive or one image, downloaded."""

    url: str
    sha256: str
    bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class S3:
    """One object, pinned by version, sha256 or both; or all below a prefix, as they were at a time."""

    uri: str
    endpoint: str | None = None
    version: str | None = None
    sha256: str | None = None
    as_of: datetime | None = None  # set for a prefix, and only there


@dataclass(frozen=True, kw_only=True)
class Kaggle:
    """One version of a dataset on Kaggle."""

    dataset: str  # owner/name
    version: int


@dataclass(frozen=True, kw_only=True)
class HuggingFace:
    """One commit of a dataset repository on the Hugging Face hub."""

    repo: str  # owner/name
    revision: str
    folder: str | None = None


@dataclass(frozen=True, kw_only=True)
class Part:
    """One of several sources that make one; its label becomes the first folder of its names."""

    source: Drawn | Url | S3 | Kaggle | HuggingFace | str  # str: a path inside the folder of source.yaml
    label: str | None = None


@dataclass(frozen=True, kw_only=True)
class Combined:
    """Several sources, one after the other."""

    parts: tuple[Part, ...]


Descriptor = Drawn | Url | S3 | Kaggle | HuggingFace | Combined


@dataclass(frozen=True)
class _Key:
    """What a key's value must be."""

    allowed: str
    fits: Callable[[Any], bool]
    required: bool = True


def _whole(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and low <= value <= high


def _text(pattern: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _is_address(value: Any) -> bool:
    try:
        parts = urlsplit(value) if isinstance(value, str) and value.isprintable() and " " not in value else None
        if parts is None or parts.username is not None:
            return False
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none, half an IPv6 address
        return False


def _is_utc(value: Any) -> bool:
    return isinstance(value, datetime) and value.utcoffset() == timedelta(0)


def _is_inner_path(value: Any) -> bool:
    return _text(r"[^/\\\0]+(/[^/\\\0]+)*")(value) and not {".", ".."} & set(value.split("/"))


_SHA256 = _Key("64 hexadecimal digits in lower case, as sha256sum prints", _text("[0-9a-f]{64}"))
_ADDRESS = _Key("an http:// or https:// address without a password", _is_address)
_NAME = r"[\w.-]+/[\w.-]+"
_LABEL = _Key(
    "a name without '/' that does not begin with '.', in quotes", _text(r"[^./\\\0-\x1f][^/\\\0-\x1f]*"), False
)
_PATH = _Key("a path inside the folder of source.yaml, relative to it", _is_inner_path)
_TYPES: dict[str, type[Descriptor]] = {
    "combined": Combined,
    "drawn": Drawn,
    "huggingface": HuggingFace,
    "kaggle": Kaggle,
    "s3": S3,
    "url": Url,
}
_KEYS: dict[str, dict[str, _Key]] = {
    "combined": {"parts": _Key("a list of at least one part", lambda value: isinstance(value, list) and bool(value))},
    "drawn": {
        "count": _Key("a whole number, 1 to 10000000", _whole(1, 10**7)),
        "size": _Key("a whole number, 8 to 1024", _whole(8, 1024)),
        "seed": _Key("a whole number, 0 to 2147483647", _whole(0, 2**31 - 1)),
    },
    "huggingface": {
        "repo": _Key("owner/name of a dataset", _text(_NAME)),
        "revision": _Key("a commit, 40 hexadecimal digits in lower case, in quotes", _text("[0-9a-f]{40}")),
        "folder": _Key("a folder of the repository", _is_inner_path, required=False),
    },
    "kaggle": {
        "dataset": _Key("owner/name", _text(_NAME)),
        "version": _Key("a whole number, at least 1", _whole(1, 2**31)),
    },
    "s3": {
        "uri": _Key("s3://bucket/key, or s3://bucket/prefix/", _text(r"s3://[a-z0-9][a-z0-9.-]+/.*")),
        "endpoint": _Key(_ADDRESS.allowed, _is_address, required=False),
        "version": _Key(
            "the id of a version, as text; not 'null', which can be overwritten",
            lambda value: isinstance(value, str) and value not in ("", "null"),
            required=False,
        ),
        "sha256": _Key(_SHA256.allowed, _SHA256.fits, required=False),
        "as_of": _Key("a time in UTC, like 2026-01-31T12:00:00Z", _is_utc, required=False),
    },
    "url": {
        "url": _ADDRESS,
        "sha256": _SHA256,
        "bytes": _Key("a whole number, at least 0", _whole(0, 2**63), required=False),
    },
}


def read_descriptor(path: Path) -> Descriptor:
    """Reads and checks a descriptor.

    Raises:
        InputError: not YAML, an unknown kind, an unknown or missing key, a value that is not allowed.
    """
    with refusing(path, "is not a YAML descriptor", "a mapping with a kind"):
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise ValueError(" ".join(str(error).split())) from None
    return _descriptor(repr(str(path)), content, tuple(_TYPES))


def _descriptor(where: str, content: Any, kinds: tuple[str, ...]) -> Descriptor:
    kind = content.get("kind") if isinstance(content, dict) else None
    if kind not in kinds:
        raise InputError(f"{where}: kind is {kind!r}; allowed: {', '.join(kinds)}")
    values = {key: value for key, value in content.items() if key != "kind"}
    _check(where, values, _KEYS[kind])
    if kind == "combined":
        return Combined(parts=tuple(_part(f"{where}: parts[{at}]", part) for at, part in enumerate(values["parts"])))
    descriptor = _TYPES[kind](**values)
    if isinstance(descriptor, S3):
        _check_pinned(where, descriptor)
    return descriptor


def _part(where: str, content: Any) -> Part:
    if not isinstance(content, dict) or ("path" in content) == ("kind" in content):
        raise InputError(f"{where} is {content!r}; allowed: a mapping with a kind or a path, and with a label or none")
    source = {key: value for key, value in content.items() if key != "label"}
    label = {key: value for key, value in content.items() if key == "label"}
    _check(where, label, {"label": _LABEL})
    if "path" in source:
        _check(where, source, {"path": _PATH})
        return Part(source=source["path"], **label)
    inline = _descriptor(where, source, tuple(kind for kind in _TYPES if kind != "combined"))
    assert not isinstance(inline, Combined)
    return Part(source=inline, **label)


def _check(where: str, values: dict[Any, Any], keys: dict[str, _Key]) -> None:
    for key, value in values.items():
        if key not in keys:
            raise InputError(f"{where}: unknown key {key}; allowed: {', '.join(keys)}")
        if not keys[key].fits(value):
            raise InputError(f"{where}: {key} is {value!r}; allowed: {keys[key].allowed}")
    for key, wanted in keys.items():
        if wanted.required and key not in values:
            raise InputError(f"{where}: missing key {key}; allowed: {wanted.allowed}")


def _check_pinned(where: str, source: S3) -> None:
    """What S3 gives must be the same tomorrow."""
    if source.uri.endswith("/"):
        if source.version or source.sha256 or source.as_of is None:
            raise InputError(
                f"{where}: uri is {source.uri!r}, a prefix; allowed with it: as_of, and neither of version, sha256"
            )
        if source.as_of >= datetime.now(UTC):
            raise InputError(f"{where}: as_of is {source.as_of.isoformat()}; allowed: a time that has passed")
    elif source.as_of or not (source.version or source.sha256):
        raise InputError(
            f"{where}: uri is {source.uri!r}, one key; allowed with it: version, sha256 or both, and no as_of"
        )
