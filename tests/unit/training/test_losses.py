"""Losses against their logarithms, the gradient penalty against analytic gradients, averaging against its half-life."""

import pytest
import torch
from torch import nn

from components.training.ema import ema_beta, update_average
from components.training.losses import discriminator_loss, generator_loss, r1_penalty


def test_losses_are_the_logarithms_of_the_paper():
    real, fake = torch.tensor([0.3, -2.0]), torch.tensor([1.5, -0.7])
    probability = torch.sigmoid
    assert generator_loss(fake).item() == pytest.approx((-probability(fake).log()).mean().item(), rel=1e-6)
    expected = (-probability(real).log()).mean() - (1 - probability(fake)).log().mean()
    assert discriminator_loss(real, fake).item() == pytest.approx(expected.item(), rel=1e-5)


def test_r1_of_a_quadratic_is_its_analytic_gradient():
    """D(x) = ½ xᵀAx with A symmetric has ∇D = Ax, so R1 is ‖Ax‖² and its gradient in x 2AᵀAx, the mean over images."""
    torch.manual_seed(0)
    matrix = torch.randn(12, 12, dtype=torch.float64)
    matrix = matrix + matrix.T
    images = torch.randn(5, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    flat = images.flatten(1)
    penalty = r1_penalty(images, 0.5 * ((flat @ matrix) * flat).sum(1))
    expected = (flat @ matrix).square().sum(1).mean()
    assert penalty.item() == pytest.approx(expected.item(), rel=1e-6)
    (gradient,) = torch.autograd.grad(penalty, images)
    torch.testing.assert_close(gradient.flatten(1), 2 * flat @ matrix @ matrix / 5, rtol=1e-5, atol=1e-5)


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
