"""Differentiable augmentation of what discriminators see: ADA's `bgc` set and DiffAugment, and the adaptation of p.

Legend: N images, C channels, H × W pixels. Everything random is a function of uniform numbers, a row for each image, so
that a slice of a batch is augmented as it would be within the batch. Nothing waits for the device, and no shape or
branch depends on a tensor's values. Either kind recolours an image by one matrix and moves its pixels once.

C is 3, or 4 for premultiplied RGBA: each channel is 2p - 1 with p in [0, 1], colour at most α. Over mid-grey, such a
pixel is s = x + (1 - x_α)/2 = α (2c - 1), where c is its own colour. What is done to 3 channels, M (2c - 1) + b, is
M s + b α there: linear in the pixel, the same where α is 1, and nothing where α is 0. α itself is only moved.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

# Column i of the draws says whether transform i happens, column 13 + i how; the first two take a column more, for y.
_TRANSFORMS = (
    "integer translation",
    "fractional translation",
    "x-flip",
    "quarter turns",
    "scale",
    "anisotropy",
    "brightness",
    "contrast",
    "luma flip",
    "hue",
    "saturation",
    "pre-rotation",
    "post-rotation",
)
_NUMBERS = (*_TRANSFORMS, "integer translation y", "fractional translation y")
DRAWS = len(_TRANSFORMS) + len(_NUMBERS)  # numbers that an image's augmentation takes, of either kind

# ADA (Karras et al. 2020, appendix B): standard deviations, and the half-width of the integer translation's range.
_TRANSLATION, _DRIFT = 0.125, 0.125  # of each side
_LOG2_SCALE, _LOG2_ANISOTROPY = 0.2, 0.2
_BRIGHTNESS, _LOG2_CONTRAST, _LOG2_SATURATION = 0.2, 0.5, 1.0
_BELOW_ONE = 1 - 2**-23  # erfinv(1) is infinite

# DiffAugment (Zhao et al. 2020, section 4): shares of each side.
_SHIFT, _CUTOUT = 1 / 8, 1 / 2

_BILINEAR, _REFLECT = 0, 2  # grid_sampler_2d's codes


def draw(count: int, random: torch.Generator, device: torch.device) -> Tensor:
    """The numbers that `count` images take: [count, DRAWS] float32, uniform in [0, 1)."""
    return torch.rand(count, DRAWS, generator=random, device=device)


def augment(kind: str, images: Tensor, draws: Tensor, p: Tensor) -> Tensor:
    """Transforms each image in its own way; differentiable any number of times.

    Args:
        kind: "ada": each transform of the set `bgc` with probability p. The images are resampled once, bilinearly, with
            reflection at the edges, where the paper filters with wavelets at twice the resolution: cheaper, and softer.
            Flips, quarter turns and integer translations alone are exact for sides that are powers of two, and p = 0
            gives the images back (on GPUs that multiply float32 matrices in TF32, to that precision). Where H is not W,
            quarter turns are half turns.
            "diffaugment": colour, translation and cutout, always. What comes in and what is cut out is mid-grey, or
            transparent where there is alpha.
        images: [N, C, H, W] in about [-1, 1]; bfloat16 is computed in float32.
        draws: [N, DRAWS], uniform in [0, 1).
        p: [], in [0, 1]; without effect on "diffaugment".

    Returns:
        [N, C, H, W] of the images' dtype. Brightness and contrast may take values out of [-1, 1].

    Reference: Karras et al. 2020 (Training generative adversarial networks with limited data), appendix B; Zhao et al.
    2020 (Differentiable augmentation for data-efficient GAN training), section 4.
    """
    assert images.ndim == 4, images.shape
    assert images.shape[1] in (3, 4), images.shape
    assert draws.shape == (len(images), DRAWS), draws.shape
    dtype = torch.promote_types(images.dtype, torch.float32)
    computed = images.to(dtype)
    out = _ada(computed, draws.to(dtype), p) if kind == "ada" else _diffaugment(computed, draws.to(dtype))
    return out.to(images.dtype)


def adapt(p: Tensor, sign_mean: Tensor, *, target: float, images: int, ada_kimg: float, max_p: float) -> Tensor:
    """The next p: a step up where the discriminator is surer of reals than it should be, else down.

    Args:
        p: [], in [0, max_p].
        sign_mean: [], the mean sign of the logits of reals since the last adjustment, in [-1, 1].
        target: of sign_mean.
        images: shown since the last adjustment.
        ada_kimg: thousands of images in which p can move by 1.
        max_p: p never passes it.

    Reference: Karras et al. 2020, section 3.1, r_t.
    """
    return (p + torch.sign(sign_mean - target) * (images / (ada_kimg * 1000))).clamp(0, max_p)


# ── ADA ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _ada(images: Tensor, draws: Tensor, p: Tensor) -> Tensor:
    """Colour first, which bilinear weights, having the sum 1, let pass: the paper's order but for rounding."""
    numbers = (2 * draws[:, len(_TRANSFORMS) :] - 1) * _happens(draws, p)  # [-1, 1), 0 where nothing is to be done
    uniform = dict(zip(_NUMBERS, numbers.unbind(1), strict=True))
    normals = math.sqrt(2) * torch.erfinv(numbers.clamp(min=-_BELOW_ONE))
    normal = dict(zip(_NUMBERS, normals.unbind(1), strict=True))
    contrast = torch.exp2(_LOG2_CONTRAST * normal["contrast"])
    luma = contrast * _sign(uniform["luma flip"])
    chroma, hue = contrast * torch.exp2(_LOG2_SATURATION * normal["saturation"]), math.pi * uniform["hue"]
    brightness = luma * _BRIGHTNESS * normal["brightness"]
    recoloured = _recolour(images, luma, chroma * torch.cos(hue), chroma * torch.sin(hue), brightness)
    height, width = images.shape[2:]
    grid = _grid(_inverse(uniform, normal, height, width), height, width)
    sampled: Tensor = _Sample.apply(recoloured, grid)  # type: ignore[no-untyped-call]
    return sampled


