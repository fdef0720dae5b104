"""Augmentation against scipy's warp, the papers' formulas in NumPy, their distributions, and numerical derivatives."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from components.training.augment import _NUMBERS, _TRANSFORMS, DRAWS, adapt, augment, draw

CPU = torch.device("cpu")
HALF = torch.tensor(0.5)
KINDS = ("ada", "diffaugment")
COLOURS = ("brightness", "contrast", "luma flip", "hue", "saturation")
GEOMETRIC = tuple(name for name in _TRANSFORMS if name not in COLOURS)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(count, size, dtype=torch.float32, seed=0, channels=3):
    """[count, channels, H, W], with (H, W) or a square's side as size."""
    height, width = size if isinstance(size, tuple) else (size, size)
    return torch.randn(count, channels, height, width, generator=rng(seed), dtype=torch.float64).to(dtype)


def only(count, numbers):
    """Draws with which, for p = ½, ADA does these transforms alone, in the way that their number in [0, 1) says."""
    draws = torch.full((count, DRAWS), 0.5)
    draws[:, : len(_TRANSFORMS)] = 0.999
    for name, number in numbers.items():
        draws[:, len(_TRANSFORMS) + _NUMBERS.index(name)] = torch.as_tensor(number)
        if name in _TRANSFORMS:
            draws[:, _TRANSFORMS.index(name)] = 0
    return draws


def at_random(count, *names, p=1.0):
    """Draws that leave these transforms to chance, and p."""
    draws, random = only(count, {}), draw(count, rng(), CPU)
    draws[:, len(_TRANSFORMS) :] = random[:, len(_TRANSFORMS) :]
    for name in names:
        draws[:, _TRANSFORMS.index(name)] = random[:, _TRANSFORMS.index(name)]
    draws[:, [i for i, name in enumerate(_TRANSFORMS) if name not in names]] = 1
    return draws, torch.tensor(p)


# ── ADA against the paper's own composition ───────────────────────────────────────────────────────────────────────────


def paper(row, p, height, width):
    """The forward map of pixels (x, y, 1) and that of colours (r, g, b, 1), one matrix after another."""
    gates, numbers = row[: len(_TRANSFORMS)], dict(zip(_NUMBERS, row[len(_TRANSFORMS) :], strict=True))
    p_of = {"pre-rotation": 1 - math.sqrt(1 - p), "post-rotation": 1 - math.sqrt(1 - p)}
    done = {name: gate < p_of.get(name, p) for name, gate in zip(_TRANSFORMS, gates, strict=True)}
    done["integer translation y"], done["fractional translation y"] = (
        done["integer translation"],
        done["fractional translation"],
    )
    uniform = {name: 2 * number - 1 if done[name] else 0.0 for name, number in numbers.items()}
    normal = {name: stats.norm.ppf(number) if done[name] else 0.0 for name, number in numbers.items()}

    def place(matrix, translation=(0, 0)):
        return np.block([[np.asarray(matrix, float), np.asarray(translation, float)[:, None]], [0, 0, 1]])

    def rotation(angle):
        return place([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])

    sides, unit = {"": width, " y": height}, math.pi / 2 if height == width else math.pi
    centre = np.array([width - 1, height - 1]) / 2
    scale, stretch = 2 ** (0.2 * normal["scale"]), 2 ** (0.2 * normal["anisotropy"])
    geometry = np.eye(3)
    for step in (
        place(np.eye(2), -centre),
        place(np.diag([-1 if uniform["x-flip"] > 0 else 1, 1])),
        rotation(unit * math.floor(2 * uniform["quarter turns"])),
        place(np.eye(2), [round(0.125 * s * uniform[f"integer translation{axis}"]) for axis, s in sides.items()]),
        place(np.diag([scale, scale])),
        rotation(math.pi * uniform["pre-rotation"]),
        place(np.diag([stretch, 1 / stretch])),
        rotation(math.pi * uniform["post-rotation"]),
        place(np.eye(2), [0.125 * s * normal[f"fractional translation{axis}"] for axis, s in sides.items()]),
        place(np.eye(2), centre),
    ):
        geometry = step @ geometry

    luma = np.ones(3) / math.sqrt(3)
    projection, cross = np.outer(luma, luma), np.cross(np.eye(3), luma)  # np.cross: rows e_i × v; v × u = cross @ u
    turn = math.pi * uniform["hue"]
    rodrigues = math.cos(turn) * np.eye(3) + math.sin(turn) * cross + (1 - math.cos(turn)) * projection
    colour = np.eye(4)
    for matrix, offset in (
        (np.eye(3), 0.2 * normal["brightness"]),
        (2 ** (0.5 * normal["contrast"]) * np.eye(3), 0),
        (np.eye(3) - 2 * projection * (uniform["luma flip"] > 0), 0),
        (rodrigues, 0),
        (projection + 2 ** normal["saturation"] * (np.eye(3) - projection), 0),
    ):
        colour = np.block([[matrix, np.full((3, 1), offset)], [np.zeros((1, 3)), 1]]) @ colour
    return geometry, colour


