"""The non-saturating logistic loss and its gradient penalty. Logits are [N], images [N, C, H, W]."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def generator_loss(fake_logits: Tensor) -> Tensor:
    """-log sigmoid(D(G(z))), the mean over images. Reference: Goodfellow et al. 2014, section 3."""
    return F.softplus(-fake_logits).mean()


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-log sigmoid(D(x)) - log(1 - sigmoid(D(G(z)))), the mean over images.

    Reference: Goodfellow et al. 2014, equation 1.
    """
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def r1_penalty(images: Tensor, logits: Tensor) -> Tensor:
    """‖∇ₓ D(x)‖², the mean over images; the loss takes γ / 2 of it.

    Args:
        images: reals that require a gradient.
        logits: D(images), with its graph.

    Reference: Mescheder et al. 2018, equation 9.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.float().square().sum(dim=(1, 2, 3)).mean()
