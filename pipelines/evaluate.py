"""Measures models/candidate against data/shards, with baselines and pictures: `python -m pipelines.evaluate`."""

from __future__ import annotations

import json
from pathlib import Path

from components.config import InputError, load_params
from components.data.dataset import ImageSet
from components.data.files import replacing, write_json
from components.executor import executor
from pipelines import stage

SHARDS, CANDIDATE, REPORTS = Path("data/shards"), Path("models/candidate"), Path("reports")


def main() -> None:
    """data/shards, models/candidate and params.yaml's evaluate → reports/*.json and reports/pictures."""
    params = load_params()
    try:
        run = json.loads((CANDIDATE / "training.json").read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{CANDIDATE}/training.json: {error}; allowed: what the train stage writes") from None
    if run["data_digest"] != ImageSet.open(SHARDS, "train").digest:
        raise InputError(f"{CANDIDATE} was trained on other data than {SHARDS}; allowed: the same: run the train stage")
    gpus = params.execution.device != "cpu"
    with executor(preload="components.evaluation.description", gpus=gpus) as spread:
        from components.evaluation.bench import Bench  # while the workers import the same
        from components.evaluation.evaluate import evaluate, table
        from components.evaluation.gallery import draw

        bench = Bench.build(params.evaluate, SHARDS, gpus)
        report = evaluate(bench, CANDIDATE, spread)
    about = {name: run[name] for name in ("run_key", "nimg", "data_digest")}
    with replacing(REPORTS / "pictures") as folder:
        draw(folder, CANDIDATE, bench, report.copies)
    (REPORTS / "evaluation.json").unlink(missing_ok=True)  # until it fits the numbers again
    write_json(REPORTS / "metrics.json", report.values)
    write_json(REPORTS / "intervals.json", report.ends)
    write_json(REPORTS / "evaluation.json", about | {"yardstick": bench.yardstick, "metric": bench.metric})
    print(table(report.groups, bench.metric, report.alarm))


if __name__ == "__main__":
    stage(main)
