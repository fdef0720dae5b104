"""Presets and single values, laid over params.yaml, within its text; comments stay as they are."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from components.config import InputError, checked, read_yaml

PRESETS = Path("presets")
_RATIO = re.compile(r"\d+:\d+")  # 4:3, which YAML 1.1 takes for a number of base 60
_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")  # 5e-5, which YAML 1.1 takes for text


def overlay(params: Mapping[str, Any], preset: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """The params with the preset's values in their place.

    Args:
        where: the dotted name of the section, with a dot; for messages.

    Raises:
        InputError: the preset has a key that the params lack, a value for a section, or a section for a value.
    """
    merged = dict(params)
    for key, value in preset.items():
        if key not in params:
            raise InputError(f"unknown key {where}{key}; allowed: {', '.join(params)}")
        if isinstance(params[key], Mapping) != isinstance(value, Mapping):
            allowed = f"a mapping of {', '.join(params[key])}" if isinstance(params[key], Mapping) else "one value"
            raise InputError(f"{where}{key} is {value!r}; allowed: {allowed}")
        merged[key] = overlay(params[key], value, f"{where}{key}.") if isinstance(value, Mapping) else value
    return merged


def nested(key: str, value: Any) -> Any:
    """{"train": {"gamma": 0.5}} of train.gamma and 0.5."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def read_preset(name: str, folder: Path = PRESETS) -> dict[str, Any]:
    """The values of presets/<name>.yaml, or of a path that ends in .yaml.

    Raises:
        InputError: there is none, or it is no mapping.
    """
    path = Path(name) if name.endswith(".yaml") else folder / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
        raise InputError(f"allowed: {known}, or the path of a .yaml file")
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise InputError(f"{path} is {content!r}; allowed: sections of params.yaml")
    return content


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """{"train.gamma": 0.5} of ["train.gamma=0.5"]; values are YAML.

    Raises:
        InputError: one is not KEY=VALUE.
    """
    found = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        try:
            found[key] = _parsed(text)
        except yaml.YAMLError:
            equals = ""
        if not (key and equals):
            raise InputError(f"set is {setting!r}; allowed: KEY=VALUE with a value as in params.yaml")
    return found


def _parsed(text: str) -> Any:
    if _RATIO.fullmatch(text):
        return text
    return float(text) if _EXPONENT.fullmatch(text) else yaml.safe_load(text)


def laid_over(preset: str, overrides: Mapping[str, Any], path: Path = Path("params.yaml")) -> tuple[str, list[str]]:
    """Lays a preset and then single values over params.yaml and checks the whole.

    Args:
        preset: a name in presets/ or a path that ends in .yaml; "" for none.
        overrides: values by dotted keys.

    Returns:
        The file's text with the values in it, and the changes: ["train.gamma: 10.0 → 0.5"].

    Raises:
        InputError: whatever is wrong with it.
    """
    before = read_yaml(path)
    checked(before, str(path))
    try:
        after = overlay(before, read_preset(preset)) if preset else before
    except InputError as error:
        raise InputError(f"preset is {preset!r}: {error}") from None
    for key, value in overrides.items():
        after = overlay(after, nested(key, value))
    checked(after, " + ".join([str(path), *filter(None, [preset]), *overrides]))
    changes, known = dict(_changes(before, after)), dict(_leaves(before))
    text = with_values(path.read_text(encoding="utf-8"), changes)
    return text, [f"{key}: {known[key]} → {value}" for key, value in changes.items()]


def write_params(preset: str, overrides: Mapping[str, Any], path: Path = Path("params.yaml")) -> list[str]:
    """Writes what differs into params.yaml. Returns the changes, and raises as laid_over(); then the file stays."""
    text, changes = laid_over(preset, overrides, path)
    if changes:
        fresh = path.with_name(f".{path.name}.partial")
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)
    return changes


def with_values(text: str, values: Mapping[str, Any]) -> str:
    """The text of params.yaml with other values, by dotted keys that it has; everything else stays as it is."""
    spans = dict(_spans(yaml.compose(text, yaml.SafeLoader)))
    for key in sorted(values, key=lambda key: spans[key], reverse=True):
        start, end = spans[key]
        value = yaml.safe_dump(values[key], default_flow_style=True, width=2**30).removesuffix("...\n").strip()
        rest = text[end:]
        comment = rest.lstrip(" ")
        if comment.startswith("#"):  # stays in its column
            rest = " " * max(1, end - start + len(rest) - len(comment) - len(value)) + comment
        text = text[:start] + value + rest
    return text


def add_flags(parser: argparse.ArgumentParser) -> None:
    """--preset and --set, as write_params() wants them after parse_settings()."""
    parser.add_argument("--preset", default="", help="a name in presets/, or the path of a .yaml file")
    parser.add_argument("--set", default=[], action="append", metavar="KEY=VALUE", help="train.gamma=0.5; repeatable")


def _leaves(content: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{where}{key}.")
        else:
            yield f"{where}{key}", value


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    known = dict(_leaves(before))
    return ((key, value) for key, value in _leaves(after) if value != known[key])


def _spans(node: Any, where: str = "") -> Iterator[tuple[str, tuple[int, int]]]:
    """Where the text of each value begins and ends."""
    for key, value in node.value:
        if isinstance(value, yaml.MappingNode):
            yield from _spans(value, f"{where}{key.value}.")
        else:
            yield f"{where}{key.value}", (value.start_mark.index, value.end_mark.index)
