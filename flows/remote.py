"""Whether there is a place to push to, asked before a run begins; needs no Prefect."""

from __future__ import annotations

import sys

from components import processes
from components.config import InputError


def require_remote() -> None:
    """Asks DVC for its default remote.

    Raises:
        InputError: there is none.
    """
    said: list[str] = []
    if processes.run([sys.executable, "-m", "dvc", "config", "core.remote"], on_line=said.append) or not said:
        raise InputError("push is true and DVC has no default remote; allowed: after dvc remote add --default NAME URL")
