"""A source is known for what it is; descriptors and folders with a source.yaml give what they say, and nothing else."""

import io
import os
import re
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from components.config import InputError
from components.data.archives import Refused
from components.data.sources import read_source

UNNAMED = Refused("named by no part of source.yaml")
TWO_DRAWN = "{kind: drawn, count: 2, size: 8, seed: 0}"


def refusal(path):
    with pytest.raises(InputError) as caught:
        list(read_source(path))
    return str(caught.value)


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


def test_sources_without_a_file_are_refused(tmp_path):
    (tmp_path / "folder" / "sub").mkdir(parents=True)
    (tmp_path / "folder" / ".hidden").write_bytes(b"x")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr(".DS_Store", b"x")
    zipfile.ZipFile(tmp_path / "empty.zip", "w").close()
    tarfile.open(tmp_path / "set.tar", "w").close()
    for name in ("folder", "set.zip", "empty.zip", "set.tar"):
        assert "holds no files; allowed: at least one that is not hidden" in refusal(tmp_path / name)


def test_combined_puts_its_parts_one_after_the_other_under_their_labels(tmp_path):
    (tmp_path / "both.yaml").write_text(
        "kind: combined\nparts:\n"
        "- {label: small, kind: drawn, count: 1, size: 8, seed: 0}\n"
        "- {kind: drawn, count: 2, size: 16, seed: 0}\n"
    )
    files = list(read_source(tmp_path / "both.yaml"))
    assert [name for name, _ in files] == ["small/0000000.png", "0000000.png", "0000001.png"]
    sizes = [Image.open(io.BytesIO(content)).size for _, content in files]
    assert sizes == [(8, 8), (16, 16), (16, 16)]


@pytest.fixture
def described(tmp_path):
    """A folder with a source.yaml, a folder, an archive, a descriptor, and files that no part names."""
    folder = tmp_path / "art"
    (folder / "scans" / "deep").mkdir(parents=True)
    (folder / "scans" / "deep" / "a.png").write_bytes(b"a")
    (folder / "scans" / "source.yaml").write_bytes(b"only a file here")
    (folder / "scans-old").mkdir()
    (folder / "scans-old" / "b.png").write_bytes(b"b")
    (folder / "notes.txt").write_bytes(b"words")
    (folder / ".hidden").write_bytes(b"x")
    with zipfile.ZipFile(folder / "set.zip", "w") as archive:
        archive.writestr("c.png", b"c")
        archive.writestr(".DS_Store", b"x")
    (folder / "two.yaml").write_text(TWO_DRAWN)
    return folder


def test_a_folder_with_source_yaml_is_read_by_it_alone(described):
    (described / "source.yaml").write_text(
        "kind: combined\nparts:\n- {path: scans, label: dragon}\n- {path: set.zip, label: imp}\n- {path: two.yaml}\n"
    )
    files = dict(read_source(described))
    drawn = {name: files.pop(name) for name in ("0000000.png", "0000001.png")}
    assert all(content.startswith(b"\x89PNG") for content in drawn.values())
    assert files == {
        "dragon/deep/a.png": b"a",
        "dragon/source.yaml": b"only a file here",
        "imp/c.png": b"c",
        "imp/.DS_Store": Refused("hidden file"),
        "scans-old/b.png": UNNAMED,
        "notes.txt": UNNAMED,
        ".hidden": Refused("hidden file"),
    }


def test_a_source_yaml_of_one_kind_takes_nothing_of_its_folder(described):
    (described / "source.yaml").write_text(TWO_DRAWN)
    files = dict(read_source(described))
    assert [name for name, content in files.items() if isinstance(content, bytes)] == ["0000000.png", "0000001.png"]
    assert files["set.zip"] == UNNAMED


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("nowhere", "path 'nowhere' names nothing in the folder"),
        ("scan", "path 'scan' names nothing in the folder"),
        ("notes.txt", "path 'notes.txt' is neither an archive nor a descriptor"),
        ("source.yaml", "path 'source.yaml' is neither an archive nor a descriptor"),
        (".hidden", "path '.hidden' is hidden file"),
        ("out", "path 'out' is a link that leads outside the folder"),
        ("more.yaml", "path 'more.yaml' is combined itself"),
        ("..", "allowed: a path inside the folder"),
        ("scans/../../x", "allowed: a path inside the folder"),
        ("/etc", "allowed: a path inside the folder"),
    ],
)
def test_a_part_must_lie_in_the_folder(described, tmp_path, path, words):
    (tmp_path / "outside.zip").write_bytes((described / "set.zip").read_bytes())
    (described / "out").symlink_to(tmp_path / "outside.zip")
    (described / "more.yaml").write_text(f"{{kind: combined, parts: [{TWO_DRAWN}]}}")
    (described / "source.yaml").write_text(f"{{kind: combined, parts: [{{path: {path}}}]}}")
    assert words in refusal(described)


def test_paths_need_a_folder_that_is_tracked_whole(tmp_path):
    (tmp_path / "both.yaml").write_text("{kind: combined, parts: [{path: art}]}")
    (tmp_path / "art").mkdir()
    assert "paths are for a source.yaml in the folder that ingest.source names" in refusal(tmp_path / "both.yaml")


@pytest.mark.parametrize("name", ["notes.txt", "scans/deep/a.png", "source.yaml"])
def test_a_described_folder_that_changes_is_refused(described, name):
    (described / "source.yaml").write_text("{kind: combined, parts: [{path: set.zip}, {path: scans}]}")
    files = read_source(described)
    assert next(files) == ("c.png", b"c")
    os.utime(described / name, ns=(0, 0))
    with pytest.raises(InputError, match=re.escape(f"{name}' changed while it was read; run it again")):
        list(files)
