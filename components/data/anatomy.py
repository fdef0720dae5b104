"""What creatures are made of: palettes, coats, faces, ears and wings, each drawn from the dice it is given.

Units are loose (a body is about one wide), x goes right and y down; faces look to the left. Choices come from
Random.random() and uniform(), which is a + (b - a) * random(): Python guarantees the sequence of random().
"""

from __future__ import annotations

from collections.abc import Sequence
from colorsys import hsv_to_rgb
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from components.data.drawing import WHITE, Colour, Cone, Ellipse, Layer, Point, Polygon, Shape, heading, strand

Option = TypeVar("Option")
Marks = list[tuple[Sequence[Shape], Colour]]

BLUSH: Colour = (1.0, 0.45, 0.5)
TONGUE: Colour = (0.93, 0.4, 0.45)
SCHEMES = (0.08, -0.08, 0.33, -0.33, 0.42, 0.5)  # steps on the colour wheel: neighbours, triads, opposites
TONES = ((0.72, 0.92), (0.55, 0.95), (0.4, 0.97), (0.75, 0.7), (0.5, 0.6), (0.14, 0.93))  # saturation, value
EARS = (  # degrees from upright, turn, length, radius at the root and at the tip, in head radii
    (18, 0, 0.75, 0.38, 0.06),  # cat
    (35, 0, 0.28, 0.34, 0.34),  # bear
    (8, 14, 1.15, 0.18, 0.2),  # rabbit
    (55, 120, 0.95, 0.18, 0.26),  # hound
)
HORNS = ((25, 60, 0.85, 0.19, 0.04), (50, -60, 0.9, 0.18, 0.04), (15, 0, 0.5, 0.2, 0.05))


@dataclass(frozen=True)
class Palette:
    """A creature's colours."""

    body: Colour
    belly: Colour
    accent: Colour  # of wings, fins and horns
    mark: Colour  # of spots and stripes
    ink: Colour
    iris: Colour


def choose(rng: Random, options: Sequence[Option]) -> Option:
    """One of the options, all equally likely."""
    return options[int(rng.random() * len(options))]


def blend(a: Colour, b: Colour, amount: float) -> Colour:
    """The colour `amount` of the way from a to b."""
    return a[0] + (b[0] - a[0]) * amount, a[1] + (b[1] - a[1]) * amount, a[2] + (b[2] - a[2]) * amount


def palette(rng: Random) -> Palette:
    """One hue for the body, and a second one a step away for what stands out."""
    hue = rng.random()
    step = choose(rng, SCHEMES)
    second = (hue + step) % 1.0
    saturation, value = choose(rng, TONES)
    saturation *= rng.uniform(0.85, 1.15)
    body = hsv_to_rgb(hue, saturation, value)
    ink = hsv_to_rgb(hue, 0.6, 0.2)
    accent = hsv_to_rgb(second, rng.uniform(0.5, 0.8), rng.uniform(0.8, 0.97))
    return Palette(
        body=body,
        belly=blend(hsv_to_rgb((hue + 0.3 * step) % 1.0, saturation * 0.4, 1.0), WHITE, rng.uniform(0.1, 0.5)),
        accent=accent,
        mark=choose(rng, (blend(body, ink, 0.4), blend(body, WHITE, 0.6), blend(accent, body, 0.15))),
        ink=ink,
        iris=hsv_to_rgb(second, 0.75, 0.75),
    )


def coat(rng: Random, c: Palette, x: float, y: float, rx: float, ry: float) -> Marks:
    """A body's pattern: plain, belly patch, spots, stripes, two-tone, or a belly patch with freckles."""

    def dots(at: Sequence[Point], r: float) -> list[Ellipse]:
        return [Ellipse((x + u * rx, y + v * ry), r * rx, r * rx) for u, v in at]

    belly = ([Ellipse((x - 0.2 * rx, y + 0.62 * ry), 0.75 * rx, 0.55 * ry)], c.belly)
    lean, r = rng.uniform(-0.2, 0.2), rng.uniform(0.13, 0.24)
    spots = dots([(u + lean / 2, v) for v in (-0.6, -0.05, 0.5) for u in (-0.65 + v / 4, v / 4, 0.65 + v / 4)], r)
    stripes = [
        Cone((x + u * rx, y - 1.1 * ry), r * 0.6 * rx, (x + (u + lean) * rx, y + 0.4 * ry), 0.02)
        for u in (-0.75, -0.25, 0.25, 0.75)
    ]
    half = [Ellipse((x + 2 * lean * rx, y + 1.1 * ry), 1.6 * rx, (0.6 + 2 * r) * ry)]
    freckles = dots([(-0.1, -0.6), (0.35, -0.4), (0.7, -0.1)], 0.15)
    return choose(
        rng, ([], [belly], [(spots, c.mark)], [(stripes, c.mark)], [(half, c.mark)], [(freckles, c.mark), belly])
    )


