"""Work for executors that goes wrong in a worker."""

import os
import signal
import time

from components.config import InputError


def kill_once(number, folder):
    """Kills its own process the first time it meets a multiple of 7."""
    mark = folder / str(number)
    if number % 7 == 0 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def refuse(number):
    raise InputError(f"{number} is not wanted")


def policy(_):
    return os.sched_getscheduler(0)


def visible_gpu(seconds):
    """After a while, so that all workers are needed."""
    time.sleep(seconds)
    return os.environ.get("CUDA_VISIBLE_DEVICES")
