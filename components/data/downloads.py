"""Downloads into .cache/downloads: resumed, retried, checked, and under their name only when they are whole."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tqdm import tqdm

from components.config import InputError

if TYPE_CHECKING:
    import requests

CACHE = Path(".cache/downloads")
TRIES, BACKOFF_S = 5, 1.0  # waits of 1, 2, 4 and 8 seconds
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10.0, 60.0
CHUNK = 2**16
T = TypeVar("T")


class TransientError(Exception):
    """A failure that another try may not meet."""


@dataclass(frozen=True)
class Body:
    """What a server sends: the bytes from `start` on of a content that its tag, if it has one, tells from others."""

    start: int
    total: int | None  # bytes of the whole content
    tag: str | None
    chunks: Iterator[bytes]
    close: Callable[[], None]


Opener = Callable[[int, str | None], Body]  # from this byte on, if the tag is still the same; else from the first


def retrying(what: str, attempt: Callable[[], T]) -> T:
    """The attempt's result.

    Raises:
        InputError: TRIES attempts, with growing waits between them, have raised a TransientError.
    """
    last: TransientError | None = None
    for number in range(TRIES):
        if number:
            time.sleep(BACKOFF_S * 2 ** (number - 1))
        try:
            return attempt()
        except TransientError as error:
            last = error
    raise InputError(f"{what} {last}, {TRIES} times; allowed: what can be fetched")


def fetch(what: str, name: str, opener: Opener, sha256: str | None = None, size: int | None = None) -> Path:
    """Brings a content into the cache, or finds it there.

    Args:
        what: how messages call it.
        name: its file's name in the cache.
        opener: asks the server for it.
        sha256: its digest, where it is known.
        size: its length in bytes, where it is known.

    Raises:
        InputError: it cannot be fetched, or is not what digest and length say.
    """
    path, partial = CACHE / name, CACHE / f"{name}.partial"
    CACHE.mkdir(parents=True, exist_ok=True)
    with _alone():
        if path.exists():
            if sha256 in (None, _digest(path)):
                return path
            path.unlink()
        retrying(what, lambda: _go_on(what, partial, opener, size))
        found = _digest(partial)
        if sha256 not in (None, found):
            partial.unlink()
            raise InputError(f"{what} has sha256 {found}; allowed: {sha256}")
        partial.replace(path)
        _tag_file(partial).unlink(missing_ok=True)
        return path


@contextmanager
def _alone() -> Iterator[None]:
    """Waits for other processes that fetch into the cache: what they bring may be what is wanted."""
    descriptor = os.open(CACHE, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tag_file(partial: Path) -> Path:
    return partial.with_suffix(".tag")


def _go_on(what: str, partial: Path, opener: Opener, size: int | None) -> None:
    """Goes on where the partial file ends, if the server still has the content it began with."""
    tag_file = _tag_file(partial)
    tag = tag_file.read_text(encoding="utf-8") if tag_file.exists() and partial.exists() else None
    with closing(opener(partial.stat().st_size if tag else 0, tag)) as body:
        _append(what, partial, body, size)


def _append(what: str, partial: Path, body: Body, size: int | None) -> None:
    total = body.total if size is None else size
    if body.total not in (None, total):
        raise InputError(f"{what} has {body.total} bytes; allowed: {total}, as its descriptor says")
    with partial.open("ab" if body.start else "wb") as file:
        if body.tag:
            _tag_file(partial).write_text(body.tag, encoding="utf-8")
        else:
            _tag_file(partial).unlink(missing_ok=True)
        name = what.rsplit("/", 1)[-1].rstrip("'")
        with tqdm(desc=name, total=total, initial=body.start, unit="B", unit_scale=True, dynamic_ncols=True) as bar:
            for chunk in body.chunks:
                file.write(chunk)
                bar.update(len(chunk))
                if total is not None and file.tell() > total:
                    raise InputError(f"{what} has more than {total} bytes; allowed: what was announced")
        file.flush()
        os.fsync(file.fileno())
        if total is not None and file.tell() < total:
            raise TransientError(f"ended after {file.tell()} of {total} bytes")


def fetch_url(url: str, sha256: str, size: int | None = None) -> Path:
    """Downloads what an address gives, byte for byte: fetch() over HTTP."""
    return fetch(repr(url), sha256, lambda start, tag: _open_url(url, start, tag), sha256, size)


def _open_url(url: str, start: int, tag: str | None) -> Body:
    import requests

    headers = {"Accept-Encoding": "identity", "User-Agent": "bestiary"}
    if start and tag:
        headers |= {"Range": f"bytes={start}-", "If-Range": tag}
    try:
        response = requests.get(url, headers=headers, stream=True, timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S))
    except requests.exceptions.SSLError as error:
        raise InputError(f"{url!r} has no certificate to trust ({error}); allowed: a secure connection") from None
    except requests.Timeout:
        raise TransientError("did not answer in time") from None
    except requests.ConnectionError as error:
        raise TransientError(f"could not be reached ({_cause(error)})") from None
    except requests.RequestException as error:
        raise InputError(f"{url!r} cannot be fetched ({error}); allowed: an address that answers") from None
    status, length = response.status_code, response.headers.get("Content-Length", "")
    if status == 429 or status >= 500:
        response.close()
        raise TransientError(f"answered {status} {response.reason}")
    answer = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+)", response.headers.get("Content-Range", ""))
    if status == 416 and answer and int(answer[2]) == start:  # all of it is there; only the last step was missing
        return Body(start, start, tag, iter(()), response.close)
    fits = answer is not None and answer[1] == str(start) and _tag(response) == tag
    if start and (status == 416 or (status == 206 and not fits)):
        response.close()
        return _open_url(url, 0, None)
    if status not in (200, 206):
        response.close()
        raise InputError(f"{url!r} answered {status} {response.reason}; allowed: an address that gives the file")
    if status == 206 and answer:
        return Body(start, int(answer[2]), tag, _chunks(response), response.close)
    whole = int(length) if length.isdecimal() else None
    return Body(0, whole, _tag(response), _chunks(response), response.close)


def _tag(response: requests.Response) -> str | None:
    """What tells this content from another one, byte for byte; weak ETags do not."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified")


def _chunks(response: requests.Response) -> Iterator[bytes]:
    """The bytes as they were sent: decoding them would change the file that has the digest."""
    import urllib3

    try:
        yield from response.raw.stream(CHUNK, decode_content=False)
    except urllib3.exceptions.ReadTimeoutError:
        raise TransientError(f"sent nothing for {READ_TIMEOUT_S:g} s") from None
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise TransientError(f"broke off ({_cause(error)})") from None


def _cause(error: BaseException) -> str:
    """The first failure that others were raised for, by name."""
    while error.__context__ is not None:
        error = error.__context__
    return type(error).__name__
