"""Progressive growing as a function of the images shown: resolution, fade-in, batch and learning rate.

Nothing here depends on how long the run is meant to be. Reference: Karras et al. 2017, section 2 and appendix A;
the numbers: Karras et al. 2018, appendix C.
"""

from __future__ import annotations

from components.config import Growth

# Images a step on one GPU in the recipe; a run's batches keep these proportions (larger resolutions: as 256).
_BATCH_TABLE = {4: 128, 8: 128, 16: 128, 32: 64, 64: 32, 128: 16, 256: 8}
_RATE_TABLE = {128: 1.5, 256: 2.0, 512: 3.0, 1024: 3.0}


def grown(nimg: int, growth: Growth, final_resolution: int) -> tuple[int, float]:
    """Resolution and fade-in weight α of the step that begins after nimg images: stable, then fade, stable, …"""
    fade, stable = growth.fade_kimg * 1000, growth.stable_kimg * 1000
    resolution, alpha, level_start = growth.start_resolution, 1.0, stable
    while resolution < final_resolution and nimg >= level_start:
        resolution *= 2
        alpha = min((nimg - level_start) / fade, 1.0)
        level_start += fade + stable
    return resolution, alpha


def batch_at(resolution: int, final_batch: int, final_resolution: int) -> int:
    """Images a step at a resolution: final_batch at the final one, in the recipe's proportions below it."""
    return final_batch * _BATCH_TABLE.get(resolution, 8) // _BATCH_TABLE.get(final_resolution, 8)


def rate_at(resolution: int, base_rate: float) -> float:
    """The learning rate at a resolution: base_rate up to 64², 1.5 to 3 times as much above."""
    return base_rate * _RATE_TABLE.get(resolution, 1.0)
