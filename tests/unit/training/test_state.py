"""Checkpoints: exact, whole or refused, and the newest good one found."""

import errno
import json

import pytest
import torch

from components.training import state
from components.training.state import State


def make(nimg):
    tensors = {"a": torch.randn(3, 4, 2, 2).to(memory_format=torch.channels_last), "b": torch.tensor(7.0)}
    return State(tensors, {"nimg": nimg, "seconds": 0.1 + 0.2})


def test_what_is_loaded_is_what_was_saved(tmp_path):
    saved = make(5)
    state.save(saved, tmp_path / "000000005")
    loaded = state.load(tmp_path / "000000005")
    assert loaded.numbers == saved.numbers
    for name, tensor in saved.tensors.items():
        torch.testing.assert_close(loaded.tensors[name], tensor, rtol=0, atol=0)
    assert [path.name for path in tmp_path.iterdir()] == ["000000005"]


def test_there_is_none_in_an_empty_place(tmp_path):
    assert state.latest(tmp_path / "absent") == (None, [])


@pytest.mark.parametrize("damage", ["bit", "truncated", "no json", "half json", "digit", "a list", "newer"])
def test_a_damaged_or_newer_one_is_refused_and_the_one_before_it_is_used(tmp_path, damage):
    for nimg in (100, 200):
        state.save(make(nimg), tmp_path / f"{nimg:09d}")
    tensors, header = tmp_path / "000000200/state.safetensors", tmp_path / "000000200/state.json"
    content = tensors.read_bytes()
    if damage == "bit":
        tensors.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "truncated":
        tensors.write_bytes(content[:-10])
    elif damage == "no json":
        header.unlink()
    elif damage == "half json":
        header.write_text(header.read_text()[:20])
    elif damage == "digit":
        header.write_text(header.read_text().replace('"nimg": 200', '"nimg": 201'))
    elif damage == "a list":
        header.write_text("[]")
    else:
        header.write_text(json.dumps(json.loads(header.read_text()) | {"format": state.FORMAT + 1}))
    with pytest.raises(ValueError, match="000000200 refused"):
        state.load(tmp_path / "000000200")
    found, refused = state.latest(tmp_path)
    assert found.numbers["nimg"] == 100
    assert len(refused) == 1


def test_where_none_can_be_read_now_nothing_begins_anew(tmp_path, monkeypatch):
    """A storage that is away for a while is no damage."""
    for nimg in (100, 200):
        state.save(make(nimg), tmp_path / f"{nimg:09d}")
    away, read = ["000000200"], state._digest

    def digest(tensors, numbers):
        if tensors.parent.name in away:
            raise OSError(errno.ESTALE, "Stale file handle")
        return read(tensors, numbers)

    monkeypatch.setattr(state, "_digest", digest)
    found, (refused,) = state.latest(tmp_path)
    assert found.numbers["nimg"] == 100
    assert "000000200 cannot be read: [Errno 116] Stale" in refused
    away.append("000000100")
    with pytest.raises(OSError, match="Stale"):
        state.latest(tmp_path)


def test_a_killed_writers_folder_is_not_seen(tmp_path):
    state.save(make(100), tmp_path / "000000100")
    (tmp_path / "000000100").rename(tmp_path / ".000000200.tmp")
    assert state.latest(tmp_path) == (None, [])


def test_prune_keeps_the_newest(tmp_path):
    for nimg in (100, 200, 1000):
        state.save(make(nimg), tmp_path / f"{nimg:09d}")
    state.prune(tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000200", "000001000"]
