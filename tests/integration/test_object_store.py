"""S3 against a real moto server: pinned objects, prefixes as of a time, and failures in one line."""

import collections
import hashlib
import random
import socket
import subprocess
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import boto3
import pytest
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from components.config import InputError
from components.data import archives, downloads, object_store
from components.data.archives import Refused
from components.data.object_store import fetch_object, read_prefix, round_trip
from components.data.sources import read_source
from tests.servers import Proxy, serving
from tests.stores import address_of, emptied, moto_at

ROOT = Path(__file__).parents[2]
CONTENT = random.Random(0).randbytes(600_000)
SHA = hashlib.sha256(CONTENT).hexdigest()
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def moto():
    with moto_at() as address:
        yield address


@pytest.fixture
def store(moto, tmp_path, monkeypatch):
    """A client of an empty store with one bucket that keeps versions; the working folder is a fresh one."""
    monkeypatch.chdir(tmp_path)
    emptied(monkeypatch, tmp_path)
    client = boto3.client("s3", endpoint_url=address_of(moto), region_name="us-east-1")
    client.create_bucket(Bucket="art")
    client.put_bucket_versioning(Bucket="art", VersioningConfiguration={"Status": "Enabled"})
    yield client
    client.close()


@pytest.fixture
def proxy(moto):
    """Makes a proxy in front of moto."""
    with ExitStack() as running:

        def make(spoil):
            server = running.enter_context(serving(Proxy(moto, spoil)))
            running.callback(server.stop.set)  # before the server ends: it may be waiting
            return server

        yield make


def put(client, key, content, hour=None):
    """Puts an object, as of an hour of the first of January where one is given, and returns its version."""
    version = client.put_object(Bucket="art", Key=key, Body=content)["VersionId"]
    at(key, hour)
    return version


def delete(client, key, hour):
    client.delete_object(Bucket="art", Key=key)
    at(key, hour)


def at(key, hour):
    """Sets the time of a key's newest version in moto's own state, as os.utime does for a file."""
    if hour is not None:
        newest = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets["art"].keys.getlist(key)[-1]
        newest.last_modified = datetime(2026, 1, 1, hour, tzinfo=UTC).replace(tzinfo=None)


def refusal(call, *arguments):
    """The one line that a call ends with; a stream is read to its end."""
    with pytest.raises(InputError) as caught:
        collections.deque(call(*arguments) or (), maxlen=0)
    return str(caught.value)


def test_a_version_is_fetched_once(store, moto, proxy):
    version = put(store, "sets/a.bin", CONTENT)
    put(store, "sets/a.bin", b"newer")
    through = proxy(lambda _, headers, body: (headers, body, False))
    for _ in range(2):
        assert fetch_object("s3://art/sets/a.bin", through.url, version, None).read_bytes() == CONTENT
    assert fetch_object("s3://art/sets/a.bin", through.url, version, SHA).read_bytes() == CONTENT
    assert [command for command, _, _ in through.seen] == ["GET", "GET"]


def test_an_object_that_is_cut_is_gone_on_with(store, proxy):
    version = put(store, "a.bin", CONTENT)
    cuts = [True, True]
    through = proxy(lambda _, headers, body: (headers, body, bool(cuts and cuts.pop())))
    assert fetch_object("s3://art/a.bin", through.url, version, SHA).read_bytes() == CONTENT
    starts = [int((wanted or "bytes=0-").removeprefix("bytes=").removesuffix("-")) for _, _, wanted in through.seen]
    assert starts[0] == 0 < 200_000 < starts[1] < starts[2] < len(CONTENT)


def test_what_was_killed_after_its_last_byte_needs_only_its_last_step(store, proxy):
    version = put(store, "a.bin", CONTENT)
    tag = store.head_object(Bucket="art", Key="a.bin", VersionId=version)["ETag"]
    downloads.CACHE.mkdir(parents=True)
    (downloads.CACHE / f"{SHA}.partial").write_bytes(CONTENT)
    (downloads.CACHE / f"{SHA}.tag").write_text(tag)
    through = proxy(lambda _, headers, body: (headers, body, False))
    assert fetch_object("s3://art/a.bin", through.url, version, SHA).read_bytes() == CONTENT
    asked = [("GET", f"bytes={len(CONTENT)}-"), ("HEAD", None)]
    assert [(command, wanted) for command, _, wanted in through.seen] == asked


