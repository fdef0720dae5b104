"""A run with other values in a copy of the checkout: real git and DVC, on a DAG of two stages that take no time."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from components.config import InputError
from components.config.overlay import laid_over
from flows.copies import FOLDER
from flows.experiments import isolated
from flows.stages import StageError
from tests.conditions import until
from tests.conftest import ROOT, make_project

STAGE = """
import json, pathlib, sys, yaml

params = yaml.safe_load(pathlib.Path("params.yaml").read_text())
if sys.argv[1] == "ingest":
    source = pathlib.Path(params["ingest"]["source"])
    files = {path.name: path.read_text() for path in (source.iterdir() if source.is_dir() else [source])}
    pathlib.Path("data").mkdir(exist_ok=True)
    pathlib.Path("data/raw").write_text(json.dumps(files, sort_keys=True))
else:
    for folder in ("models", "reports"):
        pathlib.Path(folder).mkdir(exist_ok=True)
    pathlib.Path("models/candidate").write_text(str(params["train"]["gamma"]))
    pathlib.Path("reports/metrics.json").write_text(json.dumps({"gamma": params["train"]["gamma"]}))
print("version one")
"""
DAG = {
    "ingest": {
        "cmd": "python stage.py ingest",
        "params": ["ingest"],
        "deps": ["stage.py", "${ingest.source}"],
        "outs": ["data/raw"],
    },
    "train": {
        "cmd": "python stage.py train",
        "params": ["train"],
        "deps": ["data/raw"],
        "outs": ["models/candidate"],
        "metrics": [{"reports/metrics.json": {"cache": False}}],
    },
}
NOT_ITS_FILES = {".git", ".experiments", ".dvc", "runs", ".cache", "mlruns"}
GAMMA = {"train.gamma": 0.5}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A project whose chain has run, which nobody has committed."""
    made = make_project(tmp_path_factory.mktemp("done") / "project")
    (made.path / "stage.py").write_text(STAGE)
    (made.path / "dvc.yaml").write_text(yaml.safe_dump({"stages": DAG}, sort_keys=False))
    made.commit()
    assert made.run("dvc", "repro").returncode == 0
    return made.path


@pytest.fixture
def checkout(done, tmp_path, monkeypatch):
    """A copy of it, whose code has changed since, as the current folder."""
    path = tmp_path / "above/project"
    shutil.copytree(done, path, symlinks=True)
    (path / "stage.py").write_text(STAGE.replace("version one", "version two"))
    monkeypatch.chdir(path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///unused.db")  # with one there is no store to be made
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return path


def dvc(*arguments):
    command = [sys.executable, "-m", "dvc", *arguments]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = os.environ | {"PATH": path, "COLUMNS": "1000"}  # dvc breaks its lines
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def git(*arguments, cwd=None):
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True, cwd=cwd).stdout


def run(overrides, preset=""):
    """An experiment whose stages run; its name and what they said."""
    lines = []
    with isolated(preset, overrides, lines.append) as name:
        said = dvc("repro", "--single-item", "ingest") + dvc("repro", "--single-item", "train")
    assert name in lines[0]
    return name, said


def state(checkout):
    """Its files, and what git thinks of them and of its branches."""
    files = (
        path
        for path in checkout.rglob("*")
        if path.is_file() and path.relative_to(checkout).parts[0] not in NOT_ITS_FILES
    )
    return (
        {path: path.read_bytes() for path in files},
        git("status", "--porcelain"),
        git("for-each-ref", "refs/heads", "refs/stash"),
        (checkout / ".git/index").read_bytes(),
    )


def copies():
    return [path.name for path in FOLDER.iterdir()]


def experiments():
    """What dvc exp show tells of the commit's experiments, by name."""
    baseline = json.loads(dvc("exp", "show", "--json"))[1]
    return {found["name"]: found["revs"][0]["data"] for found in baseline["experiments"] or []}


def test_the_checkout_stays_as_it_is_and_the_experiment_can_be_applied_to_it(checkout):
    before, wanted = state(checkout), laid_over("", GAMMA)[0]
    name, said = run(GAMMA)
    assert state(checkout) == before
    assert not copies()
    assert name.startswith("train.gamma-0.5-")
    assert said.count("version two") == 2  # what is not committed
    found = experiments()[name]
    assert found["params"]["params.yaml"]["data"]["train"]["gamma"] == 0.5
    assert found["metrics"]["reports/metrics.json"]["data"] == {"gamma": 0.5}
    dvc("exp", "apply", name)
    assert (checkout / "params.yaml").read_text() == wanted
    assert (checkout / "models/candidate").read_text() == "0.5"
    assert "up to date" in dvc("status")
    assert not (checkout / "runs").is_symlink()


