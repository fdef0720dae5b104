"""Learned extractors from TorchScript files, known by their SHA-256: Inception of the published FID, and any other.

N images, S the side of a network's input in pixels, d features.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from components.config import InputError
from components.evaluation.extractor import Extractor, measuring, resize

INCEPTION_SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"  # inception-2015-12-05.pt
PROBES = 2  # images: one would not tell N from a constant


class TorchScript(Extractor):
    """A network of one's own: a scripted module from float32 RGB [N, 3, S, S] in 0..1 to float32 [N, d].

    Images are resized (bicubic, antialiased) and clamped first; normalisation is the module's own work.

    Raises:
        InputError: the file is not the one of that SHA-256, or is no such module.
    """

    channels = 3
    published = False
    SCALING = "clamped to 0..255, / 255"

    def __init__(self, name: str, weights: Path, sha256: str, size: int, device: str = "cpu") -> None:
        check_digest(weights, sha256)
        self.name, self.size, self.device = name, size, torch.device(device)
        self._network = _load(weights, self.device)
        self.dim = self._probe(weights)
        resizing = f"bicubic {size}x{size}, antialias, align_corners=False"
        identity = {"weights": sha256, "resize": resizing, "scaling": self.SCALING}
        self.digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    @measuring()
    def features(self, pixels: Tensor) -> Tensor:
        """[N, 3, H, W] float32 to [N, d]."""
        found: Tensor = self._call(resize(pixels, self.size).clamp(0, 255))
        return found

    def _call(self, images: Tensor) -> Any:
        return self._network(images / 255)

    def _probe(self, weights: Path) -> int:
        """d, from black images."""
        black = torch.zeros(PROBES, 3, self.size, self.size, device=self.device)
        needed = f"allowed: a module from float32 {list(black.shape)} to float32 [{PROBES}, d]"
        try:
            with measuring():
                found = self._call(black)
        except (RuntimeError, torch.jit.Error) as error:
            raise InputError(f"{weights} failed ({_reason(error)}); {needed}") from None
        if not isinstance(found, Tensor):
            raise InputError(f"{weights} gave {type(found).__name__}; {needed}")
        if found.dtype != torch.float32 or found.ndim != 2 or len(found) != PROBES or not found.shape[1]:
            raise InputError(f"{weights} gave {str(found.dtype).removeprefix('torch.')} {list(found.shape)}; {needed}")
        return found.shape[1]


class Inception(TorchScript):
    """Inception-v3 as FID and KID are published: 2,048 features of its last pooling layer.

    Published only with the pinned file. Images reach it in 0..255, not rounded, at the size where its own resizing
    does nothing.

    Reference: Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule"; the resize, Parmar et al. 2022.
    """

    name = "inception"
    SIZE = 299
    SCALING = "clamped to 0..255"

    def __init__(self, weights: Path, sha256: str = INCEPTION_SHA256, device: str = "cpu") -> None:
        super().__init__(self.name, weights, sha256, self.SIZE, device)
        self.published = sha256 == INCEPTION_SHA256

    def _call(self, images: Tensor) -> Any:
        return self._network(images, return_features=True)


def check_digest(weights: Path, sha256: str) -> None:
    """Reads the file, and nothing in it.

    Raises:
        InputError: it cannot be read, or its SHA-256 is another.
    """
    try:
        with weights.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{weights}: {error.strerror}; allowed: the file of a TorchScript network") from None
    if found != sha256:
        raise InputError(f"{weights} has sha256 {found}; allowed: {sha256}")


def _load(weights: Path, device: torch.device) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.load` is", DeprecationWarning)
        try:
            network: torch.jit.ScriptModule = torch.jit.load(weights, map_location=device)  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            raise InputError(f"{weights}: {_reason(error)}; allowed: what torch.jit.save writes") from None
    return network.eval()


def _reason(error: Exception) -> str:
    """The first sentence of the last line: before it come the script's frames, after it guesses."""
    return str(error).strip().splitlines()[-1].split(". ")[0]
