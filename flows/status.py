"""`python -m flows.status [--json]`: what the stages and the current run have come to, told from files alone."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from components.config import InputError, load_params
from components.watching.current import current
from components.watching.run import Standing, span, standing
from components.watching.stages import stages

SHOWN = 5  # failures and rollbacks, the newest


def main() -> int:
    """Prints a table or one JSON object; returns the exit code: 2 for a user's error."""
    parser = argparse.ArgumentParser(prog="python -m flows.status", description=main.__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    flags = parser.parse_args()
    try:
        found = gather(Path())
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if flags.json:
        print(json.dumps(found))
    else:
        Console(soft_wrap=not sys.stdout.isatty()).print(*tables(found), sep="\n")
    return 0


def gather(project: Path) -> dict[str, Any]:
    """{"stages": […], "run": {…} or None, "note": …}: components.watching's Stage and Standing as plain dicts.

    Raises:
        InputError: params.yaml or dvc.yaml is not what it should be, or a run's file is damaged.
    """
    params = load_params(project / "params.yaml")
    run, note = current(params, project)
    told: Standing | None = None
    if run is not None:
        told = standing(run, params.train.total_kimg, params.evaluate.metric)
    return {
        "stages": [asdict(stage) for stage in stages(project)],
        "run": asdict(told) if told else None,
        "note": note,
    }


def tables(found: dict[str, Any]) -> list[Table | Text]:
    """The same for a person."""
    table = Table("stage", "state")
    for stage in found["stages"]:
        pid = f" (PID {stage['pid']})" if stage["pid"] else ""
        table.add_row(stage["name"], stage["state"] + pid)
    facts = Table(show_header=False)
    for name, text in (_facts(found["run"]) if found["run"] else {"run": "none yet"}).items():
        facts.add_row(name, Text(text))  # what failed may have [brackets]
    return [table, facts, *([Text(found["note"])] if found["note"] else [])]


def _facts(run: dict[str, Any]) -> dict[str, str]:
    shown = run["progress"]
    left = max(0.0, shown["target_kimg"] - shown["kimg"])
    metric = run["metric"]
    return {
        "run": f"{shown['key']}, {'training now' if run['training'] else 'not training'}",
        "kimg": f"{shown['kimg']:.1f} of {shown['target_kimg']:g}, {left:.1f} left",
        "time left": span(shown["seconds_left"]),
        "images/s": f"{_number(shown['images_per_s'])} now, {_number(shown['images_per_s_mean'])} mean",
        "last checkpoint": _number(run["checkpoint_kimg"], " kimg, ")
        + (f"{span(run['checkpoint_age_s'])} ago" if run["checkpoint_age_s"] is not None else ""),
        "last metric": f"{metric['name']} {metric['value']:.4g} at {metric['kimg']:.1f} kimg" if metric else "–",
        "restarts": str(max(0, run["starts"] - 1)),
        "failures": "\n".join([str(len(run["failures"])), *map(_event, run["failures"][-SHOWN:])]),
        "rollbacks": "\n".join([str(len(run["rollbacks"])), *map(_event, run["rollbacks"][-SHOWN:])]),
        "disk left": f"{run['disk_free_gib']:.1f} GiB",
    }


def _event(line: dict[str, Any]) -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(line["time"] / 1000))
    back = f"{line['until'] / 1000:.1f} → " if "until" in line else ""
    return f"{when}  {back}{line['nimg'] / 1000:.1f} kimg  {line['reason']}"


def _number(value: float | None, unit: str = "") -> str:
    return "–" if value is None else f"{value:.1f}{unit}"


if __name__ == "__main__":
    sys.exit(main())
