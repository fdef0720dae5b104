"""Pages of pictures that people look at beside the metrics: enlarged grids, and captioned rows to compare."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from components.data.images import Uint8, grid

PAGE_WIDTH = 720  # pixels, about
CAPTION_HEIGHT = 18


def page(images: Uint8, columns: int) -> Uint8:
    """[N, H, W, C] as a grid, each image enlarged by a whole factor so that the page is about PAGE_WIDTH wide."""
    scale = max(1, round(PAGE_WIDTH / (columns * images.shape[2])))
    return grid(images.repeat(scale, axis=1).repeat(scale, axis=2), columns)


def comparison(rows: dict[str, Uint8]) -> Uint8:
    """Rows of as many images each, [N, H, W, 3], one below the other under their captions."""
    strips: list[Uint8] = []
    for caption, images in rows.items():
        strip = page(images, columns=len(images))
        strips += [_caption(caption, strip.shape[1]), strip]
    return np.concatenate(strips)


def _caption(text: str, width: int) -> Uint8:
    """[CAPTION_HEIGHT, width, 3], dark on white."""
    strip = Image.new("RGB", (width, CAPTION_HEIGHT), "white")
    ImageDraw.Draw(strip).text((3, 3), text, fill="black")
    return np.asarray(strip)
