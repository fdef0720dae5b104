"""What docs/scaling.md predicts: `python -m benchmarks.scaling_model` prints its tables.

A step takes what its compute takes, or what starting its kernels takes, whichever is longer; then the all-reduce of
both networks' gradients, which nothing hides; and the shares of all else. Each constant says where it is from.
"""

from __future__ import annotations

from dataclasses import dataclass

# 256², the networks of presets/week-256.yaml
PARAMETERS = 23_191_522 + 24_001_089  # of G and D: docs/recipes.md
IMAGE_S = 22.9e-3  # compute an image on one V100: StyleGAN2-ADA's published 21.6–24.2 s/kimg at batch 16
FLOOR_S = 0.30  # a step however small its batch: the same table, 8 images a GPU at 128² and 256²
STATE_BYTES = 0.70 * 2**30  # benchmarks/results/memory_computed_202611.md
IMAGE_BYTES = 256 * 256 * 3
# assumed of the machines: eight GPUs a node
NVLINK, NIC, TO_HOST, PULL = 150e9, 10e9, 25e9, 1.25e9  # bytes a second that arrive
GATHERED = 365_666 * (64 * 64) / (256 * 256)  # images a second and core from the page cache: results/data_*.md
PREPARED = 1_559 / 2 * (64 * 64) / (256 * 256)  # images a second and core, if the pixels decide
INDEX_BYTES = 1_548  # an image, in the preprocess stage's own process
CHECKPOINT_IMAGES = 100_000
NODE_MEMORY, NODE_DISK = 1e12, 8e12
WEEK_IMAGES = 25_000_000
PUBLISHED = [  # StyleGAN2-ADA on V100s: resolution, seconds an image on one, GPUs, batch, s/kimg
    (128, 13.2e-3, 2, 64, "6.5–6.8"),
    (128, 13.2e-3, 4, 64, "4.1–4.6"),
    (128, 13.2e-3, 8, 64, "3.9–4.9"),
    (256, 22.9e-3, 2, 32, "11.2–11.8"),
    (256, 22.9e-3, 4, 64, "5.6–5.9"),
    (256, 22.9e-3, 8, 64, "4.4–5.5"),
]


@dataclass(frozen=True)
class Step:
    """Seconds of the parts of one step."""

    compute: float
    reduce: float
    data: float
    checkpoint: float

    @property
    def total(self) -> float:
        return self.compute + self.reduce + self.data + self.checkpoint


def step(gpus: int, batch: int, image_s: float = IMAGE_S) -> Step:
    """Of a global batch on so many GPUs, eight a node."""
    own, nodes = batch / gpus, max(1, gpus // 8)
    inside, across = min(gpus, 8), 4 * PARAMETERS * 2 * (nodes - 1) / nodes / NIC
    return Step(
        compute=max(FLOOR_S, own * image_s),
        reduce=4 * PARAMETERS * 2 * (inside - 1) / inside / NVLINK + across,
        data=own / GATHERED + own * IMAGE_BYTES / TO_HOST,
        checkpoint=STATE_BYTES / TO_HOST * batch / CHECKPOINT_IMAGES,
    )


def first(parts: Step, own: float) -> str:
    """What a faster machine would have to be faster in."""
    if parts.reduce > parts.compute:
        return "all-reduce over the network"
    return "starting kernels" if own * IMAGE_S < FLOOR_S else "compute"


def main() -> None:
    _row("GPUs", "batch", "compute", "all-reduce", "data", "checkpoint", "images/s", "of n times one", "hours", "first")
    _row(*["---"] * 10)
    one = 16 / step(1, 16).total
    for gpus, batch in [(1, 16), (8, 64), (8, 128), (64, 64), (64, 1024), (512, 512), (512, 8192)]:
        parts = step(gpus, batch)
        rate = batch / parts.total
        shown = [f"{1000 * part:.1f}" for part in (parts.compute, parts.reduce, parts.data, parts.checkpoint)]
        spent = f"{WEEK_IMAGES / rate / 3600:,.1f}"
        _row(gpus, batch, *shown, f"{rate:,.0f}", f"{rate / one / gpus:.0%}", spent, first(parts, batch / gpus))
    print()
    _row(
        "images", "shards, GB", "pulled, minutes a node", "prepared by 64 cores, hours", "preprocess holds, GB", "first"
    )
    _row(*["---"] * 6)
    for images in (35_000, 1_000_000, 100_000_000):
        size, hours = images * IMAGE_BYTES, images / PREPARED / 64 / 3600
        shown = [
            f"{size / 1e9:,.1f}",
            f"{size / PULL / 60:,.1f}",
            f"{hours:,.2f}",
            f"{images * INDEX_BYTES / 1e9:,.2f}",
        ]
        limit = "a node's disk" if size > NODE_DISK else "a node's memory" if size > NODE_MEMORY else "nothing"
        _row(f"{images:,}", *shown, limit)

    print()
    _row("held against", "GPUs", "batch", "published s/kimg", "predicted")
    _row(*["---"] * 5)
    for pixels, image_s, gpus, batch, published in PUBLISHED:
        _row(f"{pixels}²", gpus, batch, published, f"{step(gpus, batch, image_s).total / batch * 1000:.1f}")


def _row(*cells: object) -> None:
    print("|", " | ".join(map(str, cells)), "|")


if __name__ == "__main__":
    main()
