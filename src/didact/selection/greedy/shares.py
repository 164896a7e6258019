"""Shares of scripts in a growing set: who may be picked next, and what is said of those who moved.

What compresses least or has the most different words for its bytes depends on how a language is
written: letters of one, two or three bytes, words or none. Left alone, a greedy rule trades scripts
for one another and calls that variety.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from didact.core.cost import Metered
from didact.text.scripts import NONE, SCRIPTS, script_of

if TYPE_CHECKING:
    import numpy.typing as npt

    from didact.core.arrays import Bool1D, Float1D, Int1D, UInt8s
    from didact.core.pool import Pool, Texts
    from didact.core.protocols import Context

LEAST_SHARE: Final = 0.02  # of the candidates' tokens: what is smaller goes where it goes
MOVED: Final = 1.5  # shares that change by more are told
_TOLD, _ENOUGH = 5, 5


class Shares(NamedTuple):
    """Groups of candidates whose shares are kept, and what is picked of each; for kernels.

    Attributes:
        group: Each candidate's group, int64 `(n,)`, from 0.
        size: Tokens of each candidate, float64 `(n,)`.
        share: The share of the candidates' tokens that each group has, float64 `(g,)`; 0 for a
            group that is free.
        picked: Tokens picked of each group, float64 `(g,)`.
        factor: By what a share may change, more than 1.
        step: Tokens of an average candidate.
    """

    group: npt.NDArray[Any]
    size: npt.NDArray[Any]
    share: npt.NDArray[Any]
    picked: npt.NDArray[Any]
    factor: float
    step: float


def scripts_of(pool: Texts, rows: Int1D, ctx: Context) -> UInt8s:
    """The script of every row, numbers of `didact.text.scripts.SCRIPTS`, `(len(rows),)`."""
    items = [rows[part] for part in pool.parts(rows)]
    found = ctx.executor.map(_scripts, items, shared=pool)
    return np.concatenate([np.empty(0, np.uint8), *found])


def _scripts(pool: Texts, rows: Int1D) -> Metered[UInt8s]:
    return Metered(script_of(pool.texts_of(rows)))


def kept_shares(
    tokens: Int1D,
    scripts: UInt8s,
    suspects: Bool1D,
    factor: float | None,
    *,
    whole: Float1D | None = None,
) -> Shares:
    """Scripts whose shares are kept: each that has a fiftieth of the candidates' tokens.

    The factor that a pick is held to is a tenth stricter than `factor`: a set ends with a whole
    sample.

    Args:
        tokens: Of each candidate, `(n,)`.
        scripts: Of each, see `scripts_of`.
        suspects: Which of them are noise, and have no share.
        factor: By what a share may change, more than 1; None lets it.
        whole: `tokens_by_script` of what the candidates are a part of, whose shares are kept.
    """
    size = np.maximum(tokens, 1).astype(np.float64)
    known = tokens_by_script(tokens, scripts, suspects) if whole is None else whole
    share = known / max(float(known.sum()), 1.0)
    share[NONE] = 0
    kept = np.flatnonzero(share >= LEAST_SHARE) if factor else np.empty(0, np.int64)
    group_of = np.zeros(len(SCRIPTS), np.int64)
    group_of[kept] = np.arange(1, len(kept) + 1)
    return Shares(
        group=group_of[scripts],
        size=size,
        share=np.append(0.0, share[kept]),
        picked=np.zeros(len(kept) + 1),
        factor=1 + 0.9 * (factor - 1) if factor else 1.0,
        step=float(size.mean()) if len(size) else 1.0,
    )


def tokens_by_script(tokens: Int1D, scripts: UInt8s, suspects: Bool1D) -> Float1D:
    """Tokens of each script, those of noise left out, `(len(SCRIPTS),)`; a sample has one or more.

    Args:
        tokens: Of each candidate, `(n,)`.
        scripts: Of each, see `scripts_of`.
        suspects: Which of them are noise.
    """
    real = np.maximum(tokens, 1).astype(np.float64) * ~suspects
    return np.asarray(np.bincount(scripts, real, len(SCRIPTS)), np.float64)


def share_notes(
    pool: Pool, rows: Int1D, chosen: Int1D, scripts: UInt8s, rule: str
) -> tuple[str, ...]:
    """One line on sources, and one on scripts, whose share of the tokens moved by more than 1.5.

    A source that gained is not told; of one that lost, how much of it is exact duplicates is.

    Args:
        pool: The samples.
        rows: The candidates, ascending.
        chosen: The rows chosen.
        scripts: Of each candidate.
        rule: What keeps scripts, or that nothing does.
    """
    every = np.bincount(pool.source_codes, minlength=len(pool.source_names))
    copies = np.bincount(pool.source_codes, pool.copy_number > 1, len(every)) / np.maximum(every, 1)
    lost = [
        f"{pool.source_names[i]} {_by(by)} ({copies[i]:.0%} of it are exact duplicates)"
        for i, by in _moved(pool, rows, chosen, pool.source_codes[rows])
        if by < 1
    ]
    notes = _line("sources with a smaller share of the tokens than in the pool", lost)
    moved = [f"{SCRIPTS[i]} {_by(by)}" for i, by in _moved(pool, rows, chosen, scripts)]
    return notes + _line(f"scripts whose share of the tokens changed ({rule})", moved)


def _line(what: str, found: list[str]) -> tuple[str, ...]:
    more = f", and {len(found) - _TOLD} more" if len(found) > _TOLD else ""
    return (f"{what}: {', '.join(found[:_TOLD])}{more}",) if found else ()


def _by(factor: float) -> str:
    if factor >= 1:
        return f"{factor:.1f}-fold"
    return f"to 1/{1 / factor:.1f}" if factor else "to nothing"


def _moved(
    pool: Pool, rows: Int1D, chosen: Int1D, codes: npt.NDArray[Any]
) -> list[tuple[int, float]]:
    """Codes whose share of the tokens changed by more than `MOVED`, and by what factor.

    The farthest first. Told of those only that at their share would have `_ENOUGH` rows chosen.
    """
    tokens = pool.n_tokens[rows].astype(np.float64)
    inside = np.zeros(len(rows), np.bool_)
    inside[np.searchsorted(rows, chosen)] = True
    before = np.bincount(codes, tokens)
    after = np.bincount(codes, tokens * inside, len(before))
    before, after = before / max(before.sum(), 1.0), after / max(after.sum(), 1.0)
    enough = (before >= LEAST_SHARE) & (before * len(chosen) >= _ENOUGH)
    found = [(code, float(after[code] / before[code])) for code in np.flatnonzero(enough).tolist()]
    found = [(code, by) for code, by in found if not 1 / MOVED <= by <= MOVED]
    return sorted(found, key=lambda item: -max(item[1], 1 / max(item[1], 1e-9)))
