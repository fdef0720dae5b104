"""Where the time of an evaluation goes, and what it takes in memory: `python -m benchmarks.evaluation --samples 10000`.

The demo's generator (untrained: it draws as fast) at a resolution, random_conv, every core; drawn creatures as reals.
Prints seconds by part and, last, one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from components.config import load_params
from components.data import shards
from components.data.files import write_json_lines
from components.data.images import Uint8
from components.data.procedural import draw_creature
from components.evaluation.bench import Bench
from components.evaluation.candidates import Generated, Untrained
from components.evaluation.collapse import collapse
from components.evaluation.description import describe, path_steps
from components.evaluation.evaluate import PATHS, evaluate
from components.evaluation.memorisation import memorisation, train_groups
from components.executor import Spread, executor
from components.generation.sampler import save_generator
from components.models import build_generator

Result = TypeVar("Result")
REALS = 2000  # drawn, and repeated to the number asked for with a pixel's noise


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        bench = _prepare(folder, arguments.samples, arguments.resolution, arguments.holdout)
        with executor(preload="components.evaluation.description") as spread:
            list(spread(time.sleep, [0.5] * os.cpu_count()))  # workers are up and have imported torch
            parts = _parts(bench, folder, spread) if not arguments.whole else {}
            whole, _ = _timed(lambda: evaluate(bench, folder, spread))
    for name, seconds in parts.items():
        print(f"{name:<40}{seconds:>8.1f} s")
    own, workers = (
        resource.getrusage(who).ru_maxrss / 2**20 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    result = {
        **{"samples": bench.samples, "resolution": arguments.resolution, "holdout": arguments.holdout},
        **{"extractor": bench.spec.name, "torch": torch.__version__, "cores": len(os.sched_getaffinity(0))},
        **{"seconds": round(whole, 1), "peak_memory_gib": round(own, 2), "largest_worker_gib": round(workers, 2)},
    }
    print(json.dumps(result))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--holdout", type=int, default=1_000)
    parser.add_argument("--whole", action="store_true", help="time the whole alone, not its parts first")
    return parser.parse_args()


def _prepare(folder: Path, samples: int, resolution: int, holdout: int) -> Bench:
    """Shards with twice `samples` train images, and a generator folder."""
    drawn = np.stack([draw_creature(0, index, resolution) for index in range(REALS)])
    alpha = drawn[..., 3:] / 255
    white = np.rint(drawn[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    splits, sizes = {"train": 2 * samples, "holdout": holdout}, white.shape[1:]
    entries = {
        split: [shards.write_shard(folder / f"{split}-00000.npy", count, sizes, _noised(white, count))]
        for split, count in splits.items()
    }
    shards.write_index(folder, sizes, entries, None)
    members = ((f"{split} {number}", split) for split, count in splits.items() for number in range(count))
    write_json_lines(folder / "images.jsonl", ({"name": name, "split": split} for name, split in members))
    write_json_lines(folder / "pairs.jsonl", [])
    params = load_params()
    config = {
        **{"format": 1, "arch": params.train.arch, "resolution": resolution, "channels": 3},
        **{name: getattr(params.train, name) for name in ("latent_dim", "channel_base", "channel_max")},
    }
    save_generator(folder, config, build_generator(config).state_dict())
    bench = Bench.build(replace(params.evaluate, samples=samples), folder, gpus=False)
    return replace(bench, cache=folder / "cache")


def _noised(images: Uint8, count: int) -> Iterator[bytes]:
    """Image after image with one random pixel, so that no two are the same."""
    random = np.random.default_rng(count)
    for number in range(count):
        image = images[number % len(images)].copy()
        image[0, 0] = random.integers(0, 256, 3)
        yield image.tobytes()


def _parts(bench: Bench, folder: Path, spread: Spread) -> dict[str, float]:
    """Seconds of each part of evaluate(), called one after the other."""
    look, seeds, source = bench.look, np.arange(bench.samples), Generated.at(folder)
    seconds: dict[str, float] = {}

    def timed(name: str, part: Callable[[], Result]) -> Result:
        seconds[name], result = _timed(part)
        return result

    train = timed("reals: train, the first time", lambda: bench.described("train", spread))
    timed("reals: train, from the cache", lambda: bench.described("train", spread))
    holdout = timed("reals: holdout", lambda: bench.described("holdout", spread))
    found = timed("samples: drawn and described", lambda: describe(source, seeds, look, spread))
    timed("untrained: drawn and described", lambda: describe(Untrained(folder), seeds, look, spread))
    timed("path length", lambda: path_steps(source, seeds[: min(len(seeds) // 2, PATHS)], look, spread))
    for split in ("holdout", "train"):
        timed(f"metrics against {split}, the first time", partial(bench.against, (split,), found))
        timed(f"metrics against {split}", partial(bench.against, (split,), found))
    alike = train_groups(bench.shards, len(train.layouts))
    timed("copies", lambda: memorisation(found.layouts, train.layouts, holdout.layouts, alike))
    timed("collapse", lambda: collapse(found.layouts, train.layouts[: len(seeds)]))
    return seconds


def _timed(part: Callable[[], Result]) -> tuple[float, Result]:
    begin = time.perf_counter()
    result = part()
    return time.perf_counter() - begin, result


if __name__ == "__main__":
    main()
