"""What DVC's files tell of the stages: dvc.yaml their names, dvc.lock what they were made of, rwlock who works."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from components.config import read_yaml

RWLOCK = Path(".dvc/tmp/rwlock")
RUNNING, DONE, CHANGED, OPEN = "running", "done", "changed", "not done"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of dvc.yaml."""

    name: str
    state: str  # running, done, changed (since it was done), not done
    pid: int | None  # of the DVC that runs it


def stages(project: Path) -> list[Stage]:
    """The stages in the file's order.

    A stage is done if its outputs are there and its command, parameters, code and upstream outputs are those of
    dvc.lock. What lies outside the project, and whether outputs were altered by hand, is not looked at: `dvc status`
    does that.
    """
    listed = read_yaml(project / "dvc.yaml")["stages"]
    lock = project / "dvc.lock"
    made = read_yaml(lock)["stages"] if lock.exists() else {}
    params = read_yaml(project / "params.yaml")
    writers = _writers(project)
    digests = {out["path"]: out.get("md5") for entry in made.values() for out in entry.get("outs", [])}
    found = []
    for name, stage in listed.items():
        pid = next((writers[path] for path in map(str, _outs(project, stage)) if path in writers), None)
        if pid is not None:
            state = RUNNING
        elif name not in made or not all(path.exists() for path in _outs(project, stage)):
            state = OPEN
        else:
            state = DONE if _unchanged(project, stage, made[name], params, digests) else CHANGED
        found.append(Stage(name=name, state=state, pid=pid))
    return found


def _outs(project: Path, stage: Any) -> list[Path]:
    names = [*stage.get("outs", []), *stage.get("metrics", [])]
    return [(project / (name if isinstance(name, str) else next(iter(name)))).absolute() for name in names]


def _unchanged(project: Path, stage: Any, made: Any, params: Any, digests: dict[str, str | None]) -> bool:
    recorded = {dep["path"]: dep.get("md5") for dep in made.get("deps", [])}
    return (
        stage["cmd"] == made["cmd"]
        and {dep for dep in stage.get("deps", []) if "$" not in dep} <= set(recorded)
        and made.get("params", {}).get("params.yaml", {}) == {key: params[key] for key in stage.get("params", [])}
        and all(_current(project / path, digests.get(path), digest) for path, digest in recorded.items())
    )


def _current(path: Path, upstream: str | None, digest: str | None) -> bool:
    if upstream is not None:
        return upstream == digest
    if path.suffix == ".py":
        return path.exists() and hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() == digest
    return True


def _writers(project: Path) -> dict[str, int]:
    """Who makes an output now: the pid by its absolute path."""
    try:
        entries = json.loads((project / RWLOCK).read_text(encoding="utf-8")).get("write", {})
    except (OSError, ValueError):  # not there, or just being written
        return {}
    return {path: entry["pid"] for path, entry in entries.items() if psutil.pid_exists(entry["pid"])}
