"""The pictures beside the numbers: samples, reals, both side by side, mixed styles if any, and the closest pairs."""

from __future__ import annotations

from pathlib import Path

from components.data.images import save_png
from components.evaluation.bench import Bench
from components.evaluation.candidates import Generated, blur_to_8
from components.evaluation.memorisation import Memorisation
from components.evaluation.pictures import closest_pairs, comparison, page
from components.generation.mixing import COARSE_LAYERS, style_mixing
from components.generation.sampler import sample

COUNT, FEW, PAIRS = 64, 12, 24


def draw(folder: Path, candidate: Path, bench: Bench, copies: Memorisation) -> None:
    """Writes the pages of a measured generator as PNGs; those at evaluate.psi say so."""
    generator, psi = Generated.at(candidate, bench.gpus).generator(), bench.params.psi
    train = bench.reals("train")
    reals, fakes = train(bench.split().aside[:COUNT]), sample(generator, range(COUNT), psi)
    few = min(FEW, len(reals))
    at = "" if generator.truncated_layers == 0 else f", psi {psi:g}"
    rows = {"real": reals[:few], f"generated{at}": fakes[:few], "real, blurred": blur_to_8(reals[:few])}
    save_png(folder / "samples.png", page(fakes, columns=8))
    save_png(folder / "reals.png", page(reals, columns=8))
    save_png(folder / "comparison.png", comparison(rows))
    if generator.num_layers > COARSE_LAYERS:
        save_png(folder / "mixing.png", page(style_mixing(generator, range(4), range(10, 17), psi), columns=8))
    seeds = copies.closest(PAIRS)
    pairs = closest_pairs(sample(generator, seeds.tolist()), train(copies.nearest.position[seeds]), copies)
    save_png(folder / "closest.png", pairs)
