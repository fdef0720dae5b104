"""Values to levels: rounded, clamped, and no premultiplied colour above its alpha."""

import numpy as np
import torch

from components.models.pixels import levels, pixels


def test_rgb_is_rounded_and_clamped():
    values = torch.tensor([-1.0, 1.0, 0.0, -3.0, 3.0, -1 + 0.6 / 127.5]).reshape(1, 1, 2, 3).expand(-1, 3, -1, -1)
    expected = np.array([0, 255, 128, 0, 255, 1], np.uint8).reshape(1, 2, 3, 1).repeat(3, axis=3)
    np.testing.assert_array_equal(pixels(values).numpy(), expected)


def test_colour_is_at_most_alpha():
    rgba = torch.tensor([[0.5, -2.0, 0.2, 0.2], [3.0, -1.0, 0.0, 3.0], [1.0, 0.0, -1.0, -3.0]]).T.reshape(1, 4, 1, 3)
    assert pixels(rgba)[0, 0].tolist() == [[153, 0, 153, 153], [255, 0, 128, 255], [0, 0, 0, 0]]


def test_wild_values_keep_the_rule_and_good_ones_come_back():
    wild = 3 * torch.randn(16, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    found = pixels(wild).numpy()
    assert found.shape == (16, 8, 8, 4)
    assert (found[..., :3] <= found[..., 3:]).all()
    np.testing.assert_array_equal(found[..., 3], pixels(wild[:, 3:].expand(-1, 3, -1, -1)).numpy()[..., 0])
    again = torch.from_numpy(found).permute(0, 3, 1, 2).float() / 127.5 - 1
    np.testing.assert_array_equal(pixels(again).numpy(), found)


def test_levels_are_not_rounded():
    values = torch.tensor([0.1, 0.2, 0.3, 0.25]).reshape(1, 4, 1, 1)
    expected = torch.tensor([140.25, 153.0, 159.375, 159.375]).reshape(1, 4, 1, 1)
    torch.testing.assert_close(levels(values), expected)
