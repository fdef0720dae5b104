"""Stages end with exit code 2 and one line when a person's input is wrong, and leave nothing half-written."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[3]


@pytest.fixture
def project(tmp_path):
    """A copy of the project with a folder of twelve pictures as its source."""
    for folder in ("components", "pipelines"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    pictures = tmp_path / "art"
    pictures.mkdir()
    for shade in range(12):
        Image.new("RGBA", (8, 8), (shade, 0, 0, 200)).save(pictures / f"{shade}.png")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    change(tmp_path, "source", "art")
    change(tmp_path, "holdout", "0.5")
    return tmp_path


def change(project, key, value):
    path = project / "params.yaml"
    text, count = re.subn(rf"(?m)^  {key}: .*$", f"  {key}: {value}", path.read_text())
    assert count == 1
    path.write_text(text)


def run(project, stage):
    return subprocess.run(
        [sys.executable, "-m", f"pipelines.{stage}"], cwd=project, capture_output=True, text=True, timeout=60
    )


def made(project):
    """Every file under data/, with its bytes."""
    return {str(path): path.read_bytes() for path in (project / "data").rglob("*") if path.is_file()}


def assert_refused(project, stage, words):
    before = made(project)
    done = run(project, stage)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr
    assert done.stdout == ""
    assert made(project) == before


def test_good_input_says_one_line(project):
    done = run(project, "ingest")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"ingest: 12 files, 0\.0 MB, \d+ buckets\n", done.stdout)
    done = run(project, "preprocess")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(
        r"preprocess: 12 in, 12 kept \(\d+ train, \d+ holdout\), 0 rejected, 0 duplicates, 0 similar dropped, 32x32; "
        r"look at data/shards/report\.html\n",
        done.stdout,
    )
    assert not list((project / "data").glob(".*"))


def test_ingest_refuses(project):
    assert run(project, "ingest").returncode == 0
    (project / "words.zip").write_text("words" * 200)
    (project / "cut.tar.gz").write_bytes(b"\x1f\x8b\x08\0words")
    (project / "empty\nfolder").mkdir()
    for source, words in {
        "nowhere": "ingest.source 'nowhere' does not exist; allowed: a folder",
        "words.zip": "'words.zip' is neither an archive nor a descriptor; allowed: a folder",
        "cut.tar.gz": "'cut.tar.gz' is a damaged tar archive",
        '"empty\\nfolder"': "holds no files; allowed: at least one",
    }.items():
        change(project, "source", source.replace("\\", "\\\\"))
        assert_refused(project, "ingest", words)


def test_ingest_never_opens_a_pipe(project):
    os.mkfifo(project / "art" / "zz.png")
    done = run(project, "ingest")
    assert (done.returncode, done.stderr) == (0, "")
    assert (project / "data/raw/refused.jsonl").read_text() == '{"name": "zz.png", "reason": "a FIFO"}\n'


def test_preprocess_refuses_no_originals_no_images_and_too_few(project):
    assert_refused(project, "preprocess", "data/raw/manifest.jsonl does not exist; allowed: a folder made by ingest")
    assert run(project, "ingest").returncode == 0
    assert run(project, "preprocess").returncode == 0
    change(project, "holdout", "0.0000001")
    assert_refused(
        project, "preprocess", "leaves 12 in train and 0 in holdout of 12 different images; allowed: at least 2"
    )
    (project / "words").mkdir()
    (project / "words" / "README.md").write_text("words")
    change(project, "source", "words")
    assert run(project, "ingest").returncode == 0
    assert_refused(project, "preprocess", "no usable image: 1 not an image: looks like text; allowed: PNG")


@pytest.mark.parametrize("stage", ["ingest", "preprocess"])
def test_every_stage_refuses_wrong_params(project, stage):
    change(project, "resolution", "48")
    assert_refused(project, stage, "preprocess.resolution is 48; allowed: a power of two")
    (project / "params.yaml").unlink()
    assert_refused(project, stage, "params.yaml")


@pytest.fixture
def small_disk(project):
    """data/ of the project on a file system of one megabyte."""
    data = project / "data"
    data.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "small", data], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield data
    subprocess.run(["umount", data], check=True)


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(project, small_disk):
    for shade in range(100):
        size = (200, 200) if shade % 2 else (100, 100)
        Image.effect_noise(size, shade + 1).save(project / "art" / f"noise {shade}.png")
    assert_refused(project, "ingest", "No space left on device")
    assert not list(small_disk.iterdir())
    for path in (project / "art").glob("noise*"):
        path.unlink()
    assert run(project, "ingest").returncode == 0
    change(project, "resolution", "256")
    change(project, "channel_base", "1024")
    assert_refused(project, "preprocess", "No space left on device")
    assert {path.name for path in small_disk.iterdir()} == {"raw"}
    change(project, "resolution", "32")
    assert run(project, "preprocess").returncode == 0
