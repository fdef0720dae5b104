"""Batch normalisation over the global batch, however many workers hold it.

Legend: N images of this worker's slice, C channels, H height and width.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F

EPSILON = 1e-5
MOMENTUM = 0.1  # the share that a batch's own statistics take in the running ones


class BatchNorm(nn.Module):
    """Each channel to mean 0 and variance 1 over a batch, then times a weight and plus a bias: [N, C, H, H] → same.

    In training the batch is that of all workers, which hold as many images each. In evaluation it is the running
    statistics that normalise; without them it is the batch at hand.
    Reference: Ioffe and Szegedy 2015, algorithms 1 and 2.
    """

    running_mean: Tensor | None
    running_var: Tensor | None

    def __init__(self, channels: int, deviation: float, *, keeps_statistics: bool = True) -> None:
        super().__init__()
        self.momentum = MOMENTUM
        self.weight = nn.Parameter(1 + deviation * torch.randn(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels) if keeps_statistics else None)
        self.register_buffer("running_var", torch.ones(channels) if keeps_statistics else None)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and dist.is_initialized() and dist.get_world_size() > 1:
            return self._over_workers(x)
        own = self.training or self.running_mean is None
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, own, self.momentum, EPSILON)

    def _over_workers(self, x: Tensor) -> Tensor:
        rows = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]).float()
        var, mean = (moment.double() for moment in torch.var_mean(rows, 0, correction=0))
        moments = torch.stack([mean, var + mean.square()]) / dist.get_world_size()
        mean, square = cast(Tensor, _Sum.apply(moments))  # type: ignore[no-untyped-call]
        var = square - mean.square()
        self._keep(mean, var, count=len(rows) * dist.get_world_size())
        scale = self.weight * torch.rsqrt(var + EPSILON).float()
        out = torch.addcmul(self.bias - mean.float() * scale, rows, scale).to(x.dtype)
        return out.view(len(x), *x.shape[2:], -1).permute(0, 3, 1, 2)

    @torch.no_grad()
    def _keep(self, mean: Tensor, var: Tensor, count: int) -> None:
        if self.running_mean is not None and self.running_var is not None:
            self.running_mean.lerp_(mean.float(), self.momentum)
            self.running_var.lerp_(var.float() * count / (count - 1), self.momentum)


class _Sum(Function):
    """The sum over workers. What depends on it does so on all of them: its gradient is their gradients' sum."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        out = x.clone()
        dist.all_reduce(out)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total
