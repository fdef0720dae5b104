"""The sections of params.yaml that decide the weights, and how a run is carried out."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from components.config.checks import MAX_RESOLUTION, check, choice, is_resolution

ARCHS = (
    "dcgan",
    "progan",
    "stylegan",
    "stylegan2",
    "r3gan",
)  # modules of components/models; sections of train
UNSIGNED = ("progan", "r3gan")  # archs whose loss does not call a logit above 0 real
AUGMENTS = ("none", "ada", "diffaugment")
DEVICES = ("auto", "cpu", "cuda")
DTYPES = ("float32", "bfloat16")
WITH_LABELS = ("stylegan2", "r3gan")  # archs
S3_ADDRESS = re.compile(r"s3://[a-zA-Z0-9._-]+(/\S*)?")
GROUP = 4  # images of a batch that stay together on one worker: those of minibatch standard deviation


@dataclass(frozen=True, kw_only=True)
class Augment:
    """What the discriminator sees of reals and fakes alike."""

    kind: str  # of AUGMENTS
    target: float  # of ada: the mean sign of D on reals that p is steered to; 0 keeps p as it is
    p: float  # of ada: probability of each transform, at first
    max_p: float  # p never passes it
    ada_kimg: float  # in which p can move by 1

    def __post_init__(self) -> None:
        choice("train.augment.kind", self.kind, AUGMENTS)
        check(0 <= self.target < 1, "train.augment.target", self.target, "0 (p stays) or more, below 1")
        check(0 <= self.max_p <= 1, "train.augment.max_p", self.max_p, "0 to 1")
        check(0 <= self.p <= self.max_p, "train.augment.p", self.p, f"0 to train.augment.max_p, {self.max_p}")
        check(self.ada_kimg > 0, "train.augment.ada_kimg", self.ada_kimg, "above 0")


@dataclass(frozen=True, kw_only=True)
class Growth:
    """Progressive growing, and all that arch progan has of its own."""

    arch: ClassVar[str] = "progan"
    start_resolution: int
    stable_kimg: float  # at each resolution, after its fade
    fade_kimg: float

    def __post_init__(self) -> None:
        check(
            is_resolution(self.start_resolution, low=4),
            f"train.{self.arch}.start_resolution",
            self.start_resolution,
            f"a power of two from 4 to {MAX_RESOLUTION}",
        )
        for name in ("stable_kimg", "fade_kimg"):
            check(getattr(self, name) > 0, f"train.{self.arch}.{name}", getattr(self, name), "above 0")


@dataclass(frozen=True, kw_only=True)
class Stylegan(Growth):
    """Arch stylegan: growth, and styles."""

    arch: ClassVar[str] = "stylegan"
    style_mixing: float  # probability

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 <= self.style_mixing <= 1, "train.stylegan.style_mixing", self.style_mixing, "0 to 1")


@dataclass(frozen=True, kw_only=True)
class Stylegan2:
    """Arch stylegan2."""

    style_mixing: float  # probability
    path_length_weight: float  # 0 for no path-length penalty

    def __post_init__(self) -> None:
        check(0 <= self.style_mixing <= 1, "train.stylegan2.style_mixing", self.style_mixing, "0 to 1")
        weight = self.path_length_weight
        check(weight >= 0, "train.stylegan2.path_length_weight", weight, "at least 0")


@dataclass(frozen=True, kw_only=True)
class R3gan:
    """Arch r3gan: where its schedules end, and how often its penalties are taken."""

    decay_kimg: float  # until the schedules end
    final_learning_rate: float
    final_gamma: float
    penalty_every: int  # steps

    def __post_init__(self) -> None:
        for name in ("decay_kimg", "final_learning_rate"):
            check(getattr(self, name) > 0, f"train.r3gan.{name}", getattr(self, name), "above 0")
        check(self.final_gamma >= 0, "train.r3gan.final_gamma", self.final_gamma, "at least 0")
        check(self.penalty_every >= 1, "train.r3gan.penalty_every", self.penalty_every, "at least 1")


@dataclass(frozen=True, kw_only=True)
class Train:
    """What decides the weights. All of it but total_kimg and the sections of other archs is part of the run key."""

    arch: str  # of ARCHS
    init_from: str  # a generator to start from: models:/NAME/VERSION or a folder; "" for none
    batch: int  # images a step at the final resolution, over all workers
    total_kimg: float  # target, thousands of images shown
    seed: int
    channel_base: int
    channel_max: int
    latent_dim: int  # of z, and of w where there is one
    learning_rate: float
    gamma: float  # weight of the gradient penalties
    ema_kimg: float  # half-life; 0 for no average
    dtype: str
    mirror: bool  # show half of the images mirrored
    labels: bool  # the networks are told the label of each image
    augment: Augment
    progan: Growth
    stylegan: Stylegan
    stylegan2: Stylegan2
    r3gan: R3gan

    def __post_init__(self) -> None:
        choice("train.arch", self.arch, ARCHS)
        check(
            not self.init_from.startswith("models:")
            or re.fullmatch(r"models:/[^/@]+/[0-9]+", self.init_from) is not None,
            "train.init_from",
            self.init_from,
            "nothing, models:/NAME/VERSION (an alias may move), or a generator folder",
        )
        check(
            not Path(self.init_from).match("models/candidate"),
            "train.init_from",
            self.init_from,
            "another folder: this one is what the stage writes",
        )
        check(
            not (self.arch in UNSIGNED and self.augment.kind == "ada" and self.augment.target > 0),
            "train.augment.target",
            self.augment.target,
            f"0 for {self.arch}: its loss leaves the sign of D's logits open, so they cannot steer p",
        )
        known = self.arch in WITH_LABELS
        check(known or not self.labels, "train.labels", self.labels, f"false for {self.arch}, whose paper has none")
        check(self.batch >= 4 and self.batch % 4 == 0, "train.batch", self.batch, "a multiple of 4, at least 4")
        for name in ("channel_base", "channel_max", "latent_dim"):
            check(getattr(self, name) >= 1, f"train.{name}", getattr(self, name), "at least 1")
        for name in ("total_kimg", "learning_rate"):
            check(getattr(self, name) > 0, f"train.{name}", getattr(self, name), "above 0")
        check(self.ema_kimg >= 0, "train.ema_kimg", self.ema_kimg, "0 (no average) or more")
        check(0 <= self.seed < 2**31, "train.seed", self.seed, "0 to 2147483647")
        check(self.gamma >= 0, "train.gamma", self.gamma, "at least 0")
        choice("train.dtype", self.dtype, DTYPES)


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How a run is carried out. Nothing here is part of the run key or of a DVC stage."""

    ray_address: str  # of a cluster's dashboard, to train there as a job; "" for none
    wait_s: float  # for a joined cluster to have what is asked for
    device: str
    workers: int | str  # a number, "auto", or a range, "2-8"
    cpus: int  # that a worker reserves; 0 is its share of all
    threads: int  # per worker; 0 is as many as it reserves
    backup: str  # s3://bucket/prefix: where a copy of each run is kept; "" for none
    tick_kimg: float
    checkpoint_kimg: float
    keep_checkpoints: int
    keep_every_kimg: float
    max_restarts: int
    hang_s: int
    adopt: str

    def __post_init__(self) -> None:
        check(
            not self.ray_address or re.fullmatch(r"https?://[^/\s]+/?", self.ray_address) is not None,
            "execution.ray_address",
            self.ray_address,
            "nothing, or the address of a cluster's dashboard, http://HOST:8265",
        )
        check(self.wait_s >= 0, "execution.wait_s", self.wait_s, "at least 0")
        choice("execution.device", self.device, DEVICES)
        least, most = self._span()
        check(1 <= least <= most, "execution.workers", self.workers, "at least 1; auto; or a range as 2-8")
        check(self.cpus >= 0, "execution.cpus", self.cpus, "0 (the worker's share) or more")
        check(self.threads >= 0, "execution.threads", self.threads, "0 (as many as execution.cpus) or more")
        known = self.backup == "" or S3_ADDRESS.fullmatch(self.backup) is not None
        check(known, "execution.backup", self.backup, "nothing, or s3://bucket/prefix")
        check(self.tick_kimg > 0, "execution.tick_kimg", self.tick_kimg, "above 0")
        check(self.checkpoint_kimg > 0, "execution.checkpoint_kimg", self.checkpoint_kimg, "above 0")
        check(self.keep_checkpoints >= 1, "execution.keep_checkpoints", self.keep_checkpoints, "at least 1")
        check(self.keep_every_kimg >= 0, "execution.keep_every_kimg", self.keep_every_kimg, "0 (none) or more")
        check(
            re.fullmatch("([0-9a-f]{12})?", self.adopt) is not None,
            "execution.adopt",
            self.adopt,
            "nothing, or a run key: the 12 digits that name a folder in runs/",
        )
        check(self.hang_s >= 1, "execution.hang_s", self.hang_s, "at least 1")
        check(self.max_restarts >= 0, "execution.max_restarts", self.max_restarts, "at least 0")

    def _span(self) -> tuple[int, int]:
        """The fewest and the most workers; (0, 0) where they are no range."""
        if self.workers == "auto":
            return 1, sys.maxsize
        if isinstance(self.workers, int):
            return self.workers, self.workers
        least, _, most = self.workers.partition("-")
        return (int(least), int(most)) if least.isdecimal() and most.isdecimal() else (0, 0)

    def counts(self, batch: int, least: int | None = None) -> list[int]:
        """Numbers of workers that are asked for and that a batch can be dealt to in whole groups, from low to high.

        Args:
            least: allowed too, if it is fewer.
        """
        low, high = self._span()
        numbers = range(low if least is None else min(low, least), min(high, batch // GROUP) + 1)
        return [number for number in numbers if batch % (GROUP * number) == 0]
