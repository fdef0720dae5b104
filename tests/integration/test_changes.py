"""`python -m components.data.changes` on real git and DVC: from the working tree, the cache or a remote."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from components import processes

ROOT = Path(__file__).parents[2]
GIT_IDENTITY = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
DVC_YAML = "stages: {preprocess: {cmd: 'true', outs: [data/shards]}}"
THREE = {"a": "train", "b": "train", "c": "holdout"}
FOUR = {**THREE, "d": "train"}
LESS = "allowed: a version that dvc repro has made, and that the cache or the remote still has\n"


def run(folder, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env=processes.environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


def changes(folder, *revisions):
    return run(folder, "components.data.changes", *revisions)


def dvc(folder, *arguments):
    code, out, error = run(folder, "dvc", *arguments)
    assert code == 0, out + error


def git(folder, *arguments):
    subprocess.run(["git", *GIT_IDENTITY, *arguments], cwd=folder, check=True)


def commit(folder, tag):
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", tag)
    git(folder, "tag", tag)


def make_data(folder, images, digest):
    """What preprocess writes, without pixels."""
    shards = folder / "data/shards"
    shutil.rmtree(shards, ignore_errors=True)
    shards.mkdir(parents=True)
    rows = ({"split": split, "digest": name, "name": f"{name}.png"} for name, split in images.items())
    counts = {"in": len(images), "kept": len(images), "rejected": 0, "duplicates": 0, "holdout": 1}
    report = {**counts, "train": len(images) - 1, "preprocess": {"resolution": 32}}
    (shards / "index.json").write_text(json.dumps({"digest": digest}))
    (shards / "images.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (shards / "rejected.jsonl").write_text("")
    (shards / "report.json").write_text(json.dumps(report))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Commits `bare` (no data yet), `three` and `four`, all pushed; the working tree is as in `four`."""
    folder = tmp_path_factory.mktemp("changes") / "project"
    folder.mkdir()
    git(folder, "init", "--quiet")
    dvc(folder, "init")
    dvc(folder, "remote", "add", "--default", "store", "../remote")
    (folder / "dvc.yaml").write_text(DVC_YAML)
    (folder / ".gitignore").write_text("/data\n")
    commit(folder, "bare")
    for images, tag in ((THREE, "three"), (FOUR, "four")):
        make_data(folder, images, digest=tag * 4)
        dvc(folder, "commit", "--force")
        commit(folder, tag)
        dvc(folder, "push")
    return folder


@pytest.fixture
def clone(project, tmp_path):
    """A clone without cache and data; its remote is the folder beside it."""
    folder = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", str(project), str(folder))
    return folder


def test_two_commits_and_the_working_tree(project):
    words = "other data\ncounts: in 3 → 4, kept 3 → 4, train 2 → 3\nnew: 1 (d.png)\n"
    assert changes(project, "three", "four") == (0, f"'three' threethreeth → 'four' fourfourfour\n{words}", "")
    assert changes(project, "three") == (0, f"'three' threethreeth → the working tree fourfourfour\n{words}", "")
    same = "'HEAD' fourfourfour → the working tree fourfourfour\nthe same data\n"
    assert changes(project) == (0, same, "")
    make_data(project, THREE, digest="three" * 4)
    try:
        words = "other data\ncounts: in 4 → 3, kept 4 → 3, train 3 → 2\ngone: 1 (d.png)\n"
        assert changes(project) == (0, f"'HEAD' fourfourfour → the working tree threethreeth\n{words}", "")
    finally:
        make_data(project, FOUR, digest="four" * 4)


def test_a_clone_reads_from_the_remote_and_says_what_is_missing(project, clone):
    shutil.copytree(project.parent / "remote", clone.parent / "remote")
    assert changes(clone, "three", "four")[0] == 0
    shutil.rmtree(clone.parent / "remote")
    again = clone.parent / "again"
    git(clone.parent, "clone", "--quiet", str(clone), str(again))
    code, out, error = changes(again, "three")
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert error.startswith("error: the data of 'three' cannot be read: [Errno 2] No such file")
    assert error.endswith(LESS)


def test_no_such_revision_and_no_data_yet(project):
    code, out, error = changes(project, "nope")
    assert (code, out) == (2, "")
    assert error == (
        "error: the data of 'nope' cannot be read: unknown Git revision 'nope'; "
        "allowed: a branch, tag or commit of this project\n"
    )
    code, out, error = changes(project, "bare")
    assert (code, out, error) == (2, "", f"error: the data of 'bare' cannot be read: no data/shards there; {LESS}")


def test_outside_a_project(tmp_path):
    code, out, error = changes(tmp_path)
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert "is not a git repository; allowed: a branch" in error
