"""The training loop: steps on the global batch, and a tick every so many images. Needs torch, NumPy and safetensors.

Legend: N images of the global batch, B of this worker's slice of it, D latent dimension, L layers.

Every random number of a step comes from a generator seeded by (seed, nimg), drawn for the global batch and then sliced:
a step is the same on any number of workers up to rounding, and a checkpoint holds no generator state.
"""

from __future__ import annotations

import copy
import hashlib
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from components.config import Train
from components.data.dataset import ImageSet, batch_indices
from components.models import build_discriminator, build_generator
from components.models.layers import downsample, upsample
from components.models.stylegan import W_AVG_BETA
from components.training.ema import ema_beta, update_average
from components.training.feed import feed
from components.training.growth import Phase, phase_at
from components.training.losses import discriminator_loss, generator_loss, r1_penalty
from components.training.state import State

ADAM = {"betas": (0.0, 0.99), "eps": 1e-8, "fused": True}
GRID = (4, 8)  # rows and columns of the sample grid
GRID_PSI = 0.7
STATISTICS = ("loss_g", "loss_d", "r1", "sign_real", "sign_fake")


@dataclass(frozen=True, kw_only=True)
class Tick:
    """What a tick reports, on every worker alike."""

    record: dict[str, float]  # a line of metrics.jsonl
    grid: NDArray[np.uint8]  # [GRID images, H, W, C] of fixed latents
    done: bool  # the target is reached


def model_config(config: Train, data: ImageSet) -> dict[str, Any]:
    """The config.json of the generator that this run trains, grown to the end."""
    return {
        "format": 1,
        "arch": config.arch,
        "resolution": data.shape[1],
        "channels": data.shape[3],
        "latent_dim": config.latent_dim,
        "channel_base": config.channel_base,
        "channel_max": config.channel_max,
    }


