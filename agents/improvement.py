"""How much better than the best so far something may be."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Floats = NDArray[np.float64]


def expected_improvement(leads: Floats, sds: Floats) -> Floats:
    """The mean of max(x, 0) of normals, in their unit (Mockus, 1975).

    Args:
        leads: their means, over the best so far.
        sds: their standard deviations, above 0.
    """
    u = leads / sds
    density = np.exp(-0.5 * u * u) / math.sqrt(2 * math.pi)
    return np.asarray(sds * (u * ndtr(u) + density))
