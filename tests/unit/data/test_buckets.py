"""Originals come back byte for byte, and the buckets do not depend on the order in which they came."""

import hashlib
import json
import random
import tarfile

import pytest

from components.config import InputError
from components.data.buckets import read_manifest, read_originals, write_buckets

FILES = [(f"{index:03d}.png", random.Random(index).randbytes(index * 7)) for index in range(300)]
FILES += [("copy of 5.png", FILES[5][1]), ("\udcff\n.png", b"odd name")]


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def stored(folder, files):
    folder.mkdir()
    write_buckets(files, folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_counts_manifest_and_contents(tmp_path):
    counts = write_buckets(iter(FILES), tmp_path)
    prefixes = {sha256(content)[:2] for _, content in FILES}
    assert (counts.files, counts.bytes, counts.buckets) == (302, sum(len(c) for _, c in FILES), len(prefixes))
    assert {path.name for path in tmp_path.iterdir()} == {f"{p}.tar" for p in prefixes} | {"manifest.jsonl"}
    rows = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    assert rows == [{"name": n, "sha256": sha256(c), "bytes": len(c)} for n, c in sorted(FILES)]
    assert read_manifest(tmp_path)[sha256(FILES[5][1])] == ["005.png", "copy of 5.png"]
    originals = list(read_originals(tmp_path))
    assert originals == sorted({sha256(content): content for _, content in FILES}.items())


def test_members_are_plain_sorted_ustar(tmp_path):
    write_buckets(FILES, tmp_path)
    for path in tmp_path.glob("*.tar"):
        assert path.read_bytes()[257:265] == b"ustar\x0000"
        with tarfile.open(path) as archive:
            members = archive.getmembers()
        assert [m.name for m in members] == sorted(m.name for m in members)
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}
        assert all(m.name.startswith(path.stem) for m in members)


def test_the_order_of_files_changes_no_byte(tmp_path):
    shuffled = random.Random(1).sample(FILES, len(FILES))
    assert stored(tmp_path / "a", FILES) == stored(tmp_path / "b", shuffled)


def test_new_names_change_the_manifest_alone(tmp_path):
    before = stored(tmp_path / "a", FILES)
    after = stored(tmp_path / "b", [(f"new/{name}", content) for name, content in FILES])
    assert before.pop("manifest.jsonl") != after.pop("manifest.jsonl")
    assert before == after


def test_one_more_file_changes_one_bucket(tmp_path):
    before = stored(tmp_path / "a", FILES)
    after = stored(tmp_path / "b", [*FILES, ("one more", b"one more")])
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {"manifest.jsonl", f"{sha256(b'one more')[:2]}.tar"}


def test_what_ingest_did_not_write_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"manifest\.jsonl does not exist; allowed: a folder made by ingest"):
        read_manifest(tmp_path)
    write_buckets([("a", b"one"), ("b", b"two")], tmp_path)
    bucket = tmp_path / f"{sha256(b'one')[:2]}.tar"
    whole = bucket.read_bytes()
    bucket.unlink()
    with pytest.raises(InputError, match="lacks 1 contents of its manifest"):
        list(read_originals(tmp_path))
    bucket.write_bytes(whole.replace(b"one", b"eno"))
    with pytest.raises(InputError, match="is not what the manifest names"):
        list(read_originals(tmp_path))