def warp(image, geometry):
    """image [C, H, W] under a forward map of (x, y, 1), by scipy."""
    inverse = np.linalg.inv(geometry)
    rows = inverse[[1, 0, 2]][:, [1, 0, 2]]  # scipy's order is (y, x)
    return np.stack([ndimage.affine_transform(channel, rows, order=1, mode="reflect") for channel in image])


@pytest.mark.parametrize("size", [(7, 7), (16, 16), (12, 16), (16, 12), (48, 64)])
@pytest.mark.parametrize("p", [0.3, 0.8, 1.0])
def test_ada_is_the_papers_composition_warped_by_scipy(p, size):
    images, draws = noise(12, size, torch.float64), draw(12, rng(1), CPU)
    out = augment("ada", images, draws, torch.tensor(p)).numpy()
    for image, row, got in zip(images.numpy(), draws.double().numpy(), out, strict=True):
        geometry, colour = paper(row, p, *size)
        expected = np.tensordot(colour[:3, :3], warp(image, geometry), 1) + colour[:3, 3, None, None]
        np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize("size", [(16, 16), (12, 20)])
@pytest.mark.parametrize("name", GEOMETRIC)
def test_each_geometric_transform_alone_is_scipys_warp(name, size):
    """Without the others, so that a mistake in one is not another's excuse; numbers of either sign."""
    images = noise(4, size, torch.float64)
    draws = only(
        4, {name: [0.03, 0.3, 0.7, 0.94], f"{name} y" if f"{name} y" in _NUMBERS else name: [0.9, 0.2, 0.6, 0.1]}
    )
    out = augment("ada", images, draws, HALF).numpy()
    for image, row, got in zip(images.numpy(), draws.double().numpy(), out, strict=True):
        geometry, colour = paper(row, 0.5, *size)
        assert (colour == np.eye(4)).all()
        np.testing.assert_allclose(got, warp(image, geometry), atol=1e-6)


# ── What must be exact ────────────────────────────────────────────────────────────────────────────────────────────────


def moved(images, right, down):
    """Moved by whole pixels, the edges reflected."""
    size = images.shape[-1]
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (size, size), (size, size)), mode="symmetric")
    return torch.from_numpy(padded[:, :, size - down : 2 * size - down, size - right : 2 * size - right])


@pytest.mark.parametrize("size", [8, 64, 256])
@pytest.mark.parametrize("channels", [3, 4])
def test_flip_quarter_turn_and_whole_pixels_are_exact(size, channels):
    images, pixels = noise(2, size, channels=channels), size // 8
    flip = {"x-flip": 0.9}
    assert torch.equal(augment("ada", images, only(2, flip), HALF), images.flip(3))
    assert torch.equal(augment("ada", images, only(2, {"x-flip": 0.1}), HALF), images)
    for number, clockwise in ((0.1, -2), (0.3, -1), (0.6, 0), (0.9, 1)):
        turned = torch.rot90(images, -clockwise, (2, 3))
        assert torch.equal(augment("ada", images, only(2, {"quarter turns": number}), HALF), turned)
        shift = {"integer translation": 0.999, "integer translation y": 0.001}
        all_three = only(2, {"x-flip": 0.9, "quarter turns": number, **shift})
        expected = moved(torch.rot90(images.flip(3), -clockwise, (2, 3)), pixels, -pixels)
        assert torch.equal(augment("ada", images, all_three, HALF), expected)


