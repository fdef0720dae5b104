"""One of the processes of tests/unit/models/test_batch_norm.py: `python batch_norm_worker.py RANK WORLD FOLDER`.

Normalises its slice of FOLDER/inputs.safetensors and saves what came of it.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file

from components.models.batch_norm import BatchNorm


def normalise(rank, world, folder):
    """Two passes in training; the gradients are those of Σ goal · out² over the slice."""
    given = load_file(folder / "inputs.safetensors")
    norm = BatchNorm(given["x"].shape[1], 0.0)
    norm.weight.data.copy_(given["weight"])
    x, goal = (given[name].chunk(world)[rank].clone() for name in ("x", "goal"))
    x.requires_grad_()
    norm(x.detach() * 3 + 1)
    out = norm(x)
    (goal * out.square()).sum().backward()
    gradients = {"x_grad": x.grad, "weight_grad": norm.weight.grad, "bias_grad": norm.bias.grad}
    found = {"out": out.detach(), "mean": norm.running_mean, "var": norm.running_var, **gradients}
    save_file({name: tensor.contiguous() for name, tensor in found.items()}, folder / f"{world}-{rank}.safetensors")


if __name__ == "__main__":
    rank, world, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    rendezvous = f"file://{folder.resolve()}/rendezvous"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=world)
    normalise(rank, world, folder)
    dist.destroy_process_group()
