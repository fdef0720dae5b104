"""Tensors on disk, and what a file system that refuses them is to callers."""

import errno
import resource
import signal

import pytest
import torch
from safetensors.torch import load_file

from components.data.tensors import write_tensors


@pytest.fixture
def room():
    """A limit on the size of files, in bytes: the kernel's own refusal in the middle of a write."""
    size, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    signal.signal(signal.SIGXFSZ, handler)


def test_what_is_written_is_read(tmp_path):
    tensors = {"a": torch.arange(6.0).view(2, 3).T, "b": torch.ones(2, requires_grad=True)}
    write_tensors(tmp_path / "file", tensors)
    found = load_file(tmp_path / "file")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


def test_others_may_read_it_as_they_may_any_other_file(tmp_path):
    (tmp_path / "other").touch()
    write_tensors(tmp_path / "file", {"a": torch.ones(2)})
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "other").stat().st_mode
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "other"]


def test_a_refusal_in_the_middle_of_it_is_an_error_of_the_system_and_leaves_nothing(tmp_path, room):
    room(1_000_000)
    with pytest.raises(OSError, match="File too large") as refusal:
        write_tensors(tmp_path / "file", {"a": torch.zeros(1_000_000)})
    assert refusal.value.errno == errno.EFBIG
    assert refusal.value.filename == str(tmp_path / "file")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_tensors(tmp_path / "no" / "file", {"a": torch.zeros(1)})
