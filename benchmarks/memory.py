"""How much memory a training step needs: `python -m benchmarks.memory presets/week-256.yaml`. Computed, not measured.

Runs the trainer's own steps on tensors without content (torch's FakeTensorMode: shapes, types and lifetimes are the
real ones, nothing is calculated) and counts the bytes of all tensors that live at once: weights, averages, Adam's
states, gradients, activations kept for backward and the temporary results that PyTorch sees. Not in it: what CUDA,
cuDNN and NCCL take for themselves, the allocator's gaps, and temporaries inside a kernel. `peak_gib` is of a step that
takes every lazy penalty; the presets overlay params.yaml. Prints one JSON object a preset.
"""

from __future__ import annotations

import argparse
import json
import warnings
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from components.config import Params, checked, read_yaml
from components.config.overlay import overlay, read_preset
from components.data.dataset import ImageSet
from components.training.loop import Trainer

GIB = 2**30


class Living(TorchDispatchMode):
    """Counts the bytes of the storages that are alive."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self.note(tensor)
        return out

    def note(self, tensor: Tensor) -> None:
        """Counts a tensor's storage until it dies."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known[key] = weakref.ref(storage, lambda _: self._forget(key, size))
            self.now += size
            self.peak = max(self.peak, self.now)

    def _forget(self, key: int, size: int) -> None:
        del self._known[key]
        self.now -= size


def count(params: Params) -> dict[str, float | int | str]:
    """GiB of one worker of a run."""
    resolution = params.preprocess.resolution
    images = np.zeros((256, resolution, resolution, 3), np.uint8)
    with FakeTensorMode(allow_non_fake_inputs=True):
        nn.Module.to = lambda self, *_: self  # type: ignore[method-assign]  # all is on the device that is named
        trainer = Trainer(params.train, ImageSet([images], "zeros"), torch.device("cpu"))
        living = Living()
        with living:
            for tensor in trainer.players.tensors().values():
                living.note(tensor)
            trainer.step()
            between = living.now
            living.peak = 0
            trainer.nimg = 0
            trainer.step()
    networks = trainer.players.networks()
    return {
        "resolution": resolution,
        "batch": params.train.batch,
        "dtype": params.train.dtype,
        "params_g": sum(p.numel() for p in networks["generator"].parameters()),
        "params_d": sum(p.numel() for p in networks["discriminator"].parameters()),
        "weights_averages_adam_gib": round(between / GIB, 2),
        "peak_gib": round(living.peak / GIB, 2),
    }


def main() -> None:
    """Reads the flags and prints the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("presets", nargs="+", type=Path)
    parser.add_argument("--batch", type=int, help="a worker's, instead of the preset's")
    flags = parser.parse_args()
    warnings.filterwarnings("ignore", message="Accessing the data pointer of FakeTensor")
    for preset in flags.presets:
        content = overlay(read_yaml("params.yaml"), read_preset(str(preset)))
        params = checked(content, str(preset))
        content["train"]["batch"] = flags.batch or params.train.batch // params.execution.counts(params.train.batch)[-1]
        content["execution"]["workers"] = 1
        print(json.dumps({"preset": preset.stem, **count(checked(content, str(preset)))}))


if __name__ == "__main__":
    main()
