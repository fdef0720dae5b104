"""Downloads against a real server that breaks off, stalls, lies and fails: resumed, retried, checked, or refused."""

import hashlib
import random
import signal
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from components.config import InputError
from components.data import downloads
from components.data.downloads import fetch_url
from components.data.sources import read_source

CONTENT = random.Random(0).randbytes(1_000_000)
SHA = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Gives CONTENT at any path; `faults` holds what goes wrong, one a request."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.etag, self.faults, self.requests = CONTENT, '"one"', [], []
        self.ranges, self.waiting, self.stop = True, threading.Event(), threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/sets/art%20set.zip"

    def handle_error(self, *_):
        """A client that goes away is no error here."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server, fault = self.server, self.server.faults.pop(0) if self.server.faults else None
        wanted = self.headers.get("Range"), self.headers.get("If-Range")
        server.requests.append(wanted)
        if isinstance(fault, int):
            self.send_error(fault)
            return
        start = 0
        if wanted[0] and server.ranges and wanted[1] == server.etag:
            start = int(wanted[0].removeprefix("bytes=").removesuffix("-"))
        if start and start >= len(server.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        if server.etag:
            self.send_header("ETag", server.etag)
        if fault == "encoded":
            self.send_header("Content-Encoding", "gzip")
        self.close_connection = True
        self.send_header("Connection", "close")
        if fault != "no length":
            self.send_header("Content-Length", str(len(body) + (7 if fault == "too short" else 0)))
        self.end_headers()
        if fault in ("cut", "stall", "cut and change"):
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            if fault == "cut and change":
                server.content, server.etag = CONTENT[::-1], '"two"'
            if fault == "stall":
                server.waiting.set()
                server.stop.wait(60)
        else:
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(downloads, "BACKOFF_S", 0.001)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.stop.set()
        running.shutdown()
        thread.join()


def cached(tmp_path):
    return sorted(path.name for path in (tmp_path / ".cache" / "downloads").iterdir())


def refusal(url, sha256=SHA, size=None):
    with pytest.raises(InputError) as caught:
        fetch_url(url, sha256, size)
    return str(caught.value)


def test_a_second_fetch_asks_nothing(server, tmp_path, capsys):
    path = fetch_url(server.url, SHA, len(CONTENT))
    assert path.read_bytes() == CONTENT
    assert cached(tmp_path) == [SHA]
    assert "art%20set.zip: 100%" in capsys.readouterr().err
    assert fetch_url(server.url, SHA) == path
    assert server.requests == [(None, None)]


def test_who_wants_the_same_at_the_same_time_waits_for_it(server):
    with ThreadPoolExecutor() as threads:
        paths = list(threads.map(lambda _: fetch_url(server.url, SHA), range(4)))
    assert {path.read_bytes() for path in paths} == {CONTENT}
    assert len(server.requests) == 1


def test_a_cached_file_that_is_no_longer_itself_is_fetched_again(server):
    path = fetch_url(server.url, SHA)
    path.write_bytes(b"rotten")
    assert fetch_url(server.url, SHA).read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_a_connection_that_is_cut_is_gone_on_with(server):
    server.faults = ["cut", "cut", 503, "cut"]
    assert fetch_url(server.url, SHA).read_bytes() == CONTENT
    starts = [int(wanted.removeprefix("bytes=").removesuffix("-")) for wanted, _ in server.requests[1:]]
    assert 400_000 < starts[0] < starts[1] == starts[2] < starts[3] < len(CONTENT)
    assert {tag for _, tag in server.requests[1:]} == {'"one"'}


def test_a_server_without_ranges_or_tags_is_begun_with_anew(server):
    server.ranges, server.faults = False, ["cut"]
    assert fetch_url(server.url, SHA).read_bytes() == CONTENT
    server.etag, server.faults, server.requests[:] = 'W/"weak"', ["cut"], []
    (downloads.CACHE / SHA).unlink()
    assert fetch_url(server.url, SHA).read_bytes() == CONTENT
    assert server.requests == [(None, None), (None, None)]


def test_a_content_that_changes_is_not_mixed(server):
    server.faults = ["cut and change"]
    reverse = hashlib.sha256(CONTENT[::-1]).hexdigest()
    assert fetch_url(server.url, reverse).read_bytes() == CONTENT[::-1]
    assert server.requests[1][1] == '"one"'


def test_a_partial_file_that_is_whole_needs_only_its_last_step(server):
    downloads.CACHE.mkdir(parents=True)
    (downloads.CACHE / f"{SHA}.partial").write_bytes(CONTENT)
    (downloads.CACHE / f"{SHA}.tag").write_text('"one"')
    assert fetch_url(server.url, SHA).read_bytes() == CONTENT
    assert server.requests == [(f"bytes={len(CONTENT)}-", '"one"')]


def test_a_partial_file_that_is_too_long_is_begun_anew(server):
    downloads.CACHE.mkdir(parents=True)
    (downloads.CACHE / f"{SHA}.partial").write_bytes(CONTENT + b"more")
    (downloads.CACHE / f"{SHA}.tag").write_text('"one"')
    assert fetch_url(server.url, SHA).read_bytes() == CONTENT
    assert server.requests[-1] == (None, None)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_failure_that_may_pass_is_tried_five_times(server, status):
    server.faults = [status] * 4
    assert fetch_url(server.url, SHA).read_bytes() == CONTENT
    (downloads.CACHE / SHA).unlink()
    server.faults, server.requests[:] = [status] * 9, []
    assert f"art%20set.zip' answered {status}" in refusal(server.url)
    assert len(server.requests) == 5


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_failure_that_stays_is_said_at_once(server, status):
    server.faults = [status]
    assert f"answered {status}" in refusal(server.url)
    assert len(server.requests) == 1


def test_waits_grow(server, monkeypatch):
    waits = []
    monkeypatch.setattr(downloads, "BACKOFF_S", 1.0)
    monkeypatch.setattr(downloads.time, "sleep", waits.append)
    server.faults = [500] * 9
    refusal(server.url)
    assert waits == [1, 2, 4, 8]


def test_a_server_that_stalls_is_left_and_asked_again(server, monkeypatch):
    monkeypatch.setattr(downloads, "READ_TIMEOUT_S", 0.2)
    server.faults = ["stall"]
    assert fetch_url(server.url, SHA).read_bytes() == CONTENT
    assert server.requests[1][0] is not None
    (downloads.CACHE / SHA).unlink()
    server.faults = ["stall"] * 5
    assert "sent nothing for 0.2 s, 5 times" in refusal(server.url)


def test_nobody_there_is_said(server):
    port = server.server_port
    server.socket.close()
    assert "could not be reached (ConnectionRefusedError), 5 times" in refusal(f"http://127.0.0.1:{port}/a")


def test_a_wrong_digest_is_said_with_both_and_leaves_nothing(server, tmp_path):
    words = refusal(server.url, "0" * 64)
    assert f"has sha256 {SHA}; allowed: {'0' * 64}" in words
    assert not [name for name in cached(tmp_path) if not name.endswith(".tag")]
    assert f"has sha256 {SHA}" in refusal(server.url, "0" * 64)


def test_lengths_are_checked(server):
    assert "has 1000000 bytes; allowed: 999999, as its descriptor says" in refusal(server.url, size=999_999)
    server.faults = ["too short"]  # the next answer says how long the whole is
    assert fetch_url(server.url, SHA).read_bytes() == CONTENT
    (downloads.CACHE / SHA).unlink()
    server.ranges, server.faults = False, ["too short"] * 5
    assert "broke off (IncompleteRead), 5 times" in refusal(server.url)
    server.faults = ["no length"]
    assert "has more than 999999 bytes" in refusal(server.url, size=999_999)
    server.faults = ["no length"]
    assert fetch_url(server.url, SHA).read_bytes() == CONTENT


def test_bytes_are_kept_as_they_were_sent(server):
    server.faults = ["encoded"]
    assert fetch_url(server.url, SHA).read_bytes() == CONTENT


def test_a_killed_download_goes_on_at_the_next_start(server, tmp_path):
    server.faults = ["stall"]
    code = f"from components.data.downloads import fetch_url; fetch_url({server.url!r}, {SHA!r})"
    root = str(downloads.__file__).removesuffix("components/data/downloads.py")
    child = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": root})
    assert server.waiting.wait(60)
    partial, deadline = tmp_path / ".cache/downloads" / f"{SHA}.partial", time.monotonic() + 60
    while not (partial.exists() and partial.stat().st_size > 400_000):
        assert time.monotonic() < deadline
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert fetch_url(server.url, SHA).read_bytes() == CONTENT
    assert int(server.requests[1][0].removeprefix("bytes=").removesuffix("-")) > 400_000


def test_an_archive_or_an_image_is_read_from_its_address(server, tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("a.png", b"a")
    for content, expected in (
        ((tmp_path / "set.zip").read_bytes(), [("a.png", b"a")]),
        (b"\x89PNG", [("art set.zip", b"\x89PNG")]),
    ):
        server.content = content
        digest = hashlib.sha256(content).hexdigest()
        (tmp_path / "set.yaml").write_text(f"{{kind: url, url: '{server.url}', sha256: '{digest}'}}")
        assert list(read_source(tmp_path / "set.yaml")) == expected
