"""A clock that can be set, for the Python processes of a flow and of its Ray, while they run.

It moves time.time(), which is what Python code asks; Ray's own programs and datetime keep the machine's clock.
libfaketime, which would move those too, makes time.sleep() of Python 3.11 an error.
"""

from __future__ import annotations

from pathlib import Path

MODULE = """
import os
import time

_file, _time = os.path.join(os.path.dirname(__file__), "clock"), time.time


def _set_clock():
    with open(_file) as file:
        return _time() + float(file.read())


time.time, time.time_ns = _set_clock, lambda: int(_set_clock() * 1e9)
"""


def settable(folder: Path) -> None:
    """From now on the clock of processes that are started with this folder on their PYTHONPATH can be set."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(MODULE)
    set_clock(folder, 0)


def set_clock(folder: Path, seconds: float) -> None:
    """So far off the machine's clock, from now on."""
    fresh = folder / "fresh"
    fresh.write_text(str(seconds))
    fresh.replace(folder / "clock")
