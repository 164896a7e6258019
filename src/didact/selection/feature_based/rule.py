"""The rule of `feature_based` over some candidates: its settings, and lazy greedy ready to pick."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from didact.selection.feature_based.growth import LazyGreedy, read_features, with_sources
from didact.selection.greedy.shares import kept_shares

if TYPE_CHECKING:
    import numpy.typing as npt

    from didact.core.arrays import Bool1D, Float1D, Int1D, UInt8s
    from didact.core.pool import Texts
    from didact.core.protocols import Context

Weight = Literal["none", "log", "sqrt"]
Per = Literal["byte", "token", "sample"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Settings of `feature_based`; see there."""

    weight: Weight
    min_df: int
    per: Per
    noise: float
    own_pairs: float
    balance: float
    script_factor: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """What candidates are a part of.

    Attributes:
        scripts: Tokens of each script of `didact.text.scripts.SCRIPTS`, noise left out.
        sources: Bytes of each source.
    """

    scripts: Float1D
    sources: Float1D


def lazy_greedy(
    pool: Texts,
    rows: Int1D,
    rule: Rule,
    ctx: Context,
    *,
    scripts: UInt8s,
    suspects: Bool1D,
    whole: Whole | None = None,
) -> LazyGreedy:
    """Reads the candidates' features; ready to pick.

    Args:
        pool: The samples.
        rows: The candidates, ascending, `(n,)`.
        rule: The settings.
        ctx: Its workers read the text; told of progress.
        scripts: The script of each.
        suspects: Which of them look like noise, and come last.
        whole: What shares of scripts and sources are shares of; the candidates when None.
    """
    features = read_features(pool, rows, ctx, min_df=rule.min_df, suspects=suspects)
    size = _sizes(pool, rows, rule.per)
    size[suspects] = np.inf  # whatever they add is nothing for their size
    alone = features.own * (rule.own_pairs * weights(np.ones(1), rule.weight))
    samples, weight = with_sources(
        features,
        weights(features.frequency, rule.weight),
        alone,
        pool.source_codes[rows].astype(np.int64),
        pool.n_bytes[rows],
        size,
        balance=rule.balance,
        whole=None if whole is None else whole.sources,
    )
    shares = kept_shares(
        pool.n_tokens[rows], scripts, suspects, rule.script_factor,
        whole=None if whole is None else whole.scripts,
    )  # fmt: skip
    return LazyGreedy(samples, weight, shares)


def weights(frequency: npt.NDArray[Any], weight: Weight) -> Float1D:
    """What a gram of each document frequency weighs."""
    out = frequency.astype(np.float64)
    if weight == "log":
        np.log1p(out, out=out)
    elif weight == "sqrt":
        np.sqrt(out, out=out)
    else:
        out[:] = 1
    return out


def _sizes(pool: Texts, rows: Int1D, per: Per) -> Float1D:
    """What each row's gain is divided by."""
    if per == "sample":
        return np.ones(len(rows))
    of = pool.n_tokens if per == "token" else pool.n_bytes
    return np.maximum(of[rows], 1).astype(np.float64)
