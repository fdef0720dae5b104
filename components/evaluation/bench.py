"""The bench that generators are measured on: extractor, N and the real images. Numbers of one bench can be compared.

N images of a candidate, M real images, d features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from components.config import Evaluate, InputError
from components.evaluation.candidates import Generated, RealImages, Source
from components.evaluation.collapse import Collapse, collapse
from components.evaluation.description import BATCH, Described, Look, describe, described_reals
from components.evaluation.distances import Indices
from components.evaluation.features import ExtractorSpec, find_extractor, metric_name
from components.evaluation.intervals import Measured
from components.evaluation.memorisation import Float32, layout
from components.evaluation.metrics import KINDS, Reals, compare, covered, distance, frechet, prepare
from components.executor import Spread, executor, inline

Groups = dict[str, dict[str, float]]  # metrics.json: {"holdout": {"frechet_random_conv": 4.5}, "holdout_low": …}
CACHE = Path(".cache/features")
METRICS = 1  # raised when an estimator changes: its numbers cannot be compared with those before
SPLIT_SEED = 0
MAX_REFERENCE = 50_000  # train images: radii and kernel take time by their square
MIN_TRAIN, MIN_HOLDOUT = 8, 2  # four images set aside for the floor; a covariance and a neighbour each


@dataclass(frozen=True)
class Bench:
    """What measures; a small value that travels to workers, which open what it names.

    Attributes:
        shards: absolute, as cache.
        gpus: may they be used.
    """

    params: Evaluate
    spec: ExtractorSpec
    shards: Path
    cache: Path
    gpus: bool

    @classmethod
    def build(cls, params: Evaluate, shards: Path, gpus: bool) -> Bench:
        """Finds the extractor's file.

        Raises:
            InputError: it is missing or another one; too few images.
        """
        bench = cls(params, find_extractor(params), shards.resolve(), CACHE.resolve(), gpus)
        for split, least in (("train", MIN_TRAIN), ("holdout", MIN_HOLDOUT)):
            count = len(bench.reals(split).images())
            if count < least:
                raise InputError(
                    f"{shards} has {count} {split} images; allowed: at least {least} to evaluate on: "
                    "add images to ingest.source or change preprocess.holdout"
                )
        return bench

    @property
    def look(self) -> Look:
        """How images become numbers."""
        return Look(self.spec, self.reals("holdout").images().shape[3], self.gpus)

    @property
    def metric(self) -> str:
        """The name of the distance that decides."""
        return metric_name(self.params.metric, self.look.extractor())

    @property
    def names(self) -> list[str]:
        """The names of all that is measured against a split."""
        names = [self._name(kind) for kind in KINDS]
        return [*names, "frechet_alpha"] if self.look.channels == 4 else names

    @property
    def samples(self) -> int:
        """N."""
        return len(self.split().aside)

    @property
    def yardstick(self) -> dict[str, str | int]:
        """What must be equal for numbers to be compared."""
        return {
            "metrics": METRICS,
            "extractor": self.spec.name,
            "extractor_digest": self.look.extractor().digest,
            "samples": self.samples,
            "holdout_digest": self.reals("holdout").images().split_digest,
        }

    def reals(self, split: str) -> RealImages:
        return RealImages(self.shards, split)

    def split(self) -> Split:
        """The train images set aside, and the rest."""
        return split_train(len(self.reals("train").images()), self.params.samples)

    def on_holdout(self, source: Source, spread: Spread = inline) -> Groups:
        """A generator's N images, seeds 0 to N - 1, against the holdout images."""
        return self.against(("holdout",), self.sampled(source, spread))

    def sampled(self, source: Source, spread: Spread = inline) -> Described:
        """A generator's N images, seeds 0 to N - 1."""
        return describe(source, np.arange(self.samples), self.look, spread)

    def described(self, split: str, spread: Spread = inline) -> Described:
        """All real images of a split."""
        return described_reals(self.reals(split), self.look, self.cache, spread)

    def against(self, splits: Sequence[str], found: Described) -> Groups:
        """Described images against the reals of the splits: values, and the ends of their intervals."""
        groups: Groups = {}
        for split in splits:
            features, alpha = _prepared(self, split)
            values = {self._name(kind): value for kind, value in compare(found.features, features).items()}
            if alpha:
                values["frechet_alpha"] = frechet(found.alpha, alpha)["frechet"]
            groups |= grouped(split, values)
        return groups

    def distance(self, split: str, found: Described) -> float:
        """Described images' deciding distance to the reals of a split."""
        return distance(self.params.metric, found.features, _prepared(self, split)[0])

    def covered(self, found: Described) -> npt.NDArray[np.bool_]:
        """Which holdout images have a described image near them, [M]."""
        return covered(found.features, _prepared(self, "holdout")[0])

    def layouts_aside(self) -> Float32:
        """Of the train images set aside, [N, f], without describing them all."""
        return _layouts_aside(self)

    def collapse(self, found: Described, aside: Float32) -> Collapse:
        """Whether described images repeat each other or leave out much.

        Args:
            aside: layouts of the train images set aside.
        """
        labels = self.reals("holdout").images().named_labels()
        return collapse(found.layouts, aside, self.covered(found), labels)

    def _name(self, kind: str) -> str:
        return metric_name(kind, self.look.extractor())


@dataclass(frozen=True)
class Split:
    """Two parts of the train images that share none: those set aside as candidates, [N], and the reference."""

    aside: Indices
    reference: Indices


def split_train(count: int, samples: int) -> Split:
    """Sets N = min(samples, count // 2) of `count` train images aside, the same ones every time.

    The reference is MAX_REFERENCE of the rest at most, drawn as they are.
    """
    order = np.random.RandomState(SPLIT_SEED).permutation(count).astype(np.int64)
    size = min(samples, count // 2)
    return Split(np.sort(order[:size]), np.sort(order[size:][:MAX_REFERENCE]))


def measure_on_holdout(bench: Bench, folder: Path) -> Groups | str:
    """A generator folder against the holdout images, over an executor; or why that cannot be."""
    source = Generated.at(folder, bench.gpus)
    try:
        generator = source.generator()
    except InputError as error:
        return str(error)
    own, (height, width, channels) = generator.channels, bench.reals("holdout").images().shape[1:]
    if own != channels:
        return f"it draws images of {own} channels, the data has {channels}"
    rows, columns = generator.sizes.grid
    if rows * width != columns * height:
        return f"it draws images of {columns}:{rows}, the data has {width}x{height}"
    with executor(preload="components.evaluation.description", gpus=bench.gpus) as spread:
        return bench.on_holdout(source, spread)


def grouped(name: str, values: Mapping[str, Measured]) -> Groups:
    """Values and interval ends as metrics.json holds them: {name: …, name_low: …, name_high: …}."""
    return {
        name: {key: measured.value for key, measured in values.items()},
        f"{name}_low": {key: measured.low for key, measured in values.items()},
        f"{name}_high": {key: measured.high for key, measured in values.items()},
    }


@lru_cache(maxsize=2)
def _prepared(bench: Bench, split: str) -> tuple[Reals, Reals | None]:
    """The references of a split: all holdout images, or split()'s of the train images; features and alpha."""
    found = bench.described(split)
    if split == "train":
        found = found[bench.split().reference]
    return prepare(found.features), prepare(found.alpha) if found.alpha.shape[1] else None


@lru_cache(maxsize=2)
def _layouts_aside(bench: Bench) -> Float32:
    aside, reals = bench.split().aside, bench.reals("train")
    return np.concatenate([layout(reals(keys)) for keys in np.array_split(aside, -(-len(aside) // BATCH))])