def test_what_is_not_square_is_turned_by_half_turns_exactly():
    images = noise(2, (32, 64))
    for number, half in ((0.1, False), (0.3, True), (0.6, False), (0.9, True)):
        turned = images.flip(2, 3) if half else images
        assert torch.equal(augment("ada", images, only(2, {"quarter turns": number}), HALF), turned)
    both = only(2, {"integer translation": 0.999, "integer translation y": 0.999})
    expected = np.pad(images.numpy(), ((0, 0), (0, 0), (4, 0), (8, 0)), mode="symmetric")[:, :, :32, :64]
    assert torch.equal(augment("ada", images, both, HALF), torch.from_numpy(expected))


def test_a_disc_in_an_oblong_stays_a_disc():
    """Turned and scaled about the middle; a turn of the [-1, 1] square would shear it into an ellipse."""
    y, x = np.mgrid[:48, :64]
    squares = (x - 31.5) ** 2 + (y - 23.5) ** 2
    disc = torch.from_numpy((squares < 15**2) * 2.0 - 1).expand(8, 3, -1, -1)
    turns = {"pre-rotation": torch.linspace(0.05, 0.95, 8), "scale": 0.3}
    smaller = squares < (15 * 2 ** (0.2 * stats.norm.ppf(0.3))) ** 2
    for image in augment("ada", disc.clone(), only(8, turns), HALF).numpy():
        wrong = ((image[0] > 0) != smaller) & (squares < 24**2)  # reflections come in farther out
        assert wrong.sum() < 0.04 * smaller.sum()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", [3, 4])
def test_p_0_gives_the_images_back(dtype, memory_format, channels):
    images = noise(64, 32, dtype, channels=channels).contiguous(memory_format=memory_format)
    draws = draw(64, rng(), CPU)
    draws[0, : len(_TRANSFORMS)] = 0
    out = augment("ada", images, draws, torch.tensor(0.0))
    assert out.dtype == dtype
    assert torch.equal(out, images)


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_is_computed_in_float32_and_rounded_once(kind):
    images, draws = noise(8, 16, torch.bfloat16), draw(8, rng(), CPU)
    expected = augment(kind, images.float(), draws, HALF)
    assert not torch.equal(expected, images.float())
    assert torch.equal(augment(kind, images, draws, HALF), expected.bfloat16())


@pytest.mark.parametrize("extreme", [0.0, 1 - 2**-24])
def test_the_least_and_the_greatest_draw_are_finite(extreme):
    draws = only(1, dict.fromkeys(_NUMBERS, extreme))
    assert augment("ada", noise(1, 16), draws, HALF).isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_slice_of_the_batch_is_a_slice_of_the_result(kind):
    images, draws = noise(12, 16), draw(12, rng(), CPU)
    whole = augment(kind, images, draws, HALF)
    part = augment(kind, images[3:8], draws[3:8], HALF)
    torch.testing.assert_close(part, whole[3:8], rtol=1e-5, atol=1e-5)


# ── ADA's colours, each alone ─────────────────────────────────────────────────────────────────────────────────────────


def recoloured(name, number):
    """Pixels [3, 256] before and after."""
    images = noise(1, 16, torch.float64)
    out = augment("ada", images, only(1, {name: number}), HALF)
    return images.flatten(2)[0].numpy(), out.flatten(2)[0].numpy()


