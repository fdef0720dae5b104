"""S3: one pinned object, all below a prefix as it was at a time, and a round trip that proves an endpoint.

`python -m components.data.object_store s3://bucket/prefix [--endpoint URL]` says whether what one client writes there,
in one piece and in several, is what another one reads.
"""

from __future__ import annotations

import hashlib
import sys
import uuid
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from components.config import InputError
from components.data import downloads
from components.data.archives import MAX_FILE_BYTES, Files, Refused, check_size
from components.data.downloads import Body, TransientError, fetch, retrying

THREADS = 8
DEEDS = {"read": "read", "write": "written"}
ROUND_TRIP_SIZES = (1000, 11 * 2**20)  # in one piece; in parts, of which only the last may be below 5 MiB
CREDENTIALS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, or a profile named by AWS_PROFILE"


def fetch_object(uri: str, endpoint: str | None, version: str | None, sha256: str | None) -> Path:
    """Downloads one object into the cache: downloads.fetch() over S3.

    Raises:
        InputError: no access, no such object, no answer, or another content than sha256 names.
    """
    client, (bucket, key) = client_of(endpoint), split(uri)
    pinned = {"VersionId": version} if version else {}

    def opener(start: int, tag: str | None) -> Body:
        since = {"Range": f"bytes={start}-", "IfMatch": tag} if start and tag else {}
        try:
            with in_words(uri):
                answer = client.get_object(Bucket=bucket, Key=key, **pinned, **since)
        except _NothingBehind:
            with in_words(uri):
                now = client.head_object(Bucket=bucket, Key=key, **pinned)
            if (now["ContentLength"], now["ETag"]) == (start, tag):  # all of it is here; only the last step was missing
                return Body(start, start, tag, iter(()), lambda: None)
            return opener(0, None)
        except _Changed:
            return opener(0, None)
        begin = start if since else 0
        return Body(
            begin, begin + answer["ContentLength"], answer["ETag"], _chunks(uri, answer["Body"]), answer["Body"].close
        )

    name = sha256 or hashlib.sha256(f"{endpoint} {uri} {version}".encode()).hexdigest()
    return fetch(repr(uri), name, opener, sha256)


def _chunks(uri: str, body: Any) -> Iterator[bytes]:
    with in_words(uri, transient=True), body:
        yield from body.iter_chunks(downloads.CHUNK)


def read_prefix(uri: str, endpoint: str | None, as_of: datetime) -> Files:
    """Streams, in the order of keys, what lay below a prefix at a time; a few objects are fetched ahead.

    Raises:
        InputError: no access, no such bucket, one that keeps no versions, no answer.
    """
    client, (bucket, prefix) = client_of(endpoint), split(uri)
    with in_words(uri):
        if client.get_bucket_versioning(Bucket=bucket).get("Status") != "Enabled":
            raise InputError(f"{uri!r}: the bucket keeps no versions; allowed with as_of: a bucket with versioning")
        found = _newest(client, bucket, prefix, as_of)

    def content(version: _Version) -> bytes | Refused:
        if any(part.startswith(".") for part in version.key[len(prefix) :].split("/")):
            return Refused("hidden file")
        what = f"s3://{bucket}/{version.key}"
        return retrying(repr(what), lambda: _whole(client, what, bucket, version))

    with ThreadPoolExecutor(THREADS, thread_name_prefix="s3") as pool:
        try:
            for version, future in _ahead(pool, content, found):
                yield version.key[len(prefix) :], future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True)
class _Version:
    key: str
    id: str
    size: int


def _newest(client: Any, bucket: str, prefix: str, as_of: datetime) -> list[_Version]:
    """The newest version of each key that is not later than as_of, unless it says that the key was deleted."""
    newest: dict[str, tuple[datetime, _Version | None]] = {}
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
        for row in page.get("Versions", []):
            version = _Version(row["Key"], row["VersionId"], row["Size"])
            # Times have whole seconds. Newer versions are listed first, and a marker of the same second gives way.
            known = newest.get(version.key)
            newer = (
                known is None or row["LastModified"] > known[0] or (row["LastModified"] == known[0] and not known[1])
            )
            if row["LastModified"] <= as_of and newer:
                newest[version.key] = row["LastModified"], version
        for row in page.get("DeleteMarkers", []):
            known = newest.get(row["Key"])
            if row["LastModified"] <= as_of and (known is None or row["LastModified"] > known[0]):
                newest[row["Key"]] = row["LastModified"], None
    versions = [version for _, version in newest.values() if version]
    # A key that ends with "/" and holds nothing stands for a folder.
    return sorted((v for v in versions if v.size or not v.key.endswith("/")), key=lambda version: version.key)


def _ahead(pool: ThreadPoolExecutor, content: Any, versions: list[_Version]) -> Iterator[tuple[_Version, Future[Any]]]:
    """Each version with its future; at most 2 * THREADS of them and MAX_FILE_BYTES lie ahead of the reader."""
    waiting: deque[tuple[_Version, Future[Any]]] = deque()
    held = 0
    for version in versions:
        check_size(version.key, version.size)
        while waiting and (len(waiting) == 2 * THREADS or held + version.size > MAX_FILE_BYTES):
            held -= waiting[0][0].size
            yield waiting.popleft()
        waiting.append((version, pool.submit(content, version)))
        held += version.size
    yield from waiting