def _happens(draws: Tensor, p: Tensor) -> Tensor:
    """Whether each of _NUMBERS counts, [N, 15]: with probability p; a rotation with 1 - √(1 - p), so that any has p."""
    chosen = torch.cat([draws[:, : len(_TRANSFORMS)], draws[:, :2]], dim=1)
    others, rotations = len(_TRANSFORMS) - 2, 2
    return chosen < torch.cat([p.expand(others), (1 - torch.sqrt(1 - p)).expand(rotations), p.expand(2)])


def _sign(uniform: Tensor) -> Tensor:
    """-1 for the upper half of [-1, 1), 1 for the lower and for 0."""
    return 1 - 2 * (uniform > 0).to(uniform.dtype)


def _inverse(uniform: dict[str, Tensor], normal: dict[str, Tensor], height: int, width: int) -> Tensor:
    """From where in the original each place of the result comes: [N, 2, 3] on (x, y, 1), x and y from -1 to 1, y down.

    In the paper's order: x-flip F, quarter turns Q, integer translation t, scale e^s, pre-rotation, anisotropy
    diag(e^a, e^-a), post-rotation, fractional translation d. The inverse is F Q⁻¹ (M (x - d) - t), where, with R the
    rotation by an angle and Z = diag(1, -1), for which Z R(φ) = R(-φ) Z,
    M = e^-s R(-pre) (cosh a - sinh a Z) R(-post) = e^-s (cosh a R(-pre - post) - sinh a R(post - pre) Z).
    M turns pixels: between sides from -1 to 1 it is D⁻¹ M D with D = diag(W, H). A quarter turn would change H × W, so
    where they differ Q makes half turns, of any number, in place of quarter turns.
    """
    before, after = math.pi * uniform["pre-rotation"], math.pi * uniform["post-rotation"]
    total, difference = before + after, after - before
    shrink = torch.exp2(-_LOG2_SCALE * normal["scale"])
    anisotropy = math.log(2) * _LOG2_ANISOTROPY * normal["anisotropy"]
    even, odd = shrink * torch.cosh(anisotropy), -shrink * torch.sinh(anisotropy)
    even_cos, even_sin = even * torch.cos(total), even * torch.sin(total)
    odd_cos, odd_sin = odd * torch.cos(difference), odd * torch.sin(difference)
    x_by_y, y_by_x = (even_sin + odd_sin) * (height / width), (odd_sin - even_sin) * (width / height)
    matrix = torch.stack([even_cos + odd_cos, x_by_y, y_by_x, even_cos - odd_cos], dim=1).reshape(-1, 2, 2)
    drift = 2 * _DRIFT * torch.stack([normal["fractional translation"], normal["fractional translation y"]], dim=1)
    sides = {"integer translation": width, "integer translation y": height}
    shifts = [torch.round(_TRANSLATION * side * uniform[name]) * (2 / side) for name, side in sides.items()]
    offset = -(matrix * drift[:, None]).sum(2) - torch.stack(shifts, dim=1)
    x, y = torch.cat([matrix, offset[..., None]], dim=2).unbind(1)  # [N, 3] each
    unit = math.pi / 2 if height == width else math.pi
    turn = unit * torch.floor(2 * uniform["quarter turns"])[:, None]
    cos, sin = torch.round(torch.cos(turn)), torch.round(torch.sin(turn))
    return torch.stack([_sign(uniform["x-flip"])[:, None] * (cos * x + sin * y), cos * y - sin * x], dim=1)


