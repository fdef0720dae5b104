"""A run with other values than params.yaml's, as a DVC experiment: in a copy of the checkout, .experiments/NAME/.

Its end becomes an experiment of the checkout's commit, and the copy goes. What fails or is killed leaves the copy, in
which the same parameters go on: a copy's name tells what is in it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from components.config import InputError
from components.config.overlay import laid_over
from flows.copies import FOLDER, Copy, tracked, tracked_in_part

PATHS = (("ingest", "source"), ("train", "init_from"), ("evaluate", "weights"))  # values that may be paths
LABEL_LENGTH, DIGEST_LENGTH = 60, 7


@contextlib.contextmanager
def isolated(preset: str, overrides: Mapping[str, Any], say: Callable[[str], None]) -> Iterator[str]:
    """For the time of the block, the current folder is the one to run in; yields the experiment's name.

    That is the checkout, and the name "", where the values are those of its params.yaml. Several processes may be in
    one copy; who leaves last removes it, unless there was a failure that another start may mend.

    Args:
        preset: as laid_over(), and overrides.
        say: takes lines for a log.

    Raises:
        InputError: what a person gave is wrong.
        StageError: the copy cannot be made, or not be kept as an experiment.
    """
    params, changes = laid_over(preset, overrides)
    if not changes:
        yield ""
        return
    FOLDER.mkdir(exist_ok=True)
    copy = _described(label(preset, overrides), params)
    with _inside(copy):
        for line in (f"experiment {copy.name}, in {copy.folder}", *changes):
            say(line)
        with contextlib.chdir(copy.folder):
            yield copy.name
        with _alone():
            copy.keep()
        say(f"kept: dvc exp show lists {copy.name}, dvc exp apply brings its files here")


def label(preset: str, overrides: Mapping[str, Any]) -> str:
    """What a person gave, in letters that refs, shells and URLs (MLflow's, of a file) take; at most LABEL_LENGTH."""
    given = [*([Path(preset).stem] if preset else []), *(f"{key}-{value}" for key, value in overrides.items())]
    text = re.sub(r"([^\w.]|\.{2,})+", "-", "_".join(given), flags=re.ASCII)
    return text[:LABEL_LENGTH].strip("._-")


def _described(label: str, params: str) -> Copy:
    inputs = tuple(_inputs(yaml.safe_load(params)))
    with _alone():
        head, tree = tracked()
    digest = hashlib.sha256("\0".join([head, tree, params]).encode()).hexdigest()[:DIGEST_LENGTH]
    return Copy(name=f"{label}-{digest}".lstrip("-"), params=params, head=head, tree=tree, inputs=inputs)


def _inputs(params: Mapping[str, Any]) -> Iterator[Path]:
    """Files and folders that the values name by relative paths."""
    for section, key in PATHS:
        value = params[section][key]
        path = Path(os.path.normpath(value))
        if not value or path.is_absolute() or not path.exists():
            continue
        if tracked_in_part(path):
            allowed = "what git tracks whole or not at all, with other values than params.yaml's"
            raise InputError(f"{section}.{key} is {value!r}, of which git tracks a part; allowed: {allowed}")
        yield path


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """No other process makes, keeps or removes a copy meanwhile."""
    with _locked(FOLDER, fcntl.LOCK_EX):
        yield


@contextlib.contextmanager
def _locked(folder: Path, how: int) -> Iterator[int]:
    """A lock that ends with its process, however that ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, how)
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _inside(copy: Copy) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        with _alone():
            if not copy.home.exists():
                copy.make()
            lock = stack.enter_context(_locked(copy.home, fcntl.LOCK_SH))
        try:
            yield
        except InputError:  # nothing runs on, and nothing goes on here
            _remove(copy, lock)
            raise
        _remove(copy, lock)


def _remove(copy: Copy, lock: int) -> None:
    with _alone(), contextlib.suppress(BlockingIOError):  # another process is in it
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(copy.home)
