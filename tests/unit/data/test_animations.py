"""Frames of animations against pictures composed by hand, and the limits on how many there may be."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from components.data.decoding import RejectedError, decode

RED, GREEN, BLUE, CLEAR = [255, 0, 0, 255], [0, 255, 0, 255], [0, 0, 255, 255], [0, 0, 0, 0]
KEEP, BACKGROUND, PREVIOUS = 0, 1, 2  # what an APNG's frame leaves behind
SOURCE, OVER = 0, 1


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def apng(width, frames, claimed=None, stand_in=None):
    """An RGBA animation of one row. Frames: (x, colours, disposal, blend)."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, 8, 6, 0, 0, 0))
    parts, sequence = [header, chunk(b"acTL", struct.pack(">II", claimed or len(frames), 0))], 0
    if stand_in:
        parts.append(chunk(b"IDAT", packed(stand_in)))
    for number, (x, colours, disposal, blend) in enumerate(frames):
        control = struct.pack(">5IHHBB", sequence, len(colours), 1, x, 0, 1, 10, disposal, blend)
        parts.append(chunk(b"fcTL", control))
        sequence += 1
        if number or stand_in:
            parts.append(chunk(b"fdAT", struct.pack(">I", sequence) + packed(colours)))
            sequence += 1
        else:
            parts.append(chunk(b"IDAT", packed(colours)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def packed(colours):
    return zlib.compress(b"\0" + bytes(np.array(colours, np.uint8)))


def rows(content, **options):
    """The first row of each frame."""
    frames = decode(content, **{"all_frames": True, "max_pixels": 1000} | options)
    return [np.asarray(frame.image)[0].tolist() for frame in frames]


def test_png_frames_are_laid_over_or_replace():
    half = [0, 0, 255, 128]
    content = apng(
        3, [(0, [RED, GREEN, CLEAR], KEEP, SOURCE), (1, [half, half], KEEP, OVER), (0, [half], KEEP, SOURCE)]
    )
    first, second, third = rows(content)
    assert first == [RED, GREEN, CLEAR]
    assert second[0] == RED
    assert np.abs(np.subtract(second[1], [0, 127, 128, 255])).max() <= 1  # half blue over opaque green
    assert third == [half, *second[1:]]


def test_png_frames_are_disposed_of():
    content = apng(
        3,
        [
            (0, [RED, RED, RED], KEEP, SOURCE),
            (0, [GREEN, GREEN], PREVIOUS, SOURCE),
            (1, [BLUE], BACKGROUND, SOURCE),
            (2, [GREEN], KEEP, OVER),
        ],
    )
    assert rows(content) == [[RED, RED, RED], [GREEN, GREEN, RED], [RED, BLUE, RED], [RED, CLEAR, GREEN]]


def test_a_stand_in_is_no_frame_of_the_animation_but_the_first_picture():
    frames = [(0, [RED, CLEAR], KEEP, OVER), (1, [BLUE], KEEP, OVER)]
    content = apng(2, frames, stand_in=[GREEN, GREEN])
    assert rows(content) == [[RED, CLEAR], [RED, BLUE]]
    assert rows(content, all_frames=False) == [[GREEN, GREEN]]


def gif(width, frames, palette=((0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255))):
    """A GIF of one row. Frames: (x, palette indices, disposal); index 0 is transparent."""
    parts = [b"GIF89a", struct.pack("<HHBBB", width, 1, 0b10000001, 0, 0), bytes(np.array(palette, np.uint8))]
    for x, indices, disposal in frames:
        parts.append(b"\x21\xf9\x04" + struct.pack("<BHB", disposal << 2 | 1, 10, 0) + b"\0")
        parts.append(b"," + struct.pack("<HHHHB", x, 0, len(indices), 1, 0))
        codes = [value for index in indices for value in (4, index)] + [5]  # clear before each: codes stay 3 bits wide
        bits = sum(code << 3 * place for place, code in enumerate(codes))
        data = bits.to_bytes((3 * len(codes) + 7) // 8, "little")
        parts.append(b"\2" + bytes([len(data)]) + data + b"\0")
    return b"".join(parts) + b";"


def test_gif_frames_are_laid_over_and_disposed_of():
    keep, background, previous = 1, 2, 3
    content = gif(3, [(0, [1, 0, 1], keep), (1, [2, 0], previous), (2, [3], background), (0, [0, 2, 0], keep)])
    assert [[pixel if pixel[3] else CLEAR for pixel in row] for row in rows(content)] == [
        [RED, CLEAR, RED],
        [RED, GREEN, RED],
        [RED, CLEAR, BLUE],
        [RED, GREEN, CLEAR],
    ]


@pytest.mark.parametrize(
    ("fmt", "options"),
    [("GIF", {"disposal": 2}), ("PNG", {}), ("PNG", {"disposal": 1}), ("WEBP", {"lossless": True, "exact": True})],
)
def test_what_was_drawn_comes_back_frame_by_frame(fmt, options):
    drawn = np.zeros((4, 12, 16, 4), np.uint8)
    for number, frame in enumerate(drawn):
        frame[2 : 5 + number, number : 9 - number] = [60 * number, 200, 40, 255]
    images = [Image.fromarray(frame) for frame in drawn]
    buffer = io.BytesIO()
    images[0].save(buffer, fmt, save_all=True, append_images=images[1:], duration=50, **options)
    frames = list(decode(buffer.getvalue(), all_frames=True, max_pixels=12 * 16))  # kept: none is drawn on another
    assert len(frames) == 4
    for frame, expected in zip(frames, drawn, strict=True):
        result = np.array(frame.image)
        result[result[..., 3] == 0] = 0
        np.testing.assert_array_equal(result, expected)
        assert (frame.format, frame.mode) == (fmt, "P" if fmt == "GIF" else "RGBA")
    (only,) = decode(buffer.getvalue(), all_frames=False, max_pixels=12 * 16)
    np.testing.assert_array_equal(np.asarray(only.image)[..., 3], drawn[0, ..., 3])


def test_frames_of_nothing_are_left_out():
    content = apng(2, [(0, [CLEAR, CLEAR], KEEP, SOURCE), (0, [RED, CLEAR], KEEP, SOURCE)])
    assert rows(content) == [[RED, CLEAR]]
    with pytest.raises(RejectedError, match="nothing visible: fully transparent"):
        rows(content, all_frames=False)
    with pytest.raises(RejectedError, match="nothing visible: fully transparent"):
        rows(apng(1, [(0, [CLEAR], KEEP, SOURCE)] * 2))


def test_pages_of_a_tiff_are_no_animation():
    pages = [Image.new("RGB", (2, 2), shade) for shade in ("red", "blue")]
    buffer = io.BytesIO()
    pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:])
    assert rows(buffer.getvalue()) == [[RED, RED]]


@pytest.mark.parametrize(
    "content",
    [
        apng(2, [(0, [RED, RED], KEEP, SOURCE)] * 17),
        apng(2, [(0, [RED, RED], KEEP, SOURCE)], claimed=17),
        gif(2, [(0, [1, 1], 1)] * 17),
    ],
)
def test_an_animation_of_too_many_pixels_is_rejected_before_its_first_frame(content):
    frames = decode(content, all_frames=True, max_pixels=2)
    with pytest.raises(RejectedError, match="17 frames of 2×1 pixels, more than 16 times max_pixels 2"):
        next(frames)
    assert rows(content, all_frames=False, max_pixels=2) == [[RED, RED]]


def test_sixteen_times_max_pixels_is_allowed():
    assert len(rows(gif(2, [(0, [1, 1], 1)] * 16), max_pixels=2)) == 16


def test_a_gif_whose_frame_outgrows_max_pixels_is_rejected():
    frames = decode(gif(1, [(0, [1], 1), (2, [1, 1], 1)]), all_frames=True, max_pixels=2)
    assert next(frames).image.size == (1, 1)
    with pytest.raises(RejectedError, match="4×1 pixels, more than max_pixels 2"):
        next(frames)
    frames = decode(gif(1, [(0, [1], 1), *[(2, [1, 1], 1)] * 16]), all_frames=True, max_pixels=4)
    assert next(frames).image.size == (1, 1)
    with pytest.raises(RejectedError, match="17 frames of 4×1 pixels, more than 16 times max_pixels 4"):
        next(frames)


def test_an_animation_without_its_last_frames_is_truncated():
    frames = decode(apng(1, [(0, [RED], KEEP, SOURCE)], claimed=3), all_frames=True, max_pixels=1)
    next(frames)
    with pytest.raises(RejectedError, match="truncated"):
        next(frames)