# ── DiffAugment ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _diffaugment(images: Tensor, draws: Tensor) -> Tensor:
    """Brightness + [-½, ½), saturation × [0, 2), contrast × [½, 1½) about the mean; translation; cutout."""
    brightness, saturation, contrast = draws[:, 0] - 0.5, 2 * draws[:, 1], draws[:, 2] + 0.5
    offset = brightness + (1 - contrast) * _mean(images)
    chroma = contrast * saturation
    recoloured = _recolour(images, contrast, chroma, torch.zeros_like(chroma), offset)
    return _translate_and_cut(recoloured, draws[:, 3:5], draws[:, 5:7])


def _mean(images: Tensor) -> Tensor:
    """Of all channels and pixels, [N]; with alpha, of what is visible: Σ s / Σ α, so that empty canvas counts nothing.

    A generator may draw next to nothing, or alpha below 0: Σ α is taken as a pixel at least, the mean within [-1, 1].
    """
    if images.shape[1] == 3:
        return images.mean((1, 2, 3))
    colour, alpha = images[:, :3].mean(1), images[:, 3]
    visible = ((1 + alpha) / 2).sum((1, 2)).clamp(min=1)
    return ((colour + (1 - alpha) / 2).sum((1, 2)) / visible).clamp(-1, 1)


def _translate_and_cut(images: Tensor, shift: Tensor, corner: Tensor) -> Tensor:
    """Moves each image by up to an eighth of each side and then empties a rectangle of half of each, centred anywhere.

    Args:
        images: [N, C, H, W].
        shift: [N, 2], vertical and horizontal, uniform in [0, 1).
        corner: [N, 2], likewise.
    """
    (rows, top, cut_rows), (columns, left, cut_columns) = (
        _along(side, shift[:, axis], corner[:, axis]) for axis, side in enumerate(images.shape[2:])
    )
    keep = top[:, :, None] & left[:, None] & ~(cut_rows[:, :, None] & cut_columns[:, None])  # [N, H, W]
    index = (rows[:, :, None] * images.shape[3] + columns[:, None]).flatten(1)[:, None].expand(-1, images.shape[1], -1)
    empty = 0.0 if images.shape[1] == 3 else -1.0
    return torch.where(keep[:, None], torch.gather(images.flatten(2), 2, index).view_as(images), empty)


