"""Kaggle's and Hugging Face's own clients against local servers that answer as the hubs do."""

import hashlib
import io
import json
import re
import socketserver
import sys
import zipfile
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow as pa
import pytest
from pyarrow import parquet

from components.config import InputError
from components.data.archives import Refused
from components.data.hubs import read_hugging_face, read_kaggle
from components.data.sources import read_source
from tests.servers import serving

COMMIT = "0123456789" * 4


class Hub(ThreadingHTTPServer):
    """Answers with what `answer` makes of a method and a path: a status, headers and a body."""

    daemon_threads = True

    def __init__(self, answer):
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.answer, self.seen = answer, []
        self.url = f"http://127.0.0.1:{self.server_port}"


class HubHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_any(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = re.sub("^http://[^/]*", "", self.path)  # whole addresses come through a proxy
        self.server.seen.append((self.command, path))
        status, headers, body = self.server.answer(self.command, path)
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_POST = do_HEAD = handle_any  # noqa: N815

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    with ExitStack() as running:
        yield lambda answer: running.enter_context(serving(Hub(answer)))


def refusal(files):
    with pytest.raises(InputError) as caught:
        list(files)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def kaggle(hub, tmp_path, monkeypatch):
    """Makes a Kaggle whose one data set is a zip archive."""

    def make(answer):
        server = hub(answer)
        settings = {
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "HTTP_PROXY": server.url,
            "http_proxy": server.url,
            "NO_PROXY": "",
            "no_proxy": "",
            "KAGGLEHUB_CACHE": str(tmp_path / "kagglehub"),
            "KAGGLE_CONFIG_DIR": str(tmp_path / "no config"),
            "HOME": str(tmp_path),
            "KAGGLE_USERNAME": "someone",
            "KAGGLE_KEY": "key",
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("KAGGLE_API_TOKEN", raising=False)
        return server

    return make


def data_set(command, path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("fire/a.png", b"a")
        archive.writestr("b.png", b"b")
    return 200, {"Content-Type": "application/zip", "ETag": '"x"'}, buffer.getvalue()


def test_a_kaggle_data_set_is_its_versions_files(kaggle, tmp_path):
    server = kaggle(data_set)
    (tmp_path / "set.yaml").write_text("{kind: kaggle, dataset: someone/creatures, version: 3}")
    for _ in range(2):
        assert list(read_source(tmp_path / "set.yaml")) == [("b.png", b"b"), ("fire/a.png", b"a")]
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "needs credentials; allowed: KAGGLE_API_TOKEN"), (403, "needs credentials"), (404, "answered 404")],
)
def test_kaggle_failures_are_one_line(kaggle, status, words):
    kaggle(lambda *_: (status, {"Content-Type": "application/json"}, b"{}"))
    assert words in refusal(read_kaggle("someone/creatures", 3))


def test_kaggle_without_credentials_is_said(kaggle, monkeypatch):
    kaggle(lambda *_: (403, {"Content-Type": "application/json"}, b"{}"))
    monkeypatch.delenv("KAGGLE_USERNAME")
    monkeypatch.delenv("KAGGLE_KEY")
    assert "KAGGLE_API_TOKEN, or KAGGLE_USERNAME and KAGGLE_KEY, set" in refusal(read_kaggle("someone/creatures", 3))


@pytest.mark.parametrize(
    ("package", "read"),
    [
        ("kagglehub", lambda: read_kaggle("someone/creatures", 3)),
        ("huggingface_hub", lambda: read_hugging_face("someone/creatures", COMMIT, None)),
    ],
)
def test_a_missing_client_is_named(monkeypatch, package, read):
    monkeypatch.setitem(sys.modules, package, None)
    extra = {"kagglehub": "kaggle", "huggingface_hub": "huggingface"}[package]
    assert f"needs {package}; allowed: after pip install 'bestiary[{extra}]'" in refusal(read())


def rows():
    images = [{"bytes": b"first", "path": "x.png"}, {"bytes": None, "path": "y.png"}, None]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    buffer = io.BytesIO()
    parquet.write_table(pa.table({"image": pa.array(images, kind), "label": [1, 2, 3]}), buffer)
    return buffer.getvalue()


def words():
    buffer = io.BytesIO()
    parquet.write_table(pa.table({"text": ["a"]}), buffer)
    return buffer.getvalue()


