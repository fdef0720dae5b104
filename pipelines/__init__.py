"""The DVC stages' entry points, and how a stage ends when a person's input is wrong or the disk is full."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable

from components.config import InputError


def stage(main: Callable[[], None]) -> None:
    """Runs a stage; an InputError or a full disk becomes one line `error: …` on stderr and exit code 2."""
    try:
        main()
    except InputError as error:
        said = str(error)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        said = f"{error.strerror}: {error.filename or 'where this stage writes'}; what it had begun is removed"
    else:
        return
    print(f"error: {' '.join(said.split())}", file=sys.stderr)
    sys.exit(2)
