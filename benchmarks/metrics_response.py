"""How each number answers to what goes wrong: `python -m benchmarks.metrics_response ../shared/data/tuxemon.zip`.

Real images at 64² stand in for a generator, as they are and spoilt in known ways, for random splits into train, holdout
and fresh images. Prints Markdown tables; --keep FOLDER holds on to the shards and a page of both preparations.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from benchmarks.alpha_dropped import all_of, prepare_twice, table
from components.config import Params, load_params
from components.data.images import Uint8, save_png
from components.evaluation.collapse import collapse
from components.evaluation.description import Described, Float32, Look, describe
from components.evaluation.distances import Indices
from components.evaluation.features import find_extractor
from components.evaluation.memorisation import memorisation, train_groups
from components.evaluation.metrics import KINDS, compare, prepare
from components.evaluation.pictures import comparison

Floats = npt.NDArray[np.float64]
Found = dict[str, Described]
DRAWS = 20  # of a split
SIZES = ((75, 75), (340, 75), (240, 240))  # N, M
REAL_SIZES = ((30, 30), (60, 60), (120, 120), (240, 240), (340, 340), (340, 75), (75, 340))
COLUMNS = (*KINDS, "copies", "duplicates", "spread", "reach", "alarm")
DIGITS = dict(zip(COLUMNS, (2, 2, 2, 2, 2, 2, 2, 3, 3, 2, 2, 2), strict=True))
UNUSED = 0.01  # share of the images that preprocess holds out: the splits are made here


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    arguments, params = parser.parse_args(), load_params()
    with tempfile.TemporaryDirectory() as temporary:
        respond(arguments.source, arguments.keep or Path(temporary), params)


# ── reals, spoilt ─────────────────────────────────────────────────────────────────────────────────────────────────


def each(change: Callable[[Image.Image], Image.Image]) -> Callable[[Uint8], Uint8]:
    return lambda images: np.stack([np.asarray(change(Image.fromarray(image))) for image in images])


def blurred(sigma: float) -> Callable[[Uint8], Uint8]:
    return each(lambda image: image.filter(ImageFilter.GaussianBlur(sigma)))


def noisy(sigma: float) -> Callable[[Uint8], Uint8]:
    def spoil(images: Uint8) -> Uint8:
        noise = np.random.default_rng(0).normal(0, sigma, images.shape)
        return np.rint(images + noise).clip(0, 255).astype(np.uint8)

    return spoil


def turned(degrees: int) -> Callable[[Uint8], Uint8]:
    def turn(image: Image.Image) -> Image.Image:
        hue, *rest = image.convert("HSV").split()
        hue = hue.point(lambda level: (level + round(degrees * 256 / 360)) % 256)
        return Image.merge("HSV", (hue, *rest)).convert("RGB")

    return each(turn)


PIXELS: dict[str, Callable[[Uint8], Uint8]] = {
    "real": lambda images: images,
    **{f"blur σ {sigma:g}": blurred(sigma) for sigma in (0.5, 1, 2)},
    **{f"noise σ {sigma}": noisy(sigma) for sigma in (4, 12, 36)},
    **{f"hue +{degrees}°": turned(degrees) for degrees in (15, 60)},
    "brightness −10 %": lambda images: np.rint(images * 0.9).astype(np.uint8),
}
COPY = "a copy"  # mirrored, and noise of σ 4


def describe_all(right: Uint8, dropped: Uint8, look: Look) -> Found:
    """All images as they are, spoilt by pixels, with alpha dropped, and as copies."""
    made = {name: spoil(right) for name, spoil in PIXELS.items()} | {"alpha dropped": dropped}
    made[COPY] = noisy(4)(right[:, :, ::-1])
    keys = np.arange(len(right))
    return {name: describe(lambda at, images=images: images[at], keys, look) for name, images in made.items()}


def redness(images: Uint8) -> Floats:
    red, green, blue = images.mean((1, 2)).T
    return red - (green + blue) / 2


def parts(alike: Indices, draw: int, sizes: Sequence[int]) -> list[Indices]:
    """Random parts of these sizes, in random order; images alike are in one part, so the next may want a few."""
    rng = np.random.default_rng(draw)
    rank = rng.permutation(len(alike))[alike]
    order = np.argsort(rank, kind="stable")
    group_starts = np.searchsorted(rank[order], rank[order])
    part = np.searchsorted(np.cumsum(sizes), group_starts, side="right")
    return [rng.permutation(order[part == number])[:size] for number, size in enumerate(sizes)]


def candidates(
    found: Found, fresh: Indices, train: Indices, red: Floats, count: int
) -> Iterator[tuple[str, Described]]:
    """What stands for a generator: `count` images each, most of them fresh, which there may be more of."""
    real, by_redness = found["real"], fresh[np.argsort(red[fresh])]
    rng = np.random.default_rng(0)
    for name in (*PIXELS, "alpha dropped"):
        yield name, found[name][fresh[:count]]
    for share in (80, 50, 20):
        kept = rng.permutation(by_redness[: len(fresh) * share // 100])
        yield f"{share} % of the colours", real[np.resize(kept, count)]
    for share in (10, 50):
        copied = count * share // 100
        pairs = zip(vars(real[fresh[copied:count]]).values(), vars(found[COPY][train[:copied]]).values(), strict=True)
        yield f"{share} % copies", Described(*map(np.concatenate, pairs))[rng.permutation(count)]
    yield "20 images", real[np.resize(fresh[:20], count)]
    yield "one image", real[np.resize(fresh[:1], count)]


def measure(found: Found, alike: Indices, red: Floats, draw: int, samples: int, held: int) -> dict[str, list[float]]:
    """COLUMNS of every candidate: a third of the images is train, `held` are the holdout, the rest is fresh."""
    real, rows, third = found["real"], {}, len(alike) // 3
    train, holdout, fresh = parts(alike, draw, [third, held, len(alike) - third - held])
    reals = prepare(real[holdout].features)
    for name, made in candidates(found, fresh, train, red, samples):
        values = [measured.value for measured in compare(made.features, reals).values()]
        copies = memorisation(made.layouts, real[train].layouts, real[holdout].layouts, alike[train]).rate
        fallen = collapse(made.layouts, real[train].layouts)
        collapsed = [fallen.duplicates.value, fallen.spread.value, fallen.reach, fallen.alarm]
        rows[name] = [*values, copies.value, *collapsed]
    return rows


def floors(features: Float32, alike: Indices, samples: int, holdout: int) -> list[str]:
    """Real against real: mean ± standard deviation over splits, and the half width of the interval."""
    draws = []
    for draw in range(DRAWS):
        reals, fresh = parts(alike, draw, [holdout, samples])
        draws.append(list(compare(features[fresh], prepare(features[reals])).values()))
    cells = [str(samples), str(holdout)]
    for name, found in zip(KINDS, zip(*draws, strict=True), strict=True):
        digits, values = DIGITS[name], [one.value for one in found]
        width = np.mean([one.high - one.low for one in found]) / 2
        cells.append(f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1):.{digits}f} ({width:.{digits}f})")
    return cells


def respond(source: Path, folder: Path, params: Params) -> None:
    prepare_twice(source, folder, params, 64, UNUSED)
    look = Look(find_extractor(params.evaluate), 3, gpus=False)
    right, dropped = (all_of(folder / name, "train") for name in ("right", "dropped"))
    save_png(folder / "preparations.png", comparison({"over white": right[:12], "alpha dropped": dropped[:12]}))
    found, alike, red = describe_all(right, dropped, look), train_groups(folder / "right", len(right)), redness(right)
    for samples, held in SIZES:
        draws = [measure(found, alike, red, draw, samples, held) for draw in range(DRAWS)]
        values = {name: np.array([draw[name] for draw in draws]) for name in draws[0]}
        print(f"\nN = {samples}, M = {held}, mean of {DRAWS} splits\n\n{values_table(values)}")
        print(f"\nthe same in standard deviations of real images over the splits\n\n{notice_table(values)}")
    print("\nreal against real: mean ± standard deviation over splits (mean half width of the interval)\n")
    print(table(["N", "M", *KINDS], [floors(found["real"].features, alike, *size) for size in REAL_SIZES]))


def values_table(values: dict[str, Floats]) -> str:
    floor, spread = values["real"][:, 0].mean(), values["real"].std(0, ddof=1)
    rows = [["real, ±", *(f"{sd:.{DIGITS[name]}f}" for name, sd in zip(COLUMNS, spread, strict=True)), ""]]
    for row, found in values.items():
        means = dict(zip(COLUMNS, found.mean(0), strict=True))
        rows.append(
            [row, *(f"{mean:.{DIGITS[name]}f}" for name, mean in means.items()), f"{means['frechet'] / floor:.1f}"]
        )
    return table(["", *COLUMNS, "frechet / floor"], rows)


def notice_table(values: dict[str, Floats]) -> str:
    real, rows = values["real"], []
    for row, found in list(values.items())[1:]:
        away = (found - real.mean(0)).mean(0)[:-1] / np.maximum(real.std(0, ddof=1)[:-1], 1e-3)
        rows.append([row, *(f"**{z:.0f}**" if abs(z) >= 3 else f"{z:.0f}" for z in away)])
    return table(["", *COLUMNS[:-1]], rows)


if __name__ == "__main__":
    main()
