"""A small painter: shapes as signed distance fields, laid down in layers with outline, light and soft alpha.

    x [1, W], y [H, 1]   coordinates of pixel centres, x right and y down, float32
    field [H, W]         signed distance to a shape in the same units, negative inside
    canvas [4, H, W]     premultiplied red, green, blue and alpha in 0..1

Every machine paints the same bytes: arrays see only + - * / sqrt, comparisons, min, max and floor, which IEEE 754
rounds exactly, and sines are scalars rounded to six digits.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Point = tuple[float, float]
Box = tuple[float, float, float, float]  # left, top, right, bottom
Colour = tuple[float, float, float]  # red, green, blue in 0..1

OUTLINE = 0.026  # in widths of the view
MARGIN = 0.03  # free on each side, in widths of the view
RELIEF = 0.4  # how strong light and shadow are
WHITE: Colour = (1.0, 1.0, 1.0)


class Shape(ABC):
    """Something with an inside."""

    @abstractmethod
    def box(self) -> Box:
        """Its bounding box."""

    @abstractmethod
    def field(self, x: Array, y: Array) -> Array:
        """Its distance field."""


@dataclass(frozen=True)
class Ellipse(Shape):
    """An ellipse; its field is exact to first order at the edge."""

    centre: Point
    rx: float
    ry: float
    tilt: float = 0.0  # degrees, clockwise

    def box(self) -> Box:
        (x, y), (c, s) = self.centre, heading(self.tilt)
        a, b = self.rx * self.rx, self.ry * self.ry
        w, h = math.sqrt(a * c * c + b * s * s), math.sqrt(a * s * s + b * c * c)
        return x - w, y - h, x + w, y + h

    def field(self, x: Array, y: Array) -> Array:
        c, s = heading(self.tilt)
        u, v = x - self.centre[0], y - self.centre[1]
        u, v = (u * c + v * s) / self.rx, (v * c - u * s) / self.ry
        radius = np.sqrt(u * u + v * v)
        u, v = u / self.rx, v / self.ry
        return radius * (radius - 1.0) / (np.sqrt(u * u + v * v) + 1e-6)


@dataclass(frozen=True)
class Cone(Shape):
    """A round-ended stroke from `start` to `end` whose radius goes from r0 to r1."""

    start: Point
    r0: float
    end: Point
    r1: float

    def box(self) -> Box:
        (ax, ay), (bx, by), r, q = self.start, self.end, self.r0, self.r1
        return min(ax - r, bx - q), min(ay - r, by - q), max(ax + r, bx + q), max(ay + r, by + q)

    def field(self, x: Array, y: Array) -> Array:
        along, square = _to_segment(self.start, self.end, x, y)
        field: Array = np.sqrt(square) - (along * (self.r1 - self.r0) + self.r0)
        return field


@dataclass(frozen=True)
class Polygon(Shape):
    """A polygon, hollows allowed, grown by a radius that rounds its corners."""

    points: tuple[Point, ...]
    radius: float = 0.03

    def box(self) -> Box:
        xs, ys = zip(*self.points, strict=True)
        return min(xs) - self.radius, min(ys) - self.radius, max(xs) + self.radius, max(ys) + self.radius

    def field(self, x: Array, y: Array) -> Array:
        inside = np.zeros((len(y), len(x[0])), bool)
        nearest: Array = np.full(inside.shape, np.inf, np.float32)
        for a, b in zip(self.points, (*self.points[1:], self.points[0]), strict=True):
            nearest = np.minimum(nearest, _to_segment(a, b, x, y)[1])
            slope = (b[0] - a[0]) / ((b[1] - a[1]) or 1.0)
            inside ^= ((y < a[1]) != (y < b[1])) & (
                x < (y - a[1]) * slope + a[0]
            )  # a ray to the right crosses the edge
        distance = np.sqrt(nearest)
        field: Array = np.where(inside, -distance, distance) - self.radius
        return field


def heading(degrees: float) -> Point:
    """The unit vector in a direction: 0 is right, 90 down."""
    angle = math.radians(degrees)
    return round(math.cos(angle), 6), round(math.sin(angle), 6)


def strand(start: Point, degrees: float, turn: float, length: float, r0: float, r1: float, n: int = 4) -> list[Cone]:
    """A tapering chain of n cones that sets out in a direction and turns by `turn` degrees on its way."""
    chain: list[Cone] = []
    for i in range(n):
        c, s = heading(degrees + turn * (i + 0.5) / n)
        end = start[0] + c * length / n, start[1] + s * length / n
        chain.append(Cone(start, r0 + (r1 - r0) * i / n, end, r0 + (r1 - r0) * (i + 1) / n))
        start = end
    return chain


def _to_segment(a: Point, b: Point, x: Array, y: Array) -> tuple[Array, Array]:
    """Where on the segment a..b (0..1) the nearest point lies, and the squared distance to it."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    u, v, square = x - a[0], y - a[1], dx * dx + dy * dy
    along = np.minimum(np.maximum(u * (dx / square) + v * (dy / square), 0.0), 1.0)
    u, v = u - along * dx, v - along * dy
    return along, u * u + v * v


