"""The run's parameters: one frozen dataclass per section of params.yaml, read and checked by load_params()."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from components.config.checks import InputError, UnavailableError, check
from components.config.data import Ingest, Preprocess
from components.config.results import Evaluate, Gate, Register
from components.config.training import (
    ARCHS,
    AUGMENTS,
    DTYPES,
    GROUP,
    Augment,
    Execution,
    Growth,
    R3gan,
    Stylegan,
    Stylegan2,
    Train,
)

__all__ = [
    "ARCHS",
    "AUGMENTS",
    "DTYPES",
    "Augment",
    "Evaluate",
    "Execution",
    "Gate",
    "Growth",
    "Ingest",
    "InputError",
    "Params",
    "Preprocess",
    "R3gan",
    "Register",
    "Stylegan",
    "Stylegan2",
    "Train",
    "UnavailableError",
    "checked",
    "load_params",
    "read_yaml",
]


@dataclass(frozen=True, kw_only=True)
class Params:
    """params.yaml, whole."""

    ingest: Ingest
    preprocess: Preprocess
    train: Train
    execution: Execution
    evaluate: Evaluate
    register: Register

    def __post_init__(self) -> None:
        for growth in (self.train.progan, self.train.stylegan):
            start = growth.start_resolution
            check(
                start <= self.preprocess.resolution or self.train.arch != growth.arch,
                f"train.{growth.arch}.start_resolution",
                start,
                f"at most preprocess.resolution, {self.preprocess.resolution}",
            )
        check(
            self.preprocess.labels or not self.train.labels,
            "train.labels",
            self.train.labels,
            "false, or preprocess.labels: true",
        )
        check(
            self.train.channel_base >= self.preprocess.resolution,
            "train.channel_base",
            self.train.channel_base,
            f"at least preprocess.resolution, {self.preprocess.resolution}",
        )
        workers = self.execution.workers
        check(
            bool(self.execution.counts(self.train.batch)),
            "train.batch",
            self.train.batch,
            f"what {workers} workers (execution.workers) can share in groups of {GROUP} images"
            + (f": a multiple of {GROUP * workers}" if isinstance(workers, int) else ""),
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain nested dicts, for the boundaries that want them."""
        return asdict(self)


_TYPE_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text, in quotes"}


def _value(key: str, value: object, kind: type) -> object:
    """The value as its field's type. YAML's 5 serves where a float is wanted; true never serves as a number."""
    kinds = get_args(kind) or (kind,)  # of int | str both
    if kind is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53:
        value = float(value)
    if type(value) not in kinds or (kind is float and not math.isfinite(value)):  # type: ignore[arg-type]
        raise InputError(f"{key} is {value!r}; allowed: {' or '.join(_TYPE_NAMES[one] for one in kinds)}")
    return value


def _section(cls: type, where: str, content: object) -> Any:
    """Builds a section's dataclass from its mapping; refuses unknown and missing keys by their full names."""
    if not isinstance(content, dict):
        raise InputError(f"{where or 'the file'} is {content!r}; allowed: a mapping")
    kinds = get_type_hints(cls)
    names = [field.name for field in fields(cls)]
    prefix = f"{where}." if where else ""
    for key in content:
        if key not in names:
            raise InputError(f"unknown key {prefix}{key}; allowed: {', '.join(names)}")
    for name in names:
        if name not in content:
            raise InputError(f"missing key {prefix}{name}")
    return cls(**{name: _entry(prefix + name, content[name], kinds[name]) for name in names})


def _entry(key: str, value: object, kind: type) -> Any:
    return _section(kind, key, value) if is_dataclass(kind) else _value(key, value, kind)


def read_yaml(path: Path | str) -> Any:
    """The content of a YAML file.

    Raises:
        InputError: no such file, or not YAML.
    """
    import yaml  # here, so that training/loop.py can import the dataclasses on a machine without PyYAML

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # LibYAML's is ten times faster, where PyYAML has it
    try:
        return yaml.load(Path(path).read_text(encoding="utf-8"), loader)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from None


def checked(content: object, name: str) -> Params:
    """The parameters that the content of a file holds.

    Args:
        name: of the file, for messages.

    Raises:
        InputError: an unknown or missing key, a wrong type, a value out of range.
    """
    try:
        params: Params = _section(Params, "", content)
        return params
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def load_params(path: Path | str = "params.yaml") -> Params:
    """Reads and checks params.yaml.

    Raises:
        InputError: no such file, not YAML, an unknown or missing key, a wrong type, a value out of range.
    """
    return checked(read_yaml(path), str(path))
