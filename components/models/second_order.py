"""Convolution and LeakyReLU for gradient penalties: their gradients are differentiated again at first-order cost.

The second derivative of a convolution is three convolutions again. torch's own takes the part of the weights group by
group, as convolutions with kernels of the image's size, and its LeakyReLU sends zeros back through the whole network.
Legend: N images, I and O channels in and out, G groups, k kernel size, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

LEAK = 0.2  # slope of every LeakyReLU


class _Geometry(NamedTuple):
    stride: int
    padding: int
    groups: int
    transposed: bool


@contextmanager
def input_gradients_only() -> Iterator[None]:
    """Around a backward pass that needs no gradients of weights: autograd asks a Function for them all the same."""
    before, _Convolution.of_weights = _Convolution.of_weights, False
    try:
        yield
    finally:
        _Convolution.of_weights = before


def weight_gradients_wanted() -> bool:
    """False in a backward pass inside input_gradients_only()."""
    return _Convolution.of_weights


def conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int = 1, padding: int = 0, groups: int = 1
) -> Tensor:
    """F.conv2d: [N, I, H, W] with weight [O, I / G, k, k] and bias [O] to [N, O, H', W']."""
    return cast(Tensor, _apply(_Convolution, x, weight, bias, _Geometry(stride, padding, groups, False)))


def conv_transpose2d(x: Tensor, weight: Tensor, *, stride: int) -> Tensor:
    """F.conv_transpose2d without padding: [N, I, H, W] with weight [I, O, k, k] to [N, O, stride · (H - 1) + k, …]."""
    return cast(Tensor, _apply(_Convolution, x, weight, None, _Geometry(stride, 0, 1, True)))


def leaky_relu_(x: Tensor) -> Tensor:
    """F.leaky_relu_ of slope LEAK, in place. Its second derivative is taken as nothing at all rather than as zeros."""
    return cast(Tensor, _apply(_LeakyReLU, x))


def _apply(function: type[Function], *arguments: object) -> Any:
    return function.apply(*arguments)  # type: ignore[no-untyped-call]


def _backward(
    gradient: Tensor, x: Tensor, weight: Tensor, geometry: _Geometry, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients with respect to x, weight and bias, those that are wanted."""
    out = torch.ops.aten.convolution_backward(
        gradient,
        x,
        weight,
        [weight.shape[0]],  # of the bias; no transposed convolution here has one
        [geometry.stride] * 2,
        [geometry.padding] * 2,
        [1, 1],
        geometry.transposed,
        [0, 0],
        geometry.groups,
        list(wanted),
    )
    return cast(tuple[Tensor | None, Tensor | None, Tensor | None], out)


class _Convolution(Function):
    of_weights = True  # whether a backward pass takes the gradients of weight and bias

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: _Geometry) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = geometry
        stride, padding, groups, transposed = geometry
        return torch.convolution(x, weight, bias, [stride] * 2, [padding] * 2, [1, 1], transposed, [0, 0], groups)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (x, weight), (of_x, of_weight, of_bias, _) = ctx.saved_tensors, ctx.needs_input_grad
        for_x = _apply(_InputGradient, gradient, weight, x.detach(), ctx.geometry) if of_x else None
        if not (of_weight or of_bias) or not _Convolution.of_weights:
            return for_x, None, None, None
        _, for_weight, for_bias = _backward(gradient, x, weight, ctx.geometry, (False, of_weight, of_bias))
        return for_x, for_weight, for_bias, None


class _InputGradient(Function):
    """The gradient of a convolution with respect to x, bilinear in what it is given; of x it takes the shape only."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, weight: Tensor, x: Tensor, geometry: _Geometry) -> Tensor:
        ctx.save_for_backward(gradient, weight)
        ctx.geometry = geometry
        out, _, _ = _backward(gradient, x, weight, geometry, (True, False, False))
        return cast(Tensor, out)

    @staticmethod
    def backward(ctx: Any, second: Tensor) -> Any:
        (gradient, weight), (of_gradient, of_weight, *_) = ctx.saved_tensors, ctx.needs_input_grad
        for_gradient = _apply(_Convolution, second, weight, None, ctx.geometry) if of_gradient else None
        for_weight = _backward(gradient, second, weight, ctx.geometry, (False, True, False))[1] if of_weight else None
        return for_gradient, for_weight, None, None


class _LeakyReLU(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.mark_dirty(x)
        F.leaky_relu_(x, LEAK)
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (out,) = ctx.saved_tensors
        return _apply(_Slope, gradient, out.detach())


class _Slope(Function):
    """gradient · the slope on that side of zero where `out` lies; linear in gradient."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, out: Tensor) -> Tensor:
        ctx.save_for_backward(out)
        return cast(Tensor, torch.ops.aten.leaky_relu_backward(gradient, out, LEAK, True))

    @staticmethod
    def backward(ctx: Any, second: Tensor) -> Any:
        (out,) = ctx.saved_tensors
        return _apply(_Slope, second, out), None
