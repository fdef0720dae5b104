"""The training loop: steps on the global batch, and a tick every so many images. Needs torch, NumPy and safetensors.

Legend: B images of this worker's slice of the global batch, H × W pixels, C channels.

Every random number of a step comes from a generator seeded by (seed, nimg): a checkpoint holds no generator state.
"""

from __future__ import annotations

import hashlib
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from components.config import Train
from components.data.dataset import ImageSet, batch_indices
from components.models import Phase
from components.models.layers import downsample, upsample
from components.models.pixels import pixels
from components.training.ema import settle
from components.training.feed import feed
from components.training.players import Players
from components.training.state import State
from components.training.waiting import slowest

GRID = (4, 8)  # rows and columns of the sample grid
GRID_PSI = 0.7
SETTLING = 256  # latents whose features give the average its running statistics, where it has any
COMPARED = 64  # reals that the sample grid's variety is compared with
AGREE_EVERY = 8  # steps after which the workers ask each other whether to pause
GO_ON, SAVE, STOP = range(3)  # what they may say


@dataclass(frozen=True, kw_only=True)
class Tick:
    """What a tick reports, on every worker alike."""

    record: dict[str, float]  # a line of metrics.jsonl
    grid: NDArray[np.uint8]  # [GRID images, H, W, C] of fixed latents
    done: bool  # the target is reached


