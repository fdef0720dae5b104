"""The DVC stages' entry points, and how a stage ends: by its dvc's death, wrong input or a full disk."""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import parent_process
from typing import Any

from components.config import InputError, UnavailableError

PR_SET_PDEATHSIG = 1
REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR)


def _hear_dvc_die() -> None:
    """DVC, killed, would leave its stage running. With the import of this package, before those that take seconds."""
    by_dvc_alone = "DVC_STAGE" in os.environ and "BESTIARY_SUPERVISED" not in os.environ  # components/processes.py
    if by_dvc_alone and parent_process() is None and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGUSR1)


_hear_dvc_die()
if sys.argv[0] == "-m":  # a stage begins, and what it imports stays: to look for garbage there takes a third longer
    gc.disable()


class _Heard:
    """A stream to someone who may be gone, or to a disk that may be full: what it does not take is lost, no more."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def stage(main: Callable[[], None]) -> None:
    """Runs a stage; bad input, and a file system that refuses, become one line `error: …` on stderr and exit code 2.

    What is not there now is exit code 1, as any failure is that another try may mend.
    """
    sys.stdout, sys.stderr = _Heard(sys.stdout), _Heard(sys.stderr)
    gc.freeze()
    gc.enable()
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
    finally:
        gc.freeze()  # the process ends: nobody needs to look for garbage once more
    print(" ".join(said.split()), file=sys.stderr)
    sys.exit(code)
