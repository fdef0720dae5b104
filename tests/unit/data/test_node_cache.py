"""Shards on a node without the project: pulled once from a real DVC remote, checked, and shared by its processes."""

import http.server
import json
import re
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from components import processes
from components.config import InputError
from components.data.node_cache import local_shards, project_files
from tests.preprocessing import write_shards

DVC_YAML = "stages: {make: {cmd: '${how}', deps: ['${ingest.source}'], params: [ingest], outs: [data/shards]}}"
PARAMS = "{how: 'true', ingest: {source: pictures}}"
WORKER = """
import json, sys
from pathlib import Path
from components.data.node_cache import local_shards
shards, digest, project, cache = json.load(sys.stdin)
print("asking", flush=True)
print(local_shards(Path(shards), digest, project, Path(cache)), flush=True)
"""
ABSENT = Path("/nowhere/data/shards")


def dvc(folder, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=folder,
        env=processes.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout


class Remote(http.server.ThreadingHTTPServer):
    """A pushed DVC remote read over HTTP; counts what is asked for, and answers when its gate is open."""

    def __init__(self, folder):
        self.folder, self.asked, self.gate = folder, Counter(), threading.Event()
        self.gate.set()
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.SimpleHTTPRequestHandler):
    server: Remote

    def __init__(self, *arguments):
        super().__init__(*arguments, directory=arguments[2].folder)

    def do_GET(self):
        self.server.gate.wait(timeout=300)
        self.server.asked[self.path] += 1
        super().do_GET()

    def log_message(self, *_):
        """Quiet."""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A DVC project without git: random shards, and a remote in a folder that holds them."""
    root = tmp_path_factory.mktemp("driver") / "project"
    (root / "pictures").mkdir(parents=True)
    (root / "dvc.yaml").write_text(DVC_YAML)
    (root / "params.yaml").write_text(PARAMS)
    dvc(root, "init", "--no-scm")
    (root / "data/shards").mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), np.uint8)
    write_shards(root / "data/shards", images, {"train": list(range(50)), "holdout": list(range(50, 60))})
    dvc(root, "commit", "--force")
    dvc(root, "remote", "add", "--local", "--default", "store", str(root.parent / "remote"))
    dvc(root, "push")
    return root


@pytest.fixture
def remote(project):
    with Remote(project.parent / "remote") as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def files(project, remote):
    """What the driver carries, with the remote's address."""
    packed = project_files(project)
    return {**packed, ".dvc/config": packed[".dvc/config"].replace(str(remote.folder), remote.url)}


def digest_of(project):
    return json.loads((project / "data/shards/index.json").read_text())["digest"]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def flip(path, where=b""):
    """Changes one bit of a file, in the middle or in these bytes."""
    content = bytearray(path.read_bytes())
    content[content.index(where) if where else len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)


def test_what_is_here_is_used_as_it_is(project, tmp_path):
    assert (
        local_shards(project / "data/shards", digest_of(project), None, tmp_path / "cache") == project / "data/shards"
    )
    assert list(tmp_path.iterdir()) == []