def _whole(client: Any, what: str, bucket: str, version: _Version) -> bytes:
    with in_words(what):
        answer = client.get_object(Bucket=bucket, Key=version.key, VersionId=version.id)
    content = b"".join(_chunks(what, answer["Body"]))
    if len(content) != version.size:
        raise TransientError(f"ended after {len(content)} of {version.size} bytes")
    return content


def split(uri: str) -> tuple[str, str]:
    """Bucket and key of s3://bucket/key."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def client_of(endpoint: str | None) -> Any:
    """A client with this project's timeouts; without an endpoint it is AWS_ENDPOINT_URL's, or Amazon's."""
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=downloads.CONNECT_TIMEOUT_S,
        read_timeout=downloads.READ_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": downloads.TRIES},
        max_pool_connections=THREADS,
    )
    with in_words(endpoint or "s3"):
        return boto3.session.Session().client("s3", endpoint_url=endpoint, config=config)


class _NothingBehind(Exception):  # noqa: N818  an answer, not an error
    """The object has no byte from the asked one on."""


class _Changed(Exception):  # noqa: N818  an answer, not an error
    """The object is no longer the one that a download began with."""


@contextmanager
def in_words(uri: str, transient: bool = False, deed: str = "read") -> Iterator[None]:
    """Turns what boto3 raises into one line; with `transient`, a broken connection into a TransientError.

    Args:
        deed: what is done to uri, of DEEDS.
    """
    from botocore import exceptions

    try:
        yield
    except exceptions.ClientError as error:
        code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status in (412, 416):
            raise (_Changed if status == 412 else _NothingBehind) from None
        raise InputError(f"{uri!r} {_said(code, status, deed)}; allowed: what these credentials may {deed}") from None
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError, exceptions.CredentialRetrievalError):
        raise InputError(f"{uri!r} needs credentials; allowed: {CREDENTIALS}") from None
    except (exceptions.HTTPClientError, exceptions.ConnectionError) as error:  # after botocore's own tries
        missed = isinstance(error, exceptions.EndpointConnectionError | exceptions.ConnectTimeoutError)
        said = f"{'could not be reached' if missed else 'broke off or was too slow'} ({type(error).__name__})"
        if transient:
            raise TransientError(said) from None
        raise InputError(f"{uri!r} {said}; allowed: an endpoint that answers") from None
    except (exceptions.BotoCoreError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        if transient:
            raise TransientError(f"broke off ({type(error).__name__})") from None
        raise InputError(f"{uri!r} cannot be {DEEDS[deed]} ({error}); allowed: a bucket that answers") from None


def _said(code: str, status: int, deed: str) -> str:
    if code == "NoSuchBucket":
        return "names no bucket that is there"
    if status == 404 or code == "MethodNotAllowed":  # the latter where the version is a delete marker
        return f"is not there ({code})"
    if status in (401, 403):
        return f"may not be {DEEDS[deed]} ({code})"
    return f"answered {status} ({code})"


def round_trip(uri: str, endpoint: str | None = None) -> None:
    """Writes objects below uri with pyarrow, reads them with boto3, compares all bytes and deletes them.

    Raises:
        InputError: they differ, or the endpoint cannot be written or read.
    """
    from pyarrow import fs

    bucket, prefix = split(uri)
    client = client_of(endpoint)
    scheme, _, host = (endpoint or "").rstrip("/").rpartition("://")
    address = {"endpoint_override": host, "scheme": scheme} if endpoint else {}
    store = fs.S3FileSystem(
        **address,
        connect_timeout=downloads.CONNECT_TIMEOUT_S,
        request_timeout=downloads.READ_TIMEOUT_S,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=downloads.TRIES),
    )
    key = f"{prefix.rstrip('/')}/round-trip-{uuid.uuid4().hex}".lstrip("/")
    with in_words(uri):
        client.head_bucket(Bucket=bucket)
        for size in ROUND_TRIP_SIZES:
            content, version = hashlib.shake_256(b"bestiary").digest(size), {}
            try:
                _write(store, uri, f"{bucket}/{key}", content)
                answer = client.get_object(Bucket=bucket, Key=key)
                version = {"VersionId": answer["VersionId"]} if "VersionId" in answer else {}
                if answer["Body"].read() != content:
                    raise InputError(
                        f"{uri!r}: this endpoint corrupts chunked uploads: {size} bytes written by pyarrow are not "
                        "what boto3 reads; allowed: an endpoint that gives back what it was given"
                    )
            finally:
                client.delete_object(Bucket=bucket, Key=key, **version)


def _write(store: Any, uri: str, path: str, content: bytes) -> None:
    try:
        with store.open_output_stream(path) as stream:
            stream.write(content)
    except OSError as error:
        said = " ".join(str(error).split())
        raise InputError(f"{uri!r} cannot be written ({said}); allowed: a writable bucket") from None


def main() -> None:
    """The round trip as a command: one line, exit code 0 or 2."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m components.data.object_store", description=round_trip.__doc__)
    parser.add_argument("uri", help="s3://bucket/prefix")
    parser.add_argument("--endpoint", help="where it is not Amazon's: http://host:port")
    given = parser.parse_args()
    try:
        if not given.uri.startswith("s3://") or not split(given.uri)[0]:
            raise InputError(f"the first argument is {given.uri!r}; allowed: s3://bucket/prefix")
        round_trip(given.uri, given.endpoint)
    except InputError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    print(f"{given.uri}: what was written is what was read")


if __name__ == "__main__":
    main()
