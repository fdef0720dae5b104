"""What preparing and reading data costs: `python -m benchmarks.data preprocess|read|memory --help`.

preprocess: the whole command from start to exit, runs alternating with a peer's, and the steady rate against decoding
alone. read: batches from memory-mapped shards against decoding PNGs from a zip. memory: peak resident size by the
number of images. Each prints one JSON object last.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml
from PIL import Image

from components.config import load_params
from components.data.buckets import read_manifest, read_originals, write_buckets
from components.data.dataset import ImageSet
from components.data.decoding import RejectedError, decode
from components.data.images import encode_png
from components.data.procedural import draw_creature
from components.data.shards import images_a_shard, write_index, write_shard
from components.data.taking import Batch, batches, take
from components.executor import executor

ROOT = Path(__file__).resolve().parents[1]
IGNORED = {"near_duplicates": "ignore", "mirrors": "ignore", "recolours": "ignore"}


def project(folder: Path, source: str, resolution: int, **preprocess: Any) -> None:
    """params.yaml in a folder of its own: all that the two stages read."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["ingest"]["source"] = source
    params["preprocess"] |= {"resolution": resolution, "background": "#ffffff", **preprocess}
    params["train"] |= {"channel_base": max(1024, resolution)}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


def stage(folder: Path, name: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", f"pipelines.{name}"], cwd=folder, env=environment, stdout=subprocess.DEVNULL
    )


