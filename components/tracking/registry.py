"""Registered generators: a candidate becomes a version, a version is judged and named, a models:/ URI becomes a folder.

Aliases: `challenger` is the version registered last, `champion` the best measured so far. A person may move either, and
where register.promote asks for it, has to agree to a new champion.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlflow
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from components.config import InputError, Register
from components.tracking.gate import Check, Numbers, Rival, judge, margin
from components.tracking.packaging import ARTIFACT, log_generator
from components.tracking.runs import DATA_DIGEST, GIT_COMMIT, RUN_KEY, git_commit

LOCK = Path(".cache/register.lock")  # .cache is one for all experiments of a checkout
Measure = Callable[[Path], Numbers | str]
CHALLENGER, CHAMPION = "challenger", "champion"
NIMG, GENERATOR_DIGEST = "bestiary.nimg", "bestiary.generator_digest"
MEASURED = "bestiary.measured"  # how good, and by what yardstick: JSON
DECIDING = ("holdout", "holdout_low", "holdout_high")  # of metrics.json
VERDICT, CHECKS = "bestiary.verdict", "bestiary.verdict_checks"
DECISION, APPROVED, DECLINED = (
    "bestiary.decision",
    "approved",
    "declined",
)  # a person's: approval.py
URI_FORM = "models:/NAME@ALIAS, models:/NAME/VERSION, or a folder with config.json and generator.safetensors"


@dataclass(frozen=True)
class Subject:
    """A version to be judged."""

    model: str
    version: str
    numbers: Numbers  # reports/metrics.json
    yardstick: Mapping[str, Any]  # what must be equal for two versions to be compared
    metric: str  # the name of the distance that decides


def resolve(uri: str) -> Path:
    """The local folder of a generator: a copy of a registered one that lasts as long as the process, or a folder as is.

    Args:
        uri: models:/NAME@ALIAS, models:/NAME/VERSION, or a path.

    Raises:
        InputError: there is no such model, alias or version (the message names what there is), or no MLflow.
    """
    if not uri.startswith("models:"):
        return Path(uri)
    match = re.fullmatch(r"models:/([^/@'\"]+)(?:@([^/@]+)|/([0-9]+))", uri)
    if match is None:
        raise InputError(f"the model is {uri!r}; allowed: {URI_FORM}")
    name, alias, version = match.groups()
    try:
        registered = _registered(MlflowClient(), name)
        if registered is None:
            raise InputError(f"no model {name!r} is registered; there is {_listed(_model_names())}")
        version = str(registered.aliases.get(alias)) if alias else version
        versions = [str(found.version) for found in _versions(MlflowClient(), name)]
        if version not in versions:
            names = [f"@{known}" for known in sorted(registered.aliases)] + [f"/{known}" for known in versions]
            raise InputError(f"there is no {uri}; there is {_listed([f'models:/{name}{known}' for known in names])}")
        return _download(f"models:/{name}/{version}")
    except (MlflowException, OSError) as error:
        raise InputError(f"{uri}: MLflow does not give it: {str(error).splitlines()[0]}") from None
    except LookupError:
        raise InputError(
            f"{uri} is no generator of this pipeline; allowed: a model that its register stage made"
        ) from None


def register(model: str, candidate: Path, run_id: str) -> str:
    """Registers the candidate, or finds the version that is this very candidate. Returns the version.

    It is the model's `challenger` from then on.
    """
    client, training = MlflowClient(), json.loads((candidate / "training.json").read_text(encoding="utf-8"))
    identity = {
        RUN_KEY: training["run_key"],
        NIMG: str(training["nimg"]),
        GENERATOR_DIGEST: _digest(candidate),
    }
    known = [found for found in _versions(client, model) if identity.items() <= found.tags.items()]
    if known:
        version = str(known[0].version)
    else:
        lineage = {GIT_COMMIT: git_commit(), DATA_DIGEST: training["data_digest"]}
        version = log_generator(candidate, model, run_id, training["nimg"], identity | lineage)
    client.set_registered_model_alias(model, CHALLENGER, version)
    return version


def decide(subject: Subject, rules: Register, measure: Measure) -> tuple[str, list[Check]]:
    """Judges a version and names it `champion` if it passes. Returns its highest alias and the verdict.

    One that a person has declined never is, and where rules.promote is ask, only one that a person has approved.

    A version that is the champion already stays it, by the verdict that made it one: none where a person did.

    One after the other where they share the folder of LOCK: two at once would both beat the same champion.

    Args:
        measure: takes a champion's holdout numbers anew by the subject's yardstick, or says why that cannot be.
    """
    LOCK.parent.mkdir(exist_ok=True)
    with FileLock(LOCK):
        return _decide(subject, rules, measure)


def _decide(subject: Subject, rules: Register, measure: Measure) -> tuple[str, list[Check]]:
    client, model, version = MlflowClient(), subject.model, subject.version
    _record(model, version, subject.numbers, subject.yardstick)
    held = _champion(client, model)
    if held and str(held.version) == version:
        return CHAMPION, [Check(**check) for check in json.loads(held.tags.get(CHECKS, "[]"))]
    checks = judge(subject.numbers, subject.metric, rules.gate, _rival(held, subject, measure) if held else None)
    failed = ", ".join(check.name for check in checks if not check.passed)
    client.set_model_version_tag(model, version, VERDICT, f"not passed: {failed}" if failed else "passed")
    client.set_model_version_tag(model, version, CHECKS, json.dumps([asdict(check) for check in checks]))
    answer = client.get_model_version(model, version).tags.get(DECISION)
    if failed or answer == DECLINED or (rules.promote == "ask" and answer != APPROVED):
        return CHALLENGER, checks
    client.set_registered_model_alias(model, CHAMPION, version)
    return CHAMPION, checks


def describe(model: str, version: str, text: str) -> None:
    """Puts Markdown where MLflow's page of the version shows it."""
    MlflowClient().update_model_version(model, version, text)


