"""Pages of pictures that people look at beside the metrics: grids, captioned rows, closest pairs, and a run as a film.

N images, H × W pixels, C channels: 3, or 4 of premultiplied RGBA, which every page shows over a light checkerboard.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from components.data.images import Uint8, framed, grid, premultiplied
from components.evaluation.memorisation import NEIGHBOURS, Bool, Memorisation

PAGE_WIDTH = 720  # pixels, about
CAPTION_HEIGHT = 18
CHECKS = 8  # squares of the checkerboard along the shorter side
LIGHT, DARK = 255, 226  # its greys
TILE = 128  # side of an image among the closest pairs
PAIRS_A_ROW = 4
GAP = 8
HEADER_HEIGHT = 60
PLAIN, MARKED = (110, 110, 110), (200, 0, 0)
FRAMES = 60
FRAME_MS, LAST_FRAME_MS = 150, 2000
FILM_BYTES = 3 * 2**20
FILM_QUALITIES = (None, 90, 75, 50)  # None: lossless


def on_checker(images: Uint8) -> Uint8:
    """Premultiplied [N, H, W, 4] over a light checkerboard, [N, H, W, 3]; [N, H, W, 3] as it is."""
    if images.shape[3] == 3:
        return images
    cell = max(1, min(images.shape[1:3]) // CHECKS)
    rows, columns = (np.arange(side) // cell for side in images.shape[1:3])
    board = np.where((rows[:, None] + columns) % 2, DARK, LIGHT)[..., None]
    through = np.rint((255 - images[..., 3:].astype(np.int64)) * board / 255)
    return np.minimum(images[..., :3] + through, 255).astype(np.uint8)


def page(images: Uint8, columns: int) -> Uint8:
    """[N, H, W, C] as a grid, each image enlarged by a whole factor so that the page is about PAGE_WIDTH wide."""
    scale = max(1, round(PAGE_WIDTH / (columns * images.shape[2])))
    return grid(on_checker(images).repeat(scale, axis=1).repeat(scale, axis=2), columns)


def comparison(rows: dict[str, Uint8]) -> Uint8:
    """Rows of as many images each, [N, H, W, C], one below the other under their captions."""
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


def closest_pairs(samples: Uint8, trains: Uint8, found: Memorisation) -> Uint8:
    """The samples that are most like a train image, each beside it, in order; what is flagged is framed in red.

    Args:
        samples: [P, H, W, C], the samples at found.closest(P).
        trains: [P, H, W, C], of each its nearest train image, as it is stored; shown flipped where that is the match.
        found: of all samples.
    """
    at = found.closest(len(samples))
    flips: Bool = found.nearest.mirrored[at]
    matches = np.where(flips[:, None, None, None], trains[:, :, ::-1], trains)
    left, right = _tiles(samples), _tiles(matches)
    cell_width, cell_height = 2 * TILE + 3 * GAP, TILE + CAPTION_HEIGHT + 2 * GAP
    rows = -(-len(at) // PAIRS_A_ROW)
    sheet = Image.new("RGB", (PAIRS_A_ROW * cell_width, rows * cell_height + HEADER_HEIGHT), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    draw.text((GAP, GAP), _summary(found), fill="black", font=font)
    for place, (number, flip) in enumerate(zip(at, flips, strict=True)):
        x, y = place % PAIRS_A_ROW * cell_width, HEADER_HEIGHT + place // PAIRS_A_ROW * cell_height
        score = found.nearest.score[number]
        flagged = score <= found.threshold
        words = f"#{number}  {score:.2f}{'  mirrored' if flip else ''}{'  copy' if flagged else ''}"
        draw.text((x + GAP, y - GAP // 2), words, fill=MARKED if flagged else PLAIN, font=font)
        top = y + CAPTION_HEIGHT
        if flagged:
            edge = GAP // 2
            box = (x + GAP - edge, top - edge, x + 2 * GAP + 2 * TILE + edge - 1, top + TILE + edge - 1)
            draw.rectangle(box, fill=MARKED)
        sheet.paste(left[place], (x + GAP, top))
        sheet.paste(right[place], (x + 2 * GAP + TILE, top))
    return np.asarray(sheet)


def _summary(found: Memorisation) -> str:
    return (
        f"Left a sample, right its nearest train image. {len(found.flagged)} of {len(found.nearest.score)} samples "
        f"({found.rate.value:.1%}) are flagged as copies: score {found.threshold:.2f} or less. "
        f"Of fresh images {found.expected:.1%} would be.\n"
        f"Each pair: the sample's number, and its distance over its mean distance to the {NEIGHBOURS} nearest."
    )


def _tiles(images: Uint8) -> list[Image.Image]:
    return [Image.fromarray(framed(image, TILE)) for image in on_checker(images)]


def frames(paths: Sequence[Path]) -> bytes:
    """An animated WebP of at most FRAMES pages, spread evenly over `paths`, first and last among them.

    Lossless where that takes no more than FILM_BYTES; else in less quality, then with fewer frames.

    Args:
        paths: PNG files of one size, in order, at least one.
    """
    count = min(FRAMES, len(paths))
    while True:
        chosen = [paths[at] for at in np.linspace(0, len(paths) - 1, count).round().astype(int)]
        pictures = [_frame(path) for path in chosen]
        for quality in FILM_QUALITIES:
            film = _film(pictures, quality)
            if len(film) <= FILM_BYTES or (count == 1 and quality == FILM_QUALITIES[-1]):
                return film
        count = -(-count // 2)


def _frame(path: Path) -> Image.Image:
    """A page about PAGE_WIDTH wide: enlarged by a whole factor, or reduced."""
    with Image.open(path) as opened:
        picture = Image.fromarray(on_checker(premultiplied(np.asarray(opened))[None])[0])
    if picture.width > PAGE_WIDTH:
        return picture.resize((PAGE_WIDTH, round(picture.height * PAGE_WIDTH / picture.width)), Image.Resampling.BOX)
    scale = max(1, round(PAGE_WIDTH / picture.width))
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def _film(pictures: list[Image.Image], quality: int | None) -> bytes:
    buffer = io.BytesIO()
    pictures[0].save(
        buffer,
        format="WEBP",
        save_all=True,
        append_images=pictures[1:],
        duration=[FRAME_MS] * (len(pictures) - 1) + [LAST_FRAME_MS],
        loop=0,
        lossless=quality is None,
        quality=80 if quality is None else quality,
    )
    return buffer.getvalue()
