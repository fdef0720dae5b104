"""What every section of params.yaml is checked with."""

from __future__ import annotations

import math

MIN_RESOLUTION, MAX_RESOLUTION = 8, 1024


class InputError(ValueError):
    """What a person gave is wrong: one line that says what, where and what is allowed. Entry points exit with 2."""


class UnavailableError(Exception):
    """What is needed is not there now: one line. Another try may find it, so entry points exit with 1."""


def check(ok: bool, key: str, value: object, allowed: str) -> None:
    if not ok:
        raise InputError(f"{key} is {value!r}; allowed: {allowed}")


def choice(key: str, value: str, allowed: tuple[str, ...]) -> None:
    check(value in allowed, key, value, ", ".join(allowed))


def is_resolution(value: int, low: int = MIN_RESOLUTION) -> bool:
    return low <= value <= MAX_RESOLUTION and math.log2(value).is_integer()
