"""Told the labels, a short training draws of each label what its images show."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from components.config import load_params
from components.config.training import WITH_LABELS
from components.data.dataset import ImageSet
from components.generation.sampler import sample
from components.training.host import prepare
from components.training.loop import Trainer

PARAMS = load_params("params.yaml").train
RATES = {"stylegan2": {"learning_rate": 0.004, "gamma": 0.1}, "r3gan": {"learning_rate": 0.001, "gamma": 1.0}}


def discs():
    """Forty red ones and twenty blue ones on white, 16², each at a place of its own."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:16, :16]
    images = np.full((60, 16, 16, 3), 255, np.uint8)
    for number, image in enumerate(images):
        inside = (x - random.integers(5, 11)) ** 2 + (y - random.integers(5, 11)) ** 2 < 16
        image[inside] = (220, 30, 30) if number % 3 else (30, 30, 220)
    data = ImageSet([images], "digest")
    data.labels = (np.arange(60) % 3 == 0).astype(np.uint16)
    data.label_names = ("red", "blue")
    return data


@pytest.mark.parametrize("arch", WITH_LABELS)
def test_each_label_has_its_colour(arch):
    config = replace(
        PARAMS,
        **{"arch": arch, "labels": True, "batch": 16, "total_kimg": 5, **RATES[arch]},
        **{"channel_base": 256, "channel_max": 16, "latent_dim": 16, "ema_kimg": 0.2},
        r3gan=replace(PARAMS.r3gan, decay_kimg=6, final_learning_rate=0.0005, penalty_every=1),
    )
    prepare(threads=1)
    trainer = Trainer(config, discs(), torch.device("cpu"))
    list(trainer.run(tick_kimg=5))
    for label, sign in (("red", 1), ("blue", -1)):
        pixels = sample(trainer.players.average, range(32), label=label).astype(float)
        assert sign * (pixels[..., 0] - pixels[..., 2]).mean() > 5, label
