"""Folders, archives and descriptors give the same files; what they must not hold is refused in words."""

import io
import os
import random
import socket
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from components.config import InputError
from components.data import archives
from components.data.sources import read_source

CONTENTS = {"README.md": b"words", "a.png": random.Random(0).randbytes(3000), "sub/b.png": b"b" * 700, "sub/empty": b""}


def fill_folder(root):
    for name, content in CONTENTS.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def make_tar(path, mode, names=tuple(CONTENTS)):
    with tarfile.open(path, mode) as archive:
        folder = tarfile.TarInfo("sub")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(CONTENTS[name])
            archive.addfile(info, io.BytesIO(CONTENTS[name]))
    return path


def make_zip(path, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("sub/", b"")
        link = zipfile.ZipInfo("link.png")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        for name, content in CONTENTS.items():
            archive.writestr(name, content)
    return path


def refusal(path):
    with pytest.raises(InputError) as caught:
        list(read_source(path))
    return str(caught.value)


def test_a_folder_is_read_sorted_without_hidden_files(tmp_path):
    fill_folder(tmp_path)
    (tmp_path / ".hidden").write_bytes(b"x")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_bytes(b"x")
    assert list(read_source(tmp_path)) == sorted(CONTENTS.items())


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("name", ["set.tar", "no suffix", "set.zip"])
def test_a_tar_is_known_by_its_content(tmp_path, mode, name):
    assert dict(read_source(make_tar(tmp_path / name, mode))) == CONTENTS


@pytest.mark.parametrize("name", ["set.zip", "set.tar", "no suffix", "set.yaml"])
def test_a_zip_is_known_by_its_content(tmp_path, name):
    assert dict(read_source(make_zip(tmp_path / name))) == CONTENTS


def test_member_names_are_only_names(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("../../evil.png", b"1")
        archive.writestr("/etc/evil.png", b"2")
    assert list(read_source(tmp_path / "set.zip")) == [("../../evil.png", b"1"), ("/etc/evil.png", b"2")]
    assert [path.name for path in tmp_path.iterdir()] == ["set.zip"]


def test_the_drawn_set_is_its_count_of_pngs_and_follows_the_seed(tmp_path):
    descriptor = tmp_path / "drawn.yaml"

    def draw(seed):
        descriptor.write_text(f"kind: drawn\ncount: 3\nsize: 32\nseed: {seed}\n")
        return list(read_source(descriptor))

    first = draw(1)
    assert [name for name, _ in first] == ["0000000.png", "0000001.png", "0000002.png"]
    with Image.open(io.BytesIO(first[0][1])) as image:
        assert (image.mode, image.size) == ("RGBA", (32, 32))
        assert 0 < np.asarray(image)[..., 3].mean() < 255
    assert draw(1) == first
    assert draw(2) != first


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: paintings\n", "kind is 'paintings'; allowed: drawn"),
        ("kind: [drawn]\n", "allowed: drawn"),
        ("just words\n", "kind is None; allowed: drawn"),
        ("kind: drawn\ncount: 3\nsize: 32\n", "allowed: exactly kind, count, size, seed"),
        ("kind: drawn\ncount: 3\nsize: 32\nseed: 0\ncolour: red\n", "colour"),
        ("kind: drawn\ncount: 0\nsize: 32\nseed: 0\n", "count is 0; allowed: a whole number, 1 to"),
        ("kind: drawn\ncount: 3\nsize: big\nseed: 0\n", "size is 'big'; allowed: a whole number, 8 to 1024"),
        ("kind: drawn\ncount: 3\nsize: 32\nseed: true\n", "seed is True"),
        ("kind: {\n", "is not a YAML descriptor"),
        ("kind: \x07\n", "is not a YAML descriptor"),
    ],
)
def test_a_wrong_descriptor_is_refused(tmp_path, text, words):
    path = tmp_path / "drawn.yaml"
    path.write_text(text)
    assert words in refusal(path)


