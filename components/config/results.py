"""The sections of params.yaml that decide how a generator is judged and where it is kept."""

from __future__ import annotations

import re
from dataclasses import dataclass

from components.config.checks import MAX_RESOLUTION, check, choice

EXTRACTORS = ("random_conv", "inception")  # any other name is that of a TorchScript file
METRICS = ("frechet", "frechet_infinity", "kernel")  # distances: lower is better


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """How a generator is measured."""

    extractor: str  # of EXTRACTORS, or what the TorchScript network in `weights` is called
    weights: str  # its file or URL; random_conv has none
    weights_sha256: str  # of a network of one's own; inception's is pinned
    input_size: int  # pixels; of a network of one's own
    samples: int  # N
    metric: str  # of METRICS: what decides which generator is better
    every_kimg: float  # snapshots measured during training; 0 for none
    pick: str  # which snapshot training exports
    psi: float  # truncation in pictures

    def __post_init__(self) -> None:
        own = self.extractor not in EXTRACTORS
        check(
            re.fullmatch(r"(?!alpha$)(?!.*_(infinity|rgba)$)[a-z][a-z0-9_]*", self.extractor) is not None,
            "evaluate.extractor",
            self.extractor,
            f"{', '.join(EXTRACTORS)}, or a name in small letters, digits and '_' (not alpha, …_infinity, …_rgba) "
            "for the network in evaluate.weights",
        )
        check(
            bool(self.weights) == (self.extractor != "random_conv"),
            "evaluate.weights",
            self.weights,
            f"for {self.extractor} {'a TorchScript file or URL' if self.extractor != 'random_conv' else 'nothing'}",
        )
        check(
            re.fullmatch("[0-9a-f]{64}" if own else "", self.weights_sha256) is not None,
            "evaluate.weights_sha256",
            self.weights_sha256,
            f"for {self.extractor} {'64 small hexadecimal digits' if own else 'nothing'}",
        )
        check(8 <= self.input_size <= MAX_RESOLUTION, "evaluate.input_size", self.input_size, "8 to 1024")
        check(self.samples >= 4, "evaluate.samples", self.samples, "at least 4")
        choice("evaluate.metric", self.metric, METRICS)
        check(self.every_kimg >= 0, "evaluate.every_kimg", self.every_kimg, "0 (never) or more")
        choice("evaluate.pick", self.pick, ("last", "best"))
        check(
            self.pick == "last" or self.every_kimg > 0,
            "evaluate.every_kimg",
            self.every_kimg,
            "above 0 where evaluate.pick is best",
        )
        check(0 <= self.psi <= 1, "evaluate.psi", self.psi, "0 to 1")


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What a generator must show to become the champion, beside being better than the one there is."""

    max_memorised: float  # share of samples that copy a train image
    min_coverage: float  # as a share of the coverage that reals reach

    def __post_init__(self) -> None:
        for name in ("max_memorised", "min_coverage"):
            check(0 <= getattr(self, name) <= 1, f"register.gate.{name}", getattr(self, name), "0 to 1")


@dataclass(frozen=True, kw_only=True)
class Register:
    """Where a measured generator is kept."""

    model: str
    promote: str  # auto, or ask: a person
    gate: Gate

    def __post_init__(self) -> None:
        choice("register.promote", self.promote, ("auto", "ask"))
        check(
            re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.model) is not None,
            "register.model",
            self.model,
            "letters, digits, '_', '.' and '-'",
        )
