"""Stage 5, python -m pipelines.register: the measured generator into MLflow, where it may become the champion."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from components.config import InputError, Params, load_params
from components.data.files import write_bytes, write_json
from components.tracking import approval, gate, registry, runs
from pipelines import stage

SHARDS, CANDIDATE, REPORTS = Path("data/shards"), Path("models/candidate"), Path("reports")


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {error}; the stages before this one write it: dvc repro") from None


def _measure(params: Params, about: dict[str, Any], folder: Path) -> gate.Numbers | str:
    """What decides, of a champion that was measured with other data, extractor or N; or why that cannot be."""
    from components.evaluation.bench import Bench, measure_on_holdout  # torch, which most calls do without

    bench = Bench.build(params.evaluate, SHARDS, gpus=params.execution.device != "cpu")
    if (bench.yardstick, bench.metric) != (about["yardstick"], about["metric"]):
        raise InputError(f"{REPORTS} was measured by other params or data than there are now; run dvc repro")
    return measure_on_holdout(bench, folder)


def main() -> None:
    """Reads models/candidate, reports/, data/shards and runs/<run key>; writes reports/registered.json, verdict.md."""
    params = load_params()
    model = params.register.model
    training, about = _read(CANDIDATE / "training.json"), _read(REPORTS / "evaluation.json")
    numbers = _read(REPORTS / "metrics.json") | _read(REPORTS / "intervals.json")
    if (about["run_key"], about["nimg"]) != (key := training["run_key"], nimg := training["nimg"]):
        raise InputError(f"{REPORTS}/metrics.json measures another generator than {CANDIDATE}; run dvc repro")
    runs.sync_metrics(key, Path("runs") / key)
    run_id = runs.describe(key, training["train"], training["data_digest"])
    runs.log_results(key, numbers, nimg, [REPORTS / "pictures", REPORTS / "history"])
    version = registry.register(model, CANDIDATE, run_id)
    subject = registry.Subject(model, version, numbers, about["yardstick"], about["metric"])
    alias, checks = registry.decide(subject, params.register, partial(_measure, params, about))
    status = approval.status(model, version, alias, checks)
    verdict = gate.table(f"models:/{model}/{version} is the {alias}{status.clause}", checks)
    registry.describe(model, version, verdict)
    write_bytes(REPORTS / "verdict.md", verdict.encode())
    content = {"model": model, "version": int(version), "alias": alias, "mlflow_run_id": run_id, **asdict(status)}
    write_json(REPORTS / "registered.json", content | {"verdict": [asdict(check) for check in checks]})
    print(verdict)


if __name__ == "__main__":
    stage(runs.answering()(main))
