"""95 % intervals of what is measured on N images: leave-one-block-out jackknife, and Wilson's for a share.

Images are resampled as whole blocks; what a measurement resamples is said where it is made and in docs/evaluation.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BLOCKS = 20
STUDENT_T = 2.093  # 97.5 % quantile at BLOCKS - 1 degrees of freedom
NORMAL = 1.96


@dataclass(frozen=True)
class Measured:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


def jackknife(value: float, without: Sequence[float], floor: float = -math.inf, ceiling: float = math.inf) -> Measured:
    """Interval from the values without each of the blocks, cut to [floor, ceiling].

    Args:
        value: on all images.
        without: [G], without each block in turn.

    Reference: Efron and Stein 1981, "The jackknife estimate of variance".
    """
    count = len(without)
    error = math.sqrt((count - 1) / count * np.square(np.subtract(without, np.mean(without))).sum())
    return Measured(value, max(floor, value - STUDENT_T * error), min(ceiling, value + STUDENT_T * error))


def share(count: int, total: int) -> Measured:
    """Wilson's interval of a share, sound at 0 and at 1. Reference: Wilson 1927, "Probable inference"."""
    value, z2 = count / total, NORMAL**2
    centre = (value + z2 / (2 * total)) / (1 + z2 / total)
    reach = NORMAL / (1 + z2 / total) * math.sqrt(value * (1 - value) / total + z2 / (4 * total**2))
    return Measured(value, max(0.0, centre - reach), min(1.0, centre + reach))
