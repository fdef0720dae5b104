"""DCGAN's step here against the classic loop, in one process, in turn: `python -m benchmarks.dcgan --rounds 10`.

64², batch 64, widths 512 to 64, Adam 2e-4, on random images. The classic loop is the one that tutorials describe:
torch's layers as they come, D on reals and on fakes, then G through D anew; BCELoss behind a sigmoid, plain Adam.
Prints one JSON object last. Needs torch, NumPy and safetensors only.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.train_step import configured
from components.data.dataset import ImageSet
from components.training.host import prepare
from components.training.loop import Trainer

RESOLUTION, BATCH, LATENT_DIM, WIDTH, RATE = 64, 64, 100, 64, 0.0002
WIDTHS = (8 * WIDTH, 4 * WIDTH, 2 * WIDTH, WIDTH)


def classic_generator() -> nn.Sequential:
    """z [N, 100, 1, 1] to images [N, 3, 64, 64]."""
    layers: list[nn.Module] = []
    before = LATENT_DIM
    for number, width in enumerate(WIDTHS):
        stride, padding = (2, 1) if number else (1, 0)
        layers += [nn.ConvTranspose2d(before, width, 4, stride, padding, bias=False), nn.BatchNorm2d(width)]
        layers.append(nn.ReLU(True))
        before = width
    return nn.Sequential(*layers, nn.ConvTranspose2d(before, 3, 4, 2, 1, bias=False), nn.Tanh())


def classic_discriminator() -> nn.Sequential:
    """Images [N, 3, 64, 64] to probabilities [N, 1, 1, 1]."""
    layers: list[nn.Module] = []
    before = 3
    for number, width in enumerate(reversed(WIDTHS)):
        layers.append(nn.Conv2d(before, width, 4, 2, 1, bias=False))
        layers += [nn.BatchNorm2d(width)] if number else []
        layers.append(nn.LeakyReLU(0.2, True))
        before = width
    return nn.Sequential(*layers, nn.Conv2d(before, 1, 4, 1, 0, bias=False), nn.Sigmoid())


def initialise(module: nn.Module) -> None:
    """N(0, 0.02) for convolutions, N(1, 0.02) for the weights of batch norm."""
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(layer.weight, 0.0, 0.02)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)


def classic(reals: Tensor, device: torch.device) -> Callable[[], None]:
    """A step of the classic loop on the same reals [64, 3, 64, 64]."""
    generator, discriminator = classic_generator().to(device), classic_discriminator().to(device)
    for network in (generator, discriminator):
        initialise(network)
    adam_g, adam_d = (
        torch.optim.Adam(network.parameters(), lr=RATE, betas=(0.5, 0.999)) for network in (generator, discriminator)
    )
    loss = nn.BCELoss()
    ones, zeros = torch.ones(BATCH, device=device), torch.zeros(BATCH, device=device)

    def step() -> None:
        adam_d.zero_grad()
        loss(discriminator(reals).view(-1), ones).backward()
        fakes = generator(torch.randn(BATCH, LATENT_DIM, 1, 1, device=device))
        loss(discriminator(fakes.detach()).view(-1), zeros).backward()
        adam_d.step()
        adam_g.zero_grad()
        loss(discriminator(fakes).view(-1), ones).backward()
        adam_g.step()

    return step


def ours(pixels: np.ndarray, device: torch.device) -> Callable[[], None]:
    """A step of the trainer."""
    sizes = {"resolution": RESOLUTION, "channel_base": WIDTH * RESOLUTION // 2, "channel_max": 8 * WIDTH}
    flags = argparse.Namespace(arch="dcgan", batch=BATCH, dtype="float32", augment="none", **sizes)
    config = replace(configured(flags), learning_rate=RATE, ema_kimg=0.0)
    return Trainer(config, ImageSet([pixels], "random"), device).step


def timed(step: Callable[[], None], steps: int, device: torch.device) -> float:
    """Seconds for one step, a mean over some."""
    begin = time.perf_counter()
    for _ in range(steps):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - begin) / steps


def main() -> None:
    """Reads the flags and prints the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=2, help="of each loop in a round")
    parser.add_argument("--threads", type=int, default=0, help="0: torch's choice")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--keep-memory", action="store_true", help="the allocator's settings of our workers, for both")
    flags = parser.parse_args()
    device = torch.device(flags.device)
    torch.set_num_threads(flags.threads or torch.get_num_threads())
    if flags.keep_memory:
        prepare(flags.threads)
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH, RESOLUTION, RESOLUTION, 3), dtype=np.uint8)
    reals = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous().to(device)
    steps = {"ours": ours(pixels, device), "classic": classic(reals, device)}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(flags.rounds + 1):
        for name, step in steps.items():
            took = timed(step, flags.steps, device)
            if number:
                seconds[name].append(took)
    ratios = [classic / own for own, classic in zip(seconds["ours"], seconds["classic"], strict=True)]
    print(
        json.dumps(
            {
                "images_per_s": {name: round(BATCH / statistics.median(took), 1) for name, took in seconds.items()},
                "ratio_median": round(statistics.median(ratios), 2),
                "ratios": [round(ratio, 2) for ratio in ratios],
                "threads": torch.get_num_threads(),
            }
        )
    )


if __name__ == "__main__":
    main()
