"""Tails and quantiles of Student's t and of F, for the few degrees of freedom that runs leave."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final

_NORMAL: Final = NormalDist()
_TINY: Final = 1e-300
_NEARLY_NORMAL: Final = 1e7  # t and normal quantiles differ by less than 1e-6 from here on


def t_tail(t: float, df: float) -> float:
    """Probability that Student's t exceeds `t`, 0 to 1; with relative precision far out.

    Args:
        t: Any number.
        df: Degrees of freedom, above 0, whole or not; infinite for the normal distribution.

    **Source:** I_x(df/2, ½)/2 with x = df/(df + t²), Abramowitz and Stegun 1964, 26.7.1.
    **Cost:** some tens of steps.
    """
    if df > _NEARLY_NORMAL:
        return math.erfc(t / math.sqrt(2)) / 2
    half = incomplete_beta(df / (df + t * t), df / 2, 0.5) / 2
    return half if t >= 0 else 1 - half


def t_quantile(p: float, df: float) -> float:
    """The t that Student's t stays below with probability `p`.

    Newton's steps on the tail, which is convex: from a start nearer to 0 they go outward and never
    too far.

    Args:
        p: 0 to 1, both excluded.
        df: As in `t_tail`.
    """
    if p < 0.5:
        return -t_quantile(1 - p, df)
    z = _NORMAL.inv_cdf(p)
    if df > _NEARLY_NORMAL or p == 0.5:
        return z
    log_scale = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - math.log(df * math.pi) / 2
    t = z + (z**3 + z) / (4 * df)  # Abramowitz and Stegun 1964, 26.7.5, whose next terms add
    for _ in range(200):
        density = math.exp(log_scale - (df + 1) / 2 * math.log1p(t * t / df))
        step = (t_tail(t, df) - (1 - p)) / density
        t += step
        if abs(step) <= 1e-12 * max(t, 1):
            break
    return t


def f_tail(f: float, df_above: float, df_below: float) -> float:
    """Probability that a ratio of two variances exceeds `f` where both are of one spread.

    Args:
        f: The ratio, 0 or more.
        df_above: Degrees of freedom of the numerator.
        df_below: Those of the denominator.

    **Source:** Abramowitz and Stegun 1964, 26.6.2.
    """
    x = df_below / (df_below + df_above * f)
    return incomplete_beta(x, df_below / 2, df_above / 2)


def incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularized incomplete beta function I_x(a, b), 0 to 1.

    Args:
        x: 0 to 1.
        a: Above 0.
        b: Above 0.

    **Source:** its continued fraction, Abramowitz and Stegun 1964, 26.5.8, evaluated from the
    front (Lentz 1976), on the side where it converges fast.
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(1 - x, b, a)
    log_front = a * math.log(x) + b * math.log1p(-x) - math.log(a)
    log_front += math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    return math.exp(log_front) * _beta_fraction(x, a, b)


def _beta_fraction(x: float, a: float, b: float) -> float:
    """1/(1 + d₁/(1 + d₂/(1 + …))), by the ratios of successive numerators and denominators."""
    above, below, value = 1.0, 0.0, 1.0
    for step in range(1, 2000):
        m = step // 2
        if step % 2:
            d = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            d = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        below = 1 / _away_from_zero(1 + d * below)
        above = _away_from_zero(1 + d / above)
        value *= above * below
        if abs(above * below - 1) < 1e-15:
            break
    return 1 / value


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
