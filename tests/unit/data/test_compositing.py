"""Decoding, fitting and compositing against numbers worked out by hand."""

import hashlib
import io
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from components.data.compositing import RejectedError, composite, content_digest, decode, fit

WHITE = (255, 255, 255)


def encoded(image, fmt="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


def pixels(content):
    image = decode(content)
    assert image.mode == "RGBA"
    return np.asarray(image)


def row(*colours):
    """A picture of one row."""
    return Image.fromarray(np.array([colours], np.uint8))


def png(width, height, depth, colour_type, raw, transparent=b""):
    """A PNG written by hand, for the kinds that Pillow does not write."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    extra = chunk(b"tRNS", transparent) if transparent else b""
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_half_transparent_orange_over_grey():
    # straight (200, 60, 0) at alpha 128 is premultiplied 100.4, 30.1, 0; over grey 100 comes 100 * 127 / 255 = 49.8
    square = fit(row((200, 60, 0, 128)), 1)
    assert square[0, 0].tolist() == [100, 30, 0, 128]
    assert composite(square, (100, 100, 100))[0, 0].tolist() == [150, 80, 50]
    assert composite(square, WHITE)[0, 0].tolist() == [227, 157, 127]


def test_transparent_green_leaves_no_fringe():
    # Two columns of half-transparent red beside two of transparent green, halved. The output's first pixel lies at 1.0:
    # input centres at -0.5, 0.5, 1.5, 2.5 from it, so Lanczos-3 at -0.25, 0.25, 0.75, 1.25 weighs them
    # 0.8900, 0.8900, 0.2702, -0.1329; red's share is 1.7801 / 1.9174 = 0.9284, of alpha 128: 118.8, and 9.2 beside it.
    red, green = (255, 0, 0, 128), (0, 255, 0, 0)
    square = fit(Image.fromarray(np.array([[red, red, green, green]] * 4, np.uint8)), 2)
    assert square.tolist() == [[[119, 0, 0, 119], [9, 0, 0, 9]]] * 2
    assert composite(square, WHITE).tolist() == [[[255, 136, 136], [255, 246, 246]]] * 2


def test_composite_rounds_to_nearest_for_every_alpha_and_background():
    alpha, background = np.meshgrid(np.arange(256), np.arange(256), indexing="ij")
    for share in (0.0, 0.37, 1.0):
        colour = np.floor(alpha * share)
        premultiplied = np.stack([colour] * 3 + [alpha], axis=-1).astype(np.uint8)
        exact = colour + background * (255 - alpha) / 255
        result = composite(premultiplied, background[..., None])
        np.testing.assert_array_equal(result, np.rint(exact)[..., None].repeat(3, axis=-1))


def test_opaque_and_transparent_are_exact():
    colours = np.random.default_rng(0).integers(0, 256, (16, 16, 4), np.uint8)
    colours[:8, :, 3], colours[8:, :, 3] = 255, 0
    result = composite(fit(Image.fromarray(colours), 16), (1, 2, 3))
    np.testing.assert_array_equal(result[:8], colours[:8, :, :3])
    np.testing.assert_array_equal(result[8:], np.broadcast_to((1, 2, 3), (8, 16, 3)))


def test_colour_never_exceeds_alpha():
    noise = np.random.default_rng(1).integers(0, 2, (50, 30, 4), np.uint8) * 255
    for resolution in (8, 64):
        square = fit(Image.fromarray(noise), resolution)
        assert (square[..., :3] <= square[..., 3:]).all()


@pytest.mark.parametrize(
    ("size", "resolution", "box"),
    [
        ((4, 2), 4, (0, 1, 4, 3)),
        ((2, 4), 4, (1, 0, 3, 4)),
        ((3, 3), 8, (0, 0, 8, 8)),
        ((100, 1), 8, (0, 3, 8, 4)),
        ((8, 5), 16, (0, 3, 16, 13)),
    ],
)
def test_fit_fills_the_longer_side_and_centres(size, resolution, box):
    square = fit(Image.new("RGBA", size, (10, 20, 30, 255)), resolution)
    expected = np.zeros((resolution, resolution, 4), np.uint8)
    left, top, right, bottom = box
    expected[top:bottom, left:right] = (10, 20, 30, 255)
    np.testing.assert_array_equal(square, expected)


def test_palette_with_one_or_many_transparent_entries():
    image = Image.new("P", (3, 1))
    image.putpalette([9, 8, 7, 60, 50, 40, 200, 100, 0])
    image.putdata([0, 1, 2])
    one = pixels(encoded(image, transparency=1))
    assert one[0].tolist() == [[9, 8, 7, 255], [60, 50, 40, 0], [200, 100, 0, 255]]
    many = pixels(encoded(image, transparency=bytes([0, 128, 255])))
    assert many[0].tolist() == [[9, 8, 7, 0], [60, 50, 40, 128], [200, 100, 0, 255]]
    gif = pixels(encoded(image, "GIF", transparency=0))
    assert gif[0, :, 3].tolist() == [0, 255, 255]


def test_grey_with_alpha_and_grey_and_rgb():
    assert pixels(encoded(row((90, 128), (7, 0))))[0].tolist() == [[90, 90, 90, 128], [7, 7, 7, 0]]
    assert pixels(encoded(row(90, 7)))[0].tolist() == [[90, 90, 90, 255], [7, 7, 7, 255]]
    assert pixels(encoded(row((1, 2, 3))))[0].tolist() == [[1, 2, 3, 255]]
    assert pixels(encoded(Image.new("1", (2, 1), 1)))[0].tolist() == [[255] * 4] * 2
    assert pixels(encoded(row(90, 7), transparency=7))[0, :, 3].tolist() == [255, 0]
    assert pixels(encoded(row((1, 2, 3), (4, 5, 6)), transparency=(4, 5, 6)))[0, :, 3].tolist() == [255, 0]


def test_sixteen_bits_keep_the_high_byte():
    values = struct.pack(">4H", 100 * 256 + 77, 65535, 0, 40 * 256)
    grey = png(4, 1, 16, 0, b"\0" + values, struct.pack(">H", 65535))
    assert pixels(grey)[0].tolist() == [[100] * 3 + [255], [255] * 3 + [0], [0] * 3 + [255], [40] * 3 + [255]]
    assert pixels(png(2, 1, 16, 4, b"\0" + values))[0].tolist() == [[100, 100, 100, 255], [0, 0, 0, 40]]
    assert pixels(png(1, 1, 16, 6, b"\0" + values))[0].tolist() == [[100, 255, 0, 40]]
    assert pixels(png(1, 1, 16, 2, b"\0" + values[:6]))[0].tolist() == [[100, 255, 0, 255]]
    assert pixels(png(1, 1, 16, 2, b"\0" + values[:6], values[:6]))[0, 0, 3] == 0


def test_a_transparent_grey_counts_at_its_own_bit_depth():
    two_bits = png(4, 1, 2, 0, b"\0" + bytes([0b00011011]), struct.pack(">H", 1))
    assert pixels(two_bits)[0].tolist() == [[0, 0, 0, 255], [85, 85, 85, 0], [170, 170, 170, 255], [255] * 4]
    four_bits = png(2, 1, 4, 0, b"\0" + bytes([0x3A]), struct.pack(">H", 10))
    assert pixels(four_bits)[0].tolist() == [[51, 51, 51, 255], [170, 170, 170, 0]]
    one_bit = png(2, 1, 1, 0, b"\0" + bytes([0b10000000]), struct.pack(">H", 1))
    assert pixels(one_bit)[0].tolist() == [[255, 255, 255, 0], [0, 0, 0, 255]]


@pytest.mark.parametrize("fmt", ["JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM"])
def test_other_formats_open(fmt):
    options = {"JPEG": {"quality": 100}, "WEBP": {"lossless": True}}.get(fmt, {})
    result = pixels(encoded(Image.new("RGB", (16, 8), (200, 40, 40)), fmt, **options))
    assert result.shape == (8, 16, 4)
    assert np.abs(result.astype(int) - (200, 40, 40, 255)).max() <= 2


def test_cmyk_becomes_rgb():
    result = pixels(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100))
    assert np.abs(result.astype(int) - (255, 0, 0, 255)).max() <= 3


def test_a_turned_photograph_stands_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view
    result = pixels(encoded(row((1, 1, 1), (2, 2, 2)), exif=exif))
    assert result[:, :, 0].tolist() == [[1], [2]]


def test_the_first_frame_of_an_animation_counts():
    frames = [Image.new("RGBA", (4, 4), (shade, 0, 0, 255)) for shade in (10, 200)]
    content = encoded(frames[0], save_all=True, append_images=frames[1:])
    assert (pixels(content)[..., 0] == 10).all()


def test_the_content_digest_is_what_is_seen():
    image = row((255, 0, 0, 128), (1, 2, 3, 0))
    seen = bytes([255, 0, 0, 128, 0, 0, 0, 0])
    assert content_digest(image) == hashlib.sha256(struct.pack(">II", 2, 1) + seen).hexdigest()
    assert content_digest(row((255, 0, 0, 128), (9, 9, 9, 0))) == content_digest(image)
    assert content_digest(decode(encoded(image, "TIFF"))) == content_digest(image)
    assert content_digest(image.transpose(Image.Transpose.ROTATE_90)) != content_digest(image)
    assert content_digest(row((255, 0, 0, 127), (1, 2, 3, 0))) != content_digest(image)


def noise_png():
    return encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 4), np.uint8)))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"only words " * 50, "not an image"),
        (noise_png()[:2000], "truncated"),
        (noise_png()[:60] + bytes(40) + noise_png()[100:], "damaged"),
        (encoded(Image.new("1", (10000, 10000))), "decompression bomb"),
        (encoded(Image.new("1", (20000, 20000))), "decompression bomb"),
        (encoded(Image.new("F", (2, 2)), "TIFF"), "pixel mode F of unknown range"),
        (encoded(Image.new("I", (2, 2)), "TIFF"), "pixel mode I of unknown range"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    ],
)
def test_unusable_files_are_rejected_with_a_reason(content, reason):
    with pytest.raises(RejectedError) as caught:
        decode(content)
    assert str(caught.value) == reason


def test_no_damage_escapes_as_another_error():
    rng = np.random.default_rng(2)
    image = Image.fromarray(rng.integers(0, 256, (9, 7, 4), np.uint8))
    for fmt, mode in (("PNG", "RGBA"), ("PNG", "P"), ("JPEG", "RGB"), ("GIF", "P"), ("WEBP", "RGBA"), ("PPM", "RGB")):
        content = encoded(image.convert(mode), fmt)
        for _ in range(60):
            broken = bytearray(content)
            for position in rng.integers(0, len(broken), 3):
                broken[position] = rng.integers(256)
            with suppress(RejectedError):
                assert decode(bytes(broken)).mode == "RGBA"