def _rival(held: ModelVersion, subject: Subject, measure: Measure) -> Rival:
    """The champion by the subject's yardstick: as it was measured, or measured now."""
    version = int(held.version)
    numbers = json.loads(held.tags.get(MEASURED, "{}"))
    if numbers.get("yardstick") == subject.yardstick:
        return Rival(version, numbers["holdout"][subject.metric], margin(numbers, subject.metric))
    try:
        folder = resolve(f"models:/{subject.model}/{version}")
    except InputError as error:
        return Rival(version, reason=str(error))
    found = measure(folder)
    if isinstance(found, str):
        return Rival(version, reason=found)
    rival = Rival(version, found["holdout"][subject.metric], margin(found, subject.metric))
    _record(subject.model, str(version), found, subject.yardstick)
    return rival


def _record(model: str, version: str, numbers: Numbers, yardstick: Mapping[str, Any]) -> None:
    """Tags a version with what decides of its numbers, and the yardstick they were taken by."""
    kept = {"yardstick": yardstick, **{name: numbers[name] for name in DECIDING}}
    MlflowClient().set_model_version_tag(model, version, MEASURED, json.dumps(kept))


def _champion(client: MlflowClient, name: str) -> ModelVersion | None:
    registered = _registered(client, name)
    version = registered.aliases.get(CHAMPION) if registered else None
    return client.get_model_version(name, version) if version else None


def _registered(client: MlflowClient, name: str) -> RegisteredModel | None:
    return next(iter(client.search_registered_models(f"name = '{name}'")), None)


def _versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    return sorted(client.search_model_versions(f"name = '{name}'"), key=lambda found: int(found.version))


def _model_names() -> list[str]:
    return [found.name for found in MlflowClient().search_registered_models()]


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"


def _download(uri: str) -> Path:
    """Copies a version's generator folder to a temporary one."""
    folder = tempfile.mkdtemp(prefix="bestiary-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Model.load(uri).flavors[mlflow.pyfunc.FLAVOR_NAME]["artifacts"][ARTIFACT]["path"]
    return Path(mlflow.artifacts.download_artifacts(f"{uri}/{path}", dst_path=folder))


def _digest(candidate: Path) -> str:
    """sha256 of config and weights."""
    digest = hashlib.sha256((candidate / "config.json").read_bytes())
    digest.update((candidate / "generator.safetensors").read_bytes())
    return digest.hexdigest()
