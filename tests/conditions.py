"""Waiting in tests: for conditions, not for times."""

import time


def until(condition, timeout_s=400):
    """Waits for a condition and returns its value."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.02)
    return value
