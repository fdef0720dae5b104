"""Measures a generator against the train and holdout images, beside baselines of the same size.

N images of each candidate, H × W pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from components.config import Evaluate, InputError
from components.data.dataset import ImageSet
from components.data.images import Uint8
from components.evaluation.extractor import Extractor
from components.evaluation.features import find_extractor, load_extractor
from components.evaluation.frechet import frechet
from components.evaluation.statistics import GaussianStatistics

Indices = npt.NDArray[np.int64]
Sampler = Callable[[list[int]], Uint8]  # seeds to [B, H, W, C]
Source = Callable[[Indices], Uint8]  # positions in 0..N-1 to [B, H, W, C]

BATCH = 64
SPLIT_SEED = 0
MIN_TRAIN = 4  # two images for each of two covariances
ROWS = (  # of the printed table, floor first: baseline and caption
    ("real", "real against real (the floor)"),
    ("blurred_8x8", "reals blurred to 8x8"),
    ("mean_image", "the mean image"),
    ("repeated_image", "one real image repeated"),
    ("untrained", "the untrained generator"),
)


@dataclass(frozen=True)
class Split:
    """The train images in two parts that share none: those set aside as candidates, [N], and the reference."""

    aside: Indices
    reference: Indices


def split_train(count: int, samples: int) -> Split:
    """Sets N = min(samples, count // 2) of `count` train images aside, the same ones every time.

    Raises:
        InputError: fewer than MIN_TRAIN images.
    """
    if count < MIN_TRAIN:
        raise InputError(
            f"data/shards has {count} train images; allowed: at least {MIN_TRAIN} to evaluate on: "
            "add images to ingest.source or lower preprocess.holdout"
        )
    order = np.random.RandomState(SPLIT_SEED).permutation(count).astype(np.int64)
    size = min(samples, count // 2)
    return Split(np.sort(order[:size]), np.sort(order[size:]))


def measure(
    params: Evaluate, train: ImageSet, holdout: ImageSet, generator: Sampler, untrained: Sampler
) -> dict[str, Any]:
    """reports/metrics.json without what only the training run knows.

    Args:
        generator: seeds to images at psi 1; seeds 0 to N - 1 are measured.
        untrained: the same of a generator with random weights.

    Raises:
        InputError: too few train images.
    """
    extractor = load_extractor(find_extractor(params))
    split = split_train(len(train), params.samples)
    size = len(split.aside)
    reals: Source = _gather(train, split.aside)
    one = reals(np.zeros(1, np.int64))
    mean = mean_image(train, split.reference)[None]
    candidates: dict[str, Source] = {
        "generator": lambda at: generator(at.tolist()),
        "real": reals,
        "untrained": lambda at: untrained(at.tolist()),
        "mean_image": lambda at: np.repeat(mean, len(at), axis=0),
        "repeated_image": lambda at: np.repeat(one, len(at), axis=0),
        "blurred_8x8": lambda at: blur_to_8(reals(at)),
    }
    measured = {name: statistics(extractor, source, size) for name, source in candidates.items()}
    references = {
        "train": statistics(extractor, _gather(train, split.reference), len(split.reference)),
        "holdout": statistics(extractor, _gather(holdout, np.arange(len(holdout))), len(holdout)),
    }
    key = f"frechet_{extractor.name}"
    report: dict[str, Any] = {
        "extractor": extractor.name,
        "extractor_digest": extractor.digest,
        "samples": size,
        "data_digest": train.digest,
        "holdout_digest": holdout.split_digest,
    }
    for name, reference in references.items():
        distances = {candidate: frechet(found, reference) for candidate, found in measured.items()}
        report[name] = {key: distances.pop("generator"), "baselines": distances}
    return report


def statistics(extractor: Extractor, source: Source, count: int) -> GaussianStatistics:
    """Features' statistics of a source's `count` images, a batch at a time."""
    found = GaussianStatistics(extractor.dim)
    for batch in _batches(count):
        found.update(extractor(source(batch)).numpy())
    return found


def mean_image(images: ImageSet, members: Indices) -> Uint8:
    """The mean of the members' pixels, [H, W, C]."""
    total = np.zeros(images.shape[1:])
    for batch in _batches(len(members)):
        total += images[members[batch]].sum(axis=0)
    mean: Uint8 = np.rint(total / len(members)).astype(np.uint8)
    return mean


def blur_to_8(images: Uint8) -> Uint8:
    """[B, H, W, C] averaged over boxes to 8 × 8 and enlarged back, bilinearly."""
    pixels = torch.tensor(images).permute(0, 3, 1, 2).float()
    blurred = F.interpolate(F.adaptive_avg_pool2d(pixels, 8), size=pixels.shape[2:], mode="bilinear")
    out: Uint8 = blurred.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return out


def table(report: dict[str, Any]) -> str:
    """The report's distances for people, in one fixed order."""
    key = f"frechet_{report['extractor']}"
    lines = [f"{key + ', N = ' + str(report['samples']):<34}{'train':>10}{'holdout':>10}"]
    splits = [report["train"], report["holdout"]]
    rows = [("the generator", [split[key] for split in splits])]
    rows += [(caption, [split["baselines"][name] for split in splits]) for name, caption in ROWS]
    return "\n".join([*lines, *(f"{caption:<34}" + "".join(f"{x:>10.2f}" for x in found) for caption, found in rows)])


def _gather(images: ImageSet, members: Indices) -> Source:
    return lambda at: images[members[at]]


def _batches(count: int) -> Iterator[Indices]:
    for start in range(0, count, BATCH):
        yield np.arange(start, min(start + BATCH, count))
