"""The DVC stages' entry points, and how a stage ends when a person's input is wrong or the file system refuses."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
from collections.abc import Callable

from components.config import InputError, UnavailableError

PR_SET_PDEATHSIG = 1
REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR)


def stage(main: Callable[[], None]) -> None:
    """Runs a stage; bad input, and a file system that refuses, become one line `error: …` on stderr and exit code 2.

    What is not there now is exit code 1, as any failure is that another try may mend.
    """
    by_dvc_alone = "DVC_STAGE" in os.environ and "BESTIARY_SUPERVISED" not in os.environ  # components/processes.py
    if by_dvc_alone and sys.platform == "linux":  # dvc, killed, would leave its stage running
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGUSR1)
    try:
        main()
    except InputError as error:
        said, code = f"error: {error}", 2
    except UnavailableError as error:
        said, code = f"error: {error}", 1
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        said, code = f"error: {error.strerror}: {error.filename or 'where this stage writes'}", 2
    except KeyboardInterrupt:
        said, code = "interrupted: what this stage had begun is removed; run it again", 130
    else:
        return
    print(" ".join(said.split()), file=sys.stderr)
    sys.exit(code)
