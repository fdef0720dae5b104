"""Registered generators: a candidate becomes a version, a version is judged and named, a models:/ URI becomes a folder.

Aliases: `challenger` is the version registered last, `champion` the best measured so far. A person may move either.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from components.config import InputError
from components.tracking.packaging import ARTIFACT, log_generator
from components.tracking.runs import DATA_DIGEST, GIT_COMMIT, RUN_KEY, git_commit

CHALLENGER, CHAMPION = "challenger", "champion"
NIMG, GENERATOR_DIGEST = "bestiary.nimg", "bestiary.generator_digest"
HOLDOUT_FRECHET = "bestiary.holdout_frechet"
EXTRACTOR_DIGEST, SAMPLES, HOLDOUT_DIGEST = "bestiary.extractor_digest", "bestiary.samples", "bestiary.holdout_digest"
VERDICT = "bestiary.verdict"
YARDSTICK = {EXTRACTOR_DIGEST: "extractor", SAMPLES: "N", HOLDOUT_DIGEST: "holdout"}
MUST_BEAT = ("untrained", "mean_image", "repeated_image")  # where there is no champion
URI_FORM = "models:/NAME@ALIAS, models:/NAME/VERSION, or a folder with config.json and generator.safetensors"


@dataclass(frozen=True)
class Row:
    """One comparison of the holdout distance: lower is better."""

    against: str  # a baseline's name, or "champion v2"
    value: float | None  # its distance; None where it carries none
    own: float
    passed: bool
    reason: str = ""  # why the two cannot be compared


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


def register(model: str, candidate: Path, metrics: Mapping[str, Any], run_id: str) -> str:
    """Registers the candidate, or finds the version that is this very candidate. Returns the version."""
    client, training = MlflowClient(), json.loads((candidate / "training.json").read_text(encoding="utf-8"))
    identity = {
        RUN_KEY: training["run_key"],
        NIMG: str(training["nimg"]),
        GENERATOR_DIGEST: _digest(candidate),
    }
    for known in _versions(client, model):
        if identity.items() <= known.tags.items():
            for key, value in _measured(metrics).items():
                client.set_model_version_tag(model, known.version, key, value)
            return str(known.version)
    lineage = {GIT_COMMIT: git_commit(), DATA_DIGEST: training["data_digest"]}
    return log_generator(candidate, model, run_id, training["nimg"], identity | lineage | _measured(metrics))


def promote(model: str, version: str, metrics: Mapping[str, Any]) -> tuple[str, list[Row]]:
    """Names the version `challenger`, and `champion` as well if it earns it. Returns its highest alias and the verdict.

    It earns it by a lower holdout distance than the champion's, by the same extractor, N and holdout images; where
    there is no champion, than those of the untrained generator, the mean image and one repeated image.
    """
    client = MlflowClient()
    client.set_registered_model_alias(model, CHALLENGER, version)
    champion = _champion(client, model)
    if champion and str(champion.version) == version:
        return CHAMPION, _earlier_verdict(champion, metrics) or _against_baselines(metrics)
    rows = [_against_champion(champion, metrics)] if champion else _against_baselines(metrics)
    client.set_model_version_tag(model, version, VERDICT, json.dumps([asdict(row) for row in rows]))
    if not all(row.passed for row in rows):
        return CHALLENGER, rows
    client.set_registered_model_alias(model, CHAMPION, version)
    return CHAMPION, rows


def _own(metrics: Mapping[str, Any]) -> float:
    return float(metrics["holdout"][f"frechet_{metrics['extractor']}"])


def _measured(metrics: Mapping[str, Any]) -> dict[str, str]:
    """The tags that say how good a version is, and by which yardstick."""
    return {
        HOLDOUT_FRECHET: repr(_own(metrics)),
        EXTRACTOR_DIGEST: metrics["extractor_digest"],
        SAMPLES: str(metrics["samples"]),
        HOLDOUT_DIGEST: metrics["holdout_digest"],
    }


def _against_baselines(metrics: Mapping[str, Any]) -> list[Row]:
    own, baselines = _own(metrics), metrics["holdout"]["baselines"]
    return [Row(name, baselines[name], own, own < baselines[name]) for name in MUST_BEAT]


def _against_champion(champion: ModelVersion, metrics: Mapping[str, Any]) -> Row:
    own, tags, measured = _own(metrics), champion.tags, _measured(metrics)
    value = float(tags[HOLDOUT_FRECHET]) if HOLDOUT_FRECHET in tags else None
    differing = [label for key, label in YARDSTICK.items() if tags.get(key) != measured[key]]
    reason = f"measured with another {' and '.join(differing)}" if differing else ""
    passed = value is not None and not reason and own < value
    return Row(f"champion v{champion.version}", value, own, passed, reason)


def _earlier_verdict(champion: ModelVersion, metrics: Mapping[str, Any]) -> list[Row]:
    """What the champion was judged by, if that was on these same numbers."""
    rows = [Row(**row) for row in json.loads(champion.tags.get(VERDICT, "[]"))]
    return rows if all(row.own == _own(metrics) for row in rows) else []


def _registered(client: MlflowClient, name: str) -> RegisteredModel | None:
    return next(iter(client.search_registered_models(f"name = '{name}'")), None)


def _versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    return sorted(client.search_model_versions(f"name = '{name}'"), key=lambda found: int(found.version))


def _champion(client: MlflowClient, name: str) -> ModelVersion | None:
    registered = _registered(client, name)
    version = registered.aliases.get(CHAMPION) if registered else None
    return client.get_model_version(name, version) if version else None


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
