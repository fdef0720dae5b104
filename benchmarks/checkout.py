"""A copy of the checkout that a benchmark runs in, so that nothing of the user's own is touched."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from components.config.overlay import nested, overlay


def copy_of_the_checkout(folder: Path, values: Mapping[str, Any], *, images: int, size: int) -> None:
    """What git tracks, as it lies here, with values over its params and drawn images of size² as its source."""
    for name in subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout.splitlines():
        if Path(name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(name, folder / name)
    source = {"kind": "drawn", "count": images, "size": size, "seed": 0}
    (folder / "sources/benchmark.yaml").write_text(json.dumps(source))
    change_params(folder, {"ingest.source": "sources/benchmark.yaml", **values})
    for command in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *command], cwd=folder, check=True)


def change_params(project: Path, values: Mapping[str, Any]) -> None:
    """Writes values by dotted keys into a project's params.yaml."""
    params = project / "params.yaml"
    content = yaml.safe_load(params.read_text(encoding="utf-8"))
    for key, value in values.items():
        content = overlay(content, nested(key, value))
    params.write_text(yaml.safe_dump(content))


def forget(project: Path) -> None:
    """Everything that training and what follows it has left there, but for MLflow's records; the data stays."""
    left = [*project.glob("runs/*"), *(project / name for name in ("models", "reports", "dvc.lock", ".dvc/cache/runs"))]
    for path in left:  # runs/ itself may be a file system of its own
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
