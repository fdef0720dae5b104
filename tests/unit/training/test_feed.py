"""Both ways to the device give the images that were asked for."""

import numpy as np
import pytest
import torch

from components.data.dataset import ImageSet
from components.training import feed


@pytest.mark.parametrize("way", [feed.mapped, feed.resident])
def test_it_gives_the_images_asked_for(way, monkeypatch):
    monkeypatch.setattr(feed, "CHUNK", 3)
    images = np.random.default_rng(0).integers(0, 256, (10, 4, 4, 3), np.uint8)
    data = ImageSet([images[:4], images[4:]], "digest")
    indices = np.array([9, 0, 3, 3, 4])
    given = way(data, torch.device("cpu"))(indices)
    assert given.dtype == torch.uint8
    np.testing.assert_array_equal(given.numpy(), images[indices])


def test_a_cpu_reads_through_the_map():
    class Refusing(ImageSet):
        def __getitem__(self, indices):
            assert len(indices) < len(self), "the whole set was copied"
            return super().__getitem__(indices)

    images = np.zeros((8, 4, 4, 3), np.uint8)
    assert feed.feed(Refusing([images], "digest"), torch.device("cpu"))(np.array([1])).shape == (1, 4, 4, 3)
