"""The extractor that the params name: found and checked, loaded once a process, and what its metrics are called."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from components.config import Evaluate, InputError
from components.data.downloads import fetch_url
from components.evaluation.extractor import Extractor
from components.evaluation.random_conv import RandomConv
from components.evaluation.torchscript import INCEPTION_SHA256, Inception, TorchScript, check_digest
from components.evaluation.transparency import AlphaStatistics, OnBackgrounds


@dataclass(frozen=True)
class ExtractorSpec:
    """What a process needs to load an extractor."""

    name: str
    weights: Path | None  # absolute; None where there is nothing to load
    sha256: str  # of the weights
    input_size: int  # pixels


ALPHA = ExtractorSpec(AlphaStatistics.name, None, "", 0)


def find_extractor(params: Evaluate) -> ExtractorSpec:
    """Brings the file of evaluate.extractor here and checks its SHA-256; loads nothing.

    Raises:
        InputError: there is no such file, it cannot be fetched, or it is another one.
    """
    if params.extractor == RandomConv.name:
        return ExtractorSpec(RandomConv.name, None, "", RandomConv.SIZE)
    if params.extractor == Inception.name:
        return ExtractorSpec(Inception.name, _find(params.weights, INCEPTION_SHA256), INCEPTION_SHA256, Inception.SIZE)
    weights = _find(params.weights, params.weights_sha256)
    return ExtractorSpec(params.extractor, weights, params.weights_sha256, params.input_size)


def _find(weights: str, sha256: str) -> Path:
    """The absolute path of a file or URL with that digest."""
    scheme = urlsplit(weights).scheme
    if scheme in ("http", "https"):
        return fetch_url(weights, sha256).resolve()
    if "://" in weights:
        raise InputError(f"evaluate.weights is {weights!r}; allowed: a file, or an http:// or https:// address")
    path = Path(weights).resolve()
    check_digest(path, sha256)
    return path


@lru_cache(maxsize=4)
def load_extractor(spec: ExtractorSpec, channels: int = 3, device: str = "cpu") -> Extractor:
    """The extractor, for images of 3 or 4 channels; ALPHA takes 4.

    Raises:
        InputError: the file has changed, or is no network that fits.
    """
    if spec == ALPHA:
        return AlphaStatistics(device)
    if channels == 4:
        return OnBackgrounds(load_extractor(spec, 3, device))
    if spec.weights is None:
        return RandomConv(device)
    if spec.name == Inception.name:
        return Inception(spec.weights, spec.sha256, device)
    return TorchScript(spec.name, spec.weights, spec.sha256, spec.input_size, device)


def metric_name(kind: str, extractor: Extractor) -> str:
    """What a measurement is called: fid and kid belong to the published features alone.

    Args:
        kind: frechet, frechet_infinity and kernel are named after the extractor; any other is its own name.
    """
    if extractor.published:
        return {"frechet": "fid", "frechet_infinity": "fid_infinity", "kernel": "kid"}.get(kind, kind)
    named = {"frechet": "frechet_{}", "frechet_infinity": "frechet_{}_infinity", "kernel": "kernel_{}"}
    return named.get(kind, kind).format(extractor.name)
