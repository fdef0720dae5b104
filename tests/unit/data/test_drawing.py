"""The painter: distances, coverage, light and layering against known answers."""

import math

import numpy as np
import pytest

from components.data.drawing import MARGIN, Cone, Ellipse, Layer, Polygon, draw, heading, strand

RED, BLUE, INK = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.1, 0.1, 0.1)


def distance(shape, x, y):
    return float(shape.field(np.array([[x]], np.float32), np.array([[y]], np.float32))[0, 0])


@pytest.mark.parametrize(
    ("shape", "point", "expected"),
    [
        (Ellipse((1, 2), 0.5, 0.5), (1, 4), 1.5),
        (Ellipse((0, 0), 2, 1), (2, 0), 0),
        (Ellipse((0, 0), 2, 1, tilt=90), (0, 2), 0),
        (Cone((0, 0), 1, (4, 0), 1), (2, 3), 2),
        (Cone((0, 0), 1, (4, 0), 0.5), (6, 0), 1.5),
        (Polygon(((0, 0), (2, 0), (2, 2), (0, 2)), radius=0), (1, 1), -1),
        (Polygon(((0, 0), (2, 0), (2, 2), (0, 2)), radius=0.25), (5, 6), 4.75),
        (Polygon(((0, 0), (2, 0), (1, 1), (2, 2), (0, 2)), radius=0), (1.5, 1), math.sqrt(0.125)),
    ],
)
def test_distances(shape, point, expected):
    assert distance(shape, *point) == pytest.approx(expected, abs=1e-5)


def test_boxes_hold_their_shapes():
    assert Ellipse((0, 0), 2, 1, tilt=90).box() == pytest.approx((-1, -2, 1, 2), abs=1e-5)
    assert Cone((0, 0), 1, (4, 0), 0.5).box() == (-1, -1, 4.5, 1)
    assert Polygon(((0, 0), (2, 0), (1, 1)), radius=0.5).box() == (-0.5, -0.5, 2.5, 1.5)


def test_a_strand_turns_on_its_way():
    chain = strand((0, 0), 0, 90, 2, 0.3, 0.1, n=8)
    assert (chain[0].r0, chain[-1].r1) == pytest.approx((0.3, 0.1))
    assert chain[-1].end == pytest.approx((4 / math.pi, 4 / math.pi), abs=0.01)  # a quarter circle of length 2
    assert heading(90) == (0, 1)


def test_a_disc_covers_its_area_and_the_view_leaves_the_margin():
    image = draw([Layer([Ellipse((5, -3), 1, 1)], RED)], 64)
    radius = 64 * (1 - 2 * MARGIN) / 2
    assert image[..., 3].sum(dtype=float) / 255 == pytest.approx(math.pi * radius**2, rel=0.003)
    np.testing.assert_array_equal(image[32, 32], [255, 0, 0, 255])
    np.testing.assert_array_equal(image[..., 3], image[::-1, ::-1, 3])


def test_a_translucent_layer_is_composited_over():
    disc = Ellipse((0, 0), 1, 1)
    assert (draw([Layer([disc], RED, opacity=0.5)], 32)[16, 16] == [255, 0, 0, 128]).all()
    assert (draw([Layer([disc], RED), Layer([disc], BLUE, opacity=0.5)], 32)[16, 16] == [128, 0, 128, 255]).all()
    # over: alpha 3/4; colour (1/2 blue + 1/4 red) / (3/4)
    both = draw([Layer([disc], RED, opacity=0.5), Layer([disc], BLUE, opacity=0.5)], 32)
    assert (both[16, 16] == [85, 0, 170, 191]).all()


def test_outline_mark_light_and_feather():
    disc, dot = Ellipse((0, 0), 1, 1), Ellipse((0, 0), 0.3, 0.3)
    inked = draw([Layer([disc], RED, INK, marks=[([dot], BLUE)])], 64).astype(int)
    assert inked[32, 32, 2] > 200 > inked[32, 32, 0]
    edge = np.flatnonzero(inked[32, :, 3] == 255)[0]
    assert (inked[32, edge, :3] < 40).all()
    assert inked[10, 32].sum() > inked[53, 32].sum()
    soft = draw([Layer([disc], RED, feather=1.0)], 64)[32, :32, 3].astype(int)
    assert (np.diff(soft) >= 0).all()
    assert ((soft > 0) & (soft < 255)).sum() >= 18


def test_melting_fills_creases():
    pair = [Ellipse((-1, 0), 1, 1), Ellipse((1, 0), 1, 1)]
    plain, melted = (draw([Layer(pair, RED, melt=melt)], 64)[..., 3].astype(int) for melt in (0.0, 0.5))
    np.testing.assert_array_equal(plain[[25, 38], 31:33], 0)
    assert (melted[[25, 38], 31:33] > 200).all()
