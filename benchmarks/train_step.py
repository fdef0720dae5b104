"""How fast full training steps are: `python -m benchmarks.train_step --arch stylegan2 --resolution 64 --batch 16`.

Random images at the finished resolution, without a fade. Penalties, augmentation, EMA and optimisers come as often as
in training: the steps timed are whole rounds of the lazy penalties, and images_per_s counts them all. Prints one JSON
object last. Needs torch, NumPy and safetensors only.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time

import numpy as np
import torch

from components.config import ARCHS, AUGMENTS, DTYPES, Augment, Growth, R3gan, Stylegan, Stylegan2, Train
from components.data.dataset import ImageSet
from components.training.host import prepare
from components.training.loop import Trainer

ROUND = 16  # steps after which every lazy penalty has come as often as it should
P = 0.3  # of ADA, held there
LATENT_DIM = {"r3gan": 64, "dcgan": 100}  # others: 512


def configured(flags: argparse.Namespace) -> Train:
    """The published recipe (docs/recipes.md) at the sizes of the command line."""
    return Train(
        arch=flags.arch,
        init_from="",
        batch=flags.batch,
        total_kimg=1e6,
        seed=0,
        channel_base=flags.channel_base,
        channel_max=flags.channel_max,
        latent_dim=LATENT_DIM.get(flags.arch, 512),
        learning_rate=0.0025,
        gamma=0.0002 * flags.resolution**2 / flags.batch,
        ema_kimg=flags.batch * 10 / 32,
        dtype=flags.dtype,
        mirror=False,
        labels=False,
        augment=Augment(kind=flags.augment, target=0.0, p=P, max_p=P, ada_kimg=500),
        progan=Growth(start_resolution=flags.resolution, stable_kimg=600, fade_kimg=600),
        stylegan=Stylegan(start_resolution=flags.resolution, stable_kimg=600, fade_kimg=600, style_mixing=0.9),
        stylegan2=Stylegan2(style_mixing=0.9, path_length_weight=2.0),
        r3gan=R3gan(decay_kimg=20000, final_learning_rate=5e-5, final_gamma=0.2, penalty_every=1),
    )


def measure(config: Train, resolution: int, device: torch.device, steps: int) -> dict[str, float | int | str]:
    """Times `steps` steps one by one, after a round that is not counted."""
    images = np.random.default_rng(0).integers(0, 256, (256, resolution, resolution, 3), dtype=np.uint8)
    trainer = Trainer(config, ImageSet([images], "random"), device)
    prepare(threads=0)
    times = []
    for number in range(ROUND + steps):
        begin = time.perf_counter()
        trainer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if number >= ROUND:
            times.append(time.perf_counter() - begin)
    cuda = device.type == "cuda"
    peak = torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    networks = trainer.players.networks()
    return {
        "arch": config.arch,
        "resolution": resolution,
        "batch": config.batch,
        "augment": config.augment.kind,
        "device": torch.cuda.get_device_name() if cuda else f"cpu, {torch.get_num_threads()} threads",
        "dtype": config.dtype,
        "images_per_s": round(config.batch * steps / sum(times), 2),
        "step_ms_median": round(1000 * statistics.median(times), 2),
        "params_g": sum(p.numel() for p in networks["generator"].parameters()),
        "params_d": sum(p.numel() for p in networks["discriminator"].parameters()),
        "peak_memory_bytes": peak,
    }


def main() -> None:
    """Reads the flags and prints the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", choices=ARCHS, default="stylegan2")
    parser.add_argument("--resolution", type=int, choices=[2**power for power in range(5, 11)], default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--channel-base", type=int, default=2048)
    parser.add_argument("--channel-max", type=int, default=64)
    parser.add_argument("--augment", choices=AUGMENTS, default="none")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--steps", type=int, default=2 * ROUND, help=f"a multiple of {ROUND}")
    flags = parser.parse_args()
    if flags.steps < 1 or flags.steps % ROUND:
        parser.error(f"--steps is {flags.steps}; allowed: a multiple of {ROUND}")
    print(json.dumps(measure(configured(flags), flags.resolution, torch.device(flags.device), flags.steps)))


if __name__ == "__main__":
    main()
