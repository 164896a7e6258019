"""Noise comes last: which candidates look like it, and what is said of those that were picked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from didact.core.protocols import Ranking
from didact.selection.greedy.shares import share_notes
from didact.text.noise.noise import noisy
from didact.text.scripts import SCRIPTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from didact.core.arrays import Bool1D, Int1D, UInt8s
    from didact.core.pool import Pool, PoolStats, Texts
    from didact.core.protocols import Context

# A source is warned of that loses so large a share of so many rows.
_LARGE_SHARE, _ENOUGH_ROWS = 0.2, 5
_TOLD: Final = 3
Count = tuple[str, int, int]  # name, how many of it, of how many


# Processor seconds a byte as in `feature_based`: of 16 MiB, and what each doubling adds.
_A_BYTE, _DOUBLING = 76e-9, 5e-9


def estimate_noise(stats: PoolStats, strictness: float) -> float:
    """Processor seconds to look for noise."""
    if not strictness:
        return 0.0
    return (_A_BYTE + _DOUBLING * doublings(stats)) * stats.n_bytes


def doublings(stats: PoolStats) -> float:
    """How often the pool's bytes are twice 16 MiB; for tables that outgrow the caches."""
    return float(np.log2(max(stats.n_bytes, 2**20) / 2**24))


def noise_last(
    method: str,
    pool: Pool,
    rows: Int1D,
    scripts: UInt8s,
    ctx: Context,
    *,
    strictness: float,
    script_factor: float | None,
) -> tuple[Bool1D, Callable[[Int1D], Ranking]]:
    """Who looks like noise, and the ranking that picks become with the noise among them named.

    Args:
        method: The selector's name.
        pool: The samples.
        rows: The candidates, ascending, `(n,)`.
        scripts: The script of each, see `didact.selection.greedy.shares.scripts_of`.
        ctx: Its workers look for noise; told of progress.
        strictness: See `didact.text.noise.noise.noisy`; 0 lets everything pass, misdecoded text
            included.
        script_factor: By what a script's share may change, for the notes.

    Returns:
        Which candidates a growth should pick last, `(n,)`; and positions picked → ranking.
    """
    suspects = suspects_of(pool, rows, strictness, ctx)
    return suspects, ranked(
        method, pool, rows, scripts, suspects, strictness=strictness, script_factor=script_factor
    )


def suspects_of(pool: Texts, rows: Int1D, strictness: float, ctx: Context) -> Bool1D:
    """Which candidates look like noise, `(n,)`; none at a strictness of 0."""
    if not strictness:
        return np.zeros(len(rows), np.bool_)
    return noisy(pool, rows, strictness, ctx)


def ranked(
    method: str,
    pool: Pool,
    rows: Int1D,
    scripts: UInt8s,
    suspects: Bool1D,
    *,
    strictness: float,
    script_factor: float | None,
) -> Callable[[Int1D], Ranking]:
    """From positions picked to a ranking that names the noise among them; see `noise_last`."""
    rule = "script_factor=" + ("null" if script_factor is None else f"{script_factor:g}")

    def remarks(chosen: Int1D) -> tuple[str, ...]:
        noise, real = suspects[np.searchsorted(rows, chosen)], ~suspects
        sources = _counts(suspects, pool.source_codes[rows], pool.source_names)
        told = (sources, _counts(suspects, scripts, SCRIPTS))
        return (
            *noise_notes(suspects, int(noise.sum()), strictness, *told),
            *share_notes(pool, rows[real], chosen[~noise], scripts[real], rule),
        )

    def ranking(picks: Int1D) -> Ranking:
        return Ranking(
            rows=rows[picks],
            reasons=(method, "noise, for want of others"),
            why=suspects[picks].astype(np.int64),
            remarks=remarks,
        )

    return ranking


def noise_notes(
    suspects: Bool1D,
    chosen: int,
    strictness: float,
    sources: Sequence[Count],
    scripts: Sequence[Count],
) -> tuple[str, ...]:
    """How many samples look like noise, where they are from, and which sources lose many.

    Args:
        suspects: Which of n candidates are noise.
        chosen: How many of these are in the selection.
        strictness: See `noisy`.
        sources: Those that have some, the most first,
        scripts: and the scripts.

    Returns:
        No line if none is noise; else one, and one more for sources that lose a fifth or more.
    """
    if not suspects.any():
        return ()
    line = (
        f"{int(suspects.sum()):,} of {len(suspects):,} rows look like noise "
        f"(noise={strictness:g}) and come last; {chosen:,} of them are chosen; "
        f"sources: {_listed(sources)}; scripts: {_listed(scripts)}"
    )
    large = [
        f"{name} ({count:,} of {whole:,} rows)"
        for name, count, whole in sources
        if count >= _ENOUGH_ROWS and count >= _LARGE_SHARE * whole
    ]
    if not large:
        return (line,)
    warning = f"sources that lose a large share as noise: {', '.join(large)}"
    return line, f"{warning}; if they are not, noise=0 lets them pass"


def _counts(suspects: Bool1D, codes: npt.NDArray[Any], names: Sequence[str]) -> list[Count]:
    """Of every name that has suspects: name, suspects and rows, the most suspects first."""
    whole = np.bincount(codes, minlength=len(names))
    found = np.bincount(codes[suspects], minlength=len(names))
    order: npt.NDArray[Any] = np.argsort(-found, kind="stable")
    return [(names[i], int(found[i]), int(whole[i])) for i in order.tolist() if found[i]]


def _listed(found: Sequence[Count]) -> str:
    told = ", ".join(f"{name} {count:,}" for name, count, _ in found[:_TOLD])
    rest = sum(count for _, count, _ in found[_TOLD:])
    return f"{told}, others {rest:,}" if rest else told
