"""Decoding against files whose pixels are known: written by hand, or by Pillow from pixels drawn here."""

import io
import struct
import warnings
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from components.data.decoding import FORMATS, RejectedError, decode

PLENTY = 10**6
NOISE = np.random.default_rng(0).integers(0, 256, (40, 40, 4), np.uint8)
LOSSLESS = {"WEBP": {"lossless": True, "exact": True}}


def encoded(image, fmt="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, fmt, **LOSSLESS.get(fmt, {}), **options)
    return buffer.getvalue()


def pixels(content):
    (frame,) = decode(content, all_frames=False, max_pixels=PLENTY)
    assert frame.image.mode == "RGBA"
    return np.asarray(frame.image)


def reason(content, **options):
    with pytest.raises(RejectedError) as caught:
        list(decode(content, **{"all_frames": False, "max_pixels": PLENTY} | options))
    return str(caught.value)


def row(*colours):
    """A picture of one row."""
    return Image.fromarray(np.array([colours], np.uint8))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, colour_type, raw, *extra, interlace=0):
    """A PNG written by hand, for the kinds that Pillow does not write; `extra` chunks go before the pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, interlace)
    body = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(raw)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def clear(*values):
    """A PNG's transparent colour."""
    return chunk(b"tRNS", struct.pack(f">{len(values)}H", *values))


def tiff(pixels, **tags):
    """A little-endian TIFF of one row in one strip, written by hand. Tags by number: {258: [16]}, all of 16 bits."""
    entries = {int(key[1:]): value for key, value in tags.items()} | {273: [8], 279: [len(pixels)]}
    offset = 8 + len(pixels) + len(pixels) % 2
    directory, far, far_at = b"", b"", offset + 2 + 12 * len(entries) + 4
    for tag, values in sorted(entries.items()):
        data = struct.pack(f"<{len(values)}H", *values)
        if len(data) > 4:
            data, far = struct.pack("<I", far_at + len(far)), far + data
        directory += struct.pack("<HHI", tag, 3, len(values)) + data.ljust(4, b"\0")
    body = b"II*\0" + struct.pack("<I", offset) + pixels.ljust(offset - 8, b"\0")
    return body + struct.pack("<H", len(entries)) + directory + bytes(4) + far


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
    indices = bytes([0, 128, 1, 64, 2, 255])  # index and alpha
    bands = ((9, 60, 200), (8, 50, 100), (7, 40, 0))  # of 16 bits, 256 entries each
    palette = [value * 257 for band in bands for value in (*band, *[0] * 253)]
    both = tiff(
        indices, t256=[3], t257=[1], t258=[8, 8], t259=[1], t262=[3], t277=[2], t278=[1], t320=palette, t338=[2]
    )
    assert pixels(both)[0].tolist() == [[9, 8, 7, 128], [60, 50, 40, 64], [200, 100, 0, 255]]


def test_grey_with_alpha_and_grey_and_rgb():
    assert pixels(encoded(row((90, 128), (7, 0))))[0].tolist() == [[90, 90, 90, 128], [7, 7, 7, 0]]
    assert pixels(encoded(row(90, 7)))[0].tolist() == [[90, 90, 90, 255], [7, 7, 7, 255]]
    assert pixels(encoded(row((1, 2, 3))))[0].tolist() == [[1, 2, 3, 255]]
    assert pixels(encoded(Image.new("1", (2, 1), 1)))[0].tolist() == [[255] * 4] * 2
    assert pixels(encoded(row(90, 7), transparency=7))[0, :, 3].tolist() == [255, 0]
    assert pixels(encoded(row((1, 2, 3), (4, 5, 6)), transparency=(4, 5, 6)))[0, :, 3].tolist() == [255, 0]