def _along(side: int, shift: Tensor, corner: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of each place along a side of so many pixels: where it comes from, whether from inside, whether it is cut out.

    Args:
        shift: [N], uniform in [0, 1).
        corner: [N], likewise.

    Returns:
        Three of [N, side].
    """
    farthest, cutout = int(_SHIFT * side + 0.5), int(_CUTOUT * side + 0.5)
    places = torch.arange(side, device=shift.device)
    source = places - (torch.floor(shift * (2 * farthest + 1)).long() - farthest)[:, None]
    depth = places - (torch.floor(corner * (side + 1 - cutout % 2)).long() - cutout // 2)[:, None]
    return source.clamp(0, side - 1), (source >= 0) & (source < side), (depth >= 0) & (depth < cutout)


# ── What both are made of ─────────────────────────────────────────────────────────────────────────────────────────────


def _recolour(images: Tensor, luma: Tensor, along: Tensor, across: Tensor, offset: Tensor) -> Tensor:
    """Scales a colour's mean over channels, scales and turns what is left, and adds: M x + b.

    Of premultiplied channels M s + b α is x' + (1 - x_α)/2, so with M (1, 1, 1) = luma (1, 1, 1) and α = (1 + x_α)/2
    x' = M x + (1 + b - luma)/2 x_α + (luma + b - 1)/2.

    Args:
        images: [N, C, H, W] in any memory format.
        luma: [N], factor of the mean x̄.
        along: [N], factor of u = x - x̄.
        across: [N], factor of v × u, where v is the luma axis (1, 1, 1) / √3.
        offset: [N], b of every channel.

    Returns:
        [N, C, H, W], contiguous: the product reads channels_last as a transpose.
    """
    shared, turn = (luma - along) / 3, across / math.sqrt(3)
    same, after, before = along + shared, shared + turn, shared - turn
    if images.shape[1] == 3:
        entries, added = [same, before, after, after, same, before, before, after, same], offset[:, None]
    else:
        by_alpha, constant = (1 + offset - luma) / 2, (luma + offset - 1) / 2
        zero, one = torch.zeros_like(luma), torch.ones_like(luma)
        rows = [same, before, after, by_alpha], [after, same, before, by_alpha], [before, after, same, by_alpha]
        entries = [*rows[0], *rows[1], *rows[2], zero, zero, zero, one]
        added = torch.stack([constant, constant, constant, zero], dim=1)
    matrix = torch.stack(entries, dim=1).reshape(len(images), images.shape[1], -1)
    return torch.baddbmm(added[..., None], matrix, images.flatten(2)).reshape(images.shape)


def _grid(affine: Tensor, height: int, width: int) -> Tensor:
    """Where each pixel of the result is in the original, [N, H, W, 2] from -1 to 1, for affine maps [N, 2, 3].

    Without a matrix product, which GPUs may round; x and y lie apart in memory, so that the sum runs along rows.
    """
    down, right = (
        (2 * torch.arange(side, device=affine.device, dtype=affine.dtype) + 1) / side - 1 for side in (height, width)
    )
    by_x, by_y, offset = affine[..., None].unbind(2)  # [N, 2, 1]
    return ((by_y * down + offset)[..., None] + (by_x * right)[:, :, None]).permute(0, 2, 3, 1)


class _Sample(Function):
    """Images [N, C, H, W] at the places [N, H, W, 2]: bilinear, reflected at the edges. Its derivative is _Spread."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        sampled: Tensor = torch.ops.aten.grid_sampler_2d(images, grid, _BILINEAR, _REFLECT, False)
        return sampled

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Spread.apply(gradient, ctx.saved_tensors[0]), None  # type: ignore[no-untyped-call]


class _Spread(Function):
    """The adjoint of _Sample, which torch has as its backward but does not derive again. Its derivative is _Sample."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        images = gradient  # only their shape counts
        spread: Tensor = torch.ops.aten.grid_sampler_2d_backward(
            gradient, images, grid, _BILINEAR, _REFLECT, False, [True, False]
        )[0]
        return spread

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Sample.apply(gradient, ctx.saved_tensors[0]), None  # type: ignore[no-untyped-call]
