"""python -m pipelines.promote yes|no: a person's decision on the version that waits, and the register stage again.

The stage is what moves the alias, so that reports/ and dvc.lock tell the same as MLflow.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from filelock import FileLock

from components import processes
from components.config import InputError, UnavailableError
from components.tracking import approval, runs
from pipelines import stage

REGISTERED, LOCK = Path("reports/registered.json"), Path(".dvc/tmp/decision.lock")
APPLY = [sys.executable, "-m", "dvc", "repro", "--force", "--single-item", "register"]


def main() -> None:
    """Records the decision in MLflow and runs the register stage, which reads it there."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.promote", description=__doc__.partition("\n")[0])
    parser.add_argument("answer", choices=("yes", "no"), help="whether it becomes the champion")
    parser.add_argument("--by", required=True, metavar="NAME", help="who decides")
    parser.add_argument("--note", default="", metavar="TEXT", help="why")
    flags = parser.parse_args()
    model, version = _registered()
    with FileLock(LOCK), runs.answering():
        made = approval.decide(model, version, approve=flags.answer == "yes", by=flags.by, note=flags.note)
    print(f"models:/{model}/{version}: {made}", flush=True)
    if code := processes.run(APPLY, on_line=lambda line: print(line, flush=True)):
        raise UnavailableError(f"stage register ended with exit code {code}; the same command goes on from there")


def _registered() -> tuple[str, str]:
    """The model and version at hand."""
    try:
        content = json.loads(REGISTERED.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{REGISTERED} is not there; allowed: a registered generator: dvc repro") from None
    return content["model"], str(content["version"])


if __name__ == "__main__":
    stage(main)
