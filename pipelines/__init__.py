"""The DVC stages' entry points, and how a stage ends when a person's input is wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable

from components.config import InputError


def stage(main: Callable[[], None]) -> None:
    """Runs a stage; an InputError becomes one line `error: …` on stderr and exit code 2."""
    try:
        main()
    except InputError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