def test_two_processes_at_once_pull_once(project, remote, files, tmp_path):
    killed = tmp_path / "cache" / f".{digest_of(project)}.scratch/.dvc/cache"  # what a killed process left
    killed.mkdir(parents=True)
    remote.gate.clear()
    settings = json.dumps([str(ABSENT), digest_of(project), files, str(tmp_path / "cache")])
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER],
            env=processes.environment(PYTHONPATH=str(Path(__file__).parents[3])),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        for worker in workers:
            worker.stdin.write(settings)
            worker.stdin.close()
        assert [worker.stdout.readline() for worker in workers] == ["asking\n"] * 2
        remote.gate.set()
        folders = {worker.stdout.read().strip() for worker in workers}
        assert [worker.wait(timeout=300) for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
            worker.stdout.close()
            worker.wait()
    assert folders == {str(tmp_path / "cache" / digest_of(project))}
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {digest_of(project), f"{digest_of(project)}.lock"}
    assert contents(Path(folders.pop())) == contents(project / "data/shards")
    data = [path for path in remote.asked.elements() if re.search(r"/[0-9a-f]{30}$", path)]
    assert len(data) == len(set(data)) == 3  # the index and two shards, once each


def test_a_damaged_file_on_the_node_is_pulled_again(project, remote, files, tmp_path):
    first = local_shards(ABSENT, digest_of(project), files, tmp_path)
    asked = remote.asked.total()
    assert local_shards(ABSENT, digest_of(project), files, tmp_path) == first
    assert remote.asked.total() == asked
    for name, where in {"train-00000.npy": b"", "index.json": b"splits"}.items():
        flip(first / name, where)
        assert contents(first) != contents(project / "data/shards")
        assert local_shards(ABSENT, digest_of(project), files, tmp_path) == first
        assert contents(first) == contents(project / "data/shards")


def test_a_damaged_remote_is_refused_and_leaves_nothing(project, remote, files, tmp_path):
    held = next(path for path in remote.folder.rglob("*") if path.is_file() and path.stat().st_size > 50 * 8 * 8 * 3)
    whole = held.read_bytes()
    flip(held)
    try:
        with pytest.raises(InputError, match=r"^data \w{12} cannot be pulled .*: train-00000.npy is missing or"):
            local_shards(ABSENT, digest_of(project), files, tmp_path)
    finally:
        held.write_bytes(whole)
    assert [path.name for path in tmp_path.iterdir()] == [f"{digest_of(project)}.lock"]


def test_data_that_was_not_pushed_is_refused_in_one_line(project, files, tmp_path):
    nothing = tmp_path / "empty remote"
    nothing.mkdir()
    elsewhere = {**project_files(project)}
    elsewhere[".dvc/config"] = elsewhere[".dvc/config"].replace(str(project.parent / "remote"), str(nothing))
    with pytest.raises(
        InputError, match=r"cannot be pulled from .*failed to pull.*; allowed: data .* dvc push"
    ) as refusal:
        local_shards(ABSENT, digest_of(project), elsewhere, tmp_path / "cache")
    assert "\n" not in str(refusal.value)
    with pytest.raises(InputError, match=r"cannot be pulled .*: its index.json names the digest \w{64}; allowed"):
        local_shards(ABSENT, "0" * 64, files, tmp_path / "cache")


def test_no_remote_and_no_place(project, tmp_path):
    with pytest.raises(InputError, match=r"is not in /nowhere.* there is no DVC remote; allowed: a shared folder, or"):
        local_shards(ABSENT, digest_of(project), None, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be kept in .*allowed: a writable XDG_CACHE_HOME"):
        local_shards(ABSENT, digest_of(project), project_files(project), tmp_path / "file")


def test_what_travels(project, tmp_path):
    """A relative remote becomes absolute, credentials stay, and without a remote or a lock file nothing is packed."""
    for name in ("dvc.yaml", "params.yaml"):
        (tmp_path / name).write_bytes((project / name).read_bytes())
    assert project_files(tmp_path) is None
    dvc(tmp_path, "init", "--no-scm")
    assert project_files(tmp_path) is None
    (tmp_path / "dvc.lock").write_bytes((project / "dvc.lock").read_bytes())
    assert project_files(tmp_path) is None
    (tmp_path / ".dvc/config.local").write_text("[core]\nremote = near\n['remote \"near\"']\nurl = ../../store\n")
    packed = project_files(tmp_path)
    assert packed.keys() == {"dvc.yaml", "dvc.lock", "params.yaml", ".dvc/config"}
    assert packed["dvc.lock"] == (project / "dvc.lock").read_text()
    assert f'url = "{tmp_path.parent}/store"' in packed[".dvc/config"]
    secret = "endpointurl = http://127.0.0.1:1\naccess_key_id = hidden\nsecret_access_key = hidden\n"
    (tmp_path / ".dvc/config.local").write_text(f"[core]\nremote = s\n['remote \"s\"']\nurl = s3://b/c\n{secret}")
    config = project_files(tmp_path)[".dvc/config"]
    assert 'url = "s3://b/c"\nendpointurl = "http://127.0.0.1:1"' in config
    assert "hidden" not in config