@pytest.mark.parametrize("number", [0.02, 0.4, 0.97])
def test_brightness_adds_contrast_and_saturation_scale(number):
    z = stats.norm.ppf(np.float32(number))
    before, after = recoloured("brightness", number)
    np.testing.assert_allclose(after, before + 0.2 * z, atol=1e-7)
    before, after = recoloured("contrast", number)
    np.testing.assert_allclose(after, before * 2 ** (0.5 * z), atol=1e-6)
    before, after = recoloured("saturation", number)
    grey = before.mean(0)
    np.testing.assert_allclose(after, grey + (before - grey) * 2**z, atol=1e-6)


def test_luma_flip_is_the_householder_reflection():
    before, after = recoloured("luma flip", 0.9)
    normal = np.ones((3, 1)) / math.sqrt(3)
    np.testing.assert_allclose(after, before - 2 * normal @ (normal.T @ before), atol=1e-12)
    before, after = recoloured("luma flip", 0.1)
    assert (before == after).all()


@pytest.mark.parametrize("number", [0.0, 0.1, 0.8])
def test_hue_is_rodrigues_rotation_about_grey_and_keeps_luma(number):
    before, after = recoloured("hue", number)
    angle, axis = math.pi * (2 * np.float32(number) - 1), np.ones(3) / math.sqrt(3)
    turned = before * math.cos(angle) + np.cross(axis, before.T).T * math.sin(angle)
    np.testing.assert_allclose(after, turned + np.outer(axis, axis @ before) * (1 - math.cos(angle)), atol=1e-6)
    np.testing.assert_allclose(after.sum(0), before.sum(0), atol=1e-12)


# ── ADA's chances ─────────────────────────────────────────────────────────────────────────────────────────────────────

COUNT, SIZE = 4000, 16
EITHER = ("pre-rotation", "post-rotation")
# The share of applications that change anything: a flip half of them, a translation of ±2 pixels all but (¼)² of them.
EFFECTIVE = {"x-flip": 1 / 2, "luma flip": 1 / 2, "quarter turns": 3 / 4, "integer translation": 15 / 16}


@pytest.mark.parametrize("names", [*((name,) for name in _TRANSFORMS), EITHER])
def test_each_transform_happens_with_probability_p(names):
    p = 0.3
    images = noise(1, SIZE).expand(COUNT, -1, -1, -1)
    draws, chance = at_random(COUNT, *names, p=p)
    changed = (augment("ada", images, draws, chance) - images).abs().amax((1, 2, 3)) > 1e-4
    expected = p * EFFECTIVE.get(names[0], 1.0)
    if len(names) == 1 and names[0] in EITHER:
        expected = 1 - math.sqrt(1 - p)
    assert abs(changed.double().mean() - expected) < 4 * math.sqrt(expected * (1 - expected) / COUNT)