class Trainer:
    """Networks, optimisers and the position of one run; the same on every worker after every step.

    Attributes:
        nimg: images shown so far.
        average: the EMA generator.
    """

    def __init__(self, config: Train, data: ImageSet, device: torch.device, *, rank: int = 0, world: int = 1) -> None:
        self.config, self.data, self.device, self.rank, self.world = config, data, device, rank, world
        self.resolution = data.shape[1]
        self._images = feed(data, device)
        model, dtype = model_config(config, data), getattr(torch, config.dtype)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_seed(config.seed, 0, "weights"))
            generator, discriminator = build_generator(model, dtype), build_discriminator(model, dtype)
        self.generator, self.discriminator = generator.to(device), discriminator.to(device)
        for parameter in (*generator.parameters(), *discriminator.parameters()):
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.generator).requires_grad_(False)
        self.nimg, self.seconds = 0, 0.0
        self.level = self.phase.resolution
        self._reset_optimisers()
        self._sums = torch.zeros(len(STATISTICS) + 1, dtype=torch.float64, device=device)

    @property
    def phase(self) -> Phase:
        """The growth phase of the next step."""
        return phase_at(self.nimg, self.config, self.resolution)

    def _reset_optimisers(self) -> None:
        """New Adam states, as at each change of resolution (Karras et al. 2017, appendix A)."""
        rate = self.phase.learning_rate
        self.adam_g = torch.optim.Adam(self.generator.parameters(), lr=rate, **ADAM)  # type: ignore[arg-type]
        self.adam_d = torch.optim.Adam(self.discriminator.parameters(), lr=rate, **ADAM)  # type: ignore[arg-type]

    # ── one step ──────────────────────────────────────────────────────────────────────────────────────────────────

    def step(self) -> None:
        """One update of D and one of G on the next global batch."""
        phase = self.phase
        if phase.resolution != self.level:
            self.level = phase.resolution
            self._reset_optimisers()
        random = torch.Generator(self.device).manual_seed(_seed(self.config.seed, self.nimg, "step"))
        self._update_discriminator(phase, random)
        self._update_generator(phase, random)
        update_average(self.average, self.generator, ema_beta(phase.batch, self.config.ema_kimg))
        self.nimg += phase.batch

    def _update_discriminator(self, phase: Phase, random: torch.Generator) -> None:
        with torch.no_grad():
            fakes, _ = self._fakes(phase, random)
        reals = self._reals(phase).requires_grad_()
        fake_logits = self.discriminator(fakes, alpha=phase.alpha)
        real_logits = self.discriminator(reals, alpha=phase.alpha)
        penalty = r1_penalty(reals, real_logits)
        loss = discriminator_loss(real_logits, fake_logits)
        self._descend(self.adam_d, loss + self.config.r1_gamma / 2 * penalty)
        with torch.no_grad():
            signs = real_logits.sign().mean(), fake_logits.sign().mean()
            self._sums[1:] += torch.stack([loss, penalty, *signs, torch.ones_like(loss)])

    def _update_generator(self, phase: Phase, random: torch.Generator) -> None:
        self.discriminator.requires_grad_(False)
        fakes, w = self._fakes(phase, random)
        loss = generator_loss(self.discriminator(fakes, alpha=phase.alpha))
        w_mean = self._descend(self.adam_g, loss, extra=w.detach().mean(0))
        self.discriminator.requires_grad_(True)
        with torch.no_grad():
            self.generator.w_avg.lerp_(w_mean, 1 - W_AVG_BETA)
            self._sums[0] += loss

    def _descend(self, optimiser: torch.optim.Optimizer, loss: Tensor, extra: Tensor | None = None) -> Tensor:
        """Backward, one all-reduce of all gradients as one vector, one optimiser step.

        Returns:
            The mean of `extra` over workers, which rides along; empty if there is none.
        """
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        extra = extra if extra is not None else torch.zeros(0, device=self.device)
        if self.world > 1:
            grads = [p.grad for group in optimiser.param_groups for p in group["params"] if p.grad is not None]
            flat = torch.cat([*(grad.reshape(-1) for grad in grads), extra])
            dist.all_reduce(flat)
            parts = torch.split(flat / self.world, [grad.numel() for grad in grads] + [extra.numel()])
            for grad, part in zip(grads, parts, strict=False):
                grad.copy_(part.view_as(grad))
            extra = parts[-1]
        optimiser.step()
        return extra

    def _slice(self, tensor: Tensor) -> Tensor:
        """This worker's consecutive part of something drawn for the global batch."""
        return tensor.chunk(self.world)[self.rank]

    def _fakes(self, phase: Phase, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Images [B, C, H, W] of the generator at its growth phase, and their first w [B, D]."""
        generator, config = self.generator, self.config
        z = torch.randn(2, phase.batch, config.latent_dim, device=self.device, generator=random)
        layers = 2 * int(np.log2(phase.resolution) - 1)
        crossover = torch.randint(1, layers, (phase.batch,), device=self.device, generator=random)
        mixed = torch.rand(phase.batch, device=self.device, generator=random) < config.style_mixing
        noise = [
            self._slice(torch.randn(phase.batch, 1, *shape, device=self.device, generator=random))
            for shape in generator.noise_shapes()[:layers]
        ]
        w, other = (generator.mapping(self._slice(part)) for part in z)
        crossover = self._slice(torch.where(mixed, crossover, generator.num_layers))
        own = torch.arange(generator.num_layers, device=self.device) < crossover[:, None]
        ws = torch.where(own[..., None], w[:, None], other[:, None])
        return generator.synthesis(ws, noise, resolution=phase.resolution, alpha=phase.alpha), w

    def _reals(self, phase: Phase) -> Tensor:
        """This worker's reals [B, C, H, W] in [-1, 1], at the growth phase's resolution and faded as fakes are."""
        chosen = batch_indices(seed=self.config.seed, nimg=self.nimg, batch=phase.batch, count=len(self.data))
        pixels = self._images(np.array_split(chosen, self.world)[self.rank])
        images = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
        while images.shape[-1] > phase.resolution:
            images = downsample(images)
        if phase.alpha < 1:
            images = torch.lerp(upsample(downsample(images)), images, phase.alpha)
        return images

    # ── ticks ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def run(self, *, tick_kimg: float) -> Iterator[Tick]:
        """Trains to the target, and yields after every tick_kimg thousand images and at the end.

        Raises:
            FloatingPointError: a loss or a weight is no longer finite.
        """
        target, tick = self.config.total_kimg * 1000, tick_kimg * 1000
        while self.nimg < target:
            before, begin = self.nimg, time.monotonic()
            phase = self.phase
            while self.nimg < target and self.nimg // tick == before // tick:
                phase = self.phase
                self.step()
            statistics = self._read_statistics()
            elapsed = time.monotonic() - begin
            self.seconds += elapsed
            record = {
                "nimg": self.nimg,
                "kimg": self.nimg / 1000,
                "resolution": phase.resolution,
                "alpha": phase.alpha,
                "batch": phase.batch,
                **statistics,
                "images_per_s": (self.nimg - before) / elapsed,
                "memory_gib": _memory_gib(self.device),
                "seconds": self.seconds,
                "time": int(time.time() * 1000),
            }
            yield Tick(record=record, grid=self.sample_grid(phase), done=self.nimg >= target)

    def _read_statistics(self) -> dict[str, float]:
        """Means since the last tick, over all workers."""
        if self.world > 1:
            dist.all_reduce(self._sums)
        means = (self._sums[:-1] / self._sums[-1]).tolist()
        self._sums.zero_()
        weights = torch.stack([p.detach().sum() for module in self._modules().values() for p in module.parameters()])
        if not np.isfinite([*means, weights.sum().item()]).all():
            raise FloatingPointError(f"a loss or weight is not finite at {self.nimg / 1000:.1f} kimg: {means}")
        return dict(zip(STATISTICS, means, strict=True))

    @torch.no_grad()
    def sample_grid(self, phase: Phase) -> NDArray[np.uint8]:
        """Fixed latents through the EMA generator, at the final resolution: uint8 [rows · columns, H, W, C]."""
        count = GRID[0] * GRID[1]
        random = torch.Generator().manual_seed(_seed(self.config.seed, 0, "grid"))
        z = torch.randn(count, self.config.latent_dim, generator=random).to(self.device)
        noise = [torch.randn(count, 1, *s, generator=random).to(self.device) for s in self.average.noise_shapes()]
        ws = self.average.truncate(self.average.mapping(z), GRID_PSI)
        self.average.growth = (phase.resolution, phase.alpha)
        images = self.average.synthesis(ws, noise)
        pixels = ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        array: NDArray[np.uint8] = pixels.permute(0, 2, 3, 1).cpu().numpy()
        return array

    # ── state ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def state(self) -> State:
        """Everything that the next step depends on."""
        tensors = {
            f"{name}/{key}": value
            for name, module in self._modules().items()
            for key, value in module.state_dict().items()
        }
        for name, adam in self._optimisers().items():
            for index, entries in adam.state_dict()["state"].items():
                tensors |= {f"{name}/{index}/{key}": value for key, value in entries.items()}
        numbers = {"nimg": self.nimg, "level": self.level, "seconds": self.seconds}
        return State(tensors, {**numbers, "model": self.average_config()})

    def average_config(self) -> dict[str, Any]:
        """The config.json of the EMA generator as far as it has grown."""
        phase = self.phase
        grown = phase.resolution == self.resolution and phase.alpha == 1
        return model_config(self.config, self.data) | ({} if grown else {"growth": [phase.resolution, phase.alpha]})

    def restore(self, state: State) -> None:
        """Takes up a state that state() gave."""
        self.nimg, self.level = state.numbers["nimg"], state.numbers["level"]
        self.seconds = state.numbers["seconds"]
        for name, module in self._modules().items():
            module.load_state_dict(_under(state.tensors, name))
        self._reset_optimisers()
        for name, adam in self._optimisers().items():
            entries: dict[int, dict[str, Tensor]] = {}
            for key, value in _under(state.tensors, name).items():
                index, entry = key.split("/")
                layout = torch.channels_last if value.ndim == 4 else torch.preserve_format
                entries.setdefault(int(index), {})[entry] = value.contiguous(memory_format=layout)
            adam.load_state_dict({**adam.state_dict(), "state": entries})

    def _modules(self) -> dict[str, nn.Module]:
        return {"generator": self.generator, "discriminator": self.discriminator, "average": self.average}

    def _optimisers(self) -> dict[str, torch.optim.Optimizer]:
        return {"adam_g": self.adam_g, "adam_d": self.adam_d}


def _under(tensors: Any, prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix + "/"): value for key, value in tensors.items() if key.startswith(prefix + "/")}


def _seed(seed: int, nimg: int, purpose: str) -> int:
    """A 63-bit seed of its own for each purpose and position."""
    digest = hashlib.sha256(f"{purpose}/{seed}/{nimg}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _memory_gib(device: torch.device) -> float:
    """Peak memory: of the process on a CPU, of torch's allocator on a GPU; GiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
