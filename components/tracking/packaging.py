"""A generator folder as an MLflow model that needs neither this checkout nor pickle.

The model holds served_model.py (models-from-code), the few components it imports, and the generator folder.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import mlflow
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

COMPONENTS = Path(__file__).parent.parent
NEEDED = (
    *("__init__.py", "config", "data/__init__.py", "data/files.py", "data/images.py", "data/tensors.py", "models"),
    *("generation/__init__.py", "generation/sampler.py"),
)
REQUIREMENTS = ("mlflow", "numpy", "pandas", "pillow", "safetensors", "torch")
ARTIFACT = "generator"
SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec(DataType.long, "seed")]),
    outputs=Schema([ColSpec(DataType.long, "seed"), ColSpec(DataType.string, "png")]),
    params=ParamSchema([ParamSpec("psi", DataType.double, 0.7), ParamSpec("label", DataType.string, "")]),
)


def log_generator(folder: Path, name: str, run_id: str, nimg: int, tags: Mapping[str, str]) -> str:
    """Logs the folder as a model of the run and registers it under `name`. Returns the version."""
    with tempfile.TemporaryDirectory() as temporary, _no_bytecode(), mlflow.start_run(run_id=run_id):
        info = mlflow.pyfunc.log_model(
            name=name,
            python_model=os.path.relpath(COMPONENTS / "tracking" / "served_model.py"),
            code_paths=[str(_needed_code(Path(temporary)))],
            artifacts={ARTIFACT: str(folder)},
            signature=SIGNATURE,
            input_example=([{"seed": 0}, {"seed": 1}], {"psi": 0.7}),
            pip_requirements=[f"{package}=={version(package).partition('+')[0]}" for package in REQUIREMENTS],
            registered_model_name=name,
            tags=dict(tags),
            step=nimg,
        )
    return str(info.registered_model_version)


@contextmanager
def _no_bytecode() -> Iterator[None]:
    """MLflow tries the model where it has copied the code to; what Python caches there would become part of it."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


def _needed_code(folder: Path) -> Path:
    """A copy of the package with only what the model imports."""
    package = folder / COMPONENTS.name
    for name in NEEDED:
        source, target = COMPONENTS / name, package / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    return package
