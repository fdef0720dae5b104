"""A short training on creatures with alpha: transparent, soft and opaque pixels come as often as in the set."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from components.config import load_params
from components.data.dataset import ImageSet
from components.data.images import premultiplied
from components.data.procedural import draw_creature
from components.generation.sampler import sample
from components.training.loop import Trainer

PARAMS = load_params("params.yaml").train
SMALL = replace(
    PARAMS,
    total_kimg=12,
    channel_base=512,
    channel_max=32,
    latent_dim=64,
    ema_kimg=0.3,
    augment=replace(PARAMS.augment, kind="none"),
)
RECIPES = {
    "stylegan2": replace(SMALL, arch="stylegan2", batch=8, learning_rate=0.004, gamma=0.05),
    "r3gan": replace(
        SMALL,
        arch="r3gan",
        batch=8,
        learning_rate=0.0008,
        gamma=0.2,
        r3gan=replace(PARAMS.r3gan, decay_kimg=12, final_gamma=0.1, final_learning_rate=0.0002, penalty_every=4),
    ),
}
NEAR = 31  # of 0 or of 255: an eighth of alpha's range
WITHIN = 0.12  # of all pixels; an untrained network is three times as far away


@pytest.fixture(scope="module")
def creatures():
    """Premultiplied, [720, 16, 16, 4]."""
    return np.stack([premultiplied(draw_creature(0, index, 16)) for index in range(720)])


@pytest.fixture
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def shares(images):
    """Of pixels that are near transparent, soft, and near opaque."""
    alpha = images[..., 3]
    clear, solid = (alpha <= NEAR).mean(), (alpha >= 255 - NEAR).mean()
    return np.array([clear, 1 - clear - solid, solid])


@pytest.mark.usefixtures("_one_thread")
@pytest.mark.parametrize("arch", RECIPES)
def test_alpha_is_learnt(creatures, arch):
    trainer = Trainer(RECIPES[arch], ImageSet([creatures], "digest"), torch.device("cpu"))
    generator, wanted = trainer.players.average, shares(creatures)
    assert np.abs(shares(sample(generator, range(128))) - wanted).max() > 2.5 * WITHIN
    list(trainer.run(tick_kimg=4))
    images = sample(generator, range(128))
    assert np.abs(shares(images) - wanted).max() < WITHIN, (shares(images), wanted)
    assert (images[..., :3] <= images[..., 3:]).all()
    assert images[..., :3].std(axis=0).mean() > creatures[..., :3].std(axis=0).mean() / 2  # and they differ
