"""A run's copy on a real moto server is fetched whole or not at all."""

import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from components.training import backup, state
from components.training.backup import fetch
from tests.copies import ADDRESS, LARGE, checkpoint, copied, held, kept

ROOT = Path(__file__).parents[3]
PART = 8 * 2**20


def test_nothing_is_fetched_where_nothing_is_newer(store, tmp_path):
    run = tmp_path / "abc"
    assert not fetch(run, ADDRESS)
    assert not run.exists()
    checkpoint(run, 5000)
    copied(run)
    checkpoint(run, 10000)
    before = held(run)
    assert not fetch(run, ADDRESS)
    assert held(run) == before


def test_a_damaged_checkpoint_there_gives_way_to_the_one_before(store, tmp_path, capsys):
    run, other = tmp_path / "abc", tmp_path / "other/abc"
    checkpoint(run, 5000)
    checkpoint(run, 10000)
    copied(run)
    name = "runs/abc/checkpoints/000010000/state.safetensors"
    content = bytearray((run / "checkpoints/000010000/state.safetensors").read_bytes())
    content[-1] ^= 1
    store.put_object(Bucket="art", Key=name, Body=bytes(content))
    assert fetch(other, ADDRESS)
    assert [path.name for path in (other / "checkpoints").iterdir()] == ["000005000"]
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2
    assert said[0].startswith("backup: checkpoints/000010000 in s3://art/runs/abc is damaged (")
    assert not fetch(other, ADDRESS)
    assert not (other / ".fetching").exists()
    copied(other)  # the damaged one has no place in this run any more
    assert kept(store) == held(other)


def test_what_is_fetched_takes_the_place_of_older_and_damaged_files(store, tmp_path):
    run, other = tmp_path / "abc", tmp_path / "other/abc"
    for nimg in (5000, 10000, 15000):
        checkpoint(run, nimg)
    copied(run)
    checkpoint(other, 5000, seed=1)
    checkpoint(other, 15000, seed=1)
    (other / "checkpoints/000015000/state.json").write_text("{")
    (other / "worker.log").write_text("kept")
    assert fetch(other, ADDRESS)
    assert held(other) == held(run) | {"worker.log": b"kept"}


FETCHING = """
import sys
from pathlib import Path
from components.training.backup import fetch
fetch(Path(sys.argv[1]), "s3://art/runs")
"""


def test_a_fetch_killed_half_way_leaves_the_old_state(store, through, tmp_path):
    run, other = tmp_path / "abc", tmp_path / "other/abc"
    checkpoint(run, 5000, seed=1)
    checkpoint(run, 10000, LARGE)
    copied(run)
    old = held(checkpoint(other, 5000).parents[1])
    hanging = threading.Event()

    def hang(handler, headers, body):
        if handler.command != "GET" or not handler.path.startswith("/art/runs/abc/grids/"):
            return headers, body, False
        hanging.set()
        handler.server.stop.wait(60)
        return None

    proxy = through(hang)
    process = subprocess.Popen([sys.executable, "-c", FETCHING, str(other)], cwd=ROOT)
    try:
        assert hanging.wait(60)
    finally:
        process.kill()
        process.wait()
    proxy.stop.set()
    left = held(other)
    assert any(name.startswith(".fetching/checkpoints/000010000/") for name in left)
    assert {name: content for name, content in left.items() if not name.startswith(".fetching/")} == old
    assert state.latest(other / "checkpoints")[0].numbers["nimg"] == 5000


class Killed(BaseException):
    """What a kill would be at a rename."""


@pytest.mark.parametrize("moves", [0, 2, 4, 7, 9])
def test_a_fetch_killed_while_it_moves_is_finished_without_the_store(store, settings, tmp_path, moves):
    run, other = tmp_path / "abc", tmp_path / "other/abc"
    checkpoint(run, 5000, seed=1)
    checkpoint(run, 10000, seed=1)
    copied(run)
    checkpoint(other, 5000)
    left, real = [moves], {name: getattr(Path, name) for name in ("rename", "replace")}

    def counted(name):
        def move(self, target):
            if self.name != backup.FETCHING and ".fetched" in f"{self}{target}":
                if not left[0]:
                    raise Killed
                left[0] -= 1
            return real[name](self, target)

        return move

    with settings.context() as patched:
        for name in real:
            patched.setattr(Path, name, counted(name))
        with pytest.raises(Killed):
            fetch(other, ADDRESS)
    nimg = state.latest(other / "checkpoints")[0].numbers["nimg"]
    assert nimg in (5000, 10000)
    shown = [json.loads(line)["nimg"] for line in (other / "metrics.jsonl").read_text().splitlines()]
    assert shown[: shown.index(nimg) + 1] == list(range(5000, nimg + 1, 5000))
    for name in kept(store):
        store.delete_object(Bucket="art", Key=f"runs/abc/{name}")
    assert fetch(other, ADDRESS)
    assert held(other) == held(run)


def test_what_a_killed_fetch_left_does_not_take_the_place_of_newer_files(store, tmp_path):
    run, other = tmp_path / "abc", tmp_path / "other/abc"
    checkpoint(run, 5000, seed=1)
    copied(run)
    checkpoint(other, 10000)
    now = held(other)
    shutil.copytree(run, other / ".fetched")
    assert not fetch(other, ADDRESS)
    assert held(other) == now