def places(name):
    """Where the middle of the result comes from: place [N, 2] and derivatives [N, 2 (of), 2 (by)], in pixels."""
    ramp = torch.arange(SIZE, dtype=torch.float64) - (SIZE - 1) / 2
    x, y = ramp.expand(SIZE, SIZE), ramp[:, None].expand(SIZE, SIZE)
    images = torch.stack([x, y, x]).expand(COUNT, -1, -1, -1)
    centre = slice(SIZE // 2 - 1, SIZE // 2 + 1)
    middle = augment("ada", images, *at_random(COUNT, name))[:, :2, centre, centre]
    by_x, by_y = middle[:, :, 0, 1] - middle[:, :, 0, 0], middle[:, :, 1, 0] - middle[:, :, 0, 0]
    return middle.mean((2, 3)).numpy(), torch.stack([by_x, by_y], dim=2).numpy()


def distributed(values, distribution):
    """Kolmogorov and Smirnov's test; a right distribution fails it once in ten thousand seeds."""
    return stats.kstest(values, distribution.cdf).pvalue > 1e-4


def test_scale_and_anisotropy_are_lognormal():
    _, derivative = places("scale")
    assert distributed(-np.log2(derivative[:, 0, 0]), stats.norm(0, 0.2))
    np.testing.assert_allclose(derivative[:, 0, 0], derivative[:, 1, 1], rtol=1e-9)
    _, derivative = places("anisotropy")
    assert distributed(-np.log2(derivative[:, 0, 0]), stats.norm(0, 0.2))
    np.testing.assert_allclose(np.linalg.det(derivative), 1, rtol=1e-9)


@pytest.mark.parametrize("name", EITHER)
def test_rotations_are_of_any_angle(name):
    _, derivative = places(name)
    angle = np.arctan2(derivative[:, 1, 0], derivative[:, 0, 0])
    assert distributed(angle, stats.uniform(-math.pi, 2 * math.pi))
    np.testing.assert_allclose(derivative[:, 0, 1], -np.sin(angle), atol=1e-9)


def test_translations():
    place, derivative = places("fractional translation")
    whole = np.isclose(derivative, np.eye(2)).all((1, 2)) & (np.abs(place) < SIZE / 2 - 1).all(
        1
    )  # away from the mirror
    limit = (SIZE / 2 - 1) / (0.125 * SIZE)
    assert whole.mean() > 0.99
    for axis in (0, 1):
        assert distributed(place[whole, axis] / (0.125 * SIZE), stats.truncnorm(-limit, limit))
    assert abs(np.corrcoef(place[whole].T)[0, 1]) < 0.06
    place, _ = places("integer translation")
    for axis in (0, 1):
        values, counts = np.unique(place[:, axis], return_counts=True)
        assert values.tolist() == [-2, -1, 0, 1, 2]
        assert stats.chisquare(counts, COUNT * np.array([1, 2, 2, 2, 1]) / 8).pvalue > 1e-4


def test_quarter_turns_are_equally_likely():
    _, derivative = places("quarter turns")
    turns = np.round(np.arctan2(derivative[:, 1, 0], derivative[:, 0, 0]) / (math.pi / 2)).astype(int) % 4
    assert stats.chisquare(np.bincount(turns, minlength=4)).pvalue > 1e-4


def test_colours_are_distributed_as_in_the_paper():
    pure = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)[:, None, None].expand(COUNT, 3, 4, 4)

    def pixel(name):
        return augment("ada", pure, *at_random(COUNT, name))[:, :, 0, 0].numpy()

    assert distributed(pixel("brightness")[:, 1], stats.norm(0, 0.2))
    assert distributed(np.log2(pixel("contrast")[:, 0]), stats.norm(0, 0.5))
    saturation = pixel("saturation")
    assert distributed(np.log2(saturation[:, 0] - saturation[:, 1]), stats.norm(0, 1))
    red, green, blue = pixel("hue").T
    assert distributed(
        np.arctan2((green - blue) * math.sqrt(3), 2 * red - green - blue), stats.uniform(-math.pi, 2 * math.pi)
    )


# ── Derivatives ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_differentiable_twice(kind, channels):
    images = (0.7 * noise(2, (5, 4), torch.float64, channels=channels)).requires_grad_()
    draws = draw(2, rng(3), CPU)

    def cubed(x):
        """Linear maps have no second derivative of their own."""
        return augment(kind, x**3, draws, torch.tensor(0.9))

    assert torch.autograd.gradcheck(cubed, images)
    assert torch.autograd.gradgradcheck(cubed, images)


