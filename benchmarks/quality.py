"""Which recipe makes the best creatures: `python -m benchmarks.quality SOURCE RECIPES.yaml --keep FOLDER`.

RECIPES.yaml names recipes and the keys of params.yaml that each changes; what stands under `all` changes for each one.
Each is trained with each seed to train.total_kimg on one preparation of the source, one core a training, and measured
alike: same images shown, same metric, same N. Called again it goes on with what FOLDER lacks; a recipe that was changed
since is trained anew.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
import yaml

from components.config import Params, checked, read_yaml
from components.config.overlay import nested, overlay
from components.data.buckets import write_buckets
from components.data.dataset import ImageSet
from components.data.files import replacing, write_json
from components.data.images import save_png
from components.data.preparation import prepare
from components.data.sources import read_source
from components.evaluation.bench import Bench
from components.evaluation.candidates import Generated
from components.evaluation.evaluate import evaluate
from components.evaluation.pictures import page
from components.executor import executor, inline
from components.generation.sampler import sample, save_generator
from components.training.host import prepare as prepare_host
from components.training.loop import Trainer

SHOWN = (  # group and key of metrics.json, and how it is called in the table
    ("holdout", "frechet_random_conv_infinity", "Fréchet∞"),
    ("holdout", "kernel_random_conv", "kernel"),
    ("holdout", "precision", "precision"),
    ("holdout", "recall", "recall"),
    ("holdout", "density", "density"),
    ("holdout", "coverage", "coverage"),
    ("memorisation", "share", "copies"),
    ("collapse", "reach", "reach"),
)


@dataclass(frozen=True)
class Trial:
    """One training: a recipe with a seed, and where it leaves generator, report.json and samples.png."""

    name: str
    params: Params
    folder: Path

    def report(self) -> dict[str, Any]:
        """report.json; empty where there is none."""
        path = self.folder / "report.json"
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}

    def done(self) -> bool:
        """Whether its report is of these params."""
        return bool(self.report().get("train") == asdict(self.params.train))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("recipes", type=Path)
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each recipe (default: 2)")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="of the recipes")
    parser.add_argument("--keep", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    arguments = parser.parse_args()
    recipes = yaml.safe_load(arguments.recipes.read_text(encoding="utf-8"))
    common, keep = recipes.pop("all"), arguments.keep.resolve()
    trials = [
        Trial(name, changed({**common, **recipe, "train.seed": seed}), keep / f"{name}-{seed}")
        for seed in range(arguments.seeds)
        for name, recipe in recipes.items()
        if not arguments.only or name in arguments.only
    ]
    if not trials or any(trial.params.preprocess != trials[0].params.preprocess for trial in trials):
        parser.error(f"allowed: one of {', '.join(recipes)}, all on the same preprocess")
    shards = prepared(arguments.source, keep, trials[0].params)
    waiting = [trial for trial in trials if not trial.done()]
    run_one = partial(run, shards=shards, device=arguments.device)
    if arguments.device == "cuda":
        list(map(run_one, waiting))
    else:
        with executor(preload="components.training.loop") as spread:
            list(spread(run_one, waiting))
    print(table(trials))


def changed(values: dict[str, Any]) -> Params:
    """params.yaml with values by dotted keys, checked."""
    content = read_yaml(Path("params.yaml"))
    for key, value in values.items():
        content = overlay(content, nested(key, value))
    return checked(content, "params.yaml and the recipe")


def prepared(source: Path, keep: Path, params: Params) -> Path:
    """The shards, made once."""
    shards = keep / "shards"
    if not shards.exists():
        with replacing(keep / "raw") as raw:
            write_buckets(read_source(source), raw)
        with replacing(shards) as folder:
            prepare(keep / "raw", folder, params.preprocess, inline)
    return shards


def run(trial: Trial, shards: Path, device: str) -> None:
    """Trains and measures; what diverges has no numbers."""
    train = asdict(trial.params.train)
    trial.folder.mkdir(parents=True, exist_ok=True)
    try:
        write_json(trial.folder / "report.json", {**measured(trial, shards, device), "train": train})
    except FloatingPointError as error:
        write_json(trial.folder / "report.json", {"train": train, "diverged": str(error)})


def measured(trial: Trial, shards: Path, device: str) -> dict[str, Any]:
    """What a training comes to at a third, at two thirds and at the end."""
    prepare_host(1 if device == "cpu" else 0)
    data, total = ImageSet.open(shards, "train"), trial.params.train.total_kimg
    bench = replace(Bench.build(trial.params.evaluate, shards, gpus=device == "cuda"), cache=shards.parent / "cache")
    trainer = Trainer(trial.params.train, data, torch.device(device))
    records, trend = [], []
    for tick in trainer.run(tick_kimg=total / 12):
        records.append(tick.record)
        if len(records) % 4 == 0 or tick.done:
            with replacing(trial.folder / "generator") as folder:
                save_generator(folder, trainer.average_config(), trainer.players.average.state_dict())
            found = bench.on_holdout(Generated.at(trial.folder / "generator", bench.gpus))
            trend.append(found["holdout"][bench.metric])
            print(f"{trial.folder.name}: {tick.record['kimg']:.1f} kimg, {bench.metric} {trend[-1]:.3g}", flush=True)
    report = evaluate(bench, trial.folder / "generator", inline)
    images = sample(Generated.at(trial.folder / "generator", bench.gpus).generator(), range(64))
    save_png(trial.folder / "samples.png", page(images, columns=8))
    speed = median(record["images_per_s"] for record in records)
    last = {"trend": trend, "augment_p": records[-1]["augment_p"], "images_per_s": speed, "alarm": report.alarm}
    return {**report.groups, **last}


def table(trials: list[Trial]) -> str:
    """A line a recipe: each number as seed 0 / seed 1 / …, recipes in the order of their median distance."""
    found: dict[str, list[dict[str, Any]]] = {}
    for trial in trials:
        if "diverged" not in (report := trial.report()):
            found.setdefault(trial.name, []).append(report)
    group, key, _ = SHOWN[0]
    names = sorted(found, key=lambda name: median(report[group][key] for report in found[name]))
    head = ["recipe", *(title for _, _, title in SHOWN), "at ⅓, ⅔ and 1", "p", "collapse"]
    rows = [head, ["---"] * len(head)]
    for name in names:
        cells = [" / ".join(f"{report[group][key]:.3g}" for report in found[name]) for group, key, _ in SHOWN]
        cells.append(" / ".join(", ".join(f"{value:.3g}" for value in report["trend"]) for report in found[name]))
        cells.append(" / ".join(f"{report['augment_p']:.2f}" for report in found[name]))
        rows.append([name, *cells, " / ".join("yes" if report["alarm"] else "no" for report in found[name])])
    floor = found[names[0]][0]["holdout_floor"]
    reals = ["reals", *(f"{floor[key]:.3g}" if key in floor else "" for _, key, _ in SHOWN), "", "", ""]
    failed = [trial for trial in trials if "diverged" in trial.report()]
    diverged = [f"\n{trial.folder.name} diverged: {trial.report()['diverged']}" for trial in failed]
    return "\n".join(f"| {' | '.join(row)} |" for row in [*rows, reals]) + "".join(diverged)


if __name__ == "__main__":
    main()
