"""A folder's files come sorted; what is no file is a row with a reason; a folder that changes is refused."""

import contextlib
import os
import shutil
import socket
import tempfile
from pathlib import Path

import pytest

from components.config import InputError
from components.data import archives
from components.data.archives import Refused
from components.data.folders import read_folder
from components.data.sources import read_source

CONTENTS = {"README.md": b"words", "a.png": b"a" * 3000, "sub/b.png": b"b" * 700, "sub/empty": b""}


@pytest.fixture
def folder(tmp_path):
    for name, content in CONTENTS.items():
        (tmp_path / "art" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "art" / name).write_bytes(content)
    return tmp_path / "art"


def test_files_come_sorted_and_hidden_ones_as_rows(folder):
    (folder / ".hidden").write_bytes(b"x")
    (folder / "sub" / ".git").mkdir()
    (folder / "sub" / ".git" / "config").write_bytes(b"x")
    rows = {".hidden": Refused("hidden file"), "sub/.git": Refused("hidden folder")}
    assert list(read_folder(folder)) == sorted((CONTENTS | rows).items())


def test_specials_are_rows_and_are_never_opened(folder):
    os.mkfifo(folder / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(folder / "s"))
        rows = {"pipe.png": Refused("a FIFO"), "s": Refused("a socket")}
        assert dict(read_folder(folder)) == CONTENTS | rows


def test_links_to_files_inside_are_files_and_others_are_rows(folder, tmp_path):
    (folder / "sub" / "again.png").symlink_to("../a.png")
    (tmp_path / "outside").write_bytes(b"secret")
    os.mkfifo(folder / "pipe")
    reasons = {
        "outside file": (tmp_path / "outside", "a link that leads outside the folder"),
        "outside folder": (tmp_path, "a link that leads outside the folder"),
        "nowhere outside": ("/nowhere", "a link that leads outside the folder"),
        "nowhere": ("not there", "a link that leads nowhere"),
        "circle": ("circle", "a link that leads nowhere"),
        "to folder": ("sub", "a link to a folder"),
        "to pipe": ("pipe", "a FIFO"),
    }
    for name, (target, _) in reasons.items():
        (folder / name).symlink_to(target)
    rows = {name: Refused(reason) for name, (_, reason) in reasons.items()} | {"pipe": Refused("a FIFO")}
    assert dict(read_folder(folder)) == CONTENTS | rows | {"sub/again.png": CONTENTS["a.png"]}


def test_a_large_file_is_refused_before_it_is_read(folder, monkeypatch):
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 2999)
    with pytest.raises(InputError, match=r"'a\.png' in ingest\.source has 3000 bytes; allowed: at most 2999"):
        list(read_folder(folder))


def test_names_that_are_not_utf8_become_printable(tmp_path):
    for name in (b"caf\xe9.png", b"new\nline.png"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(b"1")
    assert dict(read_source(tmp_path)) == {"caf\\xe9.png": b"1", "new\\x0aline.png": b"1"}


CHANGES = {
    "appears": lambda folder: (folder / "z.png").write_bytes(b"new"),
    "appears earlier": lambda folder: (folder / "A.png").write_bytes(b"new"),
    "goes, already read": lambda folder: (folder / "README.md").unlink(),
    "goes, not yet read": lambda folder: (folder / "sub/b.png").unlink(),
    "grows": lambda folder: (folder / "sub/b.png").write_bytes(b"more" * 700),
    "shrinks, already read": lambda folder: (folder / "README.md").write_bytes(b""),
    "is written anew": lambda folder: os.utime(folder / "a.png", ns=(0, 0)),
    "becomes a FIFO": lambda folder: ((folder / "a.png").unlink(), os.mkfifo(folder / "a.png")),
    "folder goes": lambda folder: shutil.rmtree(folder / "sub"),
    "all goes": shutil.rmtree,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_folder_that_changes_while_it_is_read_is_refused(folder, change):
    files = read_folder(folder)
    assert next(files) == ("README.md", b"words")
    CHANGES[change](folder)
    with pytest.raises(InputError, match="changed while it was read; run it again"):
        list(files)


@contextlib.contextmanager
def without_privileges():
    """Whom permissions bind: root becomes nobody meanwhile."""
    privileged = os.geteuid() == 0
    if privileged:
        os.seteuid(65534)
    try:
        yield
    finally:
        if privileged:
            os.seteuid(0)


@pytest.mark.parametrize("name", ["a.png", "sub"])
def test_what_may_not_be_read_is_said(name):
    with tempfile.TemporaryDirectory() as made:  # pytest's own is closed to others
        folder = Path(made)
        folder.chmod(0o755)
        (folder / "a.png").write_bytes(b"1")
        (folder / "sub").mkdir()
        (folder / name).chmod(0)
        with without_privileges(), pytest.raises(InputError, match=f"{name}' cannot be read .*Permission denied"):
            list(read_folder(folder))
        (folder / name).chmod(0o700)
