"""Archives give their files whatever they are called; what must not be taken is refused in words, bombs in time."""

import bz2
import gzip
import io
import lzma
import os
import random
import struct
import tarfile
import zipfile
import zlib

import pytest
import zstandard

from components.config import InputError
from components.data import archives, compression
from components.data.archives import Refused, printable
from components.data.sources import read_source

CONTENTS = {"README.md": b"words", "a.png": random.Random(0).randbytes(3000), "sub/b.png": b"b" * 700, "sub/empty": b""}
LINK = {"link.png": Refused("a link")}
COMPRESS = {
    "": bytes,
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}
OUTSIDE = Refused("path leads outside the archive")


def tar_bytes(members):
    """A tar of (name, content) or TarInfo members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return buffer.getvalue()


def special_member(name, kind, **fields):
    info = tarfile.TarInfo(name)
    info.type = kind
    for field, value in fields.items():
        setattr(info, field, value)
    return info


USUAL = [special_member("sub", tarfile.DIRTYPE), special_member("link.png", tarfile.SYMTYPE, linkname="/etc/passwd")]


def make_tar(path, compress=bytes):
    path.write_bytes(compress(tar_bytes([*USUAL, *CONTENTS.items()])))
    return path


def make_zip(path, compression=zipfile.ZIP_DEFLATED, files=None):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("sub/", b"")
        link = zipfile.ZipInfo("link.png")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        for name, content in (files or CONTENTS).items():
            archive.writestr(name, content)
    return path


def refusal(path):
    with pytest.raises(InputError) as caught:
        list(read_source(path))
    return str(caught.value)


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize("name", ["set.tar", "no suffix", "set.zip", "set.yaml"])
def test_a_tar_is_known_by_its_content(tmp_path, kind, name):
    assert dict(read_source(make_tar(tmp_path / name, COMPRESS[kind]))) == CONTENTS | LINK


@pytest.mark.parametrize("name", ["set.zip", "set.tar", "no suffix", "set.yaml"])
def test_a_zip_is_known_by_its_content(tmp_path, name):
    assert dict(read_source(make_zip(tmp_path / name))) == CONTENTS | LINK


def test_a_zip_behind_something_else_and_a_tar_of_before_1988_are_known(tmp_path):
    path = make_zip(tmp_path / "program")
    path.write_bytes(b"#!/bin/sh\nexit\n" * 50 + path.read_bytes())
    assert dict(read_source(path)) == CONTENTS | LINK
    header = bytearray(tarfile.TarInfo("a.png").tobuf(tarfile.USTAR_FORMAT))
    header[124:135], header[257:] = b"%011o" % 3, bytes(255)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "old").write_bytes(bytes(header) + b"abc" + bytes(509 + 1024))
    assert list(read_source(tmp_path / "old")) == [("a.png", b"abc")]


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zst"])
def test_several_compressed_streams_in_a_row_are_one(tmp_path, kind):
    whole = tar_bytes(CONTENTS.items())
    (tmp_path / "set").write_bytes(COMPRESS[kind](whole[:2000]) + COMPRESS[kind](whole[2000:]))
    assert dict(read_source(tmp_path / "set")) == CONTENTS


HARMLESS = {"./x/a.png": "x/a.png", "x//b.png": "x/b.png", "x/../c.png": "c.png", "a:b.png": "a:b.png"}
CLIMBING = ("../x.png", "a/../../x.png", "/etc/x.png", "C:\\x.png", "..\\x.png", "\\\\host\\x.png", "c:/x")
HIDDEN = (".DS_Store", "__MACOSX/x.png", "._x.png", "a/.git/config", ".hidden/x.png")


@pytest.mark.parametrize("form", ["zip", "tar"])
def test_names_that_climb_out_and_hidden_ones_are_refused(tmp_path, form):
    names = [*HARMLESS, *CLIMBING, *HIDDEN]
    path = tmp_path / "set"
    if form == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, b"1")
    else:
        path.write_bytes(tar_bytes([(name, b"1") for name in names]))
    expected = dict.fromkeys(HARMLESS.values(), b"1") | dict.fromkeys(CLIMBING, OUTSIDE)
    assert dict(read_source(path)) == expected | dict.fromkeys(HIDDEN, Refused("hidden file"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["set"]


def test_no_special_member_of_a_tar_is_taken(tmp_path):
    sparse = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(2**40)}
    map_block = b"1\n0\n512\n".ljust(512, b"\0")
    members = [
        special_member("hard", tarfile.LNKTYPE, linkname="a.png"),
        special_member("fifo", tarfile.FIFOTYPE),
        special_member("char", tarfile.CHRTYPE, devmajor=1, devminor=5),
        special_member("block", tarfile.BLKTYPE, devmajor=8),
        special_member("odd", b"Z"),
        ("a.png", b"fine"),
    ]
    holes = tarfile.TarInfo("holes")
    holes.size, holes.pax_headers = 1024, sparse
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(holes, io.BytesIO(map_block + bytes(512)))
    (tmp_path / "set").write_bytes(tar_bytes(members)[: 7 * 512] + buffer.getvalue())
    assert dict(read_source(tmp_path / "set")) == {
        "hard": Refused("a link"),
        "fifo": Refused("a FIFO"),
        "char": Refused("a device"),
        "block": Refused("a device"),
        "odd": Refused("a special file"),
        "a.png": b"fine",
        "holes": Refused("a sparse file"),
    }


def test_no_special_member_of_a_zip_is_taken(tmp_path):
    with zipfile.ZipFile(tmp_path / "set", "w") as archive:
        for name, mode in {"fifo": 0o010644, "device": 0o020644, "a.png": 0o100644, "folder/": 0o040755}.items():
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, mode << 16
            archive.writestr(info, b"x")
    assert dict(read_source(tmp_path / "set")) == {
        "fifo": Refused("a FIFO"),
        "device": Refused("a device"),
        "a.png": b"x",
        "folder": Refused("a folder with contents"),
    }


def test_an_archive_in_an_archive_is_an_ordinary_file(tmp_path):
    inner = make_zip(tmp_path / "inner.zip").read_bytes()
    path = make_zip(tmp_path / "outer.zip", files={"inner.zip": inner, "inner.tar": tar_bytes(CONTENTS.items())})
    assert dict(read_source(path)) == {"inner.zip": inner, "inner.tar": tar_bytes(CONTENTS.items())} | LINK


def test_odd_names_become_printable(tmp_path):
    assert printable("a\0b\n\x7f\udcff\ud800é\u3000") == "a\\x00b\\x0a\\x7f\\xff\\ud800é\u3000"
    (tmp_path / "tar").write_bytes(tar_bytes([("caf\udce9\n.png", b"1")]))
    assert dict(read_source(tmp_path / "tar")) == {"caf\\xe9\\x0a.png": b"1"}
    make_zip(tmp_path / "zip", zipfile.ZIP_STORED, {"nul_.png": b"1"})
    (tmp_path / "zip").write_bytes((tmp_path / "zip").read_bytes().replace(b"nul_.png", b"nul\0.png"))
    assert dict(read_source(tmp_path / "zip")) == {"nul\\x00.png": b"1"} | LINK


def test_names_in_a_zip_are_utf8_with_or_without_the_flag_for_it(tmp_path):
    """Info-ZIP's zip leaves the flag out; a name that is no UTF-8 is in code page 437."""
    names = {b"\xc3\x84rger/1.png": "\u00c4rger/1.png", b"caf\x82.png": "caf\u00e9.png", b"b\\c.png": "b/c.png"}
    with zipfile.ZipFile(tmp_path / "set", "w") as archive:
        for stored in names:
            info = zipfile.ZipInfo("x" * len(stored))
            info.create_system = 0
            archive.writestr(info, b"1")
    content = (tmp_path / "set").read_bytes()
    for stored in sorted(names, key=len, reverse=True):
        content = content.replace(b"x" * len(stored), stored)
    (tmp_path / "set").write_bytes(content)
    assert dict(read_source(tmp_path / "set")) == dict.fromkeys(names.values(), b"1")


