"""Premultiplying, fitting and compositing against numbers worked out by hand."""

import hashlib
import struct
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from components.data.compositing import (
    alpha_kind,
    art_block,
    background,
    border_colour,
    composite,
    content_digest,
    fit,
    to_linear,
    transparent,
    visible_pixels,
)
from tests.preprocessing import PARAMS, planes_of

WHITE = (255, 255, 255)


def planes(*rows):
    """Premultiplied planes of a picture given as rows of straight RGBA pixels."""
    return planes_of(Image.fromarray(np.array(rows, np.uint8)))


def fitted(picture, resolution, **choices):
    """By Lanczos, of planes of either light."""
    return fit(picture, 0, replace(PARAMS, resolution=resolution, **choices))


def planes_in(image, linear_light):
    return to_linear(visible_pixels(image)) if linear_light else planes_of(image)


def linear(*rows):
    return to_linear(visible_pixels(Image.fromarray(np.array(rows, np.uint8))))


def rgba(square):
    return transparent(square).tolist()


def test_premultiplying_rounds_to_nearest_for_every_colour_and_alpha():
    colour, alpha = np.meshgrid(np.arange(256), np.arange(256), indexing="ij")
    image = Image.fromarray(np.stack([colour, colour, colour, alpha], axis=-1).astype(np.uint8))
    result = planes_of(image)
    np.testing.assert_array_equal(result[:, 0], np.floor(colour * alpha / 255 + 0.5))
    np.testing.assert_array_equal(result[:, 3], alpha)
    np.testing.assert_array_equal(result.transpose(0, 2, 1), np.asarray(image.convert("RGBa")))


def test_half_transparent_orange_over_grey():
    # straight (200, 60, 0) at alpha 128 is premultiplied 100.4, 30.1, 0; over grey 100 comes 100 * 127 / 255 = 49.8
    square = fitted(planes([(200, 60, 0, 128)]), 8)
    assert rgba(square)[0][0] == [100, 30, 0, 128]
    assert composite(square, (100, 100, 100))[0, 0].tolist() == [150, 80, 50]
    assert composite(square, WHITE)[0, 0].tolist() == [227, 157, 127]


def test_transparent_green_leaves_no_fringe():
    # Columns of half-transparent red beside transparent green, halved: an output at the edge sees red's share of the
    # filter alone. Whatever colour lies under transparency, none of it shows.
    red, green = (255, 0, 0, 128), (0, 255, 0, 0)
    square = fitted(planes(*[[red] * 8 + [green] * 8] * 16), 8)
    out = transparent(square)
    assert (out[..., 1:3] == 0).all()
    assert (out[..., 0] == out[..., 3]).all()
    # The outputs' centres lie 2 apart from 0.5, so Lanczos-3 stretched by 2 weighs input column i by its distance:
    centres = 2 * np.arange(8) + 0.5
    x = (np.arange(16) - centres[:, None]) / 2
    weights = np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)
    share = weights[:, :8].sum(1) / weights.sum(1)
    np.testing.assert_array_equal(out[4, :, 3], np.rint(np.clip(128 * share, 0, 255)))
    over_white = composite(square, WHITE)
    np.testing.assert_array_equal(over_white[..., 1], 255 - out[..., 3])
    assert (over_white[..., 0] == 255).all()


def test_composite_rounds_to_nearest_for_every_alpha_and_background():
    alpha = np.arange(256)
    for share in (0.0, 0.37, 1.0):
        colour = np.floor(alpha * share)
        square = np.stack([colour, colour, colour, alpha])[None].astype(np.float32)
        for under in range(256):
            exact = colour + under * (255 - alpha) / 255
            np.testing.assert_array_equal(composite(square, (under,) * 3)[0, :, 0], np.rint(exact))


@pytest.mark.parametrize("linear_light", [False, True])
def test_opaque_and_transparent_are_exact(linear_light):
    colours = np.random.default_rng(0).integers(0, 256, (16, 16, 4), np.uint8)
    colours[:8, :, 3], colours[8:, :, 3] = 255, 0
    square = fit(planes_in(Image.fromarray(colours), linear_light), 1, replace(PARAMS, resolution=16))
    result = composite(square, (1, 2, 3))
    np.testing.assert_array_equal(result[:8], colours[:8, :, :3])
    np.testing.assert_array_equal(result[8:], np.broadcast_to((1, 2, 3), (8, 16, 3)))


def test_linear_light_mixes_light():
    # Black over white at alpha 128 passes 127 / 255 of the light: srgb(0.498) = 187.2; sRGB values would give 127.
    square = fit(linear([(0, 0, 0, 128)]), 1, PARAMS)
    assert composite(square, WHITE)[0, 0].tolist() == [187] * 3
    # Columns of black and white averaged: half of the light is srgb(0.5) = 188.
    striped = [[(0, 0, 0, 255), (255, 255, 255, 255)] * 32] * 64
    middle = composite(fitted(linear(*striped), 8), WHITE)[4, 2:6]
    assert np.abs(middle.astype(int) - 188).max() <= 1
    assert np.abs(composite(fitted(planes(*striped), 8), WHITE)[4, 2:6].astype(int) - 128).max() <= 1


