"""A champion by a person's word, given by hand: once, to what has passed, and DVC has nothing to do after it."""

import sys

import pytest
from mlflow import MlflowClient

from tests.candidates import MODEL, aliases, decision, dvc, make_measured


@pytest.fixture(scope="module")
def project(module_project):
    return make_measured(module_project)


@pytest.fixture(scope="module")
def mlflow(project):
    return MlflowClient(f"sqlite:///{project.path}/mlflow.db")


def promote(project, *arguments):
    return project.run(sys.executable, "-m", "pipelines.promote", *arguments)


def verdict(project):
    return (project.path / "reports/verdict.md").read_text().splitlines()[0]


def as_trained(project, *seeds):
    """Whether only these were trained, and DVC has nothing to do."""
    trained = (project.path / "trained").read_text().split()
    return trained == list(seeds) and "up to date" in dvc(project, "status")


def test_a_version_that_passes_waits_and_a_persons_yes_makes_it_the_champion(project, mlflow):
    dvc(project, "repro")
    assert verdict(project) == (
        f"models:/{MODEL}/1 is the challenger; waits for a person: python -m pipelines.promote yes --by NAME, or no"
    )
    assert aliases(mlflow) == {"challenger": "1"}
    done = promote(project, "yes", "--by", "ada", "--note", "fine teeth")
    assert done.returncode == 0, done.stdout
    assert aliases(mlflow) == {"challenger": "1", "champion": "1"}
    assert decision(mlflow, "1") == ["approved", "ada", "fine teeth"]
    at = mlflow.get_model_version(MODEL, "1").tags["bestiary.decided_at"]
    assert verdict(project) == f"models:/{MODEL}/1 is the champion; approved by ada at {at}: fine teeth"
    assert mlflow.get_model_version(MODEL, "1").description.splitlines()[0] == verdict(project)
    assert as_trained(project, "0")


def test_a_decision_is_made_once(project, mlflow):
    before = mlflow.get_model_version(MODEL, "1").tags
    again = promote(project, "yes", "--by", "bob")
    assert (again.returncode, mlflow.get_model_version(MODEL, "1").tags) == (0, before)
    other = promote(project, "no", "--by", "bob")
    assert other.returncode == 2
    assert other.stdout == (
        f"error: models:/{MODEL}/1 is approved by ada at {before['bestiary.decided_at']}: fine teeth; "
        "allowed: one decision a version (MLflow moves aliases by hand)\n"
    )
    nobody = promote(project, "yes", "--by", "")
    assert (nobody.returncode, nobody.stdout) == (2, "error: by is ''; allowed: 1 to 1000 letters\n")
    assert aliases(mlflow)["champion"] == "1"
    assert as_trained(project, "0")


def test_a_declined_version_stays_challenger_whatever_params_say(project, mlflow):
    project.set({"train.seed": 1})
    dvc(project, "repro")
    assert promote(project, "no", "--by", "ada").returncode == 0
    project.set({"register.promote": "auto"})
    dvc(project, "repro")
    assert aliases(mlflow) == {"challenger": "2", "champion": "1"}
    assert verdict(project).startswith(f"models:/{MODEL}/2 is the challenger; declined by ada at ")
    assert as_trained(project, "0", "1")


def test_what_the_gate_refuses_cannot_be_approved(project, mlflow):
    project.set({"train.seed": 2, "register.promote": "ask", "register.gate.min_coverage": 0.9})
    dvc(project, "repro")
    done = promote(project, "yes", "--by", "ada")
    assert done.returncode == 2
    assert done.stdout == (
        f"error: models:/{MODEL}/3 is not passed: coverage; allowed: a version that has passed the gate\n"
    )
    assert (decision(mlflow, "3"), aliases(mlflow)["champion"]) == ([None, None, None], "1")
