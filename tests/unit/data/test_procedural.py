"""The built-in creatures: the same bytes everywhere, many kinds, soft edges, well placed in their frame."""

import colorsys
import hashlib

import numpy as np
import pytest

from components.data.procedural import PLANS, draw_creature, ellipse_of

SIZE = 64
FIRST_SIXTEEN = "249348c70633a13816aefe8d11882d77ac4f7799ca1f53e7939722f85513b0ca"


@pytest.fixture(scope="module")
def creatures():
    return np.stack([draw_creature(0, index, SIZE) for index in range(504)])


def test_first_sixteen_are_these_bytes(creatures):
    assert hashlib.sha256(creatures[:16].tobytes()).hexdigest() == FIRST_SIXTEEN


def test_a_creature_depends_on_its_seed_and_number_alone(creatures):
    np.testing.assert_array_equal(draw_creature(0, 7, SIZE), creatures[7])
    assert (draw_creature(1, 7, SIZE) != creatures[7]).any()


def test_no_two_are_equal(creatures):
    assert len({creature.tobytes() for creature in creatures}) == len(creatures)


@pytest.mark.parametrize("size", [8, 32, 128])
def test_other_sizes_show_the_same_creature(creatures, size):
    small, large = sorted((size, SIZE))
    block = large // small
    images = {size: draw_creature(0, 3, size), SIZE: creatures[3]}
    shrunk = images[large][..., 3].reshape(small, block, small, block).mean((1, 3))
    assert np.abs(shrunk - images[small][..., 3]).mean() < 12


def test_families_take_turns_and_are_told_apart_by_silhouette(creatures):
    family = np.arange(len(creatures)) % len(PLANS)
    alpha = creatures[..., 3].reshape(len(creatures), -1).astype(np.float64)
    known, unknown = slice(0, 360), slice(360, None)
    means = np.stack([alpha[known][family[known] == plan].mean(0) for plan in range(len(PLANS))])
    nearest = ((alpha[unknown, None] - means) ** 2).sum(-1).argmin(1)
    assert (nearest == family[unknown]).mean() > 0.8


def test_within_a_family_no_silhouette_repeats(creatures):
    for plan in range(len(PLANS)):
        alpha = creatures[plan :: len(PLANS), ::2, ::2, 3].reshape(-1, SIZE * SIZE // 4).astype(np.float32) / 255
        apart = np.abs(alpha[:, None] - alpha).mean(-1) + np.eye(len(alpha))
        assert apart.min() > 0.002


def test_hues_go_all_around_the_wheel(creatures):
    weights = creatures[..., 3:].astype(np.float64)
    colours = (creatures[..., :3] * weights).sum((1, 2)) / weights.sum((1, 2)) / 255
    sectors = [int(colorsys.rgb_to_hsv(*colour)[0] * 12) for colour in colours]
    assert np.bincount(sectors, minlength=12).min() >= 15


def test_alpha_is_soft_and_nothing_is_coloured_where_it_is_zero(creatures):
    alpha = creatures[..., 3]
    assert (((alpha > 0) & (alpha < 255)).sum((1, 2)) > 60).all()
    assert not creatures[alpha == 0].any()
    assert ((alpha == 0).mean((1, 2)) > 0.1).all()


def test_some_parts_are_translucent(creatures):
    middling = ((creatures[..., 3] > 90) & (creatures[..., 3] < 235)).mean((1, 2))
    by_plan = {plan.__name__: middling[i :: len(PLANS)].mean() for i, plan in enumerate(PLANS)}
    assert min(by_plan[name] for name in ("ghost", "slime", "dragon", "insect", "fish")) > 0.05
    assert by_plan["quadruped"] < 0.05


def test_each_fills_its_frame_in_the_middle_of_it(creatures):
    for creature in creatures:
        rows, columns = (np.flatnonzero(creature[..., 3].max(axis)) for axis in (1, 0))
        assert max(np.ptp(rows), np.ptp(columns)) >= 0.8 * SIZE
        for filled in (rows, columns):
            assert filled[0] >= 1
            assert filled[-1] <= SIZE - 2
            assert abs(filled[0] + filled[-1] - (SIZE - 1)) <= 4


def test_outlines_are_darker_than_what_they_enclose(creatures):
    for creature in creatures[:90]:
        solid = creature[..., 3] > 120
        inner = solid.copy()
        for axis in (0, 1):
            for step in (-2, 2):
                inner &= np.roll(solid, step, axis)
        value = creature[..., :3].max(-1)
        assert value[solid & ~inner].mean() < 0.8 * value[inner].mean()


def test_the_control_ellipse_has_the_mean_colour_centroid_and_second_moments(creatures):
    def summary(image):
        alpha = image[..., 3] / image[..., 3].sum(dtype=np.float64)
        y, x = np.indices(alpha.shape)
        u, v = x - (x * alpha).sum(), y - (y * alpha).sum()
        moments = [(m * alpha).sum() for m in (x, y, u * u, u * v, v * v)]
        return np.array([*moments, *(image[..., :3] * alpha[..., None]).sum((0, 1))])

    for creature in creatures[:72]:
        ellipse = ellipse_of(creature)
        assert len(np.unique(ellipse[ellipse[..., 3] > 0][:, :3], axis=0)) == 1
        rim = np.concatenate([ellipse[[0, -1], :, 3].ravel(), ellipse[:, [0, -1], 3].ravel()])
        if not rim.any():  # else the frame cuts it off
            np.testing.assert_allclose(summary(ellipse), summary(creature), rtol=0.01, atol=0.6)
