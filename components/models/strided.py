"""4×4 convolutions of stride 2 and their transposes, with 9/16 of the products where that pays.

A 4×4 kernel of stride 2 is four 2×2 kernels of stride 1, one for each parity of rows and columns. Two neighbouring
outputs of two taps need three products, not four: (x₀ - x₁) g₀, x₁ (g₀ + g₁), (x₂ - x₁) g₁. In two dimensions that is
nine matrix products instead of sixteen; all other factors are 1 and -1, so that nothing but rounding changes.
Legend: N images, I and O channels of the large and of the small side, H height and width of the small side, T = H / 2
tiles a side. Both sides are channels last. Reference: Winograd 1980; Lavin and Gray 2016, section 4.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from components.models.second_order import weight_gradients_wanted

LARGEST, NARROWEST = 8, 64  # H and channels for which it pays: the sums around the products take their time


def halve(x: Tensor, weight: Tensor) -> Tensor:
    """F.conv2d of stride 2 and padding 1: [N, I, 2H, 2H] with weight [O, I, 4, 4] to [N, O, H, H]."""
    if _pays(x, x.shape[-1] // 2, weight):
        return cast(Tensor, _Halve.apply(x, weight))  # type: ignore[no-untyped-call]
    return F.conv2d(x, weight, stride=2, padding=1)


def double(x: Tensor, weight: Tensor) -> Tensor:
    """F.conv_transpose2d of stride 2 and padding 1: [N, O, H, H] with weight [O, I, 4, 4] to [N, I, 2H, 2H]."""
    if _pays(x, x.shape[-1], weight):
        return cast(Tensor, _Double.apply(x, weight))  # type: ignore[no-untyped-call]
    return F.conv_transpose2d(x, weight, stride=2, padding=1)


def _pays(x: Tensor, height: int, weight: Tensor) -> bool:
    """On CPUs in float32, for square maps; GPUs have kernels of their own."""
    fits = height <= LARGEST and x.shape[2] == x.shape[3] and min(weight.shape[:2]) >= NARROWEST
    return fits and x.device.type == "cpu" and x.dtype == torch.float32


class _Halve(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        tiles, kernels = _from_large(x), _from_weight(weight)
        ctx.save_for_backward(tiles, kernels)
        return _to_small(tiles @ kernels.transpose(1, 2), len(x))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (tiles, kernels), (of_x, of_weight) = ctx.saved_tensors, ctx.needs_input_grad
        own = _from_small(gradient)
        for_x = _to_large(own @ kernels, len(gradient)) if of_x else None
        return for_x, _to_weight(own.transpose(1, 2) @ tiles) if of_weight and weight_gradients_wanted() else None


class _Double(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        tiles, kernels = _from_small(x), _from_weight(weight)
        ctx.save_for_backward(tiles, kernels)
        return _to_large(tiles @ kernels, len(x))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (tiles, kernels), (of_x, of_weight) = ctx.saved_tensors, ctx.needs_input_grad
        own = _from_large(gradient)
        for_x = _to_small(own @ kernels.transpose(1, 2), len(gradient)) if of_x else None
        return for_x, _to_weight(tiles.transpose(1, 2) @ own) if of_weight and weight_gradients_wanted() else None


# What follows are linear maps along rows, then along columns, and their transposes.


def _from_large(x: Tensor) -> Tensor:
    """[N, I, 2H, 2H] → [9, N·T·T, 4·I]: x₀ - x₁, x₁, x₂ - x₁ of each parity."""
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    count, size, _, channels = padded.shape
    tiles = size // 4
    rows = x.new_empty(3, count, tiles, 2, size, channels)
    whole = x.new_empty(3, 3, count, tiles, tiles, 2, 2, channels)
    for windows, out in (
        (_windows(padded, 1), rows.permute(0, 3, 1, 2, 4, 5)),
        (_windows(rows, 4), whole.permute(1, 6, 0, 2, 3, 5, 4, 7)),
    ):
        torch.sub(windows[0], windows[1], out=out[0])
        out[1].copy_(windows[1])
        torch.sub(windows[2], windows[1], out=out[2])
    return whole.view(9, -1, 4 * channels)


def _to_large(whole: Tensor, count: int) -> Tensor:
    """The transpose of _from_large: [9, N·T·T, 4·I] → [N, I, 2H, 2H]."""
    tiles, channels = _tiles(whole, count), whole.shape[2] // 4
    size = 4 * tiles + 2
    whole = whole.view(3, 3, count, tiles, tiles, 2, 2, channels)
    rows = whole.new_zeros(3, count, tiles, 2, size, channels)
    padded = whole.new_zeros(count, size, size, channels)
    for part, windows in (
        (whole.permute(1, 6, 0, 2, 3, 5, 4, 7), _windows(rows, 4)),
        (rows.permute(0, 3, 1, 2, 4, 5), _windows(padded, 1)),
    ):
        torch.sub(part[1], part[0], out=windows[1])
        windows[1].sub_(part[2])
        windows[0].add_(part[0])
        windows[2].add_(part[2])
    return padded[:, 1:-1, 1:-1].contiguous().permute(0, 3, 1, 2)


def _windows(x: Tensor, dim: int) -> Tensor:
    """What each tile takes of a dimension, a view [3, 2, …]: six entries in pairs, the last two those of the next."""
    windows = x.unfold(dim, 6, 4).movedim(-1, 0)
    return windows.view(3, 2, *windows.shape[1:])


def _from_weight(weight: Tensor) -> Tensor:
    """[O, I, 4, 4] → [9, O, 4·I]: g₀, g₀ + g₁, g₁ of each parity."""
    taps = weight.permute(0, 2, 3, 1).reshape(len(weight), 2, 2, 2, 2, -1)  # a row's tap and parity, a column's, I
    rows = torch.stack([taps[:, 0], taps[:, 0] + taps[:, 1], taps[:, 1]])
    whole = torch.stack([rows[:, :, :, 0], rows[:, :, :, 0] + rows[:, :, :, 1], rows[:, :, :, 1]], 1)
    return whole.view(9, len(weight), -1)


def _to_weight(whole: Tensor) -> Tensor:
    """The transpose of _from_weight: [9, O, 4·I] → [O, I, 4, 4]."""
    count, channels = whole.shape[1], whole.shape[2] // 4
    whole = whole.view(3, 3, count, 2, 2, channels)
    rows = torch.stack([whole[0] + whole[1], whole[1] + whole[2]])
    taps = whole.new_empty(count, 2, 2, 2, 2, channels)
    for number in range(2):
        torch.add(rows[:, number], rows[:, number + 1], out=taps[:, :, :, number].permute(1, 0, 2, 3, 4))
    return taps.view(count, 4, 4, channels).permute(0, 3, 1, 2)


def _to_small(whole: Tensor, count: int) -> Tensor:
    """[9, N·T·T, O] → [N, O, H, H]: the sums of neighbouring products."""
    tiles = _tiles(whole, count)
    whole = whole.view(3, 3, count, tiles, tiles, -1)
    rows = whole[:2] + whole[1:]
    out = whole.new_empty(count, tiles, 2, tiles, 2, whole.shape[-1])
    torch.add(rows[:, :2], rows[:, 1:], out=out.permute(2, 4, 0, 1, 3, 5))
    return out.view(count, 2 * tiles, 2 * tiles, -1).permute(0, 3, 1, 2)


def _from_small(x: Tensor) -> Tensor:
    """The transpose of _to_small: [N, O, H, H] → [9, N·T·T, O]."""
    count, channels, size, _ = x.shape
    tiles = size // 2
    pixels = x.permute(0, 2, 3, 1).reshape(count, tiles, 2, tiles, 2, channels).permute(2, 4, 0, 1, 3, 5)
    rows = torch.stack([pixels[0], pixels[0] + pixels[1], pixels[1]])
    return torch.stack([rows[:, 0], rows[:, 0] + rows[:, 1], rows[:, 1]], 1).view(9, -1, channels)


def _tiles(whole: Tensor, count: int) -> int:
    """T."""
    return math.isqrt(whole.shape[1] // count)
