"""A run's copy on a real moto server is kept up to date through outages and kills."""

import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import boto3
import pytest
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from components.training import backup, state
from components.training.backup import Backup, fetch
from tests.conditions import until
from tests.copies import ADDRESS, LARGE, answer, checkpoint, copied, held, kept
from tests.stores import moto_at

ROOT = Path(__file__).parents[3]
PART = 8 * 2**20


def unfinished(store):
    return store.list_multipart_uploads(Bucket="art").get("Uploads", [])


def test_everything_arrives_and_is_fetched_byte_for_byte(store, tmp_path, capsys):
    run, other = tmp_path / "abc", tmp_path / "other/abc"
    checkpoint(run, 5000, LARGE)
    (run / "initial").mkdir()
    (run / "initial/generator.safetensors").write_bytes(b"initial")
    with Backup(run, ADDRESS) as copy:
        checkpoint(run, 10000)
        (run / "checkpoints/.000020000.tmp").mkdir()
        (run / "checkpoints/.000020000.tmp/state.json").touch()
        (run / "lock").touch()
        copy.send()
        until(lambda: "checkpoints/000010000/state.json" in kept(store))
        (run / "failures.jsonl").write_text('{"time": 1}\n{"ti')
    assert (run / "failures.jsonl").read_text() != kept(store)["failures.jsonl"].decode() == '{"time": 1}\n'
    (run / "failures.jsonl").write_text('{"time": 1}\n')
    (run / "lock").unlink()
    shutil.rmtree(run / "checkpoints/.000020000.tmp")
    assert kept(store) == held(run)
    assert fetch(other, ADDRESS)
    assert held(other) == held(run)
    assert capsys.readouterr().out == "run abc: 10 kimg fetched from s3://art/runs/abc\n"
    assert not fetch(other, ADDRESS)


def test_a_copy_of_no_new_content_is_not_sent_again(store, through, tmp_path):
    run = tmp_path / "abc"
    checkpoint(run, 5000)
    copied(run)
    seen = through(lambda _, headers, body: (headers, body, False)).seen
    with Backup(run, ADDRESS) as copy:
        copy.send()
        (run / "snapshots/000005000/config.json").write_bytes(b"another")
    assert sorted(path.split("?")[0] for command, path, _ in seen if command == "PUT") == [
        *("/art/runs/abc/metrics.jsonl", "/art/runs/abc/snapshots/000005000/config.json"),
        *("/art/runs/abc/snapshots/000005000/generator.safetensors", "/art/runs/abc/starts.jsonl"),
    ]


def test_a_checkpoint_is_seen_after_all_that_it_needs(store, through, tmp_path):
    run = tmp_path / "abc"
    checkpoint(run, 5000)
    seen = through(lambda _, headers, body: (headers, body, False)).seen
    copied(run)
    sent = [path.removeprefix("/art/runs/abc/").split("?")[0] for command, path, _ in seen if command == "PUT"]
    place = sent.index("checkpoints/000005000/state.json")
    assert set(sent[:place]) == set(held(run)) - {"checkpoints/000005000/state.json"}
    assert sent.index("metrics.jsonl") > sent.index("checkpoints/000005000/state.safetensors")


def test_what_retention_deletes_goes_once_the_newest_is_there(store, through, tmp_path):
    run = tmp_path / "abc"
    checkpoint(run, 5000)
    checkpoint(run, 10000)
    copied(run)
    shutil.rmtree(run / "checkpoints/000005000")
    shutil.rmtree(run / "snapshots/000005000")
    folder = checkpoint(run, 15000)
    shutil.rmtree(run / "checkpoints/000010000")

    def before(handler, headers, body):
        if handler.command == "DELETE":
            assert (folder / "state.json").read_bytes() == kept(store)["checkpoints/000015000/state.json"]
        return headers, body, False

    seen = through(before).seen
    copied(run)
    assert kept(store) == held(run)
    deleted = [path.rpartition("/")[2] for command, path, _ in seen if command == "DELETE"]
    assert sorted(deleted) == sorted(["state.json", "state.safetensors"] * 2 + ["config.json", "generator.safetensors"])
    assert set(deleted[:3]) == {"state.json", "generator.safetensors"}  # first what makes the others count


