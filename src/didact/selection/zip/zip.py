"""ZIP: a set that compresses badly says much in few bytes; grown in three stages per round.

A round refreshes what is known of the candidates that looked best, coarsely against everything
chosen so far, and then picks greedily among the best of them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import numpy as np
from pydantic import Field

from didact.core.cost import Cost
from didact.core.errors import ConfigError
from didact.core.identity import method
from didact.core.protocols import Composition, Growing, Ranking
from didact.selection.around.budget import candidates
from didact.selection.greedy.shares import scripts_of, share_notes
from didact.selection.zip.released import check_released, released
from didact.selection.zip.rounds import Rounds, alone, sample_texts
from didact.text.deflate.sizes import DeflateSizes, classic_zlib, fast_backend

if TYPE_CHECKING:
    from didact.core.arrays import Int1D
    from didact.core.budget import Budget
    from didact.core.pool import Pool, PoolStats
    from didact.core.protocols import Context, Grown
    from didact.core.scores import Scores, Selection

Mode = Literal["exact", "released"]
Count = Annotated[int, Field(ge=1)]

# Seconds per evaluation and per byte of the candidate: compiled, and by copies of zlib's state.
_SECONDS: Final = {True: (5e-6, 30e-9), False: (40e-6, 110e-9)}


def estimate_zip(
    stats: PoolStats, budget: Budget | None, *, mode: Mode, k1: int, k2: int, k3: int
) -> Cost:
    """Processor time: the candidates' evaluations times what one takes.

    Raises:
        ConfigError: What `zip_` would refuse, as far as it is known before the pool is looked at.
    """
    _check_order(k1, k2, k3)
    if budget is None or not stats.n:
        return Cost()
    if mode == "released":
        check_released((k1, k2, k3), budget, stats.n)
    n, wanted = stats.n, budget.amount(stats.n)
    if budget.unit == "tokens":
        wanted = round(n * min(wanted / max(stats.n_tokens, 1), 1))
    if mode == "released":
        wanted = -(-wanted // k3) * k3
    wanted = min(wanted, n)
    if not wanted:
        return Cost()
    k1, k2, k3 = _clamped(n, k1, k2, k3)
    # Rounds with as many candidates as they may look at are alike; the others are few.
    alike = min((n - max(k1, k2)) // k3 + 1, wanted // k3)
    done = np.arange(alike * k3, wanted, k3)  # at the beginning of each of the others
    free, picks = n - done, np.minimum(k3, wanted - done)
    near = np.minimum(k2, free)
    stage_2 = np.minimum(k1, free)[done > 0].sum() + max(alike - 1, 0) * k1  # not in the first
    stage_3 = (picks * (2 * near - picks + 1) // 2 - near).sum()  # not before a round's first pick
    stage_3 += alike * (k3 * (2 * k2 - k3 + 1) // 2 - k2)
    evaluations = n + stage_2 + stage_3
    each, a_byte = _SECONDS[fast_backend()]
    return Cost(cpu_seconds=float(evaluations * (each + a_byte * stats.n_bytes / n)))


def _why_alone(settings: Mapping[str, Any]) -> str:
    if settings["mode"] == "exact":
        return ""
    return "mode=released, whose picks know none; use mode=exact"


@method("zip", libraries=("numba",))
@Composition(grows=True, estimate=estimate_zip, why_alone=_why_alone)
def zip_(
    pool: Pool,
    scores: Scores | None,
    budget: Budget | None,
    ctx: Context,
    /,
    *,
    mode: Mode = "exact",
    k1: Count = 10_000,
    k2: Count = 200,
    k3: Count = 100,
) -> Growing | Selection:
    """The set that DEFLATE compresses least, grown greedily; ties go to the lowest row.

    Every candidate has a ratio, raw bytes over compressed bytes, at first its own. Each round takes
    the `k1` of lowest ratio and renews theirs as that of everything chosen followed by the
    candidate; takes the `k2` lowest of these; and from these picks `k3`, one at a time, each the
    one that with the *round's* picks before it has the lowest ratio. DEFLATE's window is 32 KiB:
    "everything chosen" is what fits in there, some thirty samples of a kilobyte.

    `exact` compresses each sample's text and a newline (of pairs: prompt, chosen, rejected), orders
    ratios as fractions, never picks twice, keeps the k2 - k3 not picked in the running, and meets
    the budget. `released` makes the released code's picks, in its order: text is Python's `str()`
    of the list of the user's own rows (Parquet's as their JSON), ratios are float32 whose many ties
    fall as torch's top-k leaves them, the k2 - k3 not picked are lost, whole rounds are kept beyond
    the budget, and exact duplicates count as samples. It is refused where that code picks samples
    twice.

    It is one machine's: its rounds look at every candidate in turn, in the caller's process. For
    pools past one, `feature_based` has partitions.

    DEFLATE sees bytes: of the same text in two scripts, that of fewer bytes a letter compresses
    less, and is taken first. A script or source whose share of the tokens shrinks or grows by more
    than 1.5 is named in a note (`exact`).

    Args:
        pool: The samples.
        scores: Rows without one are never chosen; not looked at otherwise.
        budget: How many samples or tokens, or which share of the rows.
        ctx: Workers, progress, pieces for finished rounds.
        mode: `exact` or `released`.
        k1: Candidates renewed per round; at most as many as there are.
        k2: Of these, candidates for picks; at most `k1`.
        k3: Picks per round; at most `k2`.

    Raises:
        ConfigError: `k3` over `k2` over `k1`, or a case that `released` refuses.

    **Source:** ZIP (Yin et al. 2024, "Entropy Law", arXiv:2407.06645), its released code for
    `released`.
    **Cost:** at most n + rounds·(k1 + k3·(2·k2 - k3 + 1) / 2) evaluations, rounds = picks / k3,
    each some 30 µs for a kilobyte with numba and five times that without. Memory: the candidates'
    text, 83 bytes a candidate, 5 MB a worker. Finished rounds are kept on disk while it works, at
    most 16·k1 bytes each; a killed selection goes on after the last.
    """
    _check_order(k1, k2, k3)
    if ctx.executor.elsewhere:
        ctx.tell(
            f"zip is one machine's: it chooses here, with {ctx.executor.local_threads} threads, "
            "while the workers of the cluster wait"
        )
    if mode == "released":
        return released(pool, scores, budget, ctx, stages=(k1, k2, k3))
    rows = candidates(pool, scores)
    stages = _clamped(len(rows), k1, k2, k3)
    notes = (*_clamping((k1, k2, k3), stages), *_zlib_note())

    def remarks(chosen: Int1D) -> tuple[str, ...]:
        scripts = scripts_of(pool, rows, ctx)
        return share_notes(pool, rows, chosen, scripts, "zip looks at none; quotas keep sources")

    @contextmanager
    def growth() -> Iterator[Grown]:
        texts = sample_texts(pool, rows)
        threads = ctx.executor.local_threads
        with (
            DeflateSizes(texts, workers=threads) as whole,
            DeflateSizes(texts, workers=threads) as fresh,
        ):
            first = alone(texts, whole, ctx)
            rounds = Rounds(texts, whole, fresh, first, stages, ctx.pieces)
            yield rounds, lambda picks: Ranking(rows=rows[picks], notes=notes, remarks=remarks)

    return Growing(rows=rows, open=growth, resumable=False)


def _check_order(k1: int, k2: int, k3: int) -> None:
    if not k3 <= k2 <= k1:
        raise ConfigError(
            f"zip: k1={k1}, k2={k2}, k3={k3}; each stage chooses from the one before: expected "
            "k1 ≥ k2 ≥ k3 (the released code picks samples twice otherwise)"
        )


def _clamped(n: int, k1: int, k2: int, k3: int) -> tuple[int, int, int]:
    """The stages' sizes for `n` candidates."""
    return min(k1, n), min(k2, n), min(k3, n)


def _clamping(asked: tuple[int, int, int], stages: tuple[int, int, int]) -> tuple[str, ...]:
    changed = [
        f"k{i}={was:,} became {now:,}"
        for i, (was, now) in enumerate(zip(asked, stages, strict=True), 1)
        if was != now
    ]
    return (f"{', '.join(changed)}: there are no more candidates",) if changed else ()


def _zlib_note() -> tuple[str, ...]:
    if classic_zlib() or fast_backend():
        return ()
    note = (
        f"sizes are those of zlib {zlib.ZLIB_RUNTIME_VERSION}, not of the classic zlib, and so are "
        "the picks; pip install 'didact[fast]' for those of the classic one"
    )
    return (note,)