def test_values_that_params_have_run_in_the_checkout(checkout):
    lines = []
    with isolated("", {"train.gamma": 10.0}, lines.append) as name:
        assert (name, Path.cwd(), lines) == ("", checkout, [])
    assert not FOLDER.exists()


def test_the_same_parameters_again_have_nothing_to_do_and_other_code_is_another_experiment(checkout):
    name, _ = run(GAMMA)
    again, said = run(GAMMA)
    assert again == name
    assert said.count("didn't change, skipping") == 2
    (checkout / "stage.py").write_text(STAGE)
    other, said = run(GAMMA)
    assert other != name
    assert said.count("is cached - skipping run") == 2  # one was run in the checkout, the other just now
    assert set(experiments()) == {name, other}


@pytest.mark.parametrize("source", ["art [new] * #1", "../../elsewhere/art", "one.txt"])
def test_sources_that_git_does_not_track_are_there_and_are_not_kept(checkout, source):
    place = Path(os.path.normpath(checkout / source))
    if place.suffix:
        place.write_text("a picture")
    else:
        place.mkdir(parents=True)
        (place / "one.txt").write_text("a picture")
    before = state(checkout)
    name, _ = run({"ingest.source": source})
    assert state(checkout) == before
    assert (place / "one.txt" if place.is_dir() else place).read_text() == "a picture"
    changed = git("diff", "--name-only", "HEAD", experiment_ref(name)).split()
    assert sorted(changed) == ["dvc.lock", "params.yaml", "reports/metrics.json", "stage.py"]
    dvc("exp", "apply", name)
    assert json.loads((checkout / "data/raw").read_text()) == {"one.txt": "a picture"}
    assert "up to date" in dvc("status")


def experiment_ref(name):
    return next(ref for ref in git("for-each-ref", "--format=%(refname)", "refs/exps").split() if ref.endswith(name))


def test_a_source_that_git_tracks_in_part_is_refused(checkout):
    (checkout / "sources/another.yaml").write_text("kind: drawn")
    with pytest.raises(InputError, match=r"ingest.source is 'sources', of which git tracks a part; allowed: "):
        run({"ingest.source": "sources"})
    assert not copies()


def test_a_failure_leaves_the_copy_for_the_next_start_and_a_users_error_does_not(checkout):
    with pytest.raises(StageError), isolated("", GAMMA, print):
        raise StageError("killed")
    (kept,) = copies()
    (FOLDER / kept / "data/half").touch()
    with isolated("", GAMMA, print):
        assert Path("data/half").exists()
    assert not copies()
    with pytest.raises(InputError), isolated("", GAMMA, print):
        raise InputError("x is 3; allowed: 4")
    assert not copies()


def test_what_a_kill_left_of_a_copy_is_in_nobodys_way(checkout):
    (FOLDER / ".partial/.git").mkdir(parents=True)
    (FOLDER / ".partial/index.lock").touch()
    run(GAMMA)
    assert not copies()


SCRIPT = """
from flows.experiments import isolated
with isolated("", {"train.gamma": 0.5}, print):
    print("inside", flush=True)
    input()
"""


def test_who_leaves_a_copy_last_removes_it(checkout):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", SCRIPT], text=True, **pipes) as other:
        until(lambda: other.stdout.readline() == "inside\n")
        name, _ = run(GAMMA)
        assert copies() == [name]
        _, _ = other.communicate("go on\n")
    assert other.returncode == 0
    assert not copies()
    assert experiments()[name]["metrics"]["reports/metrics.json"]["data"] == {"gamma": 0.5}


def test_dvcs_cache_and_remotes_are_the_checkouts(checkout):
    dvc("remote", "add", "--default", "store", "../store")
    dvc("config", "--local", "core.remote", "mine")
    dvc("remote", "add", "--local", "mine", "../mine")
    there = dvc("remote", "list"), dvc("cache", "dir")
    assert there[0].split() == ["store", f"{checkout.parent}/store", "mine", f"{checkout.parent}/mine", "(default)"]
    with contextlib.suppress(InputError), isolated("", GAMMA, print):
        assert (dvc("remote", "list"), dvc("cache", "dir")) == there
        raise InputError("enough")


def test_a_shallow_clone_will_do(checkout, tmp_path, monkeypatch):
    git("clone", "--quiet", "--depth", "1", f"file://{checkout}", str(tmp_path / "clone"))
    monkeypatch.chdir(tmp_path / "clone")
    name, _ = run(GAMMA)
    assert name in experiments()
    git("fsck", "--connectivity-only")


def test_a_checkout_without_a_commit_is_refused_and_so_are_wrong_values(checkout):
    with pytest.raises(InputError, match=r"unknown key train\.gama"):
        run({"train.gama": 1})
    shutil.rmtree(".git")
    git("init", "--quiet")
    with pytest.raises(
        InputError, match=r"Needed a single revision; allowed with other values than params.yaml's: a commit"
    ):
        run(GAMMA)
