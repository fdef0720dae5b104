"""What makes a run the same run: its parameters without the target, the data, and the code that trains."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from components.config import Train

_COMPONENTS = Path(__file__).resolve().parents[1]


def code_digest() -> str:
    """SHA-256 over the source of components/models, components/training and the order of images in data/dataset.py."""
    digest = hashlib.sha256()
    files = (*_COMPONENTS.glob("models/*.py"), *_COMPONENTS.glob("training/*.py"), _COMPONENTS / "data/dataset.py")
    for path in sorted(files):
        digest.update(f"{path.relative_to(_COMPONENTS).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def run_key(config: Train, data_digest: str) -> str:
    """The name of a run: 12 hexadecimal digits. train.total_kimg is a target and not part of it."""
    identity = asdict(config)
    del identity["total_kimg"]
    content = json.dumps([identity, data_digest, code_digest()], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]
