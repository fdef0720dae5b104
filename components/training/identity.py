"""What makes a run the same run: its parameters without the target, the data, and the code that trains."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from components.config import ARCHS, InputError, Train
from components.data.dataset import ImageSet
from components.models import build_recipe
from components.training.run_files import MODEL_FILES

_COMPONENTS = Path(__file__).resolve().parents[1]


def code_digest() -> str:
    """SHA-256 over the source of components/models, components/training and the order of images in data/dataset.py."""
    digest = hashlib.sha256()
    files = (*_COMPONENTS.glob("models/*.py"), *_COMPONENTS.glob("training/*.py"), _COMPONENTS / "data/dataset.py")
    for path in sorted(files):
        digest.update(f"{path.relative_to(_COMPONENTS).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def settings(config: Train) -> dict[str, Any]:
    """The train section by dotted keys, without the sections of other archs."""
    found: dict[str, Any] = {}
    for name, value in asdict(config).items():
        if name not in ARCHS or name == config.arch:
            parts = value.items() if isinstance(value, dict) else [("", value)]
            found |= {f"{name}.{part}".rstrip("."): setting for part, setting in parts}
    return found


def run_key(config: Train, data_digest: str) -> str:
    """The name of a run: 12 hexadecimal digits. train.total_kimg is a target and not part of it.

    Raises:
        InputError: train.init_from is a folder that holds no generator.
    """
    identity = settings(config)
    del identity["total_kimg"]
    content = json.dumps([identity, data_digest, code_digest(), _initial_digest(config.init_from)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def _initial_digest(init_from: str) -> str:
    """Of a folder what is in it; a registered version stays what it is."""
    if not init_from or init_from.startswith("models:"):
        return ""
    digest = hashlib.sha256()
    try:
        for name in MODEL_FILES:
            digest.update((Path(init_from) / name).read_bytes())
        return digest.hexdigest()
    except OSError as error:
        raise InputError(f"train.init_from: {error}; allowed: models:/NAME/VERSION or a generator folder") from None


def check_labels(config: Train, data: ImageSet) -> None:
    """Refuses to tell the networks labels that are not there.

    Raises:
        InputError: train.labels, and the train images have fewer than two labels.
    """
    found = [name for name, images in data.label_counts().items() if images]
    if config.labels and len(found) < 2:
        known = ", ".join(found) or "none"
        raise InputError(f"train.labels is true, and the train images have {known}; allowed: two labels or more")


def check_target(reached: int, config: Train, resolution: int) -> None:
    """Refuses a target that a run has left behind; the last step may have gone past it by less than a batch.

    Raises:
        InputError: train.total_kimg is lower than the `reached` images, beyond that step.
    """
    if reached - build_recipe(config, resolution).phase(0).batch >= config.total_kimg * 1000:
        raise InputError(
            f"train.total_kimg is {config.total_kimg}; allowed: at least {reached / 1000}, where the run stands"
        )
