"""Several scores of one pool made into one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from didact.core.errors import ConfigError, DataError
from didact.core.scores import Scores, check_pool
from didact.core.statistics import scaled_ranks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from didact.core.arrays import Bool1D, Float1D

CombineRule = Literal["rank_mean", "product"]


def combine(
    scores: Sequence[Scores], how: CombineRule = "rank_mean", weights: Sequence[float] | None = None
) -> Scores:
    """One score from several; higher is better. A row missing in any input is missing.

    Args:
        scores: One or more scores of one pool. Scores per task are not carried over.
        how: "rank_mean": weighted mean of the rows' ranks by utility, 0 = worst … 1 = best; ties
            get their mean rank, so a constant score gives everybody 0.5. Ranks are among the rows
            that every input has. "product": the values multiplied, in natural units ≥ 0; a score
            where lower is better enters as 1 / value.
        weights: For "rank_mean": one number > 0 per input; None weighs them equally.

    Returns:
        `parts` keeps every input's values under its method's name; `settings` says what went in.

    Raises:
        ConfigError: No scores, an unknown `how`, or weights that do not fit.
        DataError: "product" of a negative value, of 0 where lower is better, or over float64.
        PoolMismatchError: The scores belong to different pools.

    **Source:** rank averaging is Borda's count (1781), scaled; the product is the form of the Deita
    score, complexity times quality (Liu et al. 2024, arXiv:2312.15685).
    **Cost:** one sort per input; no model.
    """
    if not scores:
        raise ConfigError("combine needs at least one score")
    first = scores[0]
    for other in scores[1:]:
        check_pool(
            f"scores of {other.method!r}",
            other.pool_fingerprint,
            first.pool_fingerprint,
            f"score the pool of {first.method!r} with both",
        )
    if how not in ("rank_mean", "product"):
        raise ConfigError(f"combine: how={how!r}; expected 'rank_mean' or 'product'")
    shares = _shares(weights, len(scores), how)
    present = np.logical_and.reduce([s.present for s in scores])
    values = np.full(len(first), np.nan)
    values[present] = (
        _rank_mean(scores, present, shares) if how == "rank_mean" else _product(scores, present)
    )
    names = _unique([s.method for s in scores])
    missing = {
        row: f"{name}: {reason}"
        for name, s in reversed(list(zip(names, scores, strict=True)))
        for row, reason in s.missing.items()
    }
    settings: dict[str, Any] = {"how": how, "weights": list(weights) if weights else None}
    settings["of"] = {n: _described(s) for n, s in zip(names, scores, strict=True)}
    return Scores(
        values=values,
        higher_is_better=True,
        method=how,
        pool_fingerprint=first.pool_fingerprint,
        settings=settings,
        parts={name: s.values for name, s in zip(names, scores, strict=True)},
        missing=dict(sorted(missing.items())),
        facts={name: dict(s.facts) for name, s in zip(names, scores, strict=True) if s.facts},
        spent=_spent(scores),
    )


def _spent(scores: Sequence[Scores]) -> dict[str, float] | None:
    """FLOPs behind all of them; what two stand on counts once. None where one does not say."""
    out: dict[str, float] = {}
    for s in scores:
        if s.spent is None:
            return None
        out |= s.spent
    return out


def _rank_mean(scores: Sequence[Scores], present: Bool1D, shares: Float1D) -> Float1D:
    ranks = [scaled_ranks(s.utility[present]) for s in scores]
    return np.asarray(shares @ np.stack(ranks), dtype=np.float64)


def _product(scores: Sequence[Scores], present: Bool1D) -> Float1D:
    out = np.ones(int(present.sum()))
    for s in scores:
        values = s.values[present]
        bad = values < 0 if s.higher_is_better else values <= 0
        if bad.any():
            row = int(np.flatnonzero(present)[np.flatnonzero(bad)[0]])
            expected = "0 or more" if s.higher_is_better else "above 0 (lower is better: 1 / value)"
            raise DataError(
                f"combine: {s.method!r} of row {row} is {s.values[row]}; a product needs values "
                f"{expected}; use how='rank_mean'"
            )
        with np.errstate(over="ignore"):
            out *= values if s.higher_is_better else 1 / values
    if not np.isfinite(out).all():
        raise DataError("combine: a product is over the range of float64; use how='rank_mean'")
    return out


def _shares(weights: Sequence[float] | None, n: int, how: CombineRule) -> Float1D:
    if weights is None:
        return np.full(n, 1 / n)
    if how == "product":
        raise ConfigError("combine: a product has no weights; leave them out or use 'rank_mean'")
    out = np.asarray(weights, dtype=np.float64)
    if out.shape != (n,) or not (np.isfinite(out) & (out > 0)).all():
        raise ConfigError(f"combine: weights={list(weights)}; expected {n} numbers above 0")
    return np.asarray(out / out.sum())


def _unique(names: Sequence[str]) -> list[str]:
    """Repeated names get ~2, ~3, as repeated ids do."""
    seen: dict[str, int] = {}
    out = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        out.append(name if seen[name] == 1 else f"{name}~{seen[name]}")
    return out


def _described(scores: Scores) -> Mapping[str, Any]:
    return {
        "method": scores.method,
        "higher_is_better": scores.higher_is_better,
        "settings": dict(scores.settings),
    }
