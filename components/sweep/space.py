"""The file of a sweep: which keys of params.yaml vary and how, and the trials drawn from it; always the same ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from components.config import InputError, Params, checked, read_yaml
from components.config.overlay import nested, overlay
from components.training.identity import settings

KEYS = ("trials", "kimg", "rung_kimg", "reduction", "vary")
SEED = 0
TRIES = 100  # draws a trial, before what is left is taken for exhausted
DIGITS = 3  # of a drawn number
Values = dict[str, Any]  # by dotted keys


@dataclass(frozen=True)
class Space:
    """A sweep: `trials` draws of `vary`, each trained to `kimg` at most.

    At `rung_kimg`, and at every `reduction` times as many, a trial stops that is not among the best 1 / `reduction` of
    those that came so far.
    """

    trials: int
    kimg: float
    rung_kimg: float
    reduction: float
    vary: dict[str, Any]


def read_space(path: Path) -> Space:
    """Reads and checks a sweep's file.

    Raises:
        InputError: whatever is wrong with it.
    """
    content = read_yaml(path)
    if not isinstance(content, dict) or set(content) != set(KEYS) or not isinstance(content["vary"], dict):
        raise InputError(f"{path}: allowed: a mapping of {', '.join(KEYS)}, vary a mapping itself")
    space = Space(**content)
    for name, least in (("trials", 2), ("kimg", 0), ("rung_kimg", 0), ("reduction", 1)):
        value, strictly = getattr(space, name), name != "trials"
        if type(value) not in (int, float) or value < least or (strictly and value == least):
            raise InputError(f"{path}: {name} is {value!r}; allowed: {'above' if strictly else 'at least'} {least}")
    if type(space.trials) is not int or space.rung_kimg > space.kimg:
        raise InputError(f"{path}: trials is {space.trials}, rung_kimg {space.rung_kimg}; allowed: whole, at most kimg")
    for key, choices in space.vary.items():
        if not isinstance(key, str):
            raise InputError(f"{path}: vary has {key!r}; allowed: keys of params.yaml, as train.gamma")
        if not (isinstance(choices, list) and choices) and not _is_range(choices):
            raise InputError(f"{path}: {key} is {choices!r}; allowed: a list, or {{low: …, high: …, log: …}}")
    return space


def draw(space: Space, params: Params) -> list[tuple[Values, Params]]:
    """The trials' values with the params that they make; first what params.yaml says itself, then draws.

    All are different runs: what another arch alone would read makes none. Fewer than space.trials where there are no
    more.

    Raises:
        InputError: a key that params.yaml has not, or values that it must not have.
    """
    random = np.random.default_rng(SEED)
    draws = ({key: _draw(choices, random) for key, choices in space.vary.items()} for _ in range(TRIES * space.trials))
    found: dict[str, tuple[Values, Params]] = {}  # by what makes a run
    for values in chain([Values()], draws):
        tried = _params(values, space, params)
        found.setdefault(repr(settings(tried.train)), (values, tried))
        if len(found) == space.trials:
            break
    return list(found.values())


def as_preset(values: Values) -> Values:
    """Values by dotted keys as sections."""
    found: Values = {}
    for key, value in values.items():
        *sections, name = key.split(".")
        place = found
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    return found


def _params(values: Values, space: Space, params: Params) -> Params:
    content = params.as_dict()
    for key, value in {**values, "train.total_kimg": space.kimg}.items():
        content = overlay(content, nested(key, value))
    return checked(content, "sweep " + ", ".join(f"{key}={value}" for key, value in values.items()))


def _draw(choices: Any, random: np.random.Generator) -> Any:
    if isinstance(choices, list):
        return choices[random.integers(len(choices))]
    low, high = choices["low"], choices["high"]
    share = random.random()
    value = low * (high / low) ** share if choices["log"] else low + (high - low) * share
    return float(f"{value:.{DIGITS}g}")


def _is_range(choices: Any) -> bool:
    if not isinstance(choices, dict) or set(choices) != {"low", "high", "log"}:
        return False
    low, high = choices["low"], choices["high"]
    numbers = all(type(end) in (int, float) and math.isfinite(end) for end in (low, high))
    return numbers and low < high and (low > 0 or choices["log"] is False) and type(choices["log"]) is bool
