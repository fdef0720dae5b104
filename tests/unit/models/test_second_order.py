"""Convolution and LeakyReLU against torch's own, and their derivatives against finite differences."""

from contextlib import suppress

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from components.models.second_order import conv2d, conv_transpose2d, input_gradients_only, leaky_relu_

GEOMETRIES = [
    {"stride": 1, "padding": 1, "groups": 1},
    {"stride": 1, "padding": 1, "groups": 2},
    {"stride": 2, "padding": 1, "groups": 4},
    {"stride": 1, "padding": 0, "groups": 1},
]


def operands(groups):
    torch.manual_seed(0)
    x = torch.randn(2, 4, 4, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 4 // groups, 3, 3, dtype=torch.float64, requires_grad=True)
    return x, weight, torch.randn(4, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_convolution_and_both_its_derivatives(geometry):
    x, weight, bias = operands(geometry["groups"])
    assert torch.equal(conv2d(x, weight, bias, **geometry), F.conv2d(x, weight, bias, **geometry))
    assert gradcheck(lambda *given: conv2d(*given, **geometry), (x, weight, bias))
    assert gradgradcheck(lambda *given: conv2d(*given, **geometry), (x, weight, bias))


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_penalty_has_the_gradients_that_torch_finds(geometry):
    def gradients(convolution, activation):
        x, weight, bias = operands(geometry["groups"])
        logits = activation(convolution(x, weight, bias, **geometry)).square().sum()
        (of_x,) = torch.autograd.grad(logits, x, create_graph=True)
        return torch.autograd.grad(of_x.square().sum() + logits, (x, weight, bias))

    expected = gradients(F.conv2d, lambda x: F.leaky_relu(x, 0.2))
    for own, other in zip(gradients(conv2d, leaky_relu_), expected, strict=True):
        torch.testing.assert_close(own, other)


def test_leaky_relu_and_both_its_derivatives():
    x = torch.tensor([-3.0, -0.5, 0.25, 2.0], dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(leaky_relu_(x + 0), torch.tensor([-0.6, -0.1, 0.25, 2.0], dtype=torch.float64))
    assert gradcheck(lambda x: leaky_relu_(x + 0).square(), (x,))
    assert gradgradcheck(lambda x: leaky_relu_(x + 0).square(), (x,))


def test_a_penalty_does_not_reach_back_into_the_network_itself():
    """The gradient of a network that is linear by pieces does not depend on a bias; torch's own would give zeros."""
    x, weight, bias = operands(1)
    (of_x,) = torch.autograd.grad(leaky_relu_(conv2d(x, weight, bias)).sum(), x, create_graph=True)
    of_weight, of_bias = torch.autograd.grad(of_x.square().sum(), (weight, bias), allow_unused=True)
    assert of_bias is None
    assert of_weight.abs().sum() > 0


def test_transposed_convolution_and_both_its_derivatives():
    x, _, _ = operands(1)
    weight = torch.randn(4, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(conv_transpose2d(x, weight, stride=2), F.conv_transpose2d(x, weight, stride=2))
    assert gradcheck(lambda *given: conv_transpose2d(*given, stride=2), (x, weight))
    assert gradgradcheck(lambda *given: conv_transpose2d(*given, stride=2), (x, weight))


def test_gradients_of_inputs_only():
    """Inside, weights get none; after it, even where it ended in an error, they do again."""
    x, weight, bias = operands(1)
    with suppress(RuntimeError), input_gradients_only():
        out = conv2d(x, weight, bias).sum()
        of_x, of_weight = torch.autograd.grad(out, (x, weight), allow_unused=True)
        assert of_weight is None
        torch.testing.assert_close(of_x, torch.autograd.grad(F.conv2d(x, weight, bias).sum(), x)[0])
        raise RuntimeError
    (of_weight,) = torch.autograd.grad(conv2d(x, weight, bias).sum(), weight)
    torch.testing.assert_close(of_weight, torch.autograd.grad(F.conv2d(x, weight, bias).sum(), weight)[0])
