"""Pages of pictures, pixel for pixel."""

import numpy as np
from PIL import Image

from components.data.compositing import premultiply
from components.data.images import grid, premultiplied, save_png, straight


def test_grid_lays_out_row_by_row_on_white():
    images = np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1)
    assert grid(images, columns=2, margin=1)[..., 0].tolist() == [
        [255, 255, 255, 255, 255],
        [255, 0, 255, 1, 255],
        [255, 255, 255, 255, 255],
        [255, 2, 255, 255, 255],
        [255, 255, 255, 255, 255],
    ]


def test_grid_without_margin_keeps_every_pixel():
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 5, 3), np.uint8)
    page = grid(images, columns=2, margin=0)
    assert page.shape == (6, 10, 3)
    np.testing.assert_array_equal(page[3:, 5:], images[3])


def test_save_png_round_trips_grey_rgb_and_rgba(tmp_path):
    for channels, mode in ((1, "L"), (3, "RGB"), (4, "RGBA")):
        array = np.random.default_rng(channels).integers(0, 256, (4, 6, channels), np.uint8)
        save_png(tmp_path / "a.png", array)
        with Image.open(tmp_path / "a.png") as image:
            assert image.mode == mode
            np.testing.assert_array_equal(np.asarray(image).reshape(array.shape), array)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_rgba_lies_on_transparent_paper():
    page = grid(np.full((3, 2, 2, 4), 9, np.uint8), columns=2)
    assert page.shape == (10, 10, 4)
    assert page.sum() == 3 * 16 * 9
    assert (page[2:4, 2:4] == 9).all()


def test_every_premultiplied_pixel_comes_back_from_straight_alpha():
    """All pairs of a colour and an alpha that is not below it."""
    colour, alpha = np.meshgrid(np.arange(256), np.arange(256))
    stored = np.stack([colour, colour // 2, 0 * colour, alpha], axis=-1).astype(np.uint8)[colour <= alpha][None]
    there = straight(stored)
    np.testing.assert_array_equal(there[..., 3], stored[..., 3])
    assert (there[..., :3][there[..., 3] == 0] == 0).all()
    visible = stored[..., 3] > 0
    exact = 255.0 * stored[..., :3][visible] / stored[..., 3:][visible]
    assert np.abs(there[..., :3][visible] - exact).max() <= 0.5
    np.testing.assert_array_equal(premultiplied(there), stored)


def test_premultiplied_is_the_preprocessings_own():
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 4), np.uint8)
    np.testing.assert_array_equal(premultiplied(pixels), premultiply(pixels).transpose(0, 2, 1))


def test_rgb_has_no_alpha_to_divide_by():
    array = np.random.default_rng(0).integers(0, 256, (2, 3, 3), np.uint8)
    assert straight(array) is array
    assert premultiplied(array) is array