def seconds(run: Callable[[], Any]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def wait(process: subprocess.Popen[bytes]) -> None:
    if process.wait():
        raise SystemExit(f"{process.args!r} ended with {process.returncode}")


def flatten(archive: Path, folder: Path) -> None:
    """The pictures as a tool without alpha wants them: RGB on white, PNG."""
    with zipfile.ZipFile(archive) as members:
        for number, name in enumerate(name for name in members.namelist() if name.endswith(".png")):
            picture = Image.open(io.BytesIO(members.read(name))).convert("RGBA")
            paper = Image.new("RGBA", picture.size, "white")
            paper.alpha_composite(picture)
            paper.convert("RGB").save(folder / f"{number:05d}.png")


def decode_only(batch: Batch, *, raw: Path) -> int:
    """The pictures of a batch, decoded and thrown away."""
    count = 0
    for _, content in read_originals(raw, batch.originals):
        try:
            count += sum(1 for _ in decode(content, all_frames=False, max_pixels=2**26))
        except RejectedError:
            continue
    return count


def steady(folder: Path, runs: int) -> dict[str, float]:
    """Images a second of workers that are up: decoding alone, without and with hashing; medians."""
    raw, spool = folder / "data/raw", folder / "spool"
    params = load_params(folder / "params.yaml").preprocess
    every = list(batches(read_manifest(raw)))
    kinds = {
        "decode_only": partial(decode_only, raw=raw),
        "without_hashing": partial(take, raw=raw, spool=spool, params=replace(params, **IGNORED)),
        "everything": partial(take, raw=raw, spool=spool, params=params),
    }
    spool.mkdir()
    times: dict[str, list[float]] = {name: [] for name in kinds}
    with executor(preload="components.data.preparation") as spread:
        for _ in range(runs + 1):  # the first is thrown away
            for name, function in kinds.items():
                times[name].append(seconds(partial(lambda f: [None for _ in spread(f, every)], function)))
    count = sum(len(batch.originals) for batch in every)
    return {name: count / statistics.median(found[1:]) for name, found in times.items()}


def preprocess(options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        flat = folder / "flat"
        flat.mkdir()
        flatten(options.source, flat)
        project(folder, str(options.source.resolve()), options.resolution)
        wait(stage(folder, "ingest"))
        size = str(options.resolution)
        peer = [sys.executable, str(options.peer), "--source", str(flat), "--dest", str(folder / "peer.zip")]

        def ours(**choices: Any) -> None:
            project(folder, str(options.source.resolve()), options.resolution, **choices)
            wait(stage(folder, "preprocess"))

        def theirs() -> None:
            (folder / "peer.zip").unlink(missing_ok=True)
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            wait(subprocess.Popen([*peer, "--width", size, "--height", size], cwd=options.peer.parent, **quiet))

        kinds = {"without_hashing": partial(ours, **IGNORED), "everything": ours} | (
            {"peer": theirs} if options.peer else {}
        )
        times: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(options.runs):
            for kind, run in kinds.items():
                times[kind].append(seconds(run))
        rates = steady(folder, options.runs)
    median = {kind: round(statistics.median(found), 3) for kind, found in times.items()}
    result: dict[str, Any] = {"seconds": times, "seconds_median": median}
    if options.peer:
        result["ratio"] = {kind: round(median["peer"] / median[kind], 2) for kind in ("without_hashing", "everything")}
    result["images_per_s"] = {kind: round(rate) for kind, rate in rates.items()}
    result["of_decode_only"] = {kind: round(rate / rates["decode_only"], 3) for kind, rate in rates.items()}
    return result


def read(options: argparse.Namespace) -> dict[str, Any]:
    """Batches in random order, one process: the memory map, and PNGs stored in a zip."""
    rng = np.random.default_rng(0)
    shape = (options.resolution, options.resolution, 3)
    pictures = np.stack([draw_creature(0, n, options.resolution)[..., :3] for n in range(256)])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        members = rng.integers(0, len(pictures), options.images)
        step = images_a_shard(shape)
        parts = [members[start : start + step] for start in range(0, options.images, step)]
        entries = [
            write_shard(folder / f"{n}.npy", len(part), shape, (pictures[m].tobytes() for m in part))
            for n, part in enumerate(parts)
        ]
        write_index(folder, shape, {"train": entries}, None)
        with zipfile.ZipFile(folder / "images.zip", "w", zipfile.ZIP_STORED) as archive:
            for n, content in enumerate(encode_png(picture) for picture in pictures):
                archive.writestr(f"{n}.png", content)
        data = ImageSet.open(folder, "train")
        asked = [rng.integers(0, options.images, options.batch) for _ in range(options.images // options.batch)]

        def mapped() -> None:
            for indices in asked:
                data[indices]

        def unzipped() -> None:
            with zipfile.ZipFile(folder / "images.zip") as archive:
                for _ in range(10):
                    for n in rng.permutation(len(pictures)):
                        with archive.open(f"{n}.png") as file:
                            np.asarray(Image.open(file))

        mapped()
        counts = {"mapped": len(asked) * options.batch, "png_in_zip": 10 * len(pictures)}
        runs = {"mapped": mapped, "png_in_zip": unzipped}
        times: dict[str, list[float]] = {kind: [] for kind in runs}
        for _ in range(options.runs):
            for kind, run in runs.items():
                times[kind].append(seconds(run))
    rates = {kind: counts[kind] / statistics.median(found) for kind, found in times.items()}
    return {
        "images_per_s": {kind: round(rate) for kind, rate in rates.items()},
        "ratio": round(rates["mapped"] / rates["png_in_zip"], 1),
    }


def drawn(first: int, count: int, size: int) -> list[bytes]:
    return [encode_png(draw_creature(0, index, size)) for index in range(first, first + count)]


def _drawn(first: int, *, total: int, size: int) -> list[bytes]:
    return drawn(first, min(100, total - first), size)


def peaks(process: subprocess.Popen[bytes]) -> dict[str, int]:
    """The highest resident size, in bytes, of a stage's own process and of any of its workers."""
    high: dict[int, int] = {}
    while process.poll() is None:
        with_children = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
        for pid in with_children:
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            found = [int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")]
            high[pid] = max(high.get(pid, 0), *found, 0)
        time.sleep(0.2)
    return {"own": high.pop(process.pid), "worker": max(high.values())}


def memory(options: argparse.Namespace) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for count in options.images:
        with tempfile.TemporaryDirectory(dir=options.scratch) as name:
            folder = Path(name)
            (folder / "data/raw").mkdir(parents=True)
            with executor(preload="components.data.preparation") as spread:
                lists = spread(partial(_drawn, total=count, size=options.drawn), range(0, count, 100))
                files = (content for contents in lists for content in contents)
                write_buckets(((f"{n:07d}.png", content) for n, content in enumerate(files)), folder / "data/raw")
            project(folder, "unused", options.resolution)
            started = time.perf_counter()
            process = stage(folder, "preprocess")
            result[str(count)] = peaks(process) | {"seconds": round(time.perf_counter() - started, 1)}
            wait(process)
            shutil.rmtree(folder / "data/shards")
        print(count, result[str(count)], flush=True)
    few, many = options.images[0], options.images[-1]
    slope = (result[str(many)]["own"] - result[str(few)]["own"]) / (many - few)
    at_a_million = result[str(many)]["own"] + slope * (10**6 - many)
    return {"peak_bytes": result, "bytes_an_image": round(slope), "own_at_1e6_GiB": round(at_a_million / 2**30, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data", description=__doc__)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("preprocess")
    one.add_argument("--source", type=Path, required=True, help="a zip of RGBA PNGs")
    one.add_argument("--peer", type=Path, help="path of StyleGAN2-ADA's dataset_tool.py, to alternate with")
    one.add_argument("--resolution", type=int, default=64)
    one.add_argument("--runs", type=int, default=5)
    one.set_defaults(run=preprocess)
    one = commands.add_parser("read")
    one.add_argument("--images", type=int, default=32768)
    one.add_argument("--resolution", type=int, default=64)
    one.add_argument("--batch", type=int, default=64)
    one.add_argument("--runs", type=int, default=5)
    one.set_defaults(run=read)
    one = commands.add_parser("memory")
    one.add_argument("--images", type=int, nargs=2, default=[10_000, 100_000])
    one.add_argument("--drawn", type=int, default=64, help="pixels of the originals")
    one.add_argument("--resolution", type=int, default=256)
    one.add_argument("--scratch", type=Path, help="a folder on a disk with room for twice the shards")
    one.set_defaults(run=memory)
    options = parser.parse_args()
    print(json.dumps(options.run(options)))


if __name__ == "__main__":
    main()
