"""Losses against their logarithms, losses and penalty against analytic gradients, averaging against its half-life."""

import pytest
import torch
from torch import nn

from components.training.ema import ema_beta, update_average
from components.training.losses import LOSSES, discriminator_loss, generator_loss, gradient_penalty, path_lengths


def test_losses_are_the_logarithms_of_the_paper():
    real, fake = torch.tensor([0.3, -2.0]), torch.tensor([1.5, -0.7])
    probability = torch.sigmoid
    assert generator_loss(fake).item() == pytest.approx((-probability(fake).log()).mean().item(), rel=1e-6)
    expected = (-probability(real).log()).mean() - (1 - probability(fake)).log().mean()
    assert discriminator_loss(real, fake).item() == pytest.approx(expected.item(), rel=1e-5)


def test_relativistic_losses_are_the_logarithms_of_the_paper():
    real, fake = torch.tensor([0.3, -2.0, 1.0]), torch.tensor([1.5, -0.7, 0.2])
    loss = LOSSES["relativistic"]
    pairs = torch.sigmoid(real - fake)
    assert loss.discriminator(real, fake).item() == pytest.approx(-pairs.log().mean().item(), rel=1e-6)
    assert loss.generator(real, fake).item() == pytest.approx(-(1 - pairs).log().mean().item(), rel=1e-6)


def test_relativistic_losses_see_differences_only():
    real, fake = torch.randn(2, 16, dtype=torch.float64)
    loss = LOSSES["relativistic"]
    for function in (loss.discriminator, loss.generator):
        torch.testing.assert_close(function(real + 5, fake + 5), function(real, fake))
        assert not torch.isclose(function(real + 5, fake), function(real, fake))


def test_analytic_gradients_of_the_losses():
    """d softplus(-t) / dt = -sigmoid(-t), in each logit, a mean over images."""
    real, fake = torch.randn(2, 4, dtype=torch.float64).requires_grad_().unbind()
    sigmoid, difference = torch.sigmoid, (real - fake).detach()
    expected = {
        ("logistic", "generator"): (None, -sigmoid(-fake)),
        ("logistic", "discriminator"): (-sigmoid(-real), sigmoid(fake)),
        ("relativistic", "generator"): (sigmoid(difference), -sigmoid(difference)),
        ("relativistic", "discriminator"): (-sigmoid(-difference), sigmoid(-difference)),
    }
    for (name, network), gradients in expected.items():
        value = getattr(LOSSES[name], network)(real, fake)
        for own, analytic in zip(torch.autograd.grad(value, (real, fake), allow_unused=True), gradients, strict=True):
            assert (own is None) == (analytic is None), (name, network)
            if own is not None and analytic is not None:
                torch.testing.assert_close(own, analytic.detach() / 4)


def test_penalty_of_a_quadratic_is_its_analytic_gradient():
    """D(x) = ½ xᵀAx with A symmetric has ∇D = Ax: the penalty is ‖Ax‖², its gradient in x 2AᵀAx, a mean over images."""
    torch.manual_seed(0)
    matrix = torch.randn(12, 12, dtype=torch.float64)
    matrix = matrix + matrix.T
    images = torch.randn(5, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    flat = images.flatten(1)
    penalty = gradient_penalty(images, 0.5 * ((flat @ matrix) * flat).sum(1))
    expected = (flat @ matrix).square().sum(1).mean()
    assert penalty.item() == pytest.approx(expected.item(), rel=1e-6)
    (gradient,) = torch.autograd.grad(penalty, images)
    torch.testing.assert_close(gradient.flatten(1), 2 * flat @ matrix @ matrix / 5, rtol=1e-5, atol=1e-5)


def test_wasserstein_losses_are_those_of_the_papers():
    real, fake = torch.tensor([0.5, -2.0, 3.0]), torch.tensor([1.5, -0.5, 0.2])
    loss = LOSSES["wasserstein"]
    assert loss.generator(real, fake).item() == pytest.approx(-1.2 / 3)
    assert loss.discriminator(real, fake).item() == pytest.approx(1.2 / 3 - 1.5 / 3 + 0.001 * 13.25 / 3)


def test_penalty_to_a_norm_of_a_quadratic_is_its_analytic_gradient():
    """D(x) = ½ s ‖x‖² has ∇D = s x: the penalty to norm 1 is (s‖x‖ - 1)², its gradient in s 2 ‖x‖ (s‖x‖ - 1)."""
    images = torch.randn(5, 3, 2, 2, requires_grad=True)
    scale = torch.tensor(0.7, requires_grad=True)
    penalty = gradient_penalty(images, 0.5 * scale * images.square().sum((1, 2, 3)), norm=1.0)
    norms = images.detach().flatten(1).norm(dim=1)
    assert penalty.item() == pytest.approx((0.7 * norms - 1).square().mean().item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(penalty, scale)
    assert gradient.item() == pytest.approx((2 * norms * (0.7 * norms - 1)).mean().item(), rel=1e-4)


@pytest.mark.parametrize("norm", [0.0, 1.0])
def test_penalty_of_a_flat_discriminator_is_finite(norm):
    images, scale = torch.randn(2, 3, 2, 2, requires_grad=True), torch.zeros((), requires_grad=True)
    penalty = gradient_penalty(images, scale * images.sum((1, 2, 3)), norm)
    assert penalty.item() == norm**2
    (gradient,) = torch.autograd.grad(penalty, scale)
    assert gradient.item() == 0


def test_an_average_of_half_life_0_is_the_model_to_the_bit():
    average, model = nn.Linear(50, 50), nn.Linear(50, 50)
    update_average(average, model, ema_beta(16, half_life_kimg=0))
    assert torch.equal(average.weight, model.weight)


@pytest.mark.parametrize(("batch", "steps"), [(32, 625), (128, 156.25)])
def test_half_life(batch, steps):
    assert ema_beta(batch, half_life_kimg=20) ** steps == pytest.approx(0.5)


def test_average_moves_by_beta_and_copies_buffers():
    average, model = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    average.weight.data.fill_(1.0)
    model.weight.data.fill_(0.0)
    model.running_mean.fill_(5.0)
    beta = ema_beta(10, half_life_kimg=0.1)
    for _ in range(10):
        update_average(average, model, beta)
    torch.testing.assert_close(average.weight.data, torch.full((2,), 0.5))
    torch.testing.assert_close(average.running_mean, torch.full((2,), 5.0))


def test_path_lengths_of_a_linear_generator_are_its_jacobian_s():
    """Images A·w of two layers: ‖Jᵀy‖ is the root of the mean over layers of ‖Aₗᵀy‖² / (H·W)."""
    torch.manual_seed(0)
    matrices = torch.randn(2, 12, 5, dtype=torch.float64, requires_grad=True)  # [L, C·H·W, D]
    ws = torch.randn(3, 2, 5, dtype=torch.float64, requires_grad=True)
    y = torch.randn(3, 3, 2, 2, dtype=torch.float64)
    images = torch.einsum("nld,lpd->np", ws, matrices).reshape(3, 3, 2, 2)
    lengths = path_lengths(images, ws, y)
    pulled = torch.einsum("np,lpd->nld", y.reshape(3, 12), matrices) / 2
    expected = pulled.square().sum(2).mean(1).sqrt()
    torch.testing.assert_close(lengths, expected)
    own, analytic = (
        torch.autograd.grad((values - 0.7).square().mean(), matrices, retain_graph=True)[0]
        for values in (lengths, expected)
    )
    torch.testing.assert_close(own, analytic)
