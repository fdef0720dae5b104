"""A short training of each arch on creatures with alpha ends nearer to others of their kind than what shows none.

And the shares of its transparent, soft and opaque pixels are the set's, or nearer to them than they were: dcgan and
progan train for half as long. stylegan learns in test_demo.py.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from components.config import load_params
from components.data.dataset import ImageSet
from components.data.images import premultiplied
from components.data.procedural import draw_creature
from components.evaluation import metrics
from components.evaluation.pictures import on_checker
from components.evaluation.random_conv import RandomConv
from components.generation.sampler import sample
from components.training.host import prepare
from components.training.loop import Trainer

PARAMS = load_params("params.yaml").train
SMALL = replace(PARAMS, batch=8, channel_base=512, channel_max=32, latent_dim=64, ema_kimg=0.3)
RECIPES = {
    "dcgan": replace(SMALL, arch="dcgan", total_kimg=6, learning_rate=0.0005, channel_max=64),
    "progan": replace(
        SMALL,
        arch="progan",
        total_kimg=6,
        learning_rate=0.002,
        progan=replace(PARAMS.progan, stable_kimg=1, fade_kimg=1),
    ),
    "stylegan2": replace(SMALL, arch="stylegan2", total_kimg=12, learning_rate=0.004, gamma=0.05),
    "r3gan": replace(
        SMALL,
        arch="r3gan",
        total_kimg=12,
        learning_rate=0.0008,
        gamma=0.2,
        r3gan=replace(PARAMS.r3gan, decay_kimg=12, final_gamma=0.1, final_learning_rate=0.0002, penalty_every=4),
    ),
}
SHOWN, OTHERS = 720, 360
NEAR = 31  # of 0 or of 255: an eighth of alpha's range
THERE, WITHIN = ("stylegan2", "r3gan"), 0.12  # of all pixels; the others, trained for half as long, are on their way


@pytest.fixture(scope="module")
def creatures():
    """Premultiplied, [SHOWN + OTHERS, 16, 16, 4]."""
    return np.stack([premultiplied(draw_creature(0, index, 16)) for index in range(SHOWN + OTHERS)])


@pytest.fixture(scope="module")
def distance(creatures):
    """Of images from those that no training sees: Fréchet's, by what stands on a checkerboard."""

    def features(images):
        return RandomConv()(on_checker(images)).numpy()

    others = metrics.prepare(features(creatures[SHOWN:]))
    return lambda images: metrics.distance("frechet", features(images), others)


def shares(images):
    """Of pixels that are near transparent, soft, and near opaque."""
    alpha = images[..., 3]
    clear, solid = (alpha <= NEAR).mean(), (alpha >= 255 - NEAR).mean()
    return np.array([clear, 1 - clear - solid, solid])


@pytest.mark.parametrize("arch", RECIPES)
def test_it_learns(creatures, distance, arch):
    prepare(threads=1)
    shown = creatures[:SHOWN]
    trainer = Trainer(RECIPES[arch], ImageSet([shown], "digest"), torch.device("cpu"))
    generator, wanted = trainer.players.average, shares(shown)
    untrained = sample(generator, range(OTHERS))
    mean = np.broadcast_to(shown.mean(axis=0).round().astype(np.uint8), untrained.shape)
    list(trainer.run(tick_kimg=6))
    images = sample(generator, range(OTHERS))
    assert distance(images) < min(distance(untrained), distance(mean)) / 2
    assert (images[..., :3] <= images[..., 3:]).all()
    assert images[..., :3].std(axis=0).mean() > shown[..., :3].std(axis=0).mean() / 3  # they differ
    off, before = (np.abs(shares(which) - wanted).max() for which in (images, untrained))
    assert off < before / 1.5, (off, before)
    assert off < WITHIN or arch not in THERE, off
