"""Memorisation: which samples copy a train image, told by a score that 1 % of fresh images reach by chance.

N samples, M train images, K holdout images, H × W pixels, C channels, f = 64 C numbers of a description.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from components.config import InputError
from components.data.images import Uint8
from components.data.similarity import PAIR, groups
from components.evaluation.distances import Float64, Indices, distance_blocks
from components.evaluation.intervals import Measured, share

Float32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]

GRID = 8  # cells each way that an image is averaged to
LAYOUT = "means of 8x8 cells, centred, unit norm, contrast at least a level"  # what layout() does, for digests
NEIGHBOURS = 50  # train images about a sample whose mean distance is the unit of its score
FALSE_ALARMS = 0.01  # share of fresh images that may be flagged
CALIBRATION = 2000  # holdout images at most, and train images that stand in for fresh ones
ROUNDING = 1e-6  # distances below it are 0: those of equal layouts come out as up to about 1e-7


def layout(images: Uint8) -> Float32:
    """Layout and colours of each image, without fine detail, brightness and contrast: what survives in a spoilt copy.

    The means of 8 × 8 cells, less their own mean, as a vector of unit norm; contrast below one level counts as one.
    The squared distance of two is 2 - 2 × the correlation of their cells.

    Args:
        images: [N, H, W, C], H and W multiples of 8.

    Returns:
        [N, 64 C]
    """
    count, height, width, channels = images.shape
    boxes = images.reshape(count, GRID, height // GRID, GRID, width // GRID, channels)
    cells = boxes.mean(axis=(2, 4)).transpose(0, 3, 1, 2).reshape(count, -1)
    cells -= cells.mean(axis=1, keepdims=True)
    norms = np.sqrt(np.square(cells).sum(axis=1, keepdims=True))
    described: Float32 = (cells / np.maximum(norms, np.sqrt(cells.shape[1]))).astype(np.float32)
    return described


def mirrored(described: Float32) -> Float32:
    """What layout() gives of the images flipped left to right, [N, f]."""
    count = len(described)
    return described.reshape(count, -1, GRID, GRID)[..., ::-1].reshape(count, -1)


def train_groups(shards: Path, count: int) -> Indices:
    """Of each of the `count` train images in a folder of shards the group of those alike (pairs.jsonl) it is in, [M].

    Fresh images have none of their kind in the train set, as preprocessing leaves each group on one side.
    """
    try:
        rows, pairs = (
            [json.loads(line) for line in (shards / name).read_text(encoding="utf-8").splitlines()]
            for name in ("images.jsonl", "pairs.jsonl")
        )
        place = {row["digest"]: at for at, row in enumerate(row for row in rows if row["split"] == "train")}
        both = [(pair["first_digest"], pair["second_digest"]) for pair in pairs]  # names may be there twice
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{shards}: not a folder of shards made by the preprocess stage: {error}") from None
    if len(place) != count:
        raise InputError(f"{shards}/images.jsonl has {len(place)} train images; allowed: the {count} of the shards")
    alike = np.zeros(len(pairs), PAIR)
    for number, side in enumerate(("first", "second")):  # a dropped image, with no place yet, still joins two kept ones
        alike[side] = [place.setdefault(pair[number], len(place)) for pair in both]
    found: Indices = groups(len(place), alike)[:count]
    return found


@dataclass(frozen=True)
class Nearest:
    """Of each sample its nearest train image.

    Attributes:
        position: [N], of the train image.
        mirrored: [N], whether it is nearest flipped left to right.
        score: [N], its distance over the mean distance of the 50 nearest: 0 for a copy, towards 1 for none.
    """

    position: Indices
    mirrored: Bool
    score: Float64


@dataclass(frozen=True)
class Memorisation:
    """Which samples copy a train image.

    Attributes:
        nearest: of each sample.
        threshold: a score of at most this is flagged.
        expected: share of fresh images that is flagged, at most: about 0.01; more where the known ones are too few to
            tell, or where more than that are equal to a train image.
        rate: share of the samples that is flagged; images were resampled, the threshold was not.
    """

    nearest: Nearest
    threshold: float
    expected: float
    rate: Measured

    @property
    def flagged(self) -> Indices:
        """Positions of the flagged samples, the closest copy first."""
        return self.closest(int((self.nearest.score <= self.threshold).sum()))

    def closest(self, count: int) -> Indices:
        """Positions of the samples with the `count` lowest scores, lowest first."""
        return np.argsort(self.nearest.score, kind="stable")[:count]


def memorisation(samples: Float32, train: Float32, holdout: Float32, alike: Indices) -> Memorisation:
    """Finds the samples that lie closer to a train image, mirrored or not, than all but 1 % of fresh images do.

    A sample's score is its distance to the nearest train image in units of the mean distance to its 50 nearest. Scores
    of fresh images are those of the holdout, and those of train images against the train set without their own group.

    Args:
        samples: [N, f] of layout(), as are train [M, f] and holdout [K, f].
        alike: [M], the group of each train image, as of train_groups().

    Reference: Carlini et al. 2023, "Extracting training data from diffusion models", section 4.2.
    """
    some, held = (
        np.unique(np.linspace(0, count - 1, CALIBRATION).astype(np.int64)) for count in (len(train), len(holdout))
    )
    fresh = [nearest_train(holdout[held], train).score, nearest_train(train[some], train, (alike[some], alike)).score]
    known = np.concatenate(fresh)
    threshold, expected = calibrated(known[np.isfinite(known)])  # not of a train image whose group is all there is
    found = nearest_train(samples, train)
    return Memorisation(found, threshold, expected, share(int((found.score <= threshold).sum()), len(samples)))


def calibrated(known: Float64) -> tuple[float, float]:
    """The threshold that 1 % of fresh images reach, by the scores of n known ones, and the share that does reach it.

    The threshold is the score of rank r = 0.01 (n + 1), at least 1, and just below it where it is a tie that reaches
    beyond r. A tie at 0 has nothing below it: it is flagged whole, as no one can tell its images from copies.

    Another score is among the r lowest of n + 1 with probability r / (n + 1) if all are exchangeable. Those of train
    images are not quite: a fresh image beside one of them would have lowered its score too, so the fresh one may have
    rank r + 1 among all. The share is (r + 1) / (n + 1), which simulations reach at r = 1 and do not exceed; from
    n = 700 on the truth is nearer to r / (n + 1).

    Reference: Vovk, Gammerman and Shafer 2005, "Algorithmic learning in a random world", proposition 2.3; twice the
    share at r = 1 is the bound of Barber et al. 2021, "Predictive inference with the jackknife+", theorem 1.
    """
    ordered = np.sort(known)
    rank = max(1, int(FALSE_ALARMS * (len(known) + 1)))
    score = ordered[rank - 1]
    below, through = np.searchsorted(ordered, score), np.searchsorted(ordered, score, side="right")
    if through > rank and score > 0:
        threshold, rank = np.nextafter(score, 0), below + 1
    else:
        threshold, rank = score, through
    return float(threshold), min(1.0, float((rank + 1) / (len(known) + 1)))


def nearest_train(queries: Float32, train: Float32, alike: tuple[Indices, Indices] | None = None) -> Nearest:
    """The nearest train image of each query, and the score of its distance, to six digits: equal images get equal ones.

    Args:
        queries: [Q, f].
        train: [M, f].
        alike: groups of the queries [Q] and of the train images [M]: no query meets its own group.
    """
    count, position, flips, score = len(train), [], [], []
    for rows, block in distance_blocks(queries, np.concatenate([train, mirrored(train)])):
        block[block < ROUNDING] = 0
        plain, flipped = block[:, :count], block[:, count:]
        either = np.minimum(plain, flipped)
        if alike is not None:
            either[alike[0][rows, None] == alike[1]] = np.inf
        best = either.argmin(axis=1)
        at = np.arange(len(best)), best
        position.append(best)
        flips.append(flipped[at] < plain[at])
        score.append(np.round(either[at] / np.maximum(_mean_of_nearest(either), ROUNDING), 6))
    return Nearest(np.concatenate(position), np.concatenate(flips), np.concatenate(score))


def _mean_of_nearest(distances: Float64) -> Float64:
    """[Q, M] to [Q]: the mean of each row's NEIGHBOURS lowest, of the finite ones among them."""
    reach = min(NEIGHBOURS, distances.shape[1])
    lowest = np.partition(distances, reach - 1, axis=1)[:, :reach]
    finite = np.isfinite(lowest)
    mean: Float64 = np.where(finite, lowest, 0).sum(axis=1) / np.maximum(finite.sum(axis=1), 1)
    return mean
