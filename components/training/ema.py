"""The exponential moving average of the generator's weights, with its half-life in images shown."""

from __future__ import annotations

import torch
from torch import nn


def ema_beta(batch: int, half_life_kimg: float) -> float:
    """The decay of one step of `batch` images: after half_life_kimg thousand images a weight's share has halved.

    A half-life of 0 keeps nothing of before.
    """
    return 0.5 ** (batch / (half_life_kimg * 1000)) if half_life_kimg else 0.0


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, beta: float) -> None:
    """average ← β · average + (1 - β) · model for parameters; buffers are copied. Karras et al. 2017, section 4."""
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - beta)
    for own, other in zip(average.buffers(), model.buffers(), strict=True):
        own.copy_(other)
