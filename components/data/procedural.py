"""The built-in data set: nine families of creatures, each drawn from its seed and number alone.

A body plan is a function that places layers, back to front, in loose units (a body is about one wide); the painter
fits the view around them. All creatures look to the left.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.data.anatomy import Marks, Palette, bat_wing, blend, choose, coat, ears, face, palette
from components.data.drawing import WHITE, Colour, Cone, Ellipse, Layer, Polygon, draw, heading, strand

BEAKS: tuple[Colour, ...] = ((1.0, 0.72, 0.2), (1.0, 0.55, 0.2), (0.95, 0.85, 0.35))


def quadruped(rng: Random, c: Palette) -> list[Layer]:
    """Four legs, a muzzle and a tail: thin, bushy, a stub or tapering."""
    rx, ry, r = rng.uniform(0.46, 0.6), rng.uniform(0.34, 0.44), rng.uniform(0.42, 0.52)
    foot, leg = ry + rng.uniform(0.12, 0.34), rng.uniform(0.1, 0.15)
    x, y = -0.75 * rx - 0.05, -rng.uniform(0.3, 0.75)
    tails = (
        strand((0.8 * rx, -0.05), -20, -rng.uniform(40, 120), 0.75, 0.1, 0.06),
        strand((0.8 * rx, 0.05), -35, -rng.uniform(10, 60), 0.65, 0.09, 0.21),
        strand((0.95 * rx, -0.12), -30, 0, 0.08, 0.15, 0.17, 1),
        strand((0.75 * rx, 0.1), 20, -rng.uniform(60, 110), 0.8, 0.16, 0.02),
    )

    def legs(shift: float) -> list[Cone]:
        return [Cone((u * rx + shift, 0.1), leg * 1.25, (u * rx + shift - 0.03, foot), leg) for u in (-0.58, 0.62)]

    neck, muzzle = Cone((-0.5 * rx, 0), 0.25, (x, y), 0.22), Ellipse((x - 0.42 * r, y + 0.42 * r), 0.52 * r, 0.36 * r)
    head = [Ellipse((x, y), r * 1.05, r * 0.92), muzzle]
    return [
        Layer(choose(rng, tails), choose(rng, (c.body, c.body, c.accent)), c.ink, melt=0.05),
        Layer(legs(0.17), blend(c.body, c.ink, 0.3), c.ink),
        Layer([Ellipse((0, 0), rx, ry), *legs(-0.04), neck], c.body, c.ink, melt=0.1, marks=coat(rng, c, 0, 0, rx, ry)),
        *ears(rng, c, x, y, r),
        Layer(head, c.body, c.ink, melt=0.12, marks=[([muzzle], choose(rng, (c.body, c.belly)))]),
        *face(rng, c, x - 0.1 * r, y - 0.12 * r, r * 0.9, lips=False),
        Layer([Ellipse((x - 0.66 * r, y + 0.26 * r), 0.16 * r, 0.11 * r)], c.ink),
        Layer(strand((x - 0.68 * r, y + 0.56 * r), 40, -80, 0.45 * r, 0.025, 0.025), c.ink),
    ]


def bird(rng: Random, c: Palette) -> list[Layer]:
    """Two thin legs, a beak, a folded wing and a fan of tail feathers."""
    rx, ry, r = rng.uniform(0.46, 0.62), rng.uniform(0.48, 0.6), rng.uniform(0.38, 0.48)
    x, y, beak = -0.28 * rx, -ry - 0.02, choose(rng, BEAKS)
    foot, bill, droop = ry + rng.uniform(0.12, 0.32), rng.uniform(0.3, 0.6) * r, rng.uniform(0.1, 0.4) * r
    body = [Ellipse((0, 0), rx, ry, 12), Ellipse((x, y), r, r)]
    legs = [Cone((u * rx, 0.8 * ry), 0.06, (u * rx, foot), 0.06) for u in (-0.25, 0.3)]
    toes = [Cone(leg.end, 0.065, (leg.end[0] - 0.2, foot + 0.03), 0.05) for leg in legs]
    fan = [Ellipse((rx + 0.1, 0.2 * ry + u * 0.17), 0.38, 0.12, -25 + u * 28) for u in (-1, 0, 1)]
    wing = [Ellipse((0.36 * rx + u * 0.1, 0.08 * ry + u * 0.14), 0.66 * rx, 0.2, 28 + 10 * u) for u in (-1, 0, 1)]
    return [
        Layer(fan, c.accent, c.ink, melt=0.04),
        Layer([*legs, *toes], beak, c.ink),
        *ears(rng, c, x, y, r),
        Layer(body, c.body, c.ink, melt=0.3, marks=coat(rng, c, 0, 0, rx, ry)),
        Layer(wing, choose(rng, (c.accent, c.mark, blend(c.body, c.ink, 0.25))), c.ink, melt=0.06),
        *face(rng, c, x - 0.22 * r, y - 0.05 * r, r * 0.85, lips=False),
        Layer([Cone((x - 0.8 * r, y + 0.12 * r), 0.24 * r, (x - r - bill, y + droop), 0.02)], beak, c.ink),
    ]


def serpent(rng: Random, c: Palette) -> list[Layer]:
    """Two or three coils under a raised head."""
    w, r, coils = rng.uniform(0.17, 0.23), rng.uniform(0.4, 0.5), choose(rng, (2, 2, 3))
    reach, rise = rng.uniform(0.55, 0.75), rng.uniform(0.25, 0.5)
    tail = strand((reach - 0.1, 0), -15, -rng.uniform(60, 150), rng.uniform(0.6, 0.8), w, 0.03, 5)
    rings = [Cone((-reach + i * 0.13, -i * w * 1.5), w, (reach - i * 0.2, -i * w * 1.5), w) for i in range(coils)]
    top = rings[-1].start
    neck = strand((0.15, top[1]), 250, -60 + rng.uniform(0, 50), rise + 0.35, w * 1.1, w * 0.9)
    x, y = neck[-1].end
    spots = [
        Ellipse((u * 0.3 + 0.1 * i, -i * w * 1.5 - 0.25 * w), 0.09, 0.09) for i in range(coils) for u in range(-3, 4)
    ]
    patterns: list[Marks] = [[], [(spots, c.mark)], [(spots, c.belly)]]
    pattern = choose(rng, patterns)
    hood = [Ellipse((x + side * 0.75 * r, y + 0.12), 0.5 * r, 0.3 * r, side * -40) for side in (-1, 1)]
    return [
        Layer(tail, c.body, c.ink, melt=0.02),
        Layer(neck, c.body, c.ink, melt=0.02),
        *(Layer([ring], c.body, c.ink, marks=pattern) for ring in rings[::-1]),
        *([Layer(hood, c.accent, c.ink, opacity=0.75)] if rng.random() < 0.4 else ears(rng, c, x, y, r)),
        Layer([Ellipse((x, y), r * 1.08, r * 0.88)], c.body, c.ink),
        *face(rng, c, x - 0.08 * r, y - 0.02, r * 0.92),
    ]


def fish(rng: Random, c: Palette) -> list[Layer]:
    """A body with translucent fins and a forked tail."""
    rx, ry, sheer = rng.uniform(0.56, 0.68), rng.uniform(0.44, 0.6), rng.uniform(0.6, 0.85)
    flare, fork = rng.uniform(0.35, 0.6), rng.uniform(0.22, 0.4)
    back, sweep = rng.uniform(0.2, 0.4), rng.uniform(0, 0.4)
    tail = Polygon(((0.75 * rx, 0.08), (rx + 0.42, flare), (rx + fork, 0), (rx + 0.42, -flare), (0.75 * rx, -0.08)))
    dorsal = Polygon(((-0.5 * rx, -0.7 * ry), (sweep, -ry - back), (0.65 * rx, -0.6 * ry)))
    ventral = Polygon(((-0.15 * rx, 0.75 * ry), (sweep + 0.1, ry + 0.7 * back), (0.55 * rx, 0.6 * ry)))
    flank = Ellipse((0.24 * rx, 0.25 * ry), 0.25, 0.13, rng.uniform(10, 45))
    body = [Ellipse((0, 0), rx, ry), Cone((0, 0), 0.2, (0.95 * rx, 0), 0.1)]
    return [
        *(Layer([fin], c.accent, c.ink, opacity=sheer) for fin in (tail, dorsal, ventral)),
        Layer(body, c.body, c.ink, melt=0.2, marks=coat(rng, c, 0.1, 0, rx, ry)),
        Layer([flank], c.accent, c.ink, opacity=0.85),
        *face(rng, c, -0.46 * rx, -0.12 * ry, ry * 0.8),
    ]


def insect(rng: Random, c: Palette) -> list[Layer]:
    """Glassy wings, six legs of which three show, feelers and a banded abdomen."""
    r, long, span = rng.uniform(0.4, 0.48), rng.uniform(0.38, 0.54), rng.uniform(0.5, 0.66)
    x, sheer, glass = 0.1 + long * 0.8, rng.uniform(0.45, 0.7), blend(c.accent, WHITE, 0.3)
    wings = []
    for angle, k in ((-100 - rng.uniform(0, 25), 0.9), (-55, 1.0)):
        u, v = heading(angle)
        leaf = Ellipse((0.1 + u * span * k, -0.15 + v * span * k), span * k * 0.95, span * 0.44, angle)
        wings.append(Layer([leaf], glass, c.ink, opacity=sheer))
    legs = [cone for u in (-0.05, 0.2, 0.45) for cone in strand((u, 0.15), 100 - 40 * u, -50, 0.55, 0.07, 0.05, 3)]
    bands = [
        Cone((x + u * long, -0.5), 0.11 * long, (x + (u - 0.2) * long, 0.7), 0.11 * long) for u in (-0.35, 0.15, 0.65)
    ]
    feelers = [
        cone for u in (-1, 1) for cone in strand((-0.5 + u * 0.14, -0.3), 255 + u * 14, u * 50, 0.45, 0.045, 0.045)
    ]
    body = [Ellipse((x, 0.1), long, rng.uniform(0.3, 0.38), rng.uniform(10, 30)), Ellipse((0, 0.05), 0.28, 0.27)]
    patterns: list[Marks] = [coat(rng, c, x, 0.1, long, 0.35), [(bands, c.mark)]]
    return [
        wings[0],
        Layer(legs, blend(c.body, c.ink, 0.6), c.ink),
        Layer(body, c.body, c.ink, melt=0.06, marks=choose(rng, patterns)),
        wings[1],
        Layer(feelers, c.ink),
        Layer([Ellipse((-0.42, 0), r, r * 0.95)], choose(rng, (c.body, c.accent)), c.ink),
        *face(rng, c, -0.42 - 0.1 * r, 0, r),
    ]


def ghost(rng: Random, c: Palette) -> list[Layer]:
    """A translucent sheet with a wavy hem or a trailing wisp, in a glow."""
    w, h, sway = rng.uniform(0.5, 0.62), rng.uniform(0.45, 0.7), rng.uniform(-0.15, 0.3)
    pale = blend(c.body, WHITE, 0.35)
    hem = [Cone((u * w, 0.3 * h), 0.26 * w, (u * w + sway, h + 0.1), 0.16 * w) for u in (-0.74, 0, 0.74)]
    wisp = strand((0, 0.4 * h), 90, -rng.uniform(40, 110), h + 0.3, 0.8 * w, 0.03, 6)
    arms = [Cone((side * 0.8 * w, 0.05), 0.13, (side * (w + 0.2), rng.uniform(-0.25, 0.3)), 0.1) for side in (-1, 1)]
    curl = strand((0, -0.1 - 0.85 * w), 270, rng.uniform(-100, 100), rng.uniform(0.15, 0.4), 0.22, 0.03)
    sheet = [Ellipse((0, -0.1), w, w), Cone((0, 0), 0.97 * w, (0, 0.35 * h), 0.9 * w), *arms, *curl]
    heart = ([Ellipse((0.02, 0.2), w * 0.55, h * 0.5)], blend(pale, c.accent, 0.5))
    skirt = choose(rng, (hem, wisp))
    patterns: list[Marks] = [[], [heart]]
    return [
        Layer([sheet[1], *skirt], c.accent, feather=0.5, opacity=0.35),
        Layer([*sheet, *skirt], pale, c.ink, melt=0.1, opacity=rng.uniform(0.6, 0.85), marks=choose(rng, patterns)),
        *face(rng, c, -0.06, -0.12, w * 0.88),
    ]


def slime(rng: Random, c: Palette) -> list[Layer]:
    """A see-through drop with bubbles and a gloss."""
    w, h = rng.uniform(0.66, 0.85), rng.uniform(0.54, 0.74)
    drop = Cone((0, -h * 0.5), w * 0.35, (rng.uniform(-0.15, 0.2), -h - 0.12), 0.05)
    body = [Ellipse((0, 0.05), w * 0.82, h), Cone((0.15 - w, 0.45), 0.17, (w - 0.15, 0.45), 0.17)]
    bubbles = [(0.5, 0.2, 0.1), (0.32, -0.12, 0.07), (-0.6, 0.28, 0.07), (0.62, -0.02, 0.05)]
    froth = ([Ellipse((u * w, v), s, s) for u, v, s in bubbles], blend(c.body, WHITE, 0.5))
    gloss = Ellipse((-w * 0.3, -h * 0.62), w * 0.16, h * 0.09, -28)
    return [
        Layer(choose(rng, (body, [*body, drop])), c.body, c.ink, 0.25, opacity=rng.uniform(0.65, 0.9), marks=[froth]),
        Layer([gloss], WHITE, opacity=0.8, feather=0.06),
        *face(rng, c, -0.08, 0.02, h * 0.8),
    ]


def dragon(rng: Random, c: Palette) -> list[Layer]:
    """Upright, with sheer bat wings, horns and a spiked tail."""
    rx, ry, r = rng.uniform(0.4, 0.5), rng.uniform(0.46, 0.55), rng.uniform(0.42, 0.5)
    x, y, span, lift, sheer = -0.16, -ry - 0.12, rng.uniform(0.9, 1.1), rng.uniform(-12, 15), rng.uniform(0.65, 0.9)
    tail = strand((0.15, ry * 0.55), 10, -rng.uniform(60, 110), 0.9, 0.22, 0.03, 5)
    tip, turn = tail[-1].end, rng.uniform(0, 50)
    spade = Polygon(((tip[0] - 0.12, tip[1] + 0.06), (tip[0] + 0.12, tip[1] + 0.06), (tip[0] + 0.05, tip[1] - 0.2)))
    arms = [Cone((u * rx, -0.12), 0.1, (u * rx - 0.14, 0.14), 0.08) for u in (-0.75, 0.35)]
    feet = [Ellipse((u * rx, ry + 0.02), 0.22, 0.13) for u in (-0.7, 0.55)]
    horns = [
        *strand((x - 0.25 * r, y - 0.6 * r), 258, turn / 2, 0.36, 0.1, 0.02, 3),
        *strand((x + 0.5 * r, y - 0.6 * r), 280, turn, 0.36, 0.1, 0.02, 3),
    ]
    muzzle = Ellipse((x - 0.45 * r, y + 0.4 * r), 0.5 * r, 0.34 * r)
    belly: Marks = [([Ellipse((-0.12, 0.1), rx * 0.65, ry * 0.85)], c.belly)]
    pattern = choose(rng, (belly, coat(rng, c, 0, 0, rx, ry)))
    return [
        bat_wing(c, -0.1, -0.15, -1, span * 0.9, lift, sheer),
        bat_wing(c, 0.12, -0.15, 1, span, lift, sheer),
        Layer([spade], c.accent, c.ink),
        Layer(tail, c.body, c.ink, melt=0.03),
        Layer([Ellipse((0, 0), rx, ry), *feet], c.body, c.ink, melt=0.06, marks=pattern),
        Layer(arms, c.body, c.ink),
        Layer(horns, c.belly, c.ink),
        Layer([Ellipse((x, y), r, r * 0.92), muzzle], c.body, c.ink, melt=0.12),
        *face(rng, c, x - 0.1 * r, y - 0.12 * r, r * 0.85, lips=False),
        Layer([Ellipse((x - u * r, y + 0.3 * r), 0.07 * r, 0.07 * r) for u in (0.62, 0.36)], c.ink),
    ]


def imp(rng: Random, c: Palette) -> list[Layer]:
    """All face, on two legs, waving."""
    rx, ry, wave = rng.uniform(0.5, 0.66), rng.uniform(0.52, 0.68), rng.uniform(-0.45, 0.35)
    foot = ry + rng.uniform(0.08, 0.25)
    legs = [Cone((u * rx, ry * 0.6), 0.17, (u * rx, foot), 0.14) for u in (-0.4, 0.4)]
    feet = [Ellipse((u * rx - 0.07, foot + 0.06), 0.2, 0.12) for u in (-0.4, 0.4)]
    arms = [Cone((side * 0.85 * rx, 0.05), 0.14, (side * (rx + 0.2), v), 0.13) for side, v in ((-1, 0.35), (1, wave))]
    body = [Ellipse((0, 0), rx, ry), *legs, *feet, *arms]
    return [
        Layer(strand((0.3 * rx, ry * 0.7), 10, -100, 0.85, 0.08, 0.06), c.accent, c.ink),
        *ears(rng, c, 0, -ry * 0.35, rx * 0.95),
        Layer(body, c.body, c.ink, melt=0.08, marks=coat(rng, c, 0, 0.1, rx, ry)),
        *face(rng, c, -0.06, -ry * 0.2, rx * 0.9),
    ]


PLANS: tuple[Callable[[Random, Palette], list[Layer]], ...] = (
    quadruped,
    bird,
    serpent,
    fish,
    insect,
    ghost,
    slime,
    dragon,
    imp,
)


def draw_creature(seed: int, index: int, size: int) -> NDArray[np.uint8]:
    """Draws creature `index` of the set `seed`: uint8 [size, size, 4], straight RGBA, colour 0 where alpha is 0.

    Body plans take turns, so nine creatures in a row hold each of them once.
    """
    rng = Random(f"{seed}/{index}")
    c = palette(rng)
    layers = PLANS[index % len(PLANS)](rng, c)
    if rng.random() < 0.1:
        silhouette = [shape for layer in layers for shape in layer.shapes]
        layers = [Layer(silhouette, c.accent, feather=0.3, opacity=0.6), *layers]
    return draw(layers, size)


def ellipse_of(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The least that a creature can be mistaken for: an ellipse with its mean colour, centroid and second moments.

    Takes and returns uint8 [H, W, 4], straight RGBA.
    """
    alpha = image[..., 3].astype(np.float64)
    y, x = np.arange(alpha.shape[0])[:, None], np.arange(alpha.shape[1])[None]

    def mean(values: NDArray[Any]) -> float:
        return float((values * alpha).sum() / alpha.sum())

    u, v = x - mean(x), y - mean(y)
    xx, xy, yy = mean(u * u), mean(u * v), mean(v * v)
    radius = np.sqrt((yy * u * u - 2 * xy * u * v + xx * v * v) / (xx * yy - xy * xy)) / 2  # 1 on the ellipse
    cover = np.clip(0.5 - (radius - 1) * 2 * np.sqrt(min(xx, yy)), 0, 1)
    rgba = np.stack([*(np.full_like(cover, mean(image[..., i])) for i in range(3)), cover * 255], axis=-1)
    rounded = np.floor(rgba + 0.5).astype(np.uint8)
    return rounded * (rounded[..., 3:] > 0)