def test_missing_and_unknown_sources_are_refused(tmp_path):
    assert "does not exist; allowed: a folder" in refusal(tmp_path / "nowhere")
    (tmp_path / "set.zip").write_text("these are only words" * 100)
    assert "is neither an archive nor a descriptor" in refusal(tmp_path / "set.zip")
    (tmp_path / "set.tar").write_bytes(b"")
    assert "is neither an archive nor a descriptor" in refusal(tmp_path / "set.tar")
    (tmp_path / "set.tar.gz").write_bytes(b"\x1f\x8b" + b"\0" * 100)
    assert "damaged tar archive" in refusal(tmp_path / "set.tar.gz")
    os.mkfifo(tmp_path / "pipe")
    assert "is neither a file nor a folder" in refusal(tmp_path / "pipe")


def test_empty_sources_are_refused(tmp_path):
    (tmp_path / "folder" / "sub").mkdir(parents=True)
    (tmp_path / "folder" / ".hidden").write_bytes(b"x")
    zipfile.ZipFile(tmp_path / "set.zip", "w").close()
    tarfile.open(tmp_path / "set.tar", "w").close()
    for name in ("folder", "set.zip", "set.tar"):
        assert "holds no files; allowed: at least one" in refusal(tmp_path / name)


def test_specials_are_refused_and_never_hang(tmp_path):
    folder = fill_folder(tmp_path / "folder")
    os.mkfifo(folder / "pipe.png")
    assert "is a FIFO; allowed: files and folders" in refusal(folder)
    (folder / "pipe.png").unlink()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(folder / "s"))
        assert "is a socket; allowed: files and folders" in refusal(folder)


def test_links_inside_are_files_and_links_outside_are_refused(tmp_path):
    folder = fill_folder(tmp_path / "folder")
    (folder / "sub" / "again.png").symlink_to("../a.png")
    assert dict(read_source(folder))["sub/again.png"] == CONTENTS["a.png"]
    (tmp_path / "outside").write_bytes(b"secret")
    link = folder / "link"
    for target in (tmp_path / "outside", tmp_path, "sub", "nowhere", "link"):
        link.symlink_to(target)
        assert "is a link; allowed: links to files inside" in refusal(folder)
        link.unlink()


def test_a_large_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 2999)
    for path in (fill_folder(tmp_path / "f"), make_zip(tmp_path / "s.zip"), make_tar(tmp_path / "s.tar", "w")):
        assert "has 3000 bytes; allowed: at most 2999" in refusal(path)


def test_an_encrypted_zip_is_refused(tmp_path):
    path = make_zip(tmp_path / "set.zip", zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the encryption flag of each header
        start = content.find(magic)
        while start >= 0:
            content[start + offset] |= 1
            start = content.find(magic, start + 4)
    path.write_bytes(content)
    assert "is encrypted; allowed: an archive without a password" in refusal(path)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
def test_a_truncated_archive_is_refused_wherever_it_ends(tmp_path, mode):
    path = tmp_path / "set"
    whole = (make_zip(path) if mode == "zip" else make_tar(path, mode)).read_bytes()
    end = 7168 if mode == "w" else len(whole)  # the plain tar's members end there; padding follows
    for length in range(4, end, 97):
        path.write_bytes(whole[:length])
        assert refusal(path)


@pytest.mark.parametrize("position", [0, 1, 2, 3])
def test_a_damaged_tar_header_does_not_pass_for_the_end(tmp_path, position):
    path = make_tar(tmp_path / "set.tar", "w")
    with tarfile.open(path) as archive:
        offset = archive.getmember(list(CONTENTS)[position]).offset
    content = bytearray(path.read_bytes())
    content[offset + 3] ^= 255
    path.write_bytes(content)
    assert "is a damaged tar archive" in refusal(path)


def test_a_damaged_zip_member_is_refused(tmp_path):
    path = make_zip(tmp_path / "set.zip", zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"bbbb", b"bbxb", 1))
    assert "is a damaged zip archive (Bad CRC-32 for file 'sub/b.png')" in refusal(path)
