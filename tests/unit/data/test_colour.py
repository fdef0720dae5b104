"""Colour management against closed forms: profiles made by hand, from ICC.1:2022."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from components.data.colour import to_rgba
from components.data.decoding import decode

RGB = np.random.default_rng(3).integers(0, 256, (32, 32, 3), np.uint8)
SRGB_D50 = np.array([[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]])  # columns: R, G, B
ADOBE_D50 = np.array([[0.6097, 0.2053, 0.1492], [0.3111, 0.6257, 0.0632], [0.0195, 0.0609, 0.7446]])
D50 = (0.9642, 1.0, 0.8249)


def profile(space, connection, **tags):
    """An ICC profile, version 2. Tags by signature, in the order of their names."""
    offset, table, body = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, data in sorted(tags.items()):
        padded = data.ljust(-len(data) % 4 + len(data), b"\0")
        table += struct.pack(">4sII", name.encode(), offset + len(body), len(data))
        body += padded
    header = struct.pack(
        ">I4sI4s4s4s12s4s28s12s", 0, b"lcms", 0x02100000, b"mntr", space, connection, b"", b"acsp", b"", xyz(*D50)[8:]
    )
    whole = header.ljust(128, b"\0") + table + body
    return struct.pack(">I", len(whole)) + whole[4:]


def xyz(*values):
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def gamma(value):
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


def matrix_profile(primaries, exponent):
    columns = {f"{name}XYZ": xyz(*primaries[:, index]) for index, name in enumerate("rgb")}
    return profile(b"RGB ", b"XYZ ", wtpt=xyz(*D50), **columns, **{f"{name}TRC": gamma(exponent) for name in "rgb"})


def encode_srgb(linear):
    """IEC 61966-2-1."""
    linear = np.clip(linear, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def decoded(image, fmt="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    (frame,) = decode(buffer.getvalue(), all_frames=False, max_pixels=10**6)
    assert "icc_profile" not in frame.image.info
    return np.asarray(frame.image)


def assert_close(result, expected, tolerance=1):
    assert np.abs(result.astype(float) - expected).max() <= tolerance + 0.5


def test_linear_light_becomes_srgb():
    result = decoded(Image.fromarray(RGB), icc_profile=matrix_profile(SRGB_D50, 1.0))
    assert_close(result[..., :3], encode_srgb(RGB / 255))


def test_a_wide_gamut_becomes_srgb_and_clips():
    result = decoded(Image.fromarray(RGB), icc_profile=matrix_profile(ADOBE_D50, 2.2))
    linear = (RGB / 255) ** (563 / 256) @ (np.linalg.inv(SRGB_D50) @ ADOBE_D50).T
    assert (linear < 0).any()
    assert_close(result[..., :3], encode_srgb(linear), tolerance=3)


def test_alpha_and_what_is_stored_otherwise_are_untouched_by_the_profile():
    linear = matrix_profile(SRGB_D50, 1.0)
    alpha = np.random.default_rng(4).integers(0, 256, (32, 32, 1), np.uint8)
    rgba = np.concatenate([RGB, alpha], axis=-1)
    result = decoded(Image.fromarray(rgba), icc_profile=linear)
    np.testing.assert_array_equal(result[..., 3:], alpha)
    assert_close(result[..., :3], encode_srgb(RGB / 255))
    palette = Image.new("P", (3, 1))
    palette.putpalette([10, 20, 30, 100, 150, 200, 255, 0, 0])
    palette.putdata([0, 1, 2])
    result = decoded(palette, icc_profile=linear, transparency=bytes([0, 128, 255]))
    assert result[0, :, 3].tolist() == [0, 128, 255]
    assert_close(result[0, :, :3], encode_srgb(np.array([[10, 20, 30], [100, 150, 200], [255, 0, 0]]) / 255))


def test_grey_of_linear_light_becomes_srgb():
    ramp = np.arange(256, dtype=np.uint8)[None]
    linear = profile(b"GRAY", b"XYZ ", wtpt=xyz(*D50), kTRC=gamma(1.0))
    expected = encode_srgb(ramp[..., None].repeat(3, axis=-1) / 255)
    assert_close(decoded(Image.fromarray(ramp), icc_profile=linear)[..., :3], expected)
    both = Image.merge("LA", (Image.fromarray(ramp), Image.fromarray(ramp[:, ::-1].copy())))
    result = decoded(both, icc_profile=linear)
    assert_close(result[..., :3], expected)
    np.testing.assert_array_equal(result[..., 3], ramp[:, ::-1])
    deep = Image.fromarray(ramp.astype(np.uint16) * 257)
    assert_close(decoded(deep, icc_profile=linear)[..., :3], expected)


def test_inks_become_srgb_through_their_profiles_table():
    lightness = [255, 0, *[128, 0] * 7]  # of paper, black, and each mix of C, M and Y without and with black
    grid = bytes(value for light in lightness for value in (light, 128, 128))
    straight = bytes(range(256))
    header = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    table = header + straight * 4 + grid + straight * 3
    inks = profile(b"CMYK", b"Lab ", A2B0=table, wtpt=xyz(*D50))
    image = Image.fromarray(np.array([[[0, 0, 0, 0], [0, 255, 0, 0], [255, 255, 255, 255]]], np.uint8), "CMYK")
    result = decoded(image, "TIFF", icc_profile=inks)
    assert_close(result[0], [[255] * 4, [119, 119, 119, 255], [0, 0, 0, 255]], tolerance=2)  # L 50 is sRGB 119


def srgb():
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize(
    "content",
    [
        srgb(),
        matrix_profile(SRGB_D50, 2.2)[:200],
        b"no profile at all",
        profile(b"GRAY", b"XYZ ", wtpt=xyz(*D50), kTRC=gamma(1.0)),  # of other pixels than these
        profile(b"RGB ", b"XYZ ", wtpt=xyz(*D50)),
    ],
    ids=["sRGB", "cut", "nonsense", "grey", "without a curve"],
)
def test_profiles_that_say_nothing_leave_the_pixels_as_they_are(content):
    np.testing.assert_array_equal(decoded(Image.fromarray(RGB), icc_profile=content)[..., :3], RGB)


def test_an_rgb_profile_leaves_greys_and_inks_as_they_are():
    linear = matrix_profile(SRGB_D50, 1.0)
    np.testing.assert_array_equal(decoded(Image.fromarray(RGB[..., 0]), icc_profile=linear)[..., 0], RGB[..., 0])
    inks = Image.new("CMYK", (1, 1), (0, 255, 255, 0))
    assert decoded(inks, "TIFF", icc_profile=linear)[0, 0].tolist() == [255, 0, 0, 255]


def test_without_a_profile_the_pixels_are_the_files():
    np.testing.assert_array_equal(decoded(Image.fromarray(RGB))[..., :3], RGB)


@pytest.mark.parametrize(
    ("mode", "stored", "expected"),
    [
        ("La", (45, 128), [89, 89, 89, 128]),  # premultiplied: 45 * 255 / 128, cut
        ("RGBa", (100, 50, 0, 128), [199, 99, 0, 128]),
        ("RGBX", (9, 8, 7, 0), [9, 8, 7, 255]),
        ("HSV", (0, 255, 200), [200, 0, 0, 255]),
        ("YCbCr", (90, 128, 128), [90, 90, 90, 255]),
        ("I;16B", 90 * 256 + 255, [90, 90, 90, 255]),
    ],
)
def test_modes_that_only_memory_holds(mode, stored, expected):
    assert to_rgba(Image.new(mode, (1, 1), stored)).getpixel((0, 0)) == tuple(expected)
