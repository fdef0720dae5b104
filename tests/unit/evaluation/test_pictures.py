"""Pages: sizes, enlargement and captions."""

import numpy as np

from components.evaluation.pictures import CAPTION_HEIGHT, comparison, page


def images(count, size):
    return np.random.default_rng(0).integers(0, 200, (count, size, size, 3), dtype=np.uint8)


def test_small_images_are_enlarged_to_whole_squares():
    pictures = images(64, 32)
    found = page(pictures, columns=8)
    assert found.shape == (8 * 98 + 2, 8 * 98 + 2, 3)
    np.testing.assert_array_equal(found[2 : 2 + 96 : 3, 100 : 100 + 96 : 3], pictures[1])
    np.testing.assert_array_equal(found[4 : 4 + 96 : 3, 102 : 102 + 96 : 3], pictures[1])


def test_large_images_keep_their_size():
    assert page(images(4, 256), columns=4).shape == (260, 4 * 258 + 2, 3)


def test_rows_stand_under_their_captions():
    pictures = images(12, 32)
    found = comparison({"real": pictures, "generated": pictures})
    row = page(pictures, columns=12)
    assert found.shape == (2 * (CAPTION_HEIGHT + len(row)), row.shape[1], 3)
    for top in (0, CAPTION_HEIGHT + len(row)):
        assert found[top : top + CAPTION_HEIGHT].min() < 100
        np.testing.assert_array_equal(found[top + CAPTION_HEIGHT : top + CAPTION_HEIGHT + len(row)], row)
