"""The model that a run starts from: brought into the run's folder once, where every worker and later start finds it.

A model folder holds config.json, generator.safetensors (the average) and discriminator.safetensors.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from components.config import InputError, Train
from components.data.dataset import ImageSet
from components.data.files import replacing
from components.models.layers import resolutions, width_at
from components.training.loop import model_config
from components.training.run_files import CONFIG_FILE, DISCRIMINATOR_FILE, GENERATOR_FILE, INITIAL, MODEL_FILES

Model = tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]


def fetch(run: Path, config: Train, data: ImageSet, resolve: Callable[[str], Path]) -> None:
    """Copies the model that train.init_from names, if it names one that is not there yet.

    Args:
        run: the run's folder.
        resolve: from models:/NAME/VERSION or a path to a local folder.

    Raises:
        InputError: there is no such model, it is damaged, or it does not fit this run.
    """
    name, folder = config.init_from, run / INITIAL
    if not name or folder.exists():
        return
    source = resolve(name)
    try:
        _check(read(source)[0], model_config(config, data))
    except InputError:
        raise
    except (OSError, ValueError, LookupError, TypeError, SafetensorError) as error:
        raise InputError(f"train.init_from is {name!r}: {error}; allowed: a model that this pipeline made") from None
    with replacing(folder) as fresh:
        for file in MODEL_FILES:
            shutil.copy(source / file, fresh)


def _check(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    for key in ("format", "arch", "channels", "latent_dim"):
        if found[key] != wanted[key]:
            raise InputError(f"train.init_from has {key} {found[key]!r}; allowed in this run: {wanted[key]!r}")
    for key in ("grid", "labels"):
        here, there = (list(model.get(key, [])) for model in (wanted, found))
        if here != there:
            raise InputError(f"train.init_from has {key} {there!r}; allowed in this run: {here!r}")
    if found["resolution"] > wanted["resolution"]:
        raise InputError(f"train.init_from draws {found['resolution']}²; allowed: at most {wanted['resolution']}²")
    for size in resolutions(found["resolution"]):
        own, other = (width_at(size, model["channel_base"], model["channel_max"]) for model in (wanted, found))
        if own != other:
            raise InputError(
                f"train.init_from has {other} feature maps at {size}², and this run {own}; allowed: the same "
                f"train.channel_base and channel_max as the model's, {found['channel_base']} and {found['channel_max']}"
            )


def read(folder: Path) -> Model:
    """The generator's config.json, its weights and the discriminator's."""
    config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    return config, load_file(folder / GENERATOR_FILE), load_file(folder / DISCRIMINATOR_FILE)