def test_linear_light_loses_no_colour_at_low_alpha():
    # straight 200 at alpha 3 is 2 when premultiplied in 8 bits, which would come back as 170
    square = fit(linear([(200, 200, 200, 3)]), 1, PARAMS)
    assert abs(square[3, 0, 3] / 65535 - ((200 / 255 + 0.055) / 1.055) ** 2.4 * 3 / 255) < 1e-5


def test_linear_light_follows_the_srgb_curve():
    values = np.arange(256)
    x = values / 255
    curve = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    light = linear([(v, v, v, 255) for v in values])
    assert np.abs(light[0, 0] / 65535 - curve).max() < 1 / 65535
    assert (light[0, 3] == 65535).all()


@pytest.mark.parametrize("linear_light", [False, True])
def test_colour_never_exceeds_alpha(linear_light):
    noise = np.random.default_rng(1).integers(0, 2, (50, 30, 4), np.uint8) * 255
    for resolution in (8, 64):
        square = transparent(fitted(planes_in(Image.fromarray(noise), linear_light), resolution))
        assert (square[..., :3] <= square[..., 3:]).all()


@pytest.mark.parametrize(
    ("size", "resolution", "box"),
    [
        ((4, 2), 8, (0, 2, 8, 6)),
        ((2, 4), 8, (2, 0, 6, 8)),
        ((3, 3), 8, (0, 0, 8, 8)),
        ((100, 1), 8, (0, 3, 8, 4)),
        ((8, 5), 16, (0, 3, 16, 13)),
    ],
)
def test_fit_fills_the_longer_side_and_centres(size, resolution, box):
    square = transparent(fitted(planes_of(Image.new("RGBA", size, (10, 20, 30, 255))), resolution))
    expected = np.zeros((resolution, resolution, 4), np.uint8)
    left, top, right, bottom = box
    expected[top:bottom, left:right] = (10, 20, 30, 255)
    np.testing.assert_array_equal(square, expected)


def boxed(size, box, colour=(10, 20, 30, 255)):
    image = Image.new("RGBA", size)
    image.paste(colour, box)
    return planes_of(image)


def test_trimming_cuts_to_what_is_visible_and_a_margin_stays_free():
    picture = boxed((40, 30), (20, 10, 36, 26))
    square = transparent(fitted(picture, 16, trim=True))
    assert (square == (10, 20, 30, 255)).all()
    square = transparent(fitted(picture, 16, trim=True, margin=0.125))
    assert (square[2:14, 2:14] == (10, 20, 30, 255)).all()
    square[2:14, 2:14] = 0
    assert not square.any()


def test_cropping_takes_the_centre_square():
    image = Image.new("RGBA", (48, 16), (9, 9, 9, 255))
    image.paste((10, 20, 30, 255), (16, 0, 32, 16))
    assert (transparent(fitted(planes_of(image), 16, shape="crop")) == (10, 20, 30, 255)).all()


@pytest.mark.parametrize(
    ("size", "aspect", "choices", "box"),
    [
        ((8, 6), "4:3", {}, (0, 0, 32, 24)),
        ((8, 8), "4:3", {}, (4, 0, 28, 24)),
        ((8, 2), "4:3", {}, (0, 8, 32, 16)),
        ((6, 8), "3:4", {}, (0, 0, 24, 32)),
        ((8, 8), "3:4", {}, (0, 4, 24, 28)),
        ((8, 6), "4:3", {"margin": 0.125}, (5, 4, 26, 20)),
    ],
)
def test_a_frame_that_is_not_square_is_filled_on_one_side(size, aspect, choices, box):
    """Of the last one 24 × 16 are free between the margins: 8 × 6 fills their height, and 21⅓ of the width are 21."""
    frame = transparent(fitted(planes_of(Image.new("RGBA", size, (10, 20, 30, 255))), 32, aspect=aspect, **choices))
    assert frame.shape[:2] == ((24, 32) if aspect == "4:3" else (32, 24))
    left, top, right, bottom = box
    expected = np.zeros_like(frame)
    expected[top:bottom, left:right] = (10, 20, 30, 255)
    np.testing.assert_array_equal(frame, expected)


def test_cropping_takes_the_centre_of_the_frames_proportions():
    image = Image.new("RGBA", (20, 60), (9, 9, 9, 255))
    image.paste((10, 20, 30, 255), (0, 16, 20, 44))
    picture = transparent(fitted(planes_of(image), 32, shape="crop", aspect="3:4"))
    assert picture.shape == (32, 24, 4)
    assert (picture == (10, 20, 30, 255)).all()