def test_a_zip_whose_names_are_not_the_utf8_they_are_said_to_be_is_refused(tmp_path):
    path = make_zip(tmp_path / "zip", zipfile.ZIP_STORED, {"caf\u00e9.png": b"1"})
    path.write_bytes(path.read_bytes().replace("\u00e9".encode(), b"\xed\xa0"))
    assert "is a damaged zip archive ('utf-8' codec can't decode" in refusal(path)


def test_a_large_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 2999)
    for path in (make_zip(tmp_path / "s.zip"), make_tar(tmp_path / "s.tar")):
        assert "'a.png' in ingest.source has 3000 bytes; allowed: at most 2999" in refusal(path)


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


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_compression_without_a_bound_is_refused(tmp_path, method):
    assert f"has zip compression {method}; allowed: stored, deflated" in refusal(make_zip(tmp_path / "set.zip", method))


def test_a_zip_bomb_is_refused_by_its_directory(tmp_path, monkeypatch):
    monkeypatch.setattr(compression, "MIN_EXPANSION", 2**20)
    path = make_zip(tmp_path / "set.zip", files={f"{index}.png": bytes(2**17) for index in range(7)})
    assert len(list(read_source(path))) == 8
    path = make_zip(tmp_path / "set.zip", files={f"{index}.png": bytes(2**17) for index in range(9)})
    assert "expands to more than 1048576 bytes; allowed: at most 1048576 or 100 times its own size" in refusal(path)


