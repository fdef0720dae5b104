"""The sections of params.yaml that decide the data."""

from __future__ import annotations

import re
from dataclasses import dataclass

from components.config.checks import MAX_RESOLUTION, MIN_RESOLUTION, check, choice, is_resolution

ASPECTS = ("1:1", "4:3", "3:4")
MIN_CARD = 32  # pixels of the longer side, so that the shorter one too is a multiple of 8, which evaluation counts in
_COLOUR = "#[0-9a-fA-F]{6}"


@dataclass(frozen=True, kw_only=True)
class Ingest:
    """Where the images come from."""

    source: str  # path of a folder, an archive, or a descriptor in sources/

    def __post_init__(self) -> None:
        check(bool(self.source), "ingest.source", self.source, "a path")


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """How originals become training arrays."""

    resolution: int  # pixels, of the longer side
    aspect: str  # width to height, of ASPECTS
    channels: int  # 3: RGB over the background; 4: premultiplied RGBA
    background: str  # "#rrggbb", several of them (a palette), or "border"
    frames: str  # of an animation
    trim: bool  # cut off what is transparent all around
    margin: float  # kept free on each side, a share of the resolution
    shape: str  # of what is not square
    pixel_art: bool  # scale it by whole numbers, where it is detected
    linear_light: bool  # resample and composite in linear light instead of sRGB values
    near_duplicates: str  # ignore, report or drop
    mirrors: str
    recolours: str
    labels: bool  # the first folder of a name is its label
    holdout: float  # share of images, (0, 0.5]
    max_pixels: int  # of one picture

    def __post_init__(self) -> None:
        check(
            is_resolution(self.resolution),
            "preprocess.resolution",
            self.resolution,
            f"a power of two from {MIN_RESOLUTION} to {MAX_RESOLUTION}",
        )
        choice("preprocess.aspect", self.aspect, ASPECTS if self.resolution >= MIN_CARD else ASPECTS[:1])
        check(self.channels in (3, 4), "preprocess.channels", self.channels, "3, 4")
        check(
            re.fullmatch(rf"border|{_COLOUR}( {_COLOUR})*", self.background) is not None,
            "preprocess.background",
            self.background,
            'in quotes: a colour as "#rrggbb", several with spaces between, or "border"',
        )
        check(
            self.margin >= 0 and min(self.inner) >= 4,
            "preprocess.margin",
            self.margin,
            f"at least 0, and 4 of {min(self.size)} pixels left between the margins",
        )
        check(0 < self.holdout <= 0.5, "preprocess.holdout", self.holdout, "above 0, at most 0.5")
        check(self.max_pixels >= 1, "preprocess.max_pixels", self.max_pixels, "at least 1")
        choice("preprocess.frames", self.frames, ("first", "all"))
        choice("preprocess.shape", self.shape, ("pad", "crop"))
        for name in ("near_duplicates", "mirrors", "recolours"):
            choice(f"preprocess.{name}", getattr(self, name), ("ignore", "report", "drop"))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a training image, pixels."""
        columns, rows = map(int, self.aspect.split(":"))
        longer = max(columns, rows)
        return self.resolution * rows // longer, self.resolution * columns // longer

    @property
    def inner(self) -> tuple[int, int]:
        """Height and width between the margins, pixels."""
        height, width = self.size
        margin = 2 * round(self.margin * self.resolution)
        return height - margin, width - margin

    @property
    def palette(self) -> list[tuple[int, int, int]] | None:
        """The background's colours, 0..255; None for the picture's own border colour."""
        if self.background == "border":
            return None
        return [
            (colour[0], colour[1], colour[2]) for colour in map(bytes.fromhex, self.background.replace("#", "").split())
        ]
