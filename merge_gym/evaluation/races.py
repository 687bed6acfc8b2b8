"""When a challenger is dropped before it was scored on every subset."""

from __future__ import annotations

from typing import Any

import numpy as np

PRIOR_SD, PRIOR_RACES = 3.0, 4.0
"""What a race takes for the standard deviation of a difference on one subset, in points, before it
has seen any, and for how many races that counts."""


def hopeless(mean: Any, met: int, subsets: int, sd: Any, z: float) -> Any:
    """Whether a challenger cannot catch up with the incumbent any more: where even a difference of
    z standard errors above what was seen would not do, mean + z · sd · √(1/m − 1/S) < 0.

    Args:
        mean: of its score less the incumbent's over the subsets so far, in points; one or many.
        met: m, on how many of the S subsets.
        subsets: S.
        sd: standard deviation of a difference on one subset, in points.
        z: the fewer, the sooner challengers are dropped; infinity drops none.
    """
    margin = z * np.sqrt(1 / met - 1 / subsets) if met < subsets else 0.0
    return mean + sd * margin < 0