FILES = {
    ".gitattributes": b"x",
    "README.md": b"words",
    "data/a.png": b"a" * 100,
    "data/rows.parquet": rows(),
    "data/words.parquet": words(),
}


def hugging_face(command, path):
    """The parts of the hub's API that downloading a commit of a data set needs."""
    if path.startswith(f"/api/datasets/someone/creatures/revision/{COMMIT}"):
        siblings = [{"rfilename": name} for name in FILES]
        answer = {"id": "someone/creatures", "sha": COMMIT, "siblings": siblings, "private": False, "tags": []}
        return 200, {"Content-Type": "application/json"}, json.dumps(answer).encode()
    if path.startswith(f"/api/datasets/someone/creatures/tree/{COMMIT}"):
        tree = [
            {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
            for name, content in FILES.items()
        ]
        return 200, {"Content-Type": "application/json"}, json.dumps(tree).encode()
    name = path.split("?")[0].removeprefix(f"/datasets/someone/creatures/resolve/{COMMIT}/")
    if name in FILES:
        tag = hashlib.sha1(FILES[name]).hexdigest()
        return 200, {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT}, FILES[name]
    return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"


@pytest.fixture
def hugging_face_hub(hub, tmp_path, monkeypatch):
    """Makes a hub, and a cache of its own for its client."""

    def make(answer):
        from huggingface_hub import constants

        server = hub(answer)
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
            monkeypatch.setattr(constants, name, str(tmp_path / "hub"), raising=False)
        return server

    return make


EXPECTED = {
    "a.png": b"a" * 100,
    "rows.parquet/image/0000000": b"first",
    "rows.parquet/image/0000001": Refused("a row without an image"),
    "rows.parquet/image/0000002": Refused("a row without an image"),
    "words.parquet": words(),
}


def test_a_hugging_face_commit_is_its_files_and_the_images_in_its_rows(hugging_face_hub):
    hugging_face_hub(hugging_face)
    expected = {".gitattributes": Refused("hidden file"), "README.md": b"words"}
    expected |= {f"data/{name}": content for name, content in EXPECTED.items()}
    assert list(read_hugging_face("someone/creatures", COMMIT, None)) == list(expected.items())


def test_a_folder_of_a_hugging_face_commit_is_fetched_alone(hugging_face_hub, tmp_path):
    server = hugging_face_hub(hugging_face)
    (tmp_path / "set.yaml").write_text(
        f"{{kind: huggingface, repo: someone/creatures, revision: '{COMMIT}', folder: data}}"
    )
    assert list(read_source(tmp_path / "set.yaml")) == list(EXPECTED.items())
    assert not [path for _, path in server.seen if "README" in path]
    assert "has no folder 'nowhere'" in refusal(read_hugging_face("someone/creatures", COMMIT, "nowhere"))


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (404, "RepoNotFound", "is not there or needs access; allowed: a public one, or with HF_TOKEN set"),
        (401, "RepoNotFound", "is not there or needs access"),
        (403, "GatedRepo", "is not there or needs access"),
        (404, "RevisionNotFound", "no such commit"),
    ],
)
def test_hugging_face_failures_are_one_line(hugging_face_hub, status, code, words):
    hugging_face_hub(lambda *_: (status, {"X-Error-Code": code}, b"{}"))
    assert words in refusal(read_hugging_face("someone/creatures", COMMIT, None))


def test_a_hub_that_is_not_there_is_said(hugging_face_hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)  # between its client's tries
    server = hugging_face_hub(hugging_face)
    server.socket.close()
    assert "cannot be fetched" in refusal(read_hugging_face("someone/creatures", COMMIT, None))


class Nonsense(socketserver.BaseRequestHandler):
    """Answers what is no HTTP."""

    def handle(self):
        self.request.recv(2**16)
        self.request.sendall(b"nonsense\r\n\r\n")


def test_a_hub_that_answers_nonsense_is_said(hugging_face_hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    hugging_face_hub(hugging_face)
    with serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Nonsense)) as server:
        monkeypatch.setenv("HF_ENDPOINT", "http://{}:{}".format(*server.server_address))
        assert "cannot be fetched" in refusal(read_hugging_face("someone/creatures", COMMIT, None))
