"""Sprite sheets: images side by side in one PNG, and their places in a JSON file that game engines' importers read.

N images, H × W pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.data.files import write_json
from components.data.images import Uint8, grid, save_png, straight


def save_sheet(path: Path, images: Uint8, seeds: Sequence[int], columns: int) -> Path:
    """Writes a PNG of the images without gaps, and the JSON of the same name beside it. Returns the JSON's path.

    Args:
        path: of the PNG.
        images: [N, H, W, C], premultiplied where C is 4; the file has straight alpha.
        seeds: N different ones, which name the sprites.
        columns: images a row; what a last row leaves free is transparent, or white where C is 3.
    """
    page, places = grid(images, columns, margin=0), path.with_suffix(".json")
    save_png(path, straight(page))
    write_json(places, atlas(path.name, page.shape, images.shape[1:3], seeds, columns))
    return places


def atlas(
    image: str, page: tuple[int, ...], cell: tuple[int, ...], seeds: Sequence[int], columns: int
) -> dict[str, Any]:
    """The places of a sheet's cells, in the form of TexturePacker's "JSON (Hash)".

    Args:
        image: the PNG's name.
        page: its height, width and channels.
        cell: height and width of an image.
        seeds: one a cell, row by row.
        columns: cells a row.

    Returns:
        {"frames": {"seed-3": {"frame": {"x", "y", "w", "h"}, …}, …}, "meta": {"image", "size", …}}, in pixels.
    """
    height, width = cell
    size = {"w": width, "h": height}
    frames = {
        f"seed-{seed}": {
            "frame": {"x": index % columns * width, "y": index // columns * height, **size},
            "rotated": False,
            "trimmed": False,
            "spriteSourceSize": {"x": 0, "y": 0, **size},
            "sourceSize": size,
        }
        for index, seed in enumerate(seeds)
    }
    pixel = "RGBA8888" if page[2] == 4 else "RGB888"
    meta = {"app": "bestiary", "image": image, "format": pixel, "size": {"w": page[1], "h": page[0]}, "scale": "1"}
    return {"frames": frames, "meta": meta}
