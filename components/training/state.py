"""A checkpoint: one directory of tensors (safetensors) and numbers (JSON), whole or absent.

runs/<run key>/checkpoints/<nimg>/ holds state.safetensors and state.json. It is written under a temporary name, synced
to disk and renamed; the JSON carries the digest of the whole, so a damaged directory is told from a good one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from components.data.tensors import write_tensors

FORMAT = 2


@dataclass(frozen=True)
class State:
    """What a run needs to go on: named tensors, and numbers that JSON keeps exactly."""

    tensors: Mapping[str, Tensor]
    numbers: Mapping[str, Any]


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save(state: State, folder: Path) -> None:
    """Writes a checkpoint directory in one piece."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    for leftover in folder.parent.glob(".*.tmp"):  # of a killed writer
        shutil.rmtree(leftover, ignore_errors=True)
    temporary.mkdir(parents=True)
    tensors = temporary / "state.safetensors"
    write_tensors(tensors, state.tensors)
    header = {"format": FORMAT, "sha256": _digest(tensors, state.numbers), **state.numbers}
    (temporary / "state.json").write_text(json.dumps(header, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for path in (tensors, temporary / "state.json", temporary):
        _sync(path)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
    _sync(folder.parent)


def load(folder: Path) -> State:
    """Reads a checkpoint directory.

    Raises:
        OSError: it is there and cannot be read now.
        ValueError: it is damaged, or of another format.
    """
    try:
        numbers = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        if (found := numbers.pop("format")) != FORMAT:
            raise ValueError(f"it has format {found}; allowed: {FORMAT}")
        if numbers.pop("sha256") != _digest(folder / "state.safetensors", numbers):
            raise ValueError("its content does not have the digest that state.json gives")
        return State(load_file(folder / "state.safetensors"), numbers)
    except (FileNotFoundError, NotADirectoryError, LookupError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"checkpoint {folder} refused: {error}") from None


def latest(checkpoints: Path) -> tuple[State | None, list[str]]:
    """The newest checkpoint that is whole.

    Returns:
        The state, or None where there is no good one; and a line for each newer one that was refused.

    Raises:
        OSError: there is none but what cannot be read now. To begin anew would be to lose it.
    """
    refused: list[str] = []
    unread: OSError | None = None
    for folder in sorted(checkpoints.glob("[0-9]*"), reverse=True):
        try:
            return load(folder), refused
        except ValueError as error:
            refused.append(str(error))
        except OSError as error:
            refused.append(f"checkpoint {folder} cannot be read: {error}")
            unread = error
    if unread:
        raise unread
    return None, refused


def copied(state: State) -> State:
    """A copy in host memory, which stays as it is while training goes on."""
    return State({name: tensor.detach().to("cpu", copy=True) for name, tensor in state.tensors.items()}, state.numbers)


def drop_after(folder: Path) -> None:
    """Deletes the checkpoints that are further on than this one: they were refused, or are of a way not taken."""
    for other in folder.parent.glob("[0-9]*"):
        if int(other.name) > int(folder.name):
            shutil.rmtree(other)


def prune(checkpoints: Path, keep: int, every: int = 0) -> None:
    """Deletes all checkpoints but the newest `keep` and, where `every` is not 0, the first of each so many images."""
    folders = sorted(checkpoints.glob("[0-9]*"))
    reached = 0  # of the last stretch of `every` images that has its checkpoint
    for folder in folders[:-keep]:
        stretch = int(folder.name) // every if every else 0
        if stretch == reached:
            shutil.rmtree(folder)
        reached = stretch


def _digest(tensors: Path, numbers: Mapping[str, Any]) -> str:
    """Of the tensors' file, and of the numbers beside it."""
    with tensors.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(json.dumps(numbers, sort_keys=True).encode())
    return digest.hexdigest()
