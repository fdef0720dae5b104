"""A Ray worker whose node has no data/shards pulls it from the project's remote, or the run ends in a line."""

import json
import sys

import pytest

SCRIPT = """
import json, sys
from pathlib import Path
from components.cluster import cluster
from components.config import load_params
from components.data.dataset import ImageSet
from components.data.node_cache import project_files
from components.training.ray_trainer import Job, fit
from pipelines import stage

def main():
    params = load_params()
    digest = ImageSet.open(Path("data/shards"), "train").digest
    project = project_files() if sys.argv[1] == "remote" else None
    with cluster(params.execution, params.train.batch) as nodes:
        run, nowhere = Path("runs", sys.argv[1]).resolve(), Path("/nowhere/data/shards")
        fit(Job(params=params, run=run, shards=nowhere, digest=digest, project=project), nodes)

stage(main)
"""


@pytest.fixture(scope="module")
def prepared(module_project):
    """The tiny project, its data made and pushed to a folder; no second try."""
    module_project.set({"execution.max_restarts": 0, "train.total_kimg": 0.2})
    remote = str(module_project.path.parent / "remote")
    for arguments in (["repro", "preprocess"], ["remote", "add", "--local", "-d", "store", remote], ["push"]):
        done = module_project.run(sys.executable, "-m", "dvc", *arguments)
        assert done.returncode == 0, done.stdout
    return module_project


def fit(project, tmp_path, where):
    return project.run(sys.executable, "-c", SCRIPT, where, XDG_CACHE_HOME=str(tmp_path))


def test_a_worker_trains_on_what_its_node_pulled(prepared, tmp_path):
    done = fit(prepared, tmp_path, "remote")
    assert done.returncode == 0, done.stdout
    lines = (prepared.path / "runs/remote/metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["nimg"] == 200
    digest = json.loads((prepared.path / "data/shards/index.json").read_text())["digest"]
    assert {path.name for path in (tmp_path / "bestiary").iterdir()} == {digest, f"{digest}.lock"}


def test_no_data_and_no_remote_is_one_line(prepared, tmp_path):
    done = fit(prepared, tmp_path, "none")
    assert done.returncode == 2, done.stdout
    errors = [line for line in done.stdout.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "is not in /nowhere/data/shards on this node and there is no DVC remote; allowed: a shared" in errors[0]
    assert list(tmp_path.iterdir()) == []
