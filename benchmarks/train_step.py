"""How fast full training steps are: `python -m benchmarks.train_step --resolution 64 --batch 16`.

Random images, the finished resolution without a fade, both updates with R1, EMA and optimiser, after a warm-up. Prints
one JSON object last. Needs torch, NumPy and safetensors only.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from dataclasses import replace

import numpy as np
import torch

from components.config import ARCHS, DTYPES, Train
from components.data.dataset import ImageSet
from components.training.loop import Trainer

WARM_UP = 3
BASE = Train(
    arch="stylegan",
    batch=16,
    total_kimg=1e6,
    seed=0,
    channel_base=2048,
    channel_max=64,
    latent_dim=512,
    learning_rate=0.001,
    r1_gamma=10.0,
    start_resolution=64,
    stable_kimg=600,
    fade_kimg=600,
    style_mixing=0.9,
    ema_kimg=10,
    dtype="float32",
)


def measure(config: Train, resolution: int, device: torch.device, steps: int) -> dict[str, float | int | str]:
    """Times `steps` steps one by one."""
    images = np.random.default_rng(0).integers(0, 256, (256, resolution, resolution, 3), dtype=np.uint8)
    trainer = Trainer(config, ImageSet([images], "random"), device)
    times = []
    for number in range(WARM_UP + steps):
        begin = time.perf_counter()
        trainer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if number >= WARM_UP:
            times.append(time.perf_counter() - begin)
    cuda = device.type == "cuda"
    peak = torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "arch": config.arch,
        "resolution": resolution,
        "batch": config.batch,
        "device": torch.cuda.get_device_name() if cuda else f"cpu, {torch.get_num_threads()} threads",
        "dtype": config.dtype,
        "images_per_s": round(config.batch / statistics.median(times), 1),
        "step_ms_median": round(1000 * statistics.median(times), 2),
        "params_g": sum(p.numel() for p in trainer.generator.parameters()),
        "params_d": sum(p.numel() for p in trainer.discriminator.parameters()),
        "peak_memory_bytes": peak,
    }


def main() -> None:
    """Reads the flags and prints the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", choices=ARCHS, default=BASE.arch)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--batch", type=int, default=BASE.batch)
    parser.add_argument("--channel-base", type=int, default=BASE.channel_base)
    parser.add_argument("--channel-max", type=int, default=BASE.channel_max)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=DTYPES, default=BASE.dtype)
    parser.add_argument("--steps", type=int, default=20)
    flags = parser.parse_args()
    sizes = {name: getattr(flags, name) for name in ("arch", "batch", "channel_base", "channel_max", "dtype")}
    config = replace(BASE, start_resolution=flags.resolution, **sizes)
    print(json.dumps(measure(config, flags.resolution, torch.device(flags.device), flags.steps)))


if __name__ == "__main__":
    main()
