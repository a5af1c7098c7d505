"""Intervals of a mean difference of few pairs: Student's t. Pure arithmetic."""

import math
import statistics
from collections.abc import Sequence

# Two-sided quantiles of Student's t for 95 %, for 1 to 9 degrees of freedom.
_T_95 = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622)


def interval(differences: Sequence[float], step: float = 0.0) -> tuple[float, float] | None:
    """Return the interval of the mean difference for a confidence of 95 %, None for a single difference.

    `step` is the smallest difference that can be seen: 1 / number of test images. The spread is at least
    that, because two students can agree to the image by chance.
    """
    if len(differences) < 2:
        return None
    spread = max(statistics.stdev(differences), step)
    half = t_quantile(len(differences) - 1) * spread / math.sqrt(len(differences))
    mean = statistics.fmean(differences)
    return mean - half, mean + half


def t_quantile(degrees: int) -> float:
    """Return the two-sided 95 % quantile of Student's t with `degrees` of freedom.

    Above the table it is the expansion of Cornish and Fisher around the normal quantile z.
    """
    if degrees <= len(_T_95):
        return _T_95[degrees - 1]
    z = 1.959964
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