@pytest.mark.parametrize("kind", KINDS)
def test_r1_before_augmentation_reaches_the_discriminators_weights(kind):
    """D(x) = Σ w · T(x)²/2 for a linear T: ∇D = Tᵀ(w · T x), whose square's gradient in w is T x · 2 T ∇D."""
    p, draws = torch.tensor(0.9), draw(3, rng(3), CPU)
    images = noise(3, 8, torch.float64).requires_grad_()
    weight = noise(1, 8, torch.float64, seed=1).requires_grad_()
    seen = augment(kind, images, draws, p)
    (gradient,) = torch.autograd.grad((weight * seen.square() / 2).sum(), images, create_graph=True)
    (got,) = torch.autograd.grad(gradient.square().sum(), weight)

    constant = augment(kind, torch.zeros_like(images), draws, p)  # what T adds
    expected = (seen * 2 * (augment(kind, gradient, draws, p) - constant)).sum(0, keepdim=True)
    torch.testing.assert_close(got, expected.detach(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_depends_on_values(kind, channels):
    """The meta device has none: reading one raises."""
    images, draws, p = (torch.empty(shape, device="meta") for shape in ((4, channels, 8, 8), (4, DRAWS), ()))
    out = augment(kind, images.requires_grad_(), draws, p)
    assert out.shape == images.shape
    assert torch.autograd.grad(out.sum(), images)[0].shape == images.shape
    assert adapt(p, p, target=0.6, images=64, ada_kimg=500, max_p=0.8).shape == ()


# ── DiffAugment ───────────────────────────────────────────────────────────────────────────────────────────────────────


def diffaugmented(image, row):
    """image [3, H, W] pixel by pixel."""
    sides = image.shape[1:]
    image = image + (row[0] - 0.5)
    grey = image.mean(0)
    image = grey + (image - grey) * 2 * row[1]
    image = image.mean() + (image - image.mean()) * (row[2] + 0.5)
    farthest, cutout = [round(side / 8) for side in sides], [(side + 1) // 2 for side in sides]
    down, right = (int(row[3 + a] * (2 * farthest[a] + 1)) - farthest[a] for a in (0, 1))
    top, left = (int(row[5 + a] * (sides[a] + 1 - cutout[a] % 2)) - cutout[a] // 2 for a in (0, 1))
    out = np.zeros_like(image)
    for i in range(sides[0]):
        for j in range(sides[1]):
            cut = top <= i < top + cutout[0] and left <= j < left + cutout[1]
            if 0 <= i - down < sides[0] and 0 <= j - right < sides[1] and not cut:
                out[:, i, j] = image[:, i - down, j - right]
    return out


@pytest.mark.parametrize("size", [(6, 6), (16, 16), (6, 9), (24, 16)])
def test_diffaugment_is_its_loops(size):
    images, draws = noise(40, size, torch.float64), draw(40, rng(2), CPU)
    draws[0], draws[1] = 0, 1 - 2**-24
    out = augment("diffaugment", images, draws, HALF).numpy()
    for image, row, got in zip(images.numpy(), draws.double().numpy(), out, strict=True):
        np.testing.assert_allclose(got, diffaugmented(image, row), atol=1e-12)


def test_diffaugment_does_not_depend_on_p():
    images, draws = noise(8, 16), draw(8, rng(), CPU)
    ones = [augment("diffaugment", images, draws, torch.tensor(p)) for p in (0.0, 1.0)]
    assert torch.equal(*ones)
    assert not torch.equal(ones[0], images)


# ── Draws and p ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_draws_are_uniform_and_follow_their_generator():
    draws = draw(2000, rng(5), CPU)
    assert draws.shape == (2000, DRAWS)
    assert draws.dtype == torch.float32
    assert distributed(draws.flatten().numpy(), stats.uniform())
    assert torch.equal(draws, draw(2000, rng(5), CPU))


@pytest.mark.parametrize(
    ("p", "sign", "expected"),
    [(0.3, 0.7, 0.3 + 64 / 500_000), (0.3, 0.5, 0.3 - 64 / 500_000), (0.3, 0.6, 0.3), (0.8, 0.9, 0.8), (0, -1, 0)],
)
def test_p_follows_the_sign_by_its_step_within_its_bounds(p, sign, expected):
    adapted = adapt(torch.tensor(p), torch.tensor(sign), target=0.6, images=64, ada_kimg=500, max_p=0.8)
    assert adapted.item() == pytest.approx(expected, abs=1e-7)


def test_p_goes_from_0_to_1_in_ada_kimg():
    p = torch.tensor(0.0)
    for _ in range(1000):
        p = adapt(p, torch.tensor(1.0), target=0.6, images=100, ada_kimg=200, max_p=1.0)
    assert p.item() == pytest.approx(0.5, abs=1e-4)
