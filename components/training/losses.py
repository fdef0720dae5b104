"""Losses of the two networks, in pairs by name, and what penalties are made of.

Legend: N images, L layers, D size of w. Logits are [N], images [N, C, H, W].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from components.models.second_order import input_gradients_only

DRIFT = 0.001  # weight of squared logits in the Wasserstein loss


def generator_loss(fake_logits: Tensor) -> Tensor:
    """-log sigmoid(D(G(z))), the mean over images. Reference: Goodfellow et al. 2014, section 3."""
    return F.softplus(-fake_logits).mean()


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-log sigmoid(D(x)) - log(1 - sigmoid(D(G(z)))), the mean over images.

    Reference: Goodfellow et al. 2014, equation 1.
    """
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def relativistic_generator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-log sigmoid(D(G(z)) - D(x)), the mean over pairs of a fake and a real.

    Reference: Jolicoeur-Martineau 2018, section 4.2; Huang et al. 2024, equation 2.
    """
    return F.softplus(real_logits - fake_logits).mean()


def relativistic_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-log sigmoid(D(x) - D(G(z))), the mean over pairs of a real and a fake.

    Reference: Jolicoeur-Martineau 2018, section 4.2; Huang et al. 2024, equation 2.
    """
    return F.softplus(fake_logits - real_logits).mean()


def wasserstein_generator_loss(fake_logits: Tensor) -> Tensor:
    """-D(G(z)), the mean over images. Reference: Arjovsky et al. 2017, algorithm 1."""
    return -fake_logits.mean()


def wasserstein_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """D(G(z)) - D(x) + 0.001 · D(x)², the mean over images; the last keeps logits near 0.

    Reference: Arjovsky et al. 2017, algorithm 1; the drift: Karras et al. 2017, appendix A.1.
    """
    return fake_logits.mean() - real_logits.mean() + DRIFT * real_logits.square().mean()


def gradient_penalty(images: Tensor, logits: Tensor, norm: float = 0.0) -> Tensor:
    """(‖∇ₓ D(x)‖ - norm)², the mean over images; the loss takes γ / 2 of it.

    Of norm 0 it is R1 for reals, R2 for fakes; of norm 1, on images between the two, the one of WGAN-GP.

    Args:
        images: that require a gradient.
        logits: D(images), with its graph.

    Reference: Mescheder et al. 2018, equations 9 and 10; Gulrajani et al. 2017, equation 3.
    """
    with input_gradients_only():
        (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    if norm:
        norms: Tensor = torch.linalg.vector_norm(gradient.float(), dim=(1, 2, 3))
        return (norms - norm).square().mean()
    return gradient.float().square().sum(dim=(1, 2, 3)).mean()


def path_lengths(images: Tensor, ws: Tensor, y: Tensor) -> Tensor:
    """‖Jᵀy‖ of each image, J its Jacobian in w, as the root of the mean over layers of squared gradients.

    Args:
        images: G(ws), with its graph.
        ws: [N, L, D].
        y: as images, standard normal; it is divided by √(H·W).

    Returns:
        [N], with its graph.

    Reference: Karras et al. 2019, section 3.2.
    """
    y = y / math.sqrt(images.shape[2] * images.shape[3])
    with input_gradients_only():
        (gradient,) = torch.autograd.grad((images * y).sum(), ws, create_graph=True)
    return gradient.square().sum(2).mean(1).sqrt()


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What each network minimises, as functions of real and fake logits, [N] each, to a scalar."""

    generator: Callable[[Tensor, Tensor], Tensor]
    discriminator: Callable[[Tensor, Tensor], Tensor]


LOSSES = {
    "logistic": Loss(generator=lambda _, fake: generator_loss(fake), discriminator=discriminator_loss),
    "relativistic": Loss(generator=relativistic_generator_loss, discriminator=relativistic_discriminator_loss),
    "wasserstein": Loss(
        generator=lambda _, fake: wasserstein_generator_loss(fake), discriminator=wasserstein_discriminator_loss
    ),
}
