"""Measures a generator against the train and holdout images, beside baselines of the same size.

N images of each candidate, H × W pixels, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.evaluation.bench import Bench, Groups, grouped
from components.evaluation.candidates import Blurred, Generated, Untrained, mean_image
from components.evaluation.description import Described, describe, path_steps
from components.evaluation.memorisation import Memorisation, memorisation, train_groups
from components.evaluation.metrics import path_length
from components.executor import Spread

SPLITS = ("holdout", "train")
ENDS = ("_low", "_high")
PATHS = 1000  # pairs of images for path length, at most


@dataclass(frozen=True)
class Report:
    """What was found of one generator."""

    groups: Groups
    copies: Memorisation
    alarm: str  # why the samples have collapsed; empty where they have not

    @property
    def values(self) -> Groups:
        """reports/metrics.json: all but the ends of intervals."""
        return {name: group for name, group in self.groups.items() if not name.endswith(ENDS)}

    @property
    def ends(self) -> Groups:
        """reports/intervals.json: {"holdout_low": {"coverage": 0.3}, …}."""
        return {name: group for name, group in self.groups.items() if name.endswith(ENDS)}


def evaluate(bench: Bench, folder: Path, spread: Spread) -> Report:
    """Everything that is measured of a generator folder; metrics.json is described in docs/evaluation.md.

    Seeds 0 to N - 1 at psi 1 are measured.
    """
    source, look = Generated.at(folder, bench.gpus), bench.look
    seeds, split = np.arange(bench.samples), bench.split()
    train, holdout = (bench.described(name, spread) for name in ("train", "holdout"))
    found, aside = bench.sampled(source, spread), train[split.aside]
    floors = bench.against(SPLITS, aside)
    baselines = _baselines(bench, aside, folder, spread)
    alike = train_groups(bench.shards, len(train.layouts))
    copies = memorisation(found.layouts, train.layouts, holdout.layouts, alike)
    fallen = bench.collapse(found, aside.layouts)
    steps = path_steps(source, seeds[: min(len(seeds) // 2, PATHS)], look, spread)
    groups: Groups = {
        **bench.against(SPLITS, found),
        **{f"{name}_floor": floors[name] for name in SPLITS},
        "holdout_baselines": {key: bench.distance("holdout", of) for key, of in baselines.items()},
        **grouped("path", {"perceptual_length": path_length(steps)}),
        **grouped("memorisation", {"share": copies.rate}),
        **grouped("collapse", fallen.intervals),
        **grouped("labels", {label.name: label.covered for label in fallen.labels}),
        "counts": {"samples": bench.samples, "train": len(split.reference), "holdout": len(holdout.features)},
    }
    groups["memorisation"]["expected"] = copies.expected
    groups["collapse"] = fallen.values
    return Report(groups, copies, fallen.reason)


def _baselines(bench: Bench, aside: Described, folder: Path, spread: Spread) -> dict[str, Described]:
    """N images each that no one wants."""
    look, split = bench.look, bench.split()
    reals, many = bench.reals("train"), len(split.aside)
    mean = mean_image(reals, split.reference)[None]
    one = describe(lambda _: mean, np.zeros(1, np.int64), look)
    return {
        "blurred_8x8": describe(Blurred(reals), split.aside, look, spread),
        "mean_image": one[np.zeros(many, np.int64)],
        "repeated_image": aside[np.zeros(many, np.int64)],
        "untrained": describe(Untrained(folder, bench.gpus), np.arange(many), look, spread),
    }


def table(groups: Groups, metric: str, alarm: str) -> str:
    """The report for people: each number with its interval and the floor beside it, and the baselines."""
    own, floor = groups["holdout"], groups["holdout_floor"]
    low, high, counts = groups["holdout_low"], groups["holdout_high"], groups["counts"]
    lines = [f"{'holdout, N = ' + str(counts['samples']):<32}{'generator':>12}{'95 % interval':>24}{'real':>12}"]
    lines += [
        f"{name:<32}{own[name]:>12.4g}{f'{low[name]:.4g} – {high[name]:.4g}':>24}{floor[name]:>12.4g}" for name in own
    ]
    lines += [f"{metric} of"]
    lines += [
        f"{'  ' + name.replace('_', ' '):<32}{value:>12.4g}" for name, value in groups["holdout_baselines"].items()
    ]
    copies, path = groups["memorisation"], groups["path"]["perceptual_length"]
    fresh = f"fresh reals: at most {copies['expected']:.2g}"
    lines += [
        f"{'share that copies a train image':<32}{copies['share']:>12.4g}{fresh:>36}",
        f"{'perceptual path length':<32}{path:>12.4g}",
        f"{'collapse alarm':<32}{'yes: ' + alarm if alarm else 'none':>12}",
    ]
    return "\n".join(lines)
