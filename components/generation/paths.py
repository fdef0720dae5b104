"""Short steps along paths between latents: pairs of images for perceptual path length.

P pairs, D latent size, H × W pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from components.generation.sampler import latents, noises
from components.models import Generator

EPSILON = 1e-4  # of the path; Karras et al. 2018


@torch.inference_mode()
def path_pairs(generator: Generator, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Images at t and at t + EPSILON on the straight line in W between two latents; t is uniform in [0, 1].

    Both images of a pair have the same noise and label. What a seed gives depends on the seed alone.

    Args:
        seeds: P, one a pair.

    Returns:
        Twice [P, C, H, W] float32 in about [-1, 1], unrounded.

    Reference: Karras et al. 2018, section 4.1, the full path in W.
    """
    drawn = latents(generator, seeds)
    rngs, device = drawn.rngs, drawn.z.device
    other = torch.stack([torch.randn(generator.latent_dim, generator=rng) for rng in rngs]).to(device)
    t = torch.stack([torch.rand(1, generator=rng) for rng in rngs]).to(device)
    noise = noises(generator, rngs)
    begin, end = (generator.to_w(z, drawn.labels) for z in (drawn.z, other))
    here, there = (
        generator.synthesis(generator.truncate(torch.lerp(begin, end, at), psi=1.0), noise) for at in (t, t + EPSILON)
    )
    return here, there
