"""The pages that a person looks at before training: preview.png (before and after, light and dark) and report.html."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import replace
from html import escape
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from components.config import Preprocess
from components.data.buckets import Original, read_originals
from components.data.compositing import Colour, alpha_kind, art_block, composite, fit, premultiply, visible_pixels
from components.data.decoding import decode
from components.data.files import write_bytes
from components.data.images import Uint8, encode_png, framed, grid, save_png
from components.data.similarity import KINDS

TILE = 128
LIGHT, DARK = 240, 24  # the two halves' grey


def save_preview(
    path: Path, raw: Path, before: list[tuple[Original, int]], after: list[Uint8], params: Preprocess
) -> None:
    """Pairs of an original and the pixels trained on, four a row, on light and once more on dark.

    Args:
        before: original and number of its frame.
        after: [H, W, C] of each.
    """
    as_it_is = replace(params, resolution=TILE, aspect="1:1", trim=False, margin=0.0, shape="pad")
    squares = []
    for original, number in before:
        ((_, content),) = read_originals(raw, [original])
        frames = decode(content, all_frames=params.frames == "all", max_pixels=params.max_pixels)
        planes = premultiply(visible_pixels(next(islice(frames, number, None)).image))
        squares.append(fit(planes, 0 if alpha_kind(planes) == "soft" else art_block(planes), as_it_is))
    halves = []
    for grey in (LIGHT, DARK):
        colour = (grey, grey, grey)
        tiles = [
            (composite(square, colour), tile(pixels, colour)) for square, pixels in zip(squares, after, strict=True)
        ]
        halves.append(grid(np.concatenate(tiles), columns=8, margin=4, paper=grey))
    save_png(path, np.concatenate(halves))


def tile(pixels: Uint8, paper: Colour) -> Uint8:
    """A training image [H, W, C] in the middle of [TILE, TILE, 3] of `paper`; over it, where it has alpha."""
    if pixels.shape[2] == 4:
        pixels = composite(pixels.transpose(0, 2, 1).astype(np.float32), paper)
    return framed(pixels, TILE, paper)


STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 68rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: .5rem 2rem 1.5rem 0; display: inline-table; vertical-align: top }
caption { text-align: left; font-weight: 600 }
td, th { padding: .15rem .8rem .15rem 0; text-align: left; font-weight: 400 }
td { text-align: right; font-variant-numeric: tabular-nums }
img { max-width: 100% }
figure { display: inline-block; vertical-align: top; margin: 0 1rem 1rem 0; width: 260px }
figure img { width: 128px; border: 1px solid #ddd }
figcaption { font-size: 12px; overflow-wrap: anywhere }
"""
TITLES = {"near_duplicates": "Near-duplicates", "mirrors": "Mirror images", "recolours": "Recolourings"}


def save_html(path: Path, summary: dict[str, Any], pairs: Iterable[tuple[dict[str, Any], list[Uint8]]]) -> None:
    """report.html: the summary as tables, preview.png, and pairs with their pictures (PNG data in the page).

    Args:
        pairs: row of pairs.jsonl, and the two images [H, W, C].
    """
    counts = {name: summary[name] for name in ("in", "kept", "rejected", "duplicates", "similar", "train", "holdout")}
    range_of = {f"{side}, {what}": value for side in ("width", "height") for what, value in summary[side].items()}
    colour = {f"{what}, RGB": " ".join(map(str, value)) for what, value in summary["colour"].items()}
    tables = [
        _table("Pictures", counts),
        _table("Rejected, by reason (rejected.jsonl)", summary["reasons"]),
        _table("Formats and modes", summary["forms"]),
        _table("Sizes", summary["sizes"]),
        _table("Pixels", range_of),
        _table("Alpha", summary["alpha"] | {"visible share": summary["visible"], "pixel art": summary["pixel_art"]}),
        _table("Colour of what is visible, 0 to 255", colour),
        _table("Alike (pairs.jsonl)", summary["pairs"] | {f"alike: {k}": v for k, v in summary["alike"].items()}),
        _table("Parameters", summary["preprocess"]),
    ]
    figures: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for row, both in pairs:
        pictures = "".join(f'<img alt="" src="{_data(image)}">' for image in both)
        words = f"{escape(row['first'])}<br>{escape(row['second'])}<br>{row['bits']} of 256 bits differ"
        figures[row["kind"]].append(f"<figure>{pictures}<figcaption>{words}</figcaption></figure>")
    alike = "".join(f"<h2>{TITLES[kind]}</h2>{''.join(found)}" for kind, found in figures.items() if found)
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>The data</title><style>{STYLE}</style>'
        f"<h1>The data</h1>{''.join(tables)}<h2>Before and after, on light and on dark</h2>"
        f'<img alt="pairs of an original and its training image" src="preview.png">{alike}</html>\n'
    )
    write_bytes(path, page.encode("utf-8", "xmlcharrefreplace"))


def _table(caption: str, rows: dict[str, Any]) -> str:
    cells = "".join(f"<tr><th>{escape(str(key))}</th><td>{escape(str(value))}</td></tr>" for key, value in rows.items())
    return f"<table><caption>{escape(caption)}</caption>{cells or '<tr><th>none</th></tr>'}</table>"


def _data(image: Uint8) -> str:
    return "data:image/png;base64," + base64.b64encode(encode_png(tile(image, (255, 255, 255)))).decode()