def test_sixteen_bits_keep_the_high_byte():
    values = struct.pack(">4H", 100 * 256 + 77, 65535, 0, 40 * 256)
    grey = png(4, 1, 16, 0, b"\0" + values, clear(65535))
    assert pixels(grey)[0].tolist() == [[100] * 3 + [255], [255] * 3 + [0], [0] * 3 + [255], [40] * 3 + [255]]
    assert pixels(png(2, 1, 16, 4, b"\0" + values))[0].tolist() == [[100, 100, 100, 255], [0, 0, 0, 40]]
    assert pixels(png(1, 1, 16, 6, b"\0" + values))[0].tolist() == [[100, 255, 0, 40]]
    assert pixels(png(1, 1, 16, 2, b"\0" + values[:6]))[0].tolist() == [[100, 255, 0, 255]]
    other = b"\0" + values[:6] + bytes(6)
    transparent = clear(100 * 256 + 77, 65535, 0)
    assert pixels(png(2, 1, 16, 2, other, transparent))[0].tolist() == [[100, 255, 0, 0], [0, 0, 0, 255]]
    assert pixels(b"P5 4 1 65535\n" + values)[0, :, 0].tolist() == [100, 255, 0, 40]
    assert pixels(b"P5 2 1 1000\n" + struct.pack(">2H", 500, 1000))[0, :, 0].tolist() == [128, 255]


def test_a_deep_tiff_counts_at_its_own_depth_and_polarity():
    common = {"t256": [2], "t257": [1], "t259": [1], "t277": [1], "t278": [1]}
    deep = struct.pack("<2H", 100 * 256 + 77, 40 * 256)
    assert pixels(tiff(deep, t258=[16], t262=[1], **common))[0, :, 0].tolist() == [100, 40]
    assert pixels(tiff(deep, t258=[16], t262=[0], **common))[0, :, 0].tolist() == [155, 215]  # white is zero
    twelve = bytes([0xFF, 0xF8, 0x07])  # 4095 and 0x807
    assert pixels(tiff(twelve, t258=[12], t262=[1], **common))[0, :, 0].tolist() == [255, 0x80]


def test_a_transparent_grey_counts_at_its_own_bit_depth():
    two_bits = png(4, 1, 2, 0, b"\0" + bytes([0b00011011]), clear(1))
    assert pixels(two_bits)[0].tolist() == [[0, 0, 0, 255], [85, 85, 85, 0], [170, 170, 170, 255], [255] * 4]
    four_bits = png(2, 1, 4, 0, b"\0" + bytes([0x3A]), clear(10))
    assert pixels(four_bits)[0].tolist() == [[51, 51, 51, 255], [170, 170, 170, 0]]
    one_bit = png(2, 1, 1, 0, b"\0" + bytes([0b10000000]), clear(1))
    assert pixels(one_bit)[0].tolist() == [[255, 255, 255, 0], [0, 0, 0, 255]]


def test_tiffs_of_four_samples():
    common = {"t256": [1], "t257": [1], "t258": [8] * 4, "t259": [1], "t277": [4], "t278": [1]}
    sample = bytes([100, 50, 25, 128])
    assert pixels(tiff(sample, t262=[2], t338=[2], **common))[0, 0].tolist() == [100, 50, 25, 128]
    assert pixels(tiff(sample, t262=[2], t338=[0], **common))[0, 0].tolist() == [100, 50, 25, 255]  # unspecified
    assert pixels(tiff(sample, t262=[2], t338=[1], **common))[0, 0].tolist() == [199, 99, 49, 128]  # premultiplied
    inks = pixels(tiff(bytes([255, 0, 0, 0, 0, 0, 0, 255]), t262=[5], **common | {"t256": [2]}))
    assert inks[0].tolist() == [[0, 255, 255, 255], [0, 0, 0, 255]]


def test_lab_becomes_srgb():
    common = {"t256": [2], "t257": [1], "t258": [8] * 3, "t259": [1], "t262": [8], "t277": [3], "t278": [1]}
    lab = pixels(tiff(bytes([255, 0, 0, 138, 81, 70]), **common))  # white; L 54.3, a 81, b 70 is sRGB's red under D50
    assert np.abs(lab[0].astype(int) - [[255, 255, 255, 255], [255, 0, 0, 255]]).max() <= 6


