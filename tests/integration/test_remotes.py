"""The data's way through DVC remotes, a folder and S3 on a loopback server: there, back, made anew, and grown."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
from dataclasses import replace

import boto3
import pytest
from PIL import Image

from components.data.node_cache import local_shards, project_files
from components.data.procedural import draw_creature
from tests.stores import address_of, moto_at

CREATURES, ADDED = 60, 3
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def endpoint():
    """An S3 server with the bucket `bestiary`."""
    with moto_at() as server:
        url = address_of(server)
        client = boto3.client(
            "s3", endpoint_url=url, aws_access_key_id="key", aws_secret_access_key="secret", region_name="us-east-1"
        )
        client.create_bucket(Bucket="bestiary")
        client.close()
        yield url


@pytest.fixture(scope="module")
def source(module_project):
    """The project with a folder of pictures as its source, preprocessed and committed."""
    folder = module_project.path / "pictures"
    folder.mkdir()
    add_pictures(folder, range(CREATURES))
    module_project.set({"ingest.source": "pictures", "preprocess.holdout": 0.2})
    dvc(module_project, "repro", "preprocess")
    module_project.commit()
    return module_project


@pytest.fixture(params=["folder", "s3"])
def connect(request, tmp_path):
    """Sets a copy's default remote, as docs/operations.md says."""

    def folder(project):
        dvc(project, "remote", "add", "--local", "--default", "store", str(tmp_path / "remote"))

    def s3(project):
        dvc(project, "remote", "add", "--local", "--default", "store", "s3://bestiary/dvc")
        dvc(project, "remote", "modify", "--local", "store", "endpointurl", request.getfixturevalue("endpoint"))

    return {"folder": folder, "s3": s3}[request.param]


def add_pictures(folder, numbers):
    for number in numbers:
        Image.fromarray(draw_creature(7, number, 32)).save(folder / f"{number:03d}.png")


def members(bucket):
    with tarfile.open(bucket) as archive:
        return archive.getnames()


def dvc(project, *arguments):
    done = project.run(sys.executable, "-m", "dvc", *arguments, **KEYS)
    assert done.returncode == 0, done.stdout
    return done.stdout


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def clone(project, folder):
    subprocess.run(["git", "clone", "--quiet", project.path, folder], check=True)
    return replace(project, path=folder)


def test_there_and_back(source, connect, tmp_path, monkeypatch):
    connect(source)
    dvc(source, "push", "data/raw", "data/shards")
    try:
        there = clone(source, tmp_path / "clone")
        connect(there)
        assert not (there.path / "data").exists()
        dvc(there, "pull", "data/raw", "data/shards")
        for name in ("data/raw", "data/shards"):
            assert contents(there.path / name) == contents(source.path / name)
        assert dvc(there, "status", "ingest", "preprocess").endswith("Data and pipelines are up to date.\n")
        assert "Running stage" not in dvc(there, "repro", "preprocess")

        for name, value in KEYS.items():
            monkeypatch.setenv(name, value)
        digest = json.loads((source.path / "data/shards/index.json").read_text())["digest"]
        on_node = local_shards(tmp_path / "nowhere", digest, project_files(source.path), tmp_path / "node")
        assert contents(on_node) == contents(source.path / "data/shards")
    finally:
        (source.path / ".dvc/config.local").unlink()


def test_shards_made_anew_from_the_originals_are_the_same_bytes(source, tmp_path):
    there = clone(source, tmp_path / "clone")
    shutil.copytree(source.path / "data/raw", there.path / "data/raw")
    ran = dvc(there, "repro", "--force", "--single-item", "--no-run-cache", "preprocess")
    assert re.findall(r"Running stage '(\w+)'", ran) == ["preprocess"]
    assert contents(there.path / "data/shards") == contents(source.path / "data/shards")
    assert there.run("git", "status", "--short").stdout == ""


def test_a_few_more_pictures_touch_their_buckets_alone(source, tmp_path):
    there = clone(source, tmp_path / "clone")
    shutil.copytree(source.path / ".dvc/cache", there.path / ".dvc/cache")
    before = contents(source.path / "data/raw")
    add_pictures(there.path / "pictures", range(CREATURES, CREATURES + ADDED))
    dvc(there, "repro", "preprocess")
    after = contents(there.path / "data/raw")
    new = [there.path / "pictures" / f"{number:03d}.png" for number in range(CREATURES, CREATURES + ADDED)]
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in new}
    touched = {path.name for path in (there.path / "data/raw").glob("*.tar") if digests & set(members(path))}
    assert 1 <= len(touched) <= ADDED
    assert {name for name in before | after if before.get(name) != after.get(name)} == touched | {"manifest.jsonl"}

    told = there.run(sys.executable, "-m", "components.data.changes")
    assert told.returncode == 0, told.stdout
    lines = told.stdout.splitlines()
    assert re.fullmatch(r"'HEAD' \w{12} → the working tree \w{12}", lines[0])
    assert f"new: {ADDED} ({', '.join(path.name for path in new)})" in lines
    assert f"kept {CREATURES} → {CREATURES + ADDED}" in told.stdout
    assert not re.search(r"gone|moved|relabelled|preprocess\.", told.stdout)
