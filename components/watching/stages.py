"""What DVC's files tell of the stages: dvc.yaml their names, dvc.lock what they were made of, rwlock who works."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.config import read_yaml
from components.watching.locks import writers

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
    at_work = writers(project)
    digests = {out["path"]: out.get("md5") for entry in made.values() for out in entry.get("outs", [])}
    found = []
    for name, stage in listed.items():
        pid = next((at_work[path] for path in map(str, _outs(project, stage)) if path in at_work), None)
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
