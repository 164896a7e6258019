"""95 % intervals of means, ratios and shares over samples drawn independently.

They say how far a number could lie from that of the whole it was sampled from, with the model held
fast. They are not for comparing two models: there a run (seed and draw) is one observation.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from didact.core.arrays import Float1D
from didact.evaluation.student import t_quantile

Z: Final = 1.959963984540054  # the normal distribution's 97.5 % point
Interval = tuple[float | None, float | None]
NOTHING: Final[Interval] = (None, None)


def ratio_interval(above: Float1D, below: Float1D) -> Interval:
    """Of Σ above ÷ Σ below, each sample giving one term to both sums; (None, None) for one sample.

    Linearised: the residuals `above − ratio · below` of the samples are independent, and their
    sum has the standard error √(n/(n−1) · Σ residual²). Student's t with n − 1 degrees of freedom.
    Of a mean, `below` is ones.

    Args:
        above: `(n,)`.
        below: `(n,)`, of positive sum.

    **Source:** Cochran 1977, "Sampling Techniques", section 6.4 (the large-sample variance of a
    ratio). **Cost:** O(n).
    """
    n = len(above)
    if n < 2:
        return NOTHING
    total = float(below.sum())
    ratio = float(above.sum()) / total
    residual = above - ratio * below
    error = math.sqrt(n / (n - 1) * float(np.square(residual).sum())) / total
    half = t_quantile(0.975, n - 1) * error
    return ratio - half, ratio + half


def share_interval(hits: float, n: int) -> Interval:
    """Of a share `hits / n`; inside 0 to 1, and of positive width even where all or none hit.

    Args:
        hits: Number of successes; ties may count in part.
        n: Number of samples, 1 or more.

    **Source:** Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    share, z2 = hits / n, Z * Z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(min(middle - half, share), 0.0), min(max(middle + half, share), 1.0)
