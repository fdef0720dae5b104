"""The exponential moving average of the generator's weights, with its half-life in images shown."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from components.models import Generator
from components.models.batch_norm import BatchNorm


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


@torch.no_grad()
def settle(average: Generator, z: Tensor) -> None:
    """Takes the running statistics of batch norm from the average's own features of all workers' z [N, latent_dim].

    Those of the model that is trained do not fit averaged weights. Nothing happens where there is no batch norm.
    """
    norms = [module for module in average.modules() if isinstance(module, BatchNorm)]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    if norms:
        average.synthesis(average.truncate(average.mapping(z), 1.0), [])
        average.eval()