@dataclass(frozen=True)
class Layer:
    """Shapes that share a silhouette and a paint."""

    shapes: Sequence[Shape]
    colour: Colour
    ink: Colour | None = None  # of outline and shadow; without it the layer is flat
    melt: float = 0.0  # how wide the creases between shapes are filled
    opacity: float = 1.0
    feather: float = 0.0  # width of a soft edge, half of it outside the shapes
    marks: Sequence[tuple[Sequence[Shape], Colour]] = ()  # painted onto it in this order
    matt: bool = False  # outline, but no light and shadow

    def box(self) -> Box:
        left, top, right, bottom = zip(*(shape.box() for shape in self.shapes), strict=True)
        soft = self.feather / 2 + self.melt / 4
        return min(left) - soft, min(top) - soft, max(right) + soft, max(bottom) + soft


def draw(layers: Sequence[Layer], size: int) -> NDArray[np.uint8]:
    """Paints layers, back to front, in a square view fitted around them: uint8 [size, size, 4], straight RGBA."""
    left, top, right, bottom = zip(*(layer.box() for layer in layers), strict=True)
    x0, y0, x1, y1 = min(left), min(top), max(right), max(bottom)
    view = max(x1 - x0, y1 - y0) / (1 - 2 * MARGIN)
    steps = (np.arange(size, dtype=np.float32) + 0.5) * (view / size) - view / 2
    x, y = (steps + (x0 + x1) / 2)[None], (steps + (y0 + y1) / 2)[:, None]
    canvas = np.zeros((4, size, size), np.float32)
    for layer in layers:
        _paint(canvas, layer, x, y, view)
    canvas[:3] /= np.maximum(canvas[3], 1e-6)
    rgba = np.floor(np.minimum(canvas, 1.0) * 255.0 + 0.5).astype(np.uint8)
    return np.ascontiguousarray((rgba * (rgba[3] > 0)).transpose(1, 2, 0))


def _paint(canvas: Array, layer: Layer, x: Array, y: Array, view: float) -> None:
    """Lays one layer over the canvas, within its box."""
    pixel = view / len(x[0])
    left, top, right, bottom = layer.box()
    columns = slice(*np.searchsorted(x[0], (left - 2 * pixel, right + 2 * pixel)))
    rows = slice(*np.searchsorted(y[:, 0], (top - 2 * pixel, bottom + 2 * pixel)))
    x, y, canvas = x[:, columns], y[rows], canvas[:, rows, columns]
    field = _union(layer.shapes, layer.melt, x, y)
    colour = np.empty((3, *field.shape), np.float32)
    colour[:] = _planes(layer.colour)
    for shapes, mark in layer.marks:
        colour = _mix(colour, mark, _coverage(_union(shapes, 0.0, x, y), pixel))
    alpha = _coverage(field, layer.feather or pixel)
    if layer.feather:
        alpha = alpha * alpha * (3.0 - 2.0 * alpha)
    if layer.ink is None:
        alpha = alpha * layer.opacity
    else:
        if not layer.matt:
            light = _light(field, pixel) * RELIEF
            colour = _mix(colour, WHITE, np.maximum(light, 0.0))
            colour = _mix(colour, layer.ink, np.maximum(-light, 0.0))
        line = 1.0 - _coverage(field + OUTLINE * view, pixel)
        colour = _mix(colour, layer.ink, line)
        alpha = alpha * (line * (0.9 - 0.9 * layer.opacity) + layer.opacity)
    canvas *= 1.0 - alpha
    canvas[:3] += colour * alpha
    canvas[3] += alpha


def _union(shapes: Sequence[Shape], melt: float, x: Array, y: Array) -> Array:
    def joined(a: Array, b: Array) -> Array:
        crease = np.maximum(melt - np.abs(a - b), 0.0)
        field: Array = np.minimum(a, b) - crease * crease * (0.25 / melt)
        return field

    return reduce(joined if melt else np.minimum, (shape.field(x, y) for shape in shapes))


def _coverage(field: Array, softness: float) -> Array:
    coverage: Array = np.minimum(np.maximum(0.5 - field / softness, 0.0), 1.0)
    return coverage


def _light(field: Array, pixel: float) -> Array:
    """How far a puffed-up surface faces the light: about 1 on upper rims, -1 on lower ones, 0 deep inside."""
    slope = np.zeros_like(field)
    slope[1:-1] = (field[:-2] - field[2:]) * (0.46 / pixel)
    slope[:, 1:-1] += (field[:, :-2] - field[:, 2:]) * (0.2 / pixel)
    depth = max(-float(field.min()), pixel)
    light: Array = slope * np.minimum(np.maximum(field / depth + 1.0, 0.0), 1.0)
    return light


def _planes(colour: Colour) -> Array:
    return np.array(colour, np.float32)[:, None, None]


def _mix(under: Array, over: Colour, amount: Array) -> Array:
    return under + amount * (_planes(over) - under)
