"""Writes tensors as safetensors; what a file system refuses is an OSError with its number, as of any other file."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

_NUMBER = re.compile(r"\(os error (\d+)\)")


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes a file of tensors, wherever they are; it appears whole or not at all, and may be read as others may.

    Raises:
        OSError: as of open() and write(); safetensors itself tells the number in words only.
    """
    mode = _mode(path.with_name(f".{path.name}.mode"))
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
        path.chmod(mode)
    except SafetensorError as error:
        if found := _NUMBER.search(str(error)):
            raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from None
        raise


def _mode(probe: Path) -> int:
    """That of a new file: safetensors' own, 0600, would keep out everybody else."""
    probe.touch()
    mode = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    return mode