def eyes(rng: Random, c: Palette, x: float, y: float, r: float) -> Layer:
    """One to three eyes around (x, y) on a face of radius r: round, heavy-lidded, or beads."""
    count = choose(rng, (2, 2, 2, 2, 2, 2, 1, 3))
    size = r * rng.uniform(0.25, 0.36) * (1.45, 1.0, 0.8)[count - 1]
    gap, tall, look, style = size * rng.uniform(1.15, 1.45), rng.uniform(1.0, 1.3), rng.uniform(0.12, 0.3), rng.random()
    places = (((0.0, 0.0),), ((-gap, 0.0), (gap, 0.0)), ((-gap, 0.0), (gap, 0.0), (0.0, -1.6 * size)))[count - 1]

    def discs(dx: float, dy: float, s: float) -> list[Ellipse]:
        return [Ellipse((x + u + dx * size, y + v + dy * size), s * size, s * size * tall) for u, v in places]

    if style < 0.25:
        shine = [(discs(-0.25, -0.35, 0.32), WHITE), (discs(0.25, 0.45, 0.15), WHITE)]
        return Layer(discs(0, 0, 0.85), c.ink, c.ink, marks=shine, matt=True)
    iris, pupil = (discs(-look, 0.1, 0.72), c.iris), (discs(-look, 0.1, 0.45), c.ink)
    lid = [(discs(0, -1.5, 1.1), blend(c.body, c.ink, 0.25))] if style > 0.8 else []
    shine = [(discs(-look - 0.22, -0.3, 0.24), WHITE)]
    return Layer(discs(0, 0, 1.0), WHITE, c.ink, marks=[iris, pupil, *lid, *shine], matt=True)


def mouth(rng: Random, c: Palette, x: float, y: float, r: float) -> list[Layer]:
    """An open mouth, a smile, or a smile with a fang."""
    kind = rng.random()
    if kind < 0.3:
        tongue = ([Ellipse((x, y + 0.18 * r), 0.2 * r, 0.12 * r)], TONGUE)
        return [Layer([Ellipse((x, y + 0.04 * r), 0.26 * r, 0.2 * r)], c.ink, c.ink, marks=[tongue], matt=True)]
    smile = Layer(strand((x - 0.31 * r, y - 0.04 * r), 50, -100, 0.7 * r, 0.028, 0.028), c.ink)
    if kind < 0.7:
        return [smile]
    fang = Cone((x - 0.15 * r, y + 0.08 * r), 0.07 * r, (x - 0.15 * r, y + 0.22 * r), 0.01)
    return [Layer([fang], WHITE, c.ink, matt=True), smile]


def face(rng: Random, c: Palette, x: float, y: float, r: float, lips: bool = True) -> list[Layer]:
    """Eyes, a mouth unless there is a muzzle or beak, and perhaps a blush."""
    cheeks = [Ellipse((x + side * 0.72 * r, y + 0.35 * r), 0.12 * r, 0.06 * r) for side in (-1, 1)]
    return [
        *([Layer(cheeks, BLUSH, feather=0.3 * r, opacity=0.7)] if rng.random() < 0.4 else []),
        *(mouth(rng, c, x - 0.04 * r, y + 0.52 * r, r) if lips else []),
        eyes(rng, c, x, y - 0.08 * r, r),
    ]


def ears(rng: Random, c: Palette, x: float, y: float, r: float) -> list[Layer]:
    """Ears, horns, feelers, a crest or nothing, to go behind a head of radius r at (x, y)."""

    def pair(lean: float, turn: float, length: float, r0: float, r1: float) -> list[Cone]:
        left = strand((x - 0.5 * r, y - 0.6 * r), 270 - lean, -turn, length * r, r0 * r, r1 * r, 3)
        right = strand((x + 0.5 * r, y - 0.6 * r), 270 + lean, turn, length * r, r0 * r, r1 * r, 3)
        return [*left, *right]

    kind, lean = rng.random(), rng.uniform(-6, 10)
    if kind < 0.45:
        spread, turn, length, r0, r1 = choose(rng, EARS)
        inner = pair(spread + lean, turn, length * 0.95, r0 * 0.5, r1 * 0.5)
        outer = pair(spread + lean, turn, length, r0, r1)
        return [Layer(outer, c.body, c.ink, marks=[(inner, blend(c.body, c.belly, 0.8))])]
    if kind < 0.65:
        spread, turn, length, r0, r1 = choose(rng, HORNS)
        return [Layer(pair(spread + lean, turn, length, r0, r1), blend(c.accent, WHITE, 0.35), c.ink)]
    if kind < 0.77:
        stalks = pair(lean, 40, 0.7, 0.1, 0.08)
        bobbles = [Ellipse(stalk.end, 0.17 * r, 0.17 * r) for stalk in (stalks[2], stalks[5])]
        return [Layer(stalks, c.ink), Layer(bobbles, c.accent, c.ink)]
    if kind < 0.9:
        tufts = [(-0.35, -1.15), (0.0, -1.5), (0.4, -1.25)]
        crest = [
            Cone((x + u * r, y - 0.75 * r), 0.18 * r, (x + (u * 1.7 + 0.1) * r, y + v * r), 0.03) for u, v in tufts
        ]
        return [Layer(crest, c.accent, c.ink, melt=0.05)]
    return []


def bat_wing(c: Palette, x: float, y: float, side: int, span: float, lift: float, opacity: float) -> Layer:
    """A membrane between three fingers, spread from a shoulder at (x, y)."""
    tips: list[Point] = []
    for angle, length in ((-62 - lift, 1.0), (-24 - lift / 2, 1.0), (14, 0.75)):
        u, v = heading(angle)
        tips.append((x + side * span * length * u, y + span * length * v))
    first, second, third = tips

    def notch(p: Point, q: Point) -> Point:
        return 0.36 * (p[0] + q[0]) + 0.28 * x, 0.36 * (p[1] + q[1]) + 0.28 * y

    skin = Polygon(((x, y), first, notch(first, second), second, notch(second, third), third))
    bones = [Cone((x, y), 0.035, tip, 0.02) for tip in tips]
    return Layer([skin], c.accent, c.ink, opacity=opacity, marks=[(bones, blend(c.accent, c.ink, 0.4))])