@pytest.mark.parametrize("size", [(1, 9), (9, 1), (1, 1)])
def test_cropping_leaves_at_least_a_pixel(size):
    planes = planes_of(Image.new("RGBA", size, (10, 20, 30, 255)))
    assert fitted(planes, 32, shape="crop", aspect="4:3", margin=0.3125).any()


def test_pixel_art_fills_a_frame_by_whole_numbers():
    picture = art(1, side=5)
    planes = planes_of(Image.fromarray(picture))
    frame = transparent(fit(planes, 1, replace(PARAMS, resolution=32, aspect="4:3")))
    seen = np.where(picture[..., 3:] > 0, picture, 0)
    np.testing.assert_array_equal(frame[2:22, 6:26], seen.repeat(4, 0).repeat(4, 1))


def art(block, side=12):
    """Pixel art of `side` squares of `block` pixels: four colours and hard alpha."""
    numbers = np.random.default_rng(0).integers(0, 4, (side, side))
    colours = np.array([(0, 0, 0, 0), (255, 0, 0, 255), (0, 90, 200, 255), (20, 20, 20, 255)], np.uint8)
    return colours[numbers].repeat(block, 0).repeat(block, 1)


@pytest.mark.parametrize("block", [1, 2, 5])
def test_pixel_art_is_found_with_its_block_and_scaled_by_a_whole_number(block):
    picture = planes_of(Image.fromarray(art(block)))
    assert alpha_kind(picture) == "hard"
    assert art_block(picture) == block
    square = transparent(fit(picture, block, replace(PARAMS, resolution=32)))
    expected = np.zeros((32, 32, 4), np.uint8)
    expected[4:28, 4:28] = art(2) * (art(2)[..., 3:] > 0)  # 12 squares of 2 pixels in the middle
    np.testing.assert_array_equal(square, expected)


def test_pixel_art_too_large_for_the_square_is_resampled():
    picture = planes_of(Image.fromarray(art(1, side=20)))
    np.testing.assert_array_equal(fit(picture, 1, replace(PARAMS, resolution=16)), fitted(picture, 16))


def test_many_colours_are_no_pixel_art_and_soft_alpha_is_seen():
    noise = np.random.default_rng(0).integers(0, 256, (30, 30, 4), np.uint8)
    assert alpha_kind(planes_of(Image.fromarray(noise))) == "soft"
    noise[..., 3] = 255
    assert alpha_kind(planes_of(Image.fromarray(noise))) == "opaque"
    assert art_block(planes_of(Image.fromarray(noise))) == 0
    few = np.zeros((200, 200, 4), np.uint8)
    few[..., 3] = 255
    few[99, :70, 0] = np.arange(70)  # a row that a coarse sample misses
    assert art_block(planes_of(Image.fromarray(few))) == 0


def test_the_border_colour_is_that_of_the_visible_edge():
    image = Image.new("RGBA", (10, 10), (200, 100, 0, 255))
    image.paste((0, 0, 0, 255), (1, 1, 9, 9))
    assert border_colour(planes_of(image)) == (200, 100, 0)
    image.putpixel((0, 0), (0, 0, 0, 0))  # what is transparent has no say
    assert border_colour(planes_of(image)) == (200, 100, 0)
    hidden = planes_of(Image.new("RGBA", (4, 4), (200, 100, 0, 0)))
    assert border_colour(hidden) is None
    assert background(hidden, bytes(32), None) == WHITE
    assert background(planes_of(image), bytes(32), None) == (200, 100, 0)


def test_a_palette_is_drawn_from_by_the_digest():
    palette = [(1, 1, 1), (2, 2, 2), (3, 3, 3)]
    picture = boxed((4, 4), (1, 1, 3, 3))
    digests = [hashlib.sha256(str(n).encode()).digest() for n in range(300)]
    found = [background(picture, digest, palette) for digest in digests]
    assert found == [background(picture, digest, palette) for digest in digests]
    assert all(80 < found.count(colour) < 120 for colour in palette)


def digest_of(*rows):
    return content_digest(visible_pixels(Image.fromarray(np.array(rows, np.uint8))))


def test_the_content_digest_is_what_is_seen():
    one = digest_of([(255, 0, 0, 128), (1, 2, 3, 0)])
    seen = bytes([255, 0, 0, 128, 0, 0, 0, 0])
    assert one == hashlib.sha256(struct.pack(">II", 2, 1) + seen).digest()
    assert digest_of([(255, 0, 0, 128), (9, 9, 9, 0)]) == one
    assert digest_of([(255, 0, 0, 128)], [(1, 2, 3, 0)]) != one
    assert digest_of([(255, 0, 0, 127), (1, 2, 3, 0)]) != one
    assert digest_of([(254, 0, 0, 128), (1, 2, 3, 0)]) != one  # equal when premultiplied, and yet another picture