def test_a_zip_member_that_says_it_is_small_is_not_expanded(tmp_path, monkeypatch):
    content = bytes(2**24)
    path = make_zip(tmp_path / "set.zip", files={"a.png": content})
    true, lie = struct.pack("<L", len(content)), struct.pack("<L", 10)
    path.write_bytes(path.read_bytes().replace(true, lie))
    asked = []
    decompressor = zlib.decompressobj
    monkeypatch.setattr(zipfile.zlib, "decompressobj", lambda *args: Recorder(decompressor(*args), asked))
    assert "is a damaged zip archive (Bad CRC-32" in refusal(path)
    assert max(asked) <= 4096


class Recorder:
    """A decompressor that notes how much it was asked for at once."""

    def __init__(self, inner, asked):
        self.inner, self.asked = inner, asked

    def decompress(self, data, limit):
        self.asked.append(limit)
        return self.inner.decompress(data, limit)

    def __getattr__(self, name):
        return getattr(self.inner, name)


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zst"])
def test_a_tar_bomb_is_refused_wherever_its_bytes_are(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(compression, "MIN_EXPANSION", 2**20)
    monkeypatch.setattr(compression, "MAX_RATIO", 2)
    words = "expands to more than 1048576 bytes"
    fine = [("a.png", bytes(900_000))]
    skipped = [special_member("odd", b"Z", size=2**21)]
    for content, expected in (
        (tar_bytes(fine), None),
        (tar_bytes(fine * 2), words),
        (tar_bytes(fine) + bytes(2**20), words),  # after the end mark
        (tar_bytes(skipped)[:512] + bytes(2**22), words),  # in a member that is no file
        (tar_bytes([("folder/", b"")] * 3000), words),  # in headers
    ):
        (tmp_path / "set").write_bytes(COMPRESS[kind](content))
        if expected:
            assert expected in refusal(tmp_path / "set")
        else:
            assert dict(read_source(tmp_path / "set")) == dict(fine)


def test_a_zstandard_stream_is_expanded_in_small_steps(tmp_path):
    (tmp_path / "set").write_bytes(zstandard.ZstdCompressor().compress(bytes(2**28)))
    with (tmp_path / "set").open("rb") as file:
        chunks = compression._zstd(file)
        assert max(len(next(chunks)) for _ in range(3)) <= compression.ZSTD_PIECE // 4 * 2**17


@pytest.mark.parametrize("size", [-512, 2**21])
def test_a_tar_header_that_lies_about_its_size_is_refused(tmp_path, size):
    header = special_member("././@LongLink", tarfile.GNUTYPE_LONGNAME, size=size).tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "set").write_bytes(header + bytes(4096))
    assert f"is a damaged tar archive (a header of {size} bytes)" in refusal(tmp_path / "set")


@pytest.mark.parametrize("kind", [*COMPRESS, "zip"])
def test_a_truncated_archive_is_refused_wherever_it_ends(tmp_path, kind):
    path = tmp_path / "set"
    whole = (make_zip(path) if kind == "zip" else make_tar(path, COMPRESS[kind])).read_bytes()
    end = 7168 if kind == "" else len(whole)  # the plain tar's members end there; padding follows
    for length in [*range(4, end, 97), end - 1]:
        path.write_bytes(whole[:length])
        assert refusal(path)


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zst"])
def test_checksums_behind_the_end_mark_are_read(tmp_path, kind):
    whole = COMPRESS[kind](tar_bytes(CONTENTS.items()))
    damaged = bytearray(whole)
    damaged[-20 if kind == "xz" else -6 if kind == "gz" else -4] ^= 1
    (tmp_path / "set").write_bytes(damaged)
    assert "is a damaged tar archive" in refusal(tmp_path / "set")


def test_data_after_the_end_mark_is_not_lost_in_silence(tmp_path):
    (tmp_path / "set").write_bytes(tar_bytes([("a", b"1")]) + tar_bytes([("b", b"2")]))
    assert "data after the end mark" in refusal(tmp_path / "set")


@pytest.mark.parametrize("position", [0, 1, 2, 3])
def test_a_damaged_tar_header_does_not_pass_for_the_end(tmp_path, position):
    path = make_tar(tmp_path / "set.tar")
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


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_an_archive_that_changes_while_it_is_read_is_refused(tmp_path, make):
    path = make(tmp_path / "set")
    files = read_source(path)
    next(files)
    os.utime(path, ns=(0, 0))
    with pytest.raises(InputError, match="changed while it was read; run it again"):
        list(files)
    files = read_source(make(path))
    next(files)
    path.unlink()
    with pytest.raises(InputError, match="changed while it was read; run it again"):
        list(files)
