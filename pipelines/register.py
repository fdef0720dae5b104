"""Stage 5, python -m pipelines.register: the measured generator into MLflow, where it may become the champion."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from components.config import InputError, load_params
from components.data.files import write_json
from components.tracking import registry, runs
from pipelines import stage

CANDIDATE, REPORTS = Path("models/candidate"), Path("reports")


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {error}; the stages before this one write it: dvc repro") from None
    return content


def main() -> None:
    """Reads models/candidate, reports/ and runs/<run key>; writes reports/registered.json."""
    model = load_params().register.model
    training, metrics = _read(CANDIDATE / "training.json"), _read(REPORTS / "metrics.json")
    key = training["run_key"]
    if (metrics["run_key"], metrics["nimg"]) != (key, training["nimg"]):
        raise InputError(f"{REPORTS}/metrics.json measures another generator than {CANDIDATE}; run dvc repro")
    runs.sync_metrics(key, Path("runs") / key)
    run_id = runs.describe(key, training["train"], training["data_digest"])
    runs.log_results(key, metrics, REPORTS / "pictures")
    version = registry.register(model, CANDIDATE, metrics, run_id)
    alias, verdict = registry.promote(model, version, metrics)
    uri = f"models:/{model}/{version}"
    content = {"model": model, "version": int(version), "alias": alias, "mlflow_run_id": run_id, "uri": uri}
    write_json(REPORTS / "registered.json", content | {"verdict": [asdict(row) for row in verdict]})
    print(f"{uri} is the {alias}; its holdout distance {verdict[0].own:.4g} against")
    for row in verdict:
        value = "unknown" if row.value is None else f"{row.value:.4g}"
        print(f"  {row.against:16} {value:>8}  {'passed' if row.passed else 'not passed'}  {row.reason}".rstrip())


if __name__ == "__main__":
    stage(main)
