"""A page or a sheet of creatures: python -m components.generation --model models:/bestiary-generator@challenger"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import NoReturn

from components.config import InputError
from components.data.images import grid, save_png, straight
from components.generation.sampler import load_generator, parse_seeds, sample
from components.generation.sheet import save_sheet


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = _Parser(prog="python -m components.generation", description="Draws a page of creatures, one a seed.")
    parser.add_argument(
        "--model", required=True, help="models:/NAME@ALIAS, models:/NAME/VERSION or a folder such as models/candidate"
    )
    parser.add_argument("--seeds", default="0-63", help="numbers and ranges: 0-63,70 (default: 0-63)")
    parser.add_argument("--psi", type=float, default=0.7, help="truncation, 0 (the mean) to 1 (none); default 0.7")
    parser.add_argument("--label", default="", help="of all images (default: one drawn for each)")
    parser.add_argument("--out", type=Path, default=Path("grid.png"), help="the PNG to write (default: grid.png)")
    parser.add_argument("--columns", type=int, help="images a row (default: about square)")
    parser.add_argument(
        "--sheet", action="store_true", help="a sprite sheet: no gaps, and a JSON of the sprites' places beside the PNG"
    )
    return parser.parse_args(argv)


def _check(arguments: argparse.Namespace) -> None:
    if not 0 <= arguments.psi <= 1:
        raise InputError(f"--psi is {arguments.psi}; allowed: 0 to 1")
    if arguments.columns is not None and arguments.columns < 1:
        raise InputError(f"--columns is {arguments.columns}; allowed: at least 1")
    if arguments.out.suffix.lower() != ".png":
        raise InputError(f"--out is {str(arguments.out)!r}; allowed: a file that ends in .png")


def _folder(model: str) -> Path:
    if not model.startswith("models:"):
        return Path(model)
    from components.tracking.registry import resolve  # MLflow takes seconds to import, and a folder needs none of it

    return resolve(model)


def main(argv: list[str] | None = None) -> None:
    """Reads the arguments, samples, writes the page."""
    arguments = _arguments(argv)
    _check(arguments)
    seeds = parse_seeds(arguments.seeds)
    if arguments.sheet and len(set(seeds)) < len(seeds):
        raise InputError(f"--seeds is {arguments.seeds}; allowed with --sheet: each seed once, as it names a sprite")
    generator = load_generator(_folder(arguments.model))
    images = sample(generator, seeds, arguments.psi, arguments.label)
    columns = arguments.columns or math.ceil(math.sqrt(len(seeds)))
    written = str(arguments.out)
    try:
        if arguments.sheet:
            written += f" and {save_sheet(arguments.out, images, seeds, columns)}"
        else:
            save_png(arguments.out, straight(grid(images, columns)))
    except OSError as error:
        raise InputError(f"--out {arguments.out}: {error.strerror}") from None
    at = ", which this arch does not truncate" if generator.truncated_layers == 0 else f" at psi {arguments.psi:g}"
    print(f"{written}: {len(seeds)} images{at}")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
