"""DVC's locks on what stages read and write: who holds them, and those that nobody has let go of."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path
from typing import Any

import psutil

from components.data.files import write_json

RWLOCK = Path(".dvc/tmp/rwlock")


def writers(project: Path) -> dict[str, int]:
    """Who makes an output now: the pid by its absolute path."""
    try:
        entries = json.loads((project / RWLOCK).read_text(encoding="utf-8")).get("write", {})
    except (OSError, ValueError):  # not there, or just being written
        return {}
    return {path: entry["pid"] for path, entry in entries.items() if is_dvc(entry["pid"])}


def mend(project: Path) -> bool:
    """Takes away locks of processes that are no DVC any more, and a file of locks that a kill left half-written.

    DVC itself takes those away whose process is gone; but after a restart of the machine its number may be another's.

    Returns:
        Whether there was anything to take away.
    """
    locks = project / RWLOCK
    with locks.with_suffix(".lock").open("a") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # as DVC does
        try:
            held: dict[str, dict[str, Any]] = json.loads(locks.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return False
        except ValueError:
            locks.unlink()
            return True
        kept = {
            "write": {path: info for path, info in held.get("write", {}).items() if is_dvc(info["pid"])},
            "read": {path: [i for i in infos if is_dvc(i["pid"])] for path, infos in held.get("read", {}).items()},
        }
        if kept == {"write": {}, "read": {}} | held:
            return False
        write_json(locks, kept)
        return True


def is_dvc(pid: int) -> bool:
    """Whether a process is there and is DVC's: the number of one that is gone may be another's by now."""
    try:
        return any("dvc" in word for word in psutil.Process(pid).cmdline())
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:  # another user's
        return True