@pytest.mark.parametrize("fmt", FORMATS)
def test_every_format_opens_and_says_what_it_is(fmt):
    image = Image.new("RGB", (16, 8), (200, 40, 40))
    content = encoded(image, fmt, **{"quality": 100} if fmt == "JPEG" else {})
    (frame,) = decode(content, all_frames=True, max_pixels=16 * 8)
    assert (frame.format, frame.mode) == (fmt, "P" if fmt == "GIF" else "RGB")
    assert frame.image.size == (16, 8)
    assert np.abs(np.asarray(frame.image).astype(int) - (200, 40, 40, 255)).max() <= 2


@pytest.mark.parametrize("fmt", ["PNG", "WEBP", "TIFF"])
def test_alpha_survives_lossless_formats(fmt):
    np.testing.assert_array_equal(pixels(encoded(Image.fromarray(NOISE), fmt)), NOISE)


def test_the_mode_is_the_files_own():
    modes = {"1": "1", "L": "L", "LA": "LA", "P": "P", "RGB": "RGB", "RGBA": "RGBA", "I;16": "I;16"}
    for mode, expected in modes.items():
        image = Image.new(mode, (2, 2), 1) if mode == "I;16" else Image.fromarray(NOISE).convert(mode)
        (frame,) = decode(encoded(image), all_frames=False, max_pixels=PLENTY)
        assert frame.mode == expected


def test_interlaced_and_progressive_are_the_same_pictures():
    # Adam7 of 2 x 2: passes 1, 6 and 7 hold (0, 0), (0, 1) and the second row
    grey = png(2, 2, 8, 0, b"".join([b"\0" + bytes([1]), b"\0" + bytes([2]), b"\0" + bytes([3, 4])]), interlace=1)
    assert pixels(grey)[..., 0].tolist() == [[1, 2], [3, 4]]
    image = Image.fromarray(NOISE).convert("RGB")
    whole, progressive = (pixels(encoded(image, "JPEG", quality=95, progressive=flag)) for flag in (False, True))
    np.testing.assert_array_equal(progressive, whole)


def test_cmyk_becomes_rgb():
    result = pixels(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100))
    assert np.abs(result.astype(int) - (255, 0, 0, 255)).max() <= 3


UPRIGHT = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: np.rot90(stored),
}


@pytest.mark.parametrize("fmt", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_a_turned_photograph_stands_upright(fmt, orientation):
    stored, exif = NOISE[:4, :7], Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(stored), fmt, exif=exif)
    np.testing.assert_array_equal(pixels(content), UPRIGHT[orientation](stored))


def test_a_turned_jpeg_stands_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(NOISE[:8, :32]).convert("RGB")
    plain, turned = pixels(encoded(image, "JPEG")), pixels(encoded(image, "JPEG", exif=exif))
    np.testing.assert_array_equal(turned, np.rot90(plain, -1))


def test_unreadable_metadata_are_no_reason_to_refuse():
    for exif in (b"nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"):
        np.testing.assert_array_equal(pixels(encoded(Image.fromarray(NOISE), exif=exif)), NOISE)


NOISE_PNG = encoded(Image.fromarray(NOISE))


def bomb(kind, before):
    """A PNG chunk that unpacks to 64 MiB."""
    packed = chunk(kind, before + zlib.compress(bytes(2**26)))
    return png(1, 1, 8, 0, b"\0\1", packed)


def big(width, height):
    """A PNG of that size with nothing in it: its header is read, its pixels must not be."""
    return png(width, height, 8, 6, b"")


