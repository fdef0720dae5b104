"""Collapse: whether samples repeat each other or leave out much of what there is, and one alarm with its reason.

N samples, M reals, n = min(N, M, 5000) of each that are compared, f numbers of layout(), B blocks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from components.evaluation.distances import Float64, Indices, distance_blocks, nearest
from components.evaluation.intervals import BLOCKS, Measured, jackknife, share
from components.evaluation.memorisation import ROUNDING, Bool, Float32

LIMIT = 5000  # images compared, at most
TWIN = 0.01  # share of reals with a neighbour as near as what counts as a duplicate

# Thresholds of the alarm; what they were set on is in docs/evaluation.md.
DUPLICATES = 0.05  # fresh reals: 0.01
SPREAD = 0.5  # fresh reals: 1
REACH = 0.25  # fresh reals: 0.8 to 1.05; one of nine body plans: 0.16 to 0.22
LOST = 0.25  # of the best label's coverage
LOST_REALS = 0.5
PER_LABEL = 10  # samples; with fewer a label is left out by chance


@dataclass(frozen=True)
class Label:
    """Coverage of the reals of one label."""

    name: str
    reals: int
    covered: Measured


@dataclass(frozen=True)
class Collapse:
    """How much the samples vary.

    Attributes:
        compared: n.
        duplicates: share of samples with another one nearer than all but 1 % of as many reals have, of more of them
            where reals are equal; interval of a share (Wilson) √2 as wide, because duplicates come in pairs.
        spread: median distance of a sample to the nearest other one, over the same of as many reals; 1 where half of
            the reals are equal to another one, as no sample can lie closer; images of both sets were resampled in
            blocks, 20 of them where n is 40 or more.
        reach: number of different reals that are the nearest of some sample, over the number of those that are the
            nearest other one of some real; no interval: it is compared with a threshold far from fresh reals.
        labels: least covered first; empty for a set without labels.
        reason: of the alarm; empty where there is none. Beyond its threshold a number alarms only where the shares of
            samples and reals that it counts have intervals apart, as fresh reals in sets of a few have not.
    """

    compared: int
    duplicates: Measured
    spread: Measured
    reach: float
    labels: tuple[Label, ...]
    reason: str

    @property
    def alarm(self) -> bool:
        return bool(self.reason)

    @property
    def intervals(self) -> dict[str, Measured]:
        """What has one."""
        return {"duplicates": self.duplicates, "spread": self.spread}

    @property
    def values(self) -> dict[str, float]:
        """As metrics.json holds them."""
        known = {name: measured.value for name, measured in self.intervals.items()}
        return known | {"reach": self.reach, "alarm": int(self.alarm)}


def collapse(
    samples: Float32, reals: Float32, covered: Bool | Sequence[bool] = (), labels: Sequence[str] = ()
) -> Collapse:
    """Compares the first n of the samples with the first n of the reals, both in random order.

    Args:
        samples: [N, f] of layout(), N at least 4.
        reals: [M, f], likewise.
        covered: whether each of some reals has a sample within its k-NN radius, a boolean each.
        labels: theirs; none for a set without labels.
    """
    compared = min(len(samples), len(reals), LIMIT)
    made, real = _pairs(samples[:compared]), _pairs(reals[:compared])
    made_nearest, real_nearest = made.distance.min(axis=1), real.distance.min(axis=1)

    def within(limit: float) -> tuple[Measured, Measured]:
        return _shares(int((made_nearest <= limit).sum()), int((real_nearest <= limit).sum()), compared)

    duplicates, twins = map(_widened, within(float(np.quantile(real_nearest, TWIN))))
    spread = jackknife(_ratio(made_nearest, real_nearest), _ratios_without(made.distance, real.distance), floor=0)
    near, near_reals = within(SPREAD * float(np.median(real_nearest)))
    reached = nearest(samples[:compared], reals[:compared], 1)[1]
    ends, ends_reals = _shares(len(np.unique(reached)), len(np.unique(real.position)), compared)
    reach = ends.value / ends_reals.value
    rows = coverage_by_label(np.asarray(covered, bool), labels)
    lost = _lost(rows) if compared >= PER_LABEL * len(rows) else ""
    if duplicates.low > max(DUPLICATES, twins.high):
        reason = f"{duplicates.value:.0%} of the samples have a duplicate; of as many reals {twins.value:.0%}"
    elif spread.high < SPREAD and near.low > near_reals.high:
        reason = f"samples lie {spread.value:.2f} times as far from one another as reals; allowed: {SPREAD:g} or more"
    elif reach < REACH and ends.high < ends_reals.low:
        reason = f"samples reach {reach:.2f} times as many different reals as reals do; allowed: {REACH:g} or more"
    else:
        reason = lost and f"labels covered less than {LOST:g} times as well as the best: {lost}"
    return Collapse(compared, duplicates, spread, reach, rows, reason)


def coverage_by_label(covered: Bool, labels: Sequence[str]) -> tuple[Label, ...]:
    """The share of each label's reals that is covered (Wilson's interval: reals resampled), the lowest first."""
    if not labels:
        return ()
    names, kind = np.unique(np.asarray(labels, str), return_inverse=True)
    totals = np.bincount(kind, minlength=len(names)).tolist()
    counts = np.bincount(kind[covered], minlength=len(names)).tolist()
    found = [Label(str(name), n, share(c, n)) for name, n, c in zip(names, totals, counts, strict=True)]
    return tuple(sorted(found, key=lambda label: (label.covered.value, label.name)))


def _lost(labels: tuple[Label, ...]) -> str:
    """Names of the labels that are hardly covered, where more than half of the reals have one of them."""
    best = max((label.covered.low for label in labels), default=0.0)
    lost = [label for label in labels if label.covered.high < LOST * best]
    many = sum(label.reals for label in lost) > LOST_REALS * sum(label.reals for label in labels)
    return ", ".join(label.name for label in lost) if many else ""


def _shares(made: int, real: int, total: int) -> tuple[Measured, Measured]:
    return share(made, total), share(real, total)


def _widened(found: Measured) -> Measured:
    low, high = (found.value + math.sqrt(2) * (end - found.value) for end in (found.low, found.high))
    return Measured(found.value, max(0.0, low), min(1.0, high))


@dataclass(frozen=True)
class _Pairs:
    """Of each of n points: its distance to the nearest other one in each block, [n, B], and the nearest of all, [n]."""

    distance: Float64
    position: Indices


def _pairs(points: Float32) -> _Pairs:
    starts = _cuts(len(points))[:-1]
    distances, positions = [], []
    for rows, block in distance_blocks(points, points):
        block[block < ROUNDING] = 0
        block[np.arange(len(block)), np.arange(rows.start, rows.stop)] = np.inf
        distances.append(np.minimum.reduceat(block, starts, axis=1))
        positions.append(block.argmin(axis=1))
    return _Pairs(np.concatenate(distances), np.concatenate(positions))


def _cuts(count: int) -> Indices:
    """Where the blocks of consecutive points begin, and the last one ends, [B + 1]."""
    return np.linspace(0, count, min(BLOCKS, count // 2) + 1).astype(np.int64)


def _ratio(made: Float64, real: Float64) -> float:
    usual = float(np.median(real))
    return float(np.median(made)) / usual if usual > 0 else 1.0


def _ratios_without(made: Float64, real: Float64) -> list[float]:
    """The ratio of medians without each block of both sets in turn, as points and as neighbours."""
    cuts = _cuts(len(made))
    of = np.repeat(np.arange(len(cuts) - 1), np.diff(cuts))
    kept = [np.arange(len(cuts) - 1) != block for block in range(len(cuts) - 1)]
    return [_ratio(*(distance[keep[of]][:, keep].min(axis=1) for distance in (made, real))) for keep in kept]
