"""Augmentation of premultiplied RGBA: what is done to RGB where it is opaque, nothing where it is clear."""

import numpy as np
import pytest
import torch

from components.training.augment import augment, draw

CPU = torch.device("cpu")
KINDS = ("ada", "diffaugment")
P = torch.tensor(0.8)


def sprites(count, height=12, width=12, seed=0):
    """Colour c [N, 3, H, W] and α [N, 1, H, W] in [0, 1], independent and uniform, with some α of 0 and some of 1."""
    random = torch.Generator().manual_seed(seed)
    colour, alpha = (torch.rand(count, c, height, width, generator=random, dtype=torch.float64) for c in (3, 1))
    return colour, (1.5 * alpha - 0.25).clamp(0, 1)


def premultiplied(colour, alpha):
    """What is trained on: 2p - 1."""
    return 2 * torch.cat([colour * alpha, alpha], dim=1) - 1


def draws_of(count, seed=1):
    return draw(count, torch.Generator().manual_seed(seed), CPU)


def still(draws):
    """The same draws, without whatever moves pixels: ADA's colours alone; DiffAugment's keep their numbers."""
    draws = draws.clone()
    draws[:, [0, 1, 2, 3, 4, 5, 11, 12]] = 0.9999
    return draws


def over_grey(images):
    """s, the picture over mid-grey in [-1, 1]."""
    return images[:, :3] + (1 - images[:, 3:]) / 2


@pytest.mark.parametrize("size", [(12, 12), (9, 16)])
@pytest.mark.parametrize("kind", KINDS)
def test_opaque_rgba_is_rgb(kind, size):
    """Seen over mid-grey, which is what DiffAugment brings in; α tells where that is."""
    colour, _ = sprites(40, *size)
    draws, opaque = draws_of(40), torch.ones(40, 1, *size)
    out = augment(kind, premultiplied(colour, opaque), draws, P)
    torch.testing.assert_close(over_grey(out), augment(kind, 2 * colour - 1, draws, P), rtol=0, atol=1e-12)
    if kind == "ada":
        torch.testing.assert_close(out[:, :3], augment(kind, 2 * colour - 1, draws, P), rtol=0, atol=1e-12)
        torch.testing.assert_close(out[:, 3:], torch.ones_like(out[:, 3:]), rtol=0, atol=1e-12)
    else:
        kept = out[:, 3:] == 1
        assert 0.4 < kept.double().mean() < 0.9
        assert (out.permute(0, 2, 3, 1)[~kept[:, 0]] == -1).all()


def test_adas_colours_are_those_of_unpremultiplied_pixels():
    colour, alpha = sprites(60)
    draws = still(draws_of(60))
    changed = (augment("ada", 2 * colour - 1, draws, P) + 1) / 2  # not clamped
    assert (changed - colour).abs().amax((1, 2, 3)).median() > 0.1
    out = augment("ada", premultiplied(colour, alpha), draws, P)
    torch.testing.assert_close(out, premultiplied(changed, alpha), rtol=0, atol=1e-12)


def test_diffaugments_colours_are_those_of_unpremultiplied_pixels_about_their_visible_mean():
    """In NumPy, pixel by pixel; what it moves is found by a picture whose α is 1 and whose colours are its places."""
    colour, alpha = sprites(30)
    draws = draws_of(30)
    out = augment("diffaugment", premultiplied(colour, alpha), draws, P).numpy()
    for image, opacity, row, got in zip(colour.numpy(), alpha.numpy(), draws.double().numpy(), out, strict=True):
        c = 2 * image - 1 + (row[0] - 0.5)
        grey = c.mean(0)
        c = grey + (c - grey) * 2 * row[1]
        mean = (c * opacity).sum() / (3 * opacity.sum())
        c = mean + (c - mean) * (row[2] + 0.5)
        expected = 2 * np.concatenate([(c + 1) / 2 * opacity, opacity]) - 1
        np.testing.assert_allclose(got, moved(expected, row), atol=1e-12)


def moved(image, row):
    """image [4, S, S] as DiffAugment's translation and cutout leave it."""
    size = image.shape[-1]
    farthest, cutout = round(size / 8), size // 2
    down, right = (int(number * (2 * farthest + 1)) - farthest for number in row[3:5])
    top, left = (int(number * (size + 1 - cutout % 2)) - cutout // 2 for number in row[5:7])
    out = np.full_like(image, -1)
    wide = np.pad(image, ((0, 0), (farthest, farthest), (farthest, farthest)), constant_values=-1)
    out[:] = wide[:, farthest - down :, farthest - right :][:, :size, :size]
    out[:, max(top, 0) : max(top + cutout, 0), max(left, 0) : max(left + cutout, 0)] = -1
    return out


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_transparent_stays_transparent_black(kind):
    images = torch.full((50, 4, 12, 12), -1.0, dtype=torch.float64)
    torch.testing.assert_close(augment(kind, images, draws_of(50), P), images, rtol=0, atol=1e-12)
    colour, alpha = sprites(50)
    out = augment(kind, premultiplied(colour, alpha * (alpha == 1)), draws_of(50), P)
    clear = out[:, 3] < -1 + 1e-9
    assert clear.double().mean() > 0.3
    assert (out[:, :3].permute(0, 2, 3, 1)[clear] + 1).abs().max() < 1e-9


def test_ada_moves_all_channels_alike():
    """With each channel a copy of α, and nothing but geometry, they stay copies."""
    _, alpha = sprites(40)
    draws = draws_of(40)
    draws[:, 6:11] = 0.9999  # colours do not happen
    out = augment("ada", (2 * alpha - 1).expand(-1, 4, -1, -1), draws, P)
    assert (out - (2 * alpha - 1)).abs().amax((1, 2, 3)).median() > 0.5
    for channel in range(3):
        torch.testing.assert_close(out[:, channel], out[:, 3], rtol=0, atol=1e-12)


def test_diffaugment_does_not_mind_empty_canvas():
    """The mean is the visible one: a sprite on a wider canvas gets the same colours."""
    colour, alpha = sprites(20, 8, 8)
    draws = draws_of(20)
    draws[:, 3:5], draws[:, 5:7] = 0.5, 0  # not moved; cut at the upper left corner
    small = augment("diffaugment", premultiplied(colour, alpha), draws, P)
    wide = torch.nn.functional.pad(premultiplied(colour, alpha), (16, 0, 16, 0), value=-1.0)
    large = augment("diffaugment", wide, draws, P)
    torch.testing.assert_close(large[:, :, 20:, 20:], small[:, :, 4:, 4:], rtol=0, atol=1e-12)


@pytest.mark.parametrize("alpha", [-1.5, -1.0, -0.99])
def test_diffaugment_of_next_to_nothing_is_finite(alpha):
    images = torch.cat([torch.randn(9, 3, 12, 12), torch.full((9, 1, 12, 12), alpha)], dim=1).requires_grad_()
    out = augment("diffaugment", images, draws_of(9), P)
    (gradient,) = torch.autograd.grad(out.square().sum(), images)
    assert out.abs().max() < 20
    assert gradient.abs().max() < 200
