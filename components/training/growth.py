"""Progressive growing as a function of the images shown: resolution, fade-in, batch and learning rate.

Nothing here depends on how long the run is meant to be. Reference: Karras et al. 2017, section 2 and appendix A;
the numbers: Karras et al. 2018, appendix C.
"""

from __future__ import annotations

from dataclasses import dataclass

from components.config import InputError, Train

# Images a step on one GPU in the recipe; a run's batches keep these proportions (larger resolutions: as 256).
_BATCH_TABLE = {4: 128, 8: 128, 16: 128, 32: 64, 64: 32, 128: 16, 256: 8}
_RATE_TABLE = {128: 1.5, 256: 2.0, 512: 3.0, 1024: 3.0}


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Where in the growth a step stands."""

    resolution: int  # pixels
    alpha: float  # weight of that resolution's own image, [0, 1]; 1 when there is no fade
    batch: int  # images, over all workers
    learning_rate: float


def batch_at(resolution: int, config: Train, final_resolution: int) -> int:
    """Images a step at a resolution: train.batch at the final one, in the recipe's proportions below it."""
    return config.batch * _BATCH_TABLE.get(resolution, 8) // _BATCH_TABLE.get(final_resolution, 8)


def check_target(reached: int, config: Train, final_resolution: int) -> None:
    """Refuses a target that a run has left behind; the last step may have gone past it by less than a batch.

    Raises:
        InputError: train.total_kimg is lower than the `reached` images, beyond that step.
    """
    if reached - batch_at(config.start_resolution, config, final_resolution) >= config.total_kimg * 1000:
        raise InputError(
            f"train.total_kimg is {config.total_kimg}; allowed: at least {reached / 1000}, where the run stands"
        )


def phase_at(nimg: int, config: Train, final_resolution: int) -> Phase:
    """The phase of the step that begins after nimg images: stable at the first resolution, then fade, stable, …"""
    fade, stable = config.fade_kimg * 1000, config.stable_kimg * 1000
    resolution, alpha, level_start = config.start_resolution, 1.0, stable
    while resolution < final_resolution and nimg >= level_start:
        resolution *= 2
        alpha = min((nimg - level_start) / fade, 1.0)
        level_start += fade + stable
    return Phase(
        resolution=resolution,
        alpha=alpha,
        batch=batch_at(resolution, config, final_resolution),
        learning_rate=config.learning_rate * _RATE_TABLE.get(resolution, 1.0),
    )
