"""What a finished chain came to, read from its files: for the terminal and as a Prefect artifact."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

QUALITIES = ("precision", "recall", "density", "coverage")
MARKS = {"real": "real against real (the floor)", "blurred_8x8": "reals blurred to 8×8 (the mark)"}


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Facts by name; the deciding distance to the holdout images and what to read it beside, in the order of rows."""

    facts: dict[str, str]
    metric: str
    values: dict[str, float]

    def header(self) -> list[str]:
        return [self.metric, "to the holdout"]

    def rows(self) -> list[list[str]]:
        """The cells under header(), as text."""
        return [[MARKS.get(name, name.replace("_", " ")), f"{value:.4g}"] for name, value in self.values.items()]

    def markdown(self) -> str:
        """Both tables, for Prefect."""
        facts = [["", ""], *([name, value.replace("\n", "<br>")] for name, value in self.facts.items())]
        return _markdown(facts) + "\n" + _markdown([self.header(), *self.rows()])

    def __rich__(self) -> Group:
        """Both tables, for the terminal."""
        facts = Table(show_header=False)
        for name, value in self.facts.items():
            facts.add_row(name, Text(value))  # a person's note may have [brackets]
        distances = Table()
        for column, title in enumerate(self.header()):
            distances.add_column(title, justify="right" if column else "left")
        for row in self.rows():
            distances.add_row(*row)
        return Group(distances, facts)


def summarise(project: Path, *, minutes: float, experiment: str = "") -> Summary:
    """Reads the outputs of a finished chain.

    Args:
        experiment: its name, where the chain ran in a copy that goes.
    """
    metrics = _json(project / "reports/metrics.json")
    registered = _json(project / "reports/registered.json")
    training = _json(project / "models/candidate/training.json")
    run_key, nimg = training["run_key"], training["nimg"]
    run = project / "runs" / run_key
    grid = run / "grids" / f"{nimg:09d}.png"
    pictures = [*sorted((project / "reports/pictures").glob("*.png")), *([grid] if grid.exists() else [])]
    metric = _json(project / "reports/evaluation.json")["metric"]
    holdout, copied = metrics["holdout"], metrics["memorisation"]["share"]
    values = {
        "this generator": holdout[metric],
        "real": metrics["holdout_floor"][metric],
        **metrics["holdout_baselines"],
    }
    facts = {
        "run key": run_key,
        "kimg": f"{nimg / 1000:g}",
        "images/s": _images_per_s(run / "metrics.jsonl", nimg),
        "model": f"{registered['model']} version {registered['version']}, alias {registered['alias']}"
        + (registered["decision"] and f"; {registered['decision']}"),
        "quality": ", ".join(f"{name} {holdout[name]:.3g}" for name in QUALITIES),
        "copies of train images": f"{copied:.1%} of the samples",
        "pictures": "\n".join(str(path.relative_to(project)) for path in pictures),
        **({"its files": f"dvc exp apply {experiment}"} if experiment else {}),
        "look at it all": os.environ.get("MLFLOW_TRACKING_URI") or ".venv/bin/mlflow ui",
        "minutes": f"{minutes:.1f}",
    }
    return Summary(facts=facts, metric=f"{metric} (N = {metrics['counts']['samples']})", values=values)


def _images_per_s(metrics: Path, nimg: int) -> str:
    """Over the whole run up to nimg; a candidate that came from DVC's cache may have no run here."""
    if metrics.exists():
        for line in metrics.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            if record["nimg"] == nimg:
                return f"{nimg / record['seconds']:.1f}"
    return "–"


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _markdown(table: list[list[str]]) -> str:
    head, *body = table
    return "".join(f"| {' | '.join(row)} |\n" for row in [head, ["---"] * len(head), *body])