def test_an_object_that_changes_is_not_mixed(store, proxy):
    put(store, "a.bin", CONTENT)
    newer = CONTENT[::-1]

    def cut_and_change(handler, headers, body):
        first = len(handler.server.seen) == 1
        if len(handler.server.seen) == 2:
            put(store, "a.bin", newer)
        return headers, body, first

    through = proxy(cut_and_change)
    digest = hashlib.sha256(newer).hexdigest()
    assert fetch_object("s3://art/a.bin", through.url, None, digest).read_bytes() == newer
    assert [wanted is None for _, _, wanted in through.seen] == [True, False, True]


def test_a_descriptor_of_a_key_gives_its_archives_members_or_the_file(store, moto, tmp_path):
    version = put(store, "sets/a b.png", b"\x89PNG")
    descriptor = tmp_path / "set.yaml"
    descriptor.write_text(
        f"{{kind: s3, uri: 's3://art/sets/a b.png', version: '{version}', endpoint: '{address_of(moto)}'}}"
    )
    assert list(read_source(descriptor)) == [("a b.png", b"\x89PNG")]


def test_a_prefix_is_what_lay_there_at_the_time(store, moto, tmp_path):
    put(store, "set/stays.png", b"stays", 9)
    put(store, "set/changes.png", b"first", 9)
    put(store, "set/changes.png", b"second", 11)
    put(store, "set/changes.png", b"third", 13)
    put(store, "set/deleted.png", b"deleted", 9)
    delete(store, "set/deleted.png", 11)
    put(store, "set/deleted later.png", b"deleted later", 9)
    delete(store, "set/deleted later.png", 13)
    put(store, "set/came back.png", b"before", 9)
    delete(store, "set/came back.png", 10)
    put(store, "set/came back.png", b"after", 11)
    put(store, "set/exactly.png", b"exactly", 12)
    put(store, "set/later.png", b"later", 13)
    put(store, "set/.hidden/x.png", b"x", 9)
    put(store, "set/folder/", b"", 9)
    put(store, "set/folder/in it.png", b"in it", 9)
    put(store, "settings/other.png", b"other", 9)
    (tmp_path / "set.yaml").write_text(
        f"{{kind: s3, uri: 's3://art/set/', as_of: 2026-01-01T12:00:00Z, endpoint: '{address_of(moto)}'}}"
    )
    expected = {
        ".hidden/x.png": Refused("hidden file"),
        "came back.png": b"after",
        "changes.png": b"second",
        "deleted later.png": b"deleted later",
        "exactly.png": b"exactly",
        "folder/in it.png": b"in it",
        "stays.png": b"stays",
    }
    assert list(read_source(tmp_path / "set.yaml")) == list(expected.items())


def test_many_objects_come_in_order_and_a_cut_one_is_fetched_again(store, moto, proxy, monkeypatch):
    contents = {f"{index:04d}.png": random.Random(index).randbytes(2000) for index in range(150)}
    for name, content in contents.items():
        put(store, f"many/{name}", content, 9)
    through = proxy(lambda handler, headers, body: (headers, body, cut_once(handler)))
    failed = set()

    def cut_once(handler):
        first = "00" in handler.path and "?versions" not in handler.path and handler.path not in failed
        failed.add(handler.path)
        return first and handler.path.startswith("/art/many/010")

    monkeypatch.setattr(object_store, "MAX_FILE_BYTES", 5000)
    assert list(read_prefix("s3://art/many/", through.url, NOON)) == list(contents.items())
    gets = [path for _, path, _ in through.seen if path.startswith("/art/many/")]
    assert len(gets) > 150 == len(set(gets))


def test_a_large_object_is_refused(store, moto, monkeypatch):
    put(store, "set/large.png", b"x" * 10, 9)
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 9)
    words = refusal(read_prefix, "s3://art/set/", address_of(moto), NOON)
    assert "'set/large.png' in ingest.source has 10 bytes; allowed: at most 9 a file" in words


def test_a_bucket_without_versions_has_no_as_of(store, moto):
    store.create_bucket(Bucket="plain")
    words = refusal(read_prefix, "s3://plain/set/", address_of(moto), NOON)
    assert "the bucket keeps no versions; allowed with as_of: a bucket with versioning" in words


def test_what_is_not_there_is_said(store, moto):
    url = address_of(moto)
    version = put(store, "a.bin", CONTENT)
    assert "'s3://art/b.bin' is not there (NoSuchKey)" in refusal(fetch_object, "s3://art/b.bin", url, None, SHA)
    gone = refusal(fetch_object, "s3://art/a.bin", url, version[:-1] + ("0" if version[-1] != "0" else "1"), None)
    assert "'s3://art/a.bin' is not there (NoSuchVersion)" in gone
    assert "names no bucket that is there" in refusal(fetch_object, "s3://nobody/a.bin", url, None, SHA)
    assert "names no bucket that is there" in refusal(read_prefix, "s3://nobody/", url, NOON)
    assert f"has sha256 {SHA}; allowed: {'0' * 64}" in refusal(fetch_object, "s3://art/a.bin", url, None, "0" * 64)


