"""Style mixing: pages on which rows give the coarse styles of a picture and columns the fine ones.

R rows, K columns, L layers, D latent size, H × W pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from components.generation.sampler import latents, to_uint8
from components.models import Generator

COARSE_LAYERS = 4  # those of 4² and 8²


@torch.inference_mode()
def style_mixing(
    generator: Generator, rows: Sequence[int], columns: Sequence[int], psi: float
) -> npt.NDArray[np.uint8]:
    """A page of (R + 1) × (K + 1) images for grid(page, K + 1).

    The top row shows the seeds of the columns, the left column those of the rows, the corner is empty: white, or
    transparent. All pictures share one noise, so that they differ by their styles alone.

    Args:
        rows: R seeds, whose styles fill the first COARSE_LAYERS layers.
        columns: K seeds, whose styles fill the rest.
        psi: truncation, 0 to 1.

    Returns:
        [(R + 1) * (K + 1), H, W, C], row by row.

    Reference: Karras et al. 2018, figure 3.
    """
    coarse, fine = (_styles(generator, seeds, psi) for seeds in (rows, columns))
    mixed = [torch.cat([row[:COARSE_LAYERS].expand(len(fine), -1, -1), fine[:, COARSE_LAYERS:]], 1) for row in coarse]
    top = _draw(generator, fine)
    corner = np.full_like(top[:1], 255 if generator.channels == 3 else 0)
    lines = [corner, top]
    for row, styles in zip(coarse, mixed, strict=True):
        lines += [_draw(generator, row[None]), _draw(generator, styles)]
    return np.concatenate(lines)


def _styles(generator: Generator, seeds: Sequence[int], psi: float) -> Tensor:
    """ws [N, L, D] of the same latents as sample()'s."""
    drawn = latents(generator, seeds)
    return generator.truncate(generator.to_w(drawn.z, drawn.labels), psi)


def _draw(generator: Generator, ws: Tensor) -> npt.NDArray[np.uint8]:
    rng = torch.Generator().manual_seed(0)
    shapes = generator.noise_shapes()
    noise = [torch.randn(1, 1, *shape, generator=rng).to(ws.device).expand(len(ws), -1, -1, -1) for shape in shapes]
    return to_uint8(generator.synthesis(ws, noise))