def test_a_checkpoint_deleted_while_it_is_sent_does_no_harm(store, through, tmp_path, capsys):
    run = tmp_path / "abc"
    old = checkpoint(run, 5000, LARGE)

    def delete_it(handler, headers, body):
        if "partNumber=2" in handler.path and old.exists():
            checkpoint(run, 10000)
            shutil.rmtree(old)
        return headers, body, False

    through(delete_it)
    copied(run)  # its last round began before the deletion
    assert "checkpoints/000005000/state.json" in kept(store)
    copied(run)
    assert kept(store) == held(run)
    assert unfinished(store) == []
    assert capsys.readouterr().out == ""


KILLED = """
import sys
from pathlib import Path
from components.training.backup import Backup
with Backup(Path(sys.argv[1]), "s3://art/runs") as copy:
    copy.send()
    sys.stdin.read()
"""


def test_a_kill_in_an_upload_leaves_the_checkpoint_before(store, through, tmp_path):
    run, other = tmp_path / "abc", tmp_path / "other/abc"
    checkpoint(run, 5000)
    copied(run)
    checkpoint(run, 10000, LARGE)
    hanging = threading.Event()

    def hang(handler, headers, body):
        if "partNumber=2" not in handler.path or handler.server.stop.is_set():
            return headers, body, False
        hanging.set()
        handler.server.stop.wait(60)
        return None

    proxy = through(hang)
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(run)], cwd=ROOT, stdin=subprocess.PIPE)
    try:
        assert hanging.wait(60)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdin.close()
    proxy.stop.set()
    assert len(unfinished(store)) == 1
    before = held(run)
    assert fetch(other, ADDRESS)
    assert state.latest(other / "checkpoints")[0].numbers["nimg"] == 5000
    copied(run)
    assert kept(store) == held(run) == before
    assert unfinished(store) == []


@pytest.fixture
def own_moto(settings):
    """A server for a test that stops it: starts it again at the same port, with what it held."""
    with ExitStack() as running:
        port = 0

        def start():
            nonlocal port
            port = running.enter_context(moto_at(port))[1]
            settings.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")

        start()
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="art")
        yield client, running.close, start
        client.close()


def test_training_goes_on_while_the_store_is_gone(own_moto, tmp_path, capsys):
    store, stop, start = own_moto
    run = tmp_path / "abc"
    uploads = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets["art"].multiparts
    checkpoint(run, 5000, 8 * LARGE)
    with Backup(run, ADDRESS) as copy:
        copy.send()
        until(lambda: any(upload.parts for upload in list(uploads.values())))
        stop()
        for nimg in range(10000, 40000, 5000):
            checkpoint(run, nimg)
            begin = time.perf_counter()
            copy.send()
            assert time.perf_counter() - begin < 0.5  # for the interpreter's lock; in itself it is microseconds
            state.prune(run / "checkpoints", 2)
        until(lambda: "tried again" in capsys_text(capsys))
        start()
    assert kept(store) == held(run)
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"000030000", "000035000"}
    said = capsys_text(capsys).splitlines()
    assert [line.startswith("backup: 's3://art/runs/abc/checkpoints/000005000/state") for line in said] == [True, False]
    assert said[1] == "backup: s3://art/runs/abc is up to date again"


_TEXT = {}


def capsys_text(capsys):
    """All that has been printed so far."""
    _TEXT[id(capsys)] = _TEXT.get(id(capsys), "") + capsys.readouterr().out
    return _TEXT[id(capsys)]


def test_what_is_not_there_at_the_end_is_said(store, through, settings, tmp_path, capsys):
    run = tmp_path / "abc"
    checkpoint(run, 5000)
    through(lambda handler, *_: answer(handler, 403, "ExpiredToken"))
    settings.setattr(backup, "CLOSING_S", 0.5)
    begin = time.monotonic()
    copied(run)
    assert 0.5 <= time.monotonic() - begin < 5
    outage, end = capsys.readouterr().out.splitlines()
    assert "may not be written (ExpiredToken)" in outage
    lacking = "checkpoints/000005000, grids/000005000.png, metrics.jsonl, snapshots/000005000 and 1 more"
    assert end == f"backup: s3://art/runs/abc lacks {lacking}"


def test_an_upload_that_hangs_is_left_at_the_end(store, through, settings, tmp_path, capsys):
    run = tmp_path / "abc"
    checkpoint(run, 5000)
    through(lambda handler, headers, body: (handler.command == "PUT" and handler.server.stop.wait(60)) or None)
    settings.setattr(backup, "CLOSING_S", 0.5)
    begin = time.monotonic()
    copied(run)
    assert time.monotonic() - begin < 5
    assert "lacks checkpoints/000005000" in capsys.readouterr().out
