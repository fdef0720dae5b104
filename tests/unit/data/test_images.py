"""Pages of pictures, pixel for pixel."""

import numpy as np
from PIL import Image

from components.data.images import grid, save_png


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