def answer_with(status, code):
    def spoil(handler, *_):
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>".encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "application/xml")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return spoil


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (403, "AccessDenied", "may not be read (AccessDenied)"),
        (403, "SignatureDoesNotMatch", "may not be read (SignatureDoesNotMatch)"),
        (500, "InternalError", "answered 500 (InternalError)"),
        (503, "SlowDown", "answered 503 (SlowDown)"),
    ],
)
def test_an_endpoint_that_refuses_or_fails_for_ever_is_said(store, proxy, monkeypatch, status, code, words):
    monkeypatch.setattr(downloads, "TRIES", 2)
    through = proxy(answer_with(status, code))
    assert words in refusal(fetch_object, "s3://art/a.bin", through.url, None, SHA)
    assert len(through.seen) == (2 if status >= 500 else 1)
    assert words in refusal(read_prefix, "s3://art/set/", through.url, NOON)


def test_an_endpoint_that_is_slow_or_not_there_is_said(store, proxy, monkeypatch):
    monkeypatch.setattr(downloads, "TRIES", 2)
    monkeypatch.setattr(downloads, "READ_TIMEOUT_S", 0.2)
    through = proxy(lambda handler, *_: handler.server.stop.wait(60) and None)
    assert "was too slow (ReadTimeoutError)" in refusal(fetch_object, "s3://art/a.bin", through.url, None, SHA)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        words = refusal(fetch_object, "s3://art/a.bin", url, None, SHA)
    assert "could not be reached (EndpointConnectionError)" in words


def test_missing_credentials_are_said(store, moto, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    words = refusal(fetch_object, "s3://art/a.bin", address_of(moto), None, SHA)
    assert "'s3://art/a.bin' needs credentials; allowed: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in words


def framed(handler, headers, body):
    """Stores the framing of chunked uploads as if it were content, as some servers do."""
    if handler.command == "PUT":
        assert "aws-chunked" in headers.values()
        headers = {
            name: value for name, value in headers.items() if not name.lower().startswith(("x-amz-", "content-"))
        }
    return headers, body, False


def test_a_round_trip_through_an_honest_store_leaves_nothing(store, moto, proxy):
    through = proxy(lambda _, headers, body: (headers, body, False))
    store.create_bucket(Bucket="plain")
    round_trip("s3://plain/pre/fix", through.url)
    assert any("partNumber=2" in path for command, path, _ in through.seen if command == "PUT")
    assert "Contents" not in store.list_objects_v2(Bucket="plain")
    round_trip("s3://art/", through.url)
    assert not {"Versions", "DeleteMarkers"} & set(store.list_object_versions(Bucket="art"))


def test_a_round_trip_finds_a_store_that_keeps_the_framing(store, proxy):
    store.create_bucket(Bucket="plain")
    words = refusal(round_trip, "s3://plain/pre", proxy(framed).url)
    assert "this endpoint corrupts chunked uploads: 1000 bytes" in words
    assert "Contents" not in store.list_objects_v2(Bucket="plain")


def test_a_round_trip_into_a_bucket_that_is_not_there_is_said(store, moto):
    assert "'s3://nobody/x'" in refusal(round_trip, "s3://nobody/x", address_of(moto))


@pytest.mark.parametrize("spoil", [None, framed])
def test_the_command_says_one_line(store, proxy, spoil):
    store.create_bucket(Bucket="plain")
    through = proxy(spoil or (lambda _, headers, body: (headers, body, False)))
    done = subprocess.run(
        [sys.executable, "-m", "components.data.object_store", "s3://plain/x", "--endpoint", through.url],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    if spoil:
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert done.stderr.startswith("error: 's3://plain/x': this endpoint corrupts chunked uploads")
    else:
        assert (done.returncode, done.stdout, done.stderr) == (
            0,
            "s3://plain/x: what was written is what was read\n",
            "",
        )


def test_ingest_starts_without_the_clients():
    code = "import sys, pipelines.ingest; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    lazy = {"boto3", "botocore", "requests", "zstandard", "pyarrow", "kagglehub", "huggingface_hub"}
    assert not lazy & set(done.stdout.split())