def model_config(config: Train, data: ImageSet) -> dict[str, Any]:
    """The config.json of the generator that this run trains, grown to the end."""
    _, height, width, channels = data.shape
    resolution = max(height, width)
    model: dict[str, Any] = {
        "format": 1,
        "arch": config.arch,
        "resolution": resolution,
        "channels": channels,
        "latent_dim": config.latent_dim,
        "channel_base": config.channel_base,
        "channel_max": config.channel_max,
    }
    if height != width:
        model["grid"] = [4 * height // resolution, 4 * width // resolution]
    if config.labels:
        model["labels"] = data.label_counts()
    return model


class Trainer:
    """One run: its players, its data, and where it stands; the same on every worker after every step.

    Attributes:
        nimg: images shown so far.
        paused: what the workers agreed on last: GO_ON, SAVE or STOP.
        passed_over: (at, count): from `at` images on, `count` images of the order, and the randomness that goes with
            them, are left out. A run that went back to `at` takes another way by it.
    """

    def __init__(self, config: Train, data: ImageSet, device: torch.device, *, rank: int = 0, world: int = 1) -> None:
        self.config, self.data, self.device, self.rank, self.world = config, data, device, rank, world
        self._images = feed(data, device)
        self._labels: Tensor | None = None
        if config.labels:
            assert data.labels is not None, "identity.check_labels() was to be asked first"
            self._labels = torch.from_numpy(data.labels.astype(np.int64)).to(device)
        self.players = Players(
            config, model_config(config, data), _seed(config.seed, 0, "weights"), device, rank=rank, world=world
        )
        self.nimg, self.seconds, self.paused = 0, 0.0, GO_ON
        self.passed_over: list[tuple[int, int]] = []
        self.level = self.phase.resolution

    @property
    def phase(self) -> Phase:
        """The phase of the next step."""
        return self.players.recipe.phase(self.nimg)

    @property
    def place(self) -> int:
        """Of the next step, in the order of images."""
        return self.nimg + sum(count for at, count in self.passed_over if at <= self.nimg)

    def step(self) -> None:
        """One update of D and one of G on the next global batch."""
        phase = self.phase
        if phase.resolution != self.level:
            self.level = phase.resolution
            self.players.reset_optimisers()
        random = torch.Generator(self.device).manual_seed(_seed(self.config.seed, self.place, "step"))
        reals, labels = self._next_batch(phase, random)
        self.players.step(phase, self.nimg // phase.batch, reals, random, labels)
        self.nimg += phase.batch

    def _next_batch(self, phase: Phase, random: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """This worker's reals [B, C, H, W] in [-1, 1], and the labels of the whole global batch, where there are any.

        Reals are at the growth phase's resolution and faded as fakes are.
        """
        chosen = batch_indices(seed=self.config.seed, nimg=self.place, batch=phase.batch, count=len(self.data))
        stored = self._images(np.array_split(chosen, self.world)[self.rank])
        images = stored.permute(0, 3, 1, 2).float() / 127.5 - 1
        if self.config.mirror:
            mirrored = torch.rand(phase.batch, 1, 1, 1, device=self.device, generator=random) < 0.5
            images = torch.where(mirrored.chunk(self.world)[self.rank], images.flip(3), images)
        while max(images.shape[2:]) > phase.resolution:
            images = downsample(images)
        if phase.alpha < 1:
            images = torch.lerp(upsample(downsample(images)), images, phase.alpha)
        return images, None if self._labels is None else self._labels[torch.from_numpy(chosen).to(self.device)]

    def run(self, *, tick_kimg: float, pause: Callable[[], int] = lambda: GO_ON) -> Iterator[Tick]:
        """Trains to the target, and yields after every tick_kimg thousand images and at the end.

        Args:
            pause: asked on every worker before every AGREE_EVERY-th step. Where one does not say GO_ON, all end there,
                in mid-tick; a trainer with this one's state() then goes on with the tick.

        Raises:
            FloatingPointError: a loss or a weight is no longer finite.
        """
        target, tick, steps = self.config.total_kimg * 1000, tick_kimg * 1000, 0
        while self.nimg < target:
            before, begin = self.nimg, time.monotonic()
            phase = self.phase
            while self.nimg < target and self.nimg // tick == before // tick:
                if steps % AGREE_EVERY == 0:
                    self.paused = self._agreed(pause())
                if self.paused != GO_ON:
                    self.seconds += time.monotonic() - begin
                    self.players.waiting.read()
                    self._check_finite(self.players.sums.tolist())
                    return
                phase = self.phase
                self.step()
                steps += 1
            statistics = self._read_statistics()
            self.settle()
            elapsed = time.monotonic() - begin
            self.seconds += elapsed
            own = elapsed - self.players.waiting.read()
            grid = self.sample_grid(phase)
            record = {
                "nimg": self.nimg,
                "kimg": self.nimg / 1000,
                "resolution": phase.resolution,
                "alpha": phase.alpha,
                "batch": phase.batch,
                "augment_p": self.players.augmentation(phase),
                **statistics,
                "sample_std": _std(grid, phase.resolution) / self._std_of_reals(phase),
                "images_per_s": (self.nimg - before) / elapsed,
                **slowest(own, self.device, self.rank, self.world),
                "memory_gib": _memory_gib(self.device),
                "seconds": self.seconds,
                "time": int(time.time() * 1000),
            }
            yield Tick(record=record, grid=grid, done=self.nimg >= target)

    def _agreed(self, said: int) -> int:
        """The most that any worker says."""
        most = torch.tensor(said, device=self.device)
        if self.world > 1:
            self.players.waiting.all_reduce(most, dist.ReduceOp.MAX)
        return int(most)

    def _read_statistics(self) -> dict[str, float]:
        statistics = self.players.read_statistics()
        self._check_finite(list(statistics.values()), str(statistics))
        return statistics

    def _check_finite(self, values: list[float], said: str = "in mid-tick") -> None:
        weights = [p.detach().sum() for network in self.players.networks().values() for p in network.parameters()]
        if not np.isfinite([*values, torch.stack(weights).sum().item()]).all():
            raise FloatingPointError(f"a loss or weight is not finite at {self.nimg / 1000:.1f} kimg: {said}")

    def settle(self) -> None:
        """Gives the average's batch norm, where it has any, statistics of its own, from latents that workers share."""
        settle(self.players.average, self._settling_latents().chunk(self.world)[self.rank])

    def _settling_latents(self) -> Tensor:
        """About SETTLING, [n, latent_dim], whole batches of them, the same at every tick."""
        count = max(1, SETTLING // self.config.batch) * self.config.batch
        random = torch.Generator().manual_seed(_seed(self.config.seed, 0, "settle"))
        return torch.randn(count, self.config.latent_dim, generator=random).to(self.device)

    @torch.no_grad()
    def sample_grid(self, phase: Phase) -> NDArray[np.uint8]:
        """Fixed latents through the EMA generator, at the final resolution: uint8 [rows · columns, H, W, C]."""
        count, average = GRID[0] * GRID[1], self.players.average
        random = torch.Generator().manual_seed(_seed(self.config.seed, 0, "grid"))
        z = torch.randn(count, average.latent_dim, generator=random).to(self.device)
        noise = [torch.randn(count, 1, *shape, generator=random).to(self.device) for shape in average.noise_shapes()]
        labels = average.draw_labels([random] * count)
        average.growth = (phase.resolution, phase.alpha)
        images = average.synthesis(average.truncate(average.to_w(z, labels), GRID_PSI), noise)
        array: NDArray[np.uint8] = pixels(images).cpu().numpy()
        return array

    def _std_of_reals(self, phase: Phase) -> float:
        """What sample_std is a share of; of the same reals at every tick."""
        chosen = batch_indices(seed=self.config.seed, nimg=0, batch=COMPARED, count=len(self.data))
        return _std(self.data[chosen], phase.resolution)

    def state(self) -> State:
        """Everything that the next step depends on."""
        numbers = {"nimg": self.nimg, "level": self.level, "seconds": self.seconds}
        return State(self.players.tensors(), {**numbers, "model": self.average_config()})

    def average_config(self) -> dict[str, Any]:
        """The config.json of the EMA generator as far as it has grown."""
        phase = self.phase
        grown = phase.resolution == max(self.data.shape[1:3]) and phase.alpha == 1
        return model_config(self.config, self.data) | ({} if grown else {"growth": [phase.resolution, phase.alpha]})

    def restore(self, state: State) -> None:
        """Takes up a state that state() gave."""
        self.nimg, self.level = state.numbers["nimg"], state.numbers["level"]
        self.seconds = state.numbers["seconds"]
        self.players.restore(state.tensors)


def _seed(seed: int, nimg: int, purpose: str) -> int:
    """A 63-bit seed of its own for each purpose and position."""
    digest = hashlib.sha256(f"{purpose}/{seed}/{nimg}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _std(pixels: NDArray[np.uint8], resolution: int) -> float:
    """The standard deviation over images [N, H, W, C] at that resolution, mean over pixels and channels; 0..255."""
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
    while max(images.shape[2:]) > resolution:
        images = downsample(images)
    return float(images.std(0).mean())


def _memory_gib(device: torch.device) -> float:
    """Peak memory: of the process on a CPU, of torch's allocator on a GPU; GiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
