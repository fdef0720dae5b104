"""95 % intervals of what is measured on N images: leave-one-block-out jackknife, and Wilson's for a share.

Images are resampled as whole blocks; what a measurement resamples is said where it is made and in docs/evaluation.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BLOCKS = 20
STUDENT_T = (  # 97.5 % quantiles at 1 to BLOCKS - 1 degrees of freedom
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093),
)
NORMAL = 1.96


@dataclass(frozen=True)
class Measured:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


def block_starts(count: int) -> npt.NDArray[np.int64]:
    """Where each of BLOCKS blocks of `count` rows begins, as equal as can be; fewer rows are a block each, [G]."""
    blocks = min(count, BLOCKS)
    return np.arange(blocks, dtype=np.int64) * count // blocks


def jackknife(value: float, without: npt.ArrayLike, floor: float = -math.inf, ceiling: float = math.inf) -> Measured:
    """Interval from the values without each of the blocks, cut to [floor, ceiling].

    Args:
        value: on all images.
        without: [G], without each block in turn; 2 to BLOCKS of them.

    Reference: Efron and Stein 1981, "The jackknife estimate of variance".
    """
    values = np.asarray(without, np.float64)
    count = len(values)
    error = math.sqrt((count - 1) / count * np.square(values - values.mean()).sum())
    reach = STUDENT_T[count - 2] * error
    return Measured(float(value), max(floor, float(value - reach)), min(ceiling, float(value + reach)))


def share(count: int, total: int) -> Measured:
    """Wilson's interval of a share, sound at 0 and at 1. Reference: Wilson 1927, "Probable inference"."""
    value, z2 = count / total, NORMAL**2
    centre = (value + z2 / (2 * total)) / (1 + z2 / total)
    reach = NORMAL / (1 + z2 / total) * math.sqrt(value * (1 - value) / total + z2 / (4 * total**2))
    return Measured(value, max(0.0, min(value, centre - reach)), min(1.0, max(value, centre + reach)))