@pytest.mark.parametrize(
    ("content", "phrase"),
    [
        (b"", "empty file"),
        (NOISE_PNG[:6], "truncated"),
        (NOISE_PNG[:20], "truncated"),
        (NOISE_PNG[:2000], "truncated"),
        (NOISE_PNG[:60] + bytes(40) + NOISE_PNG[100:], "damaged"),
        (b"\x89PNG\n\x1a\n" + NOISE_PNG[8:], "damaged"),  # sent as text
        (encoded(Image.new("F", (2, 2)), "TIFF"), "pixel mode F of unknown range"),
        (encoded(Image.new("I", (2, 2)), "TIFF"), "pixel mode I of unknown range"),
        (encoded(Image.new("RGBA", (2, 2), (9, 9, 9, 0))), "nothing visible: fully transparent"),
        (b"<!DOCTYPE html>\n<html>", "not an image: looks like HTML"),
        (b"\xef\xbb\xbf \n<HTML lang='en'>", "not an image: looks like HTML"),
        (b'<?xml version="1.0"?>\n<!-- drawn -->\n<svg xmlns="">', "not an image: looks like SVG"),
        (b"<svg viewBox='0 0 9 9'/>", "not an image: looks like SVG"),
        (b"%PDF-1.7\n\xbf\xf7", "not an image: looks like PDF"),
        (b"PK\3\4\x14\0\0\0", "not an image: looks like an archive"),
        (b"\x1f\x8b\x08\0", "not an image: looks like an archive"),
        (b"a.png".ljust(257, b"\0") + b"ustar\x0000", "not an image: looks like an archive"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "not an image: looks like a Git LFS pointer"),
        (b"only words " * 50, "not an image: looks like text"),
        ("schöne Wörter".encode(), "not an image: looks like text"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image: looks like text"),
        (b"\0\1\2\3", "not an image"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "not an image"),
        (bomb(b"zTXt", b"Comment\0\0"), "decompression bomb"),
        (bomb(b"iTXt", b"Comment\0\1\0\0\0"), "decompression bomb"),
        (bomb(b"iCCP", b"profile\0\0"), "decompression bomb"),
        (big(1001, 1000), "1001×1000 pixels, more than max_pixels 1000000"),
        (big(20000, 20000), "20000×20000 pixels, more than max_pixels 1000000"),
        (big(70000, 3), "70000×3 pixels, a side above 65535"),
        (big(3, 2**31 - 1), "3×2147483647 pixels, a side above 65535"),
    ],
)
def test_unusable_files_are_rejected_with_a_reason(content, phrase):
    assert reason(content) == phrase


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_file_cut_anywhere_past_its_signature_is_truncated(fmt):
    content = encoded(Image.fromarray(NOISE).convert("RGB"), fmt)
    for length in range(30, len(content) - 30, 97):
        assert reason(content[:length]) == "truncated"


def test_max_pixels_is_the_only_limit_of_pixels():
    huge = encoded(Image.new("1", (10000, 9000), 1))  # beyond what Pillow warns of
    (frame,) = decode(huge, all_frames=False, max_pixels=90_000_000)
    assert frame.image.size == (10000, 9000)
    assert reason(huge, max_pixels=89_999_999) == "10000×9000 pixels, more than max_pixels 89999999"


@pytest.mark.parametrize(("fmt", "mode"), [*((fmt, "RGB") for fmt in FORMATS), ("PNG", "P"), ("WEBP", "RGBA")])
def test_no_damage_escapes_as_another_error_or_a_warning(fmt, mode):
    rng = np.random.default_rng(2)
    image = Image.fromarray(NOISE[:9, :7]).convert(mode)
    content = encoded(image, fmt, **{"save_all": True, "append_images": [image.rotate(90)]} if fmt == "GIF" else {})
    filters = list(warnings.filters)
    for _ in range(200):
        broken = bytearray(content)
        for position in rng.integers(0, len(broken), 3):
            broken[position] = rng.integers(256)
        with suppress(RejectedError):
            for frame in decode(bytes(broken), all_frames=True, max_pixels=PLENTY):
                assert frame.image.mode == "RGBA"
    assert warnings.filters == filters
