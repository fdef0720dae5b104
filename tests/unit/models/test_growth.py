"""Progressive growing against the recipe's schedule and tables."""

from dataclasses import replace

import pytest

from components.config import load_params
from components.models import build_recipe
from components.models.growth import batch_at

PARAMS = load_params("params.yaml").train
GROWTH = replace(PARAMS.stylegan, start_resolution=8, stable_kimg=600, fade_kimg=600)
RECIPE = replace(PARAMS, arch="stylegan", stylegan=GROWTH, batch=8, learning_rate=0.001)


def phase_at(nimg, config, resolution):
    return build_recipe(config, resolution).phase(nimg)


@pytest.mark.parametrize(
    ("kimg", "resolution", "alpha"),
    [
        (0, 8, 1),
        (599.9, 8, 1),
        (600, 16, 0),
        (900, 16, 0.5),
        (1200, 16, 1),
        (1799, 16, 1),
        (1800, 32, 0),
        (2100, 32, 0.5),
        (5400, 256, 0),
        (25_000, 256, 1),
    ],
)
def test_schedule_of_the_paper(kimg, resolution, alpha):
    phase = phase_at(int(kimg * 1000), RECIPE, 256)
    assert (phase.resolution, phase.alpha) == (resolution, pytest.approx(alpha))


def test_batches_of_the_paper_at_256():
    assert [batch_at(r, 8, 256) for r in (4, 8, 16, 32, 64, 128, 256)] == [128, 128, 128, 64, 32, 16, 8]


def test_rates_of_the_paper():
    starts = {64: 4_100, 128: 5_300, 256: 6_700}
    rates = {r: phase_at(kimg * 1000, RECIPE, 256).learning_rate for r, kimg in starts.items()}
    assert rates == pytest.approx({64: 0.001, 128: 0.0015, 256: 0.002})


def test_no_growth_where_the_start_is_the_end():
    config = replace(RECIPE, stylegan=replace(GROWTH, start_resolution=32))
    assert all(phase_at(n, config, 32).resolution == 32 for n in (0, 700_000, 10_000_000))
    assert phase_at(700_000, config, 32).alpha == 1
