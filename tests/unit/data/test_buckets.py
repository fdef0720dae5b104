"""Originals come back byte for byte, and the buckets do not depend on the order in which they came."""

import hashlib
import io
import json
import random
import tarfile

import pytest

from components.config import InputError
from components.data.archives import Refused
from components.data.buckets import BUCKETS, read_manifest, read_originals, read_refused, write_buckets

FILES = [(f"{index:03d}.png", random.Random(index).randbytes(index * 7)) for index in range(300)]
FILES += [("copy of 5.png", FILES[5][1]), ("\udcff\n.png", b"odd name")]
ROWS = [("z/pipe", Refused("a FIFO")), (".hidden", Refused("hidden file")), ("link", Refused("a link"))]


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def bucket_of(content):
    """Nine bits of the digest, as the three digits of the first digest that has them."""
    return f"{int(sha256(content)[:3], 16) // 8 * 8:03x}"


def make(folder):
    folder.mkdir()
    return folder


def stored(folder, files):
    write_buckets(files, make(folder))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_counts_manifest_and_contents(tmp_path):
    counts = write_buckets(iter(FILES), tmp_path)
    buckets = {bucket_of(content) for _, content in FILES}
    total = sum(len(c) for _, c in FILES)
    assert (counts.files, counts.bytes, counts.buckets, counts.refused) == (302, total, len(buckets), 0)
    tables = {"manifest.jsonl", "refused.jsonl"}
    assert {path.name for path in tmp_path.iterdir()} == {f"{bucket}.tar" for bucket in buckets} | tables
    rows = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    assert rows == [{"name": n, "sha256": sha256(c), "bytes": len(c)} for n, c in sorted(FILES)]
    manifest = read_manifest(tmp_path)
    assert next(o.names for o in manifest if o.sha256 == sha256(FILES[5][1])) == ("005.png", "copy of 5.png")
    originals = [(original.sha256, content) for original, content in read_originals(tmp_path, manifest)]
    assert originals == sorted({sha256(content): content for _, content in FILES}.items())


def test_what_is_refused_is_a_sorted_row_and_in_no_bucket(tmp_path):
    counts = write_buckets([ROWS[0], *FILES, *ROWS[1:]], make(tmp_path / "a"))
    assert (counts.files, counts.refused) == (302, 3)
    rows = [json.loads(line) for line in (tmp_path / "a" / "refused.jsonl").read_text().splitlines()]
    assert rows == [{"name": name, "reason": row.reason} for name, row in sorted(ROWS, key=lambda row: row[0])]
    without = stored(tmp_path / "b", FILES)
    assert without.pop("refused.jsonl") == b""
    assert {name: (tmp_path / "a" / name).read_bytes() for name in without} == without


def test_members_are_plain_sorted_ustar(tmp_path):
    write_buckets(FILES, tmp_path)
    for path in tmp_path.glob("*.tar"):
        assert path.read_bytes()[257:265] == b"ustar\x0000"
        with tarfile.open(path) as archive:
            members = archive.getmembers()
        assert [m.name for m in members] == sorted(m.name for m in members)
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}
        assert {f"{int(m.name[:3], 16) // 8 * 8:03x}" for m in members} == {path.stem}
        assert path.read_bytes().endswith(bytes(1024))
        assert path.read_bytes() == plain_tar(list(members_of(path)))


def members_of(path):
    with tarfile.open(path) as archive:
        for member in archive:
            yield member.name, archive.extractfile(member).read()


def plain_tar(members):
    """The same members as tarfile writes them, without its padding to records."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        end = archive.offset
    return buffer.getvalue()[: end + 1024]


def test_the_order_of_files_changes_no_byte(tmp_path):
    shuffled = random.Random(1).sample(FILES + ROWS, len(FILES + ROWS))
    assert stored(tmp_path / "a", FILES + ROWS) == stored(tmp_path / "b", shuffled)


def test_new_names_change_the_manifest_alone(tmp_path):
    before = stored(tmp_path / "a", FILES)
    after = stored(tmp_path / "b", [(f"new/{name}", content) for name, content in FILES])
    assert before.pop("manifest.jsonl") != after.pop("manifest.jsonl")
    assert before == after


def test_one_more_file_changes_one_bucket(tmp_path):
    before = stored(tmp_path / "a", FILES)
    after = stored(tmp_path / "b", [*FILES, ("one more", b"one more")])
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {"manifest.jsonl", f"{bucket_of(b'one more')}.tar"}


def test_a_hundred_more_among_many_rewrite_what_they_touch(tmp_path):
    many = [(f"{index}", f"content {index}".encode()) for index in range(6000)]
    before = stored(tmp_path / "a", many)
    after = stored(tmp_path / "b", many + [(f"new {index}", f"new {index}".encode()) for index in range(100)])
    changed = {name for name in after if after[name] != before.get(name)}
    assert len(before) > 0.9 * BUCKETS
    touched = {f"{bucket_of(f'new {index}'.encode())}.tar" for index in range(100)}
    assert changed == touched | {"manifest.jsonl"}
    assert len(touched) < BUCKETS / 5


def test_what_ingest_did_not_write_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"manifest\.jsonl does not exist; allowed: a folder made by ingest"):
        read_manifest(tmp_path)
    write_buckets([("a", b"one"), ("b", b"two")], tmp_path)
    bucket = tmp_path / f"{bucket_of(b'one')}.tar"
    whole = bucket.read_bytes()
    bucket.unlink()
    manifest = read_manifest(tmp_path)
    with pytest.raises(InputError, match="No such file or directory; allowed: what ingest wrote"):
        list(read_originals(tmp_path, manifest))
    for broken in (whole.replace(b"one", b"eno"), whole[:513], b""):
        bucket.write_bytes(broken)
        with pytest.raises(InputError, match="is damaged; allowed: what ingest wrote"):
            list(read_originals(tmp_path, manifest))
    for row in ("[]", "{}", "x", '{"sha256": 1, "name": "a", "bytes": 2}', '{"sha256": "zz", "name": "a", "bytes": 1}'):
        (tmp_path / "manifest.jsonl").write_text(row + "\n")
        with pytest.raises(InputError, match="is damaged"):
            read_manifest(tmp_path)


def test_a_damaged_list_of_what_was_refused_is_refused(tmp_path):
    write_buckets([*FILES, *ROWS], tmp_path)
    assert [row["name"] for row in read_refused(tmp_path)] == sorted(name for name, _ in ROWS)
    for broken in (b"\xff\n", b"{}\n", b"[]\n", b"words\n"):
        (tmp_path / "refused.jsonl").write_bytes(broken)
        with pytest.raises(InputError, match=r"refused\.jsonl is damaged"):
            read_refused(tmp_path)
    (tmp_path / "refused.jsonl").unlink()
    with pytest.raises(InputError, match=r"refused\.jsonl is damaged"):
        read_refused(tmp_path)
