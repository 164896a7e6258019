"""Cutting a ranking to a budget: who may be chosen, how far it reaches, and why each row was.

A selector ranks rows, best first; `cut` does the rest, so that budgets, quotas, duplicates and
missing scores mean the same for every selector.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from didact.core.errors import BudgetError, ConfigError
from didact.core.scores import Selection
from didact.selection.around.about_selection import REFUSED
from didact.selection.around.amounts import counted, refuse_too_little
from didact.selection.around.near_duplicates import drop_near_duplicates
from didact.selection.around.quotas import (
    Candidates,
    bounded,
    check_reachable,
    fitting,
    proportional,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from didact.core.arrays import Bool1D, Int1D
    from didact.core.budget import Budget
    from didact.core.pool import Pool
    from didact.core.protocols import Context, Ranking
    from didact.core.scores import Scores
    from didact.selection.around.amounts import Counted, TrainingFlops
    from didact.selection.around.near_duplicates import NearDuplicates
    from didact.selection.around.quotas import Quotas


def required(scores: Scores | None, pool: Pool, method: str) -> Scores:
    """The scores a method cannot do without.

    Raises:
        ConfigError: There are none.
        PoolMismatchError: They belong to another pool.
    """
    if scores is None:
        raise ConfigError(
            f"{method} needs scores: add a 'score:' section to the config, pass '--scores FILE' on "
            "the command line, or call didact.score() first"
        )
    scores.check(pool)
    return scores


def candidates(pool: Pool, scores: Scores | None) -> Int1D:
    """Ascending rows that may be chosen, for selectors that rank them by other things than scores.

    Scores, where given, only leave out the rows without one.
    """
    if scores is not None:
        scores.check(pool)
    return eligible(pool, np.arange(len(pool)), scores)


def goal(
    pool: Pool,
    rows: Int1D,
    budget: Budget | None,
    quotas: Quotas | None = None,
    *,
    method: str,
    scores: Scores | None = None,
    one_of_each: Int1D | None = None,
    training: TrainingFlops | None = None,
) -> tuple[Int1D, int]:
    """How far a greedy selector has to go; refuses budgets and quotas before any work is done.

    Args:
        pool: The pool the rows belong to.
        rows: The candidates.
        budget: How many samples, tokens or FLOPs, or which share of the rows.
        quotas: With quotas all candidates are ranked, since any may be needed.
        method: The selector's name, for messages.
        scores: Counted in messages.
        one_of_each: Positions of one candidate of each text; all are when None.
        training: For a budget of FLOPs.

    Returns:
        Each candidate's size as the budget counts it, and the sum to reach.

    Raises:
        BudgetError: No budget, more than the pool offers, or quotas that cannot be met.
        ConfigError: A quota names an unknown source, or a minimum is above its maximum.
    """
    if budget is None:
        raise _no_budget(method)
    count = counted(pool, budget, training)
    sizes = count.sizes(rows)
    some = sizes if one_of_each is None else sizes[one_of_each]
    limit, _ = _limit(pool, budget, count, some, scores, partial=False)
    if not quotas or not count.asked:
        return sizes, limit
    if not quotas.proportional:
        offered = Candidates(pool.source_names, pool.source_codes[rows], sizes, count)
        check_reachable(offered, quotas, limit, must_fill=budget.samples is not None)
    return sizes, int(sizes.sum())


def eligible(pool: Pool, ranking: Int1D, scores: Scores | None = None) -> Int1D:
    """Where in a ranking the rows are that may be chosen.

    Left out are rows of the validation split, rows without a score, and, when the pool counts
    exact duplicates once, every row but the first of its group *in the ranking*.

    Args:
        pool: The pool the rows belong to.
        ranking: Row indices, best first, unique; possibly fewer than the pool has.
        scores: The scores behind the ranking, if any.

    Returns:
        Ascending positions in `ranking`.

    **Cost:** one pass, and a sort of the rows that have copies.
    """
    may = allowed(pool, scores)[ranking]
    if pool.dedup:
        places = np.flatnonzero(may & may_repeat(pool)[ranking])
        _, first = np.unique(pool.content_hash[ranking[places]], return_index=True)
        may[places] = False
        may[places[first]] = True
    return np.flatnonzero(may)


def allowed(pool: Pool, scores: Scores | None) -> Bool1D:
    """True on the rows with a score that are not of the validation split, `(n,)`."""
    may = ~pool.in_validation
    if scores is not None:
        may &= scores.present
    return may


def may_repeat(pool: Pool) -> Bool1D:
    """True on all rows of which the pool has copies, and on few others, `(n,)`.

    **Cost:** one pass over the content hashes; beside the result at most 16 MiB.
    """
    copied = pool.content_hash[pool.copy_number > 1]
    out = np.zeros(len(pool), np.bool_)
    if len(copied):
        bits = min(max(int(copied.size * 8).bit_length(), 10), 24)
        mask = np.uint64(2**bits - 1)
        known = np.zeros(2**bits, np.bool_)
        known[copied & mask] = True
        for at in range(0, len(out), _AT_ONCE):
            out[at : at + _AT_ONCE] = known[pool.content_hash[at : at + _AT_ONCE] & mask]
    return out


def distinct_rows(pool: Pool, rows: Int1D) -> tuple[Int1D, Int1D]:
    """The texts among rows, where exact duplicates count once; where they do not, every row is one.

    Returns:
        The position of each text's first row, `(t,)`, and the text of each row, 0..t-1, `(n,)`.
    """
    if pool.dedup and (pool.copy_number > 1).any():
        _, first, text = np.unique(pool.content_hash[rows], return_index=True, return_inverse=True)
        if len(first) < len(rows):
            return first, text
    every = np.arange(len(rows))
    return every, every


def cut(
    pool: Pool,
    ranking: Ranking,
    budget: Budget | None,
    ctx: Context,
    *,
    method: str,
    scores: Scores | None = None,
    quotas: Quotas | None = None,
    near_duplicates: NearDuplicates | None = None,
    refused: int = 0,
    training: TrainingFlops | None = None,
) -> Selection:
    """Cut a ranking to a budget.

    Without quotas: the longest prefix of the candidates that fits. With `at_least`: each source's
    best rows up to its minimum, then everything else by rank in the rest of the budget, `at_most`
    permitting. With `proportional`: each source's best rows within its share, then the rest by
    rank. A smaller budget gives a prefix, unless quotas are shares of it.

    Args:
        pool: The pool the rows belong to.
        ranking: Rows, best first.
        budget: How much; None takes everything ranked, of a partial ranking.
        ctx: Reads the texts that `near_duplicates` compares.
        method: The selector's name.
        scores: The scores behind the ranking; rows without one are never chosen.
        quotas: Limits per source.
        near_duplicates: Leave out, going down the ranking, what is near a row kept above it; before
            quotas are looked at. None where they were refused while it was made.
        refused: How many near-duplicates were refused while it was made, for messages.
        training: For a budget of FLOPs.

    Returns:
        A ranked selection without settings; its notes tell where the budget could not be used up,
        and how many near-duplicates were refused on the way.

    Raises:
        BudgetError: No budget, more than the pool offers, or quotas that cannot be met.
        ConfigError: A quota names an unknown source, or a minimum is above its maximum.

    **Cost:** O(n log n) in the ranked rows. No text is read but for `near_duplicates`, and then
    about as many as are chosen; with quotas, or without a budget, all.
    """
    partial, reasons = ranking.partial, ranking.reasons or (method,)
    if budget is None and not partial:
        raise _no_budget(method)
    at = eligible(pool, ranking.rows, scores)
    rows = ranking.rows if len(at) == len(ranking.rows) else ranking.rows[at]
    count = counted(pool, budget, training)
    sizes = count.sizes(rows)
    limit, notes = _limit(pool, budget, count, sizes, scores, partial=partial, refused=refused)
    nothing = count.asked == 0
    if near_duplicates is not None and not nothing:
        far = quotas or budget is None
        kept, refused = drop_near_duplicates(
            pool, rows, near_duplicates, ctx, sizes=sizes, enough=None if far else limit
        )
        at, rows, sizes = at[kept], rows[kept], sizes[kept]
        limit, notes = _limit(pool, budget, count, sizes, scores, partial=partial, refused=refused)
    if refused:
        notes = (*notes, f"{REFUSED}: {refused:,}")
    codes = np.zeros(len(rows), np.int64) if ranking.why is None else ranking.why[at]
    if quotas:
        offered = Candidates(pool.source_names, pool.source_codes[rows], sizes, count)
        must_fill = budget is not None and budget.samples is not None and not partial
        shared = (
            proportional(offered, limit)
            if quotas.proportional
            else bounded(offered, quotas, limit, must_fill=must_fill)
        )
        label = "proportional" if quotas.proportional else "at_least"
        codes[shared.secured] = len(reasons) + offered.codes[shared.secured]
        reasons = (*reasons, *(f"{label}: {name}" for name in pool.source_names))
        if len(reasons) > np.iinfo(np.int16).max:  # `Selection.why` is int16
            reasons = (*reasons[: -len(pool.source_names)], label)
            codes = np.minimum(codes, len(reasons) - 1)
        chosen = np.concatenate([shared.secured, shared.rest])
        notes = (*notes, *shared.notes)
        rows, codes = rows[chosen], codes[chosen]
    else:
        fits = fitting(sizes, limit)
        rows, codes = rows[:fits], codes[:fits]
    del sizes  # a column of the pool, which what follows has no use for
    if nothing:  # nothing asked is nothing given, even of rows without a token
        rows, codes = rows[:0], codes[:0]
    elif len(at) and not len(rows) and not notes:
        notes = (f"nothing chosen: the best row alone is over the {count.told(limit)}",)
    reasons, why = _used(reasons, codes)
    remarks = () if ranking.remarks is None else ranking.remarks(rows)
    return Selection.ranked(
        rows,
        pool.fingerprint,
        method,
        reasons=reasons,
        why=why,
        notes=(*ranking.notes, *notes, *remarks),
    )


def _no_budget(method: str) -> BudgetError:
    return BudgetError(
        f"{method} needs a budget of samples=N, tokens=N, ratio=R or flops=F: 'select.budget' in "
        "a config, '--budget' on the command line, budget=Budget(…) in Python"
    )


def _limit(
    pool: Pool,
    budget: Budget | None,
    count: Counted,
    sizes: Int1D,
    scores: Scores | None,
    *,
    partial: bool,
    refused: int = 0,
) -> tuple[int, tuple[str, ...]]:
    """The budget in its counts, at most what the candidates have, and a note where that bites."""
    offered = int(sizes.sum())
    amount = offered if count.asked is None else count.asked
    if budget is None or amount <= offered:
        if budget is not None:
            refuse_too_little(count, sizes, budget, pool)
        return amount, ()
    may, near = len(sizes), refused
    if partial:  # those refused are candidates here, of which not all passed
        may, near = len(eligible(pool, np.arange(len(pool)), scores)), 0
    unscored = 0 if scores is None else int((~scores.present & ~pool.in_validation).sum())
    validation = int(pool.in_validation.sum())
    copies = len(pool) - may - near - validation - unscored
    census = (
        f"{len(pool):,} rows with {int(pool.n_tokens.sum()):,} tokens, of which "
        f"{may:,} rows may be chosen ({copies:,} exact duplicates, "
        + (f"{near:,} near-duplicates, " if near else "")
        + f"{validation:,} validation rows and {unscored:,} rows without a score may not)"
    )
    if (budget.samples is not None and amount > may) or (
        budget.tokens is not None and amount > pool.n_tokens.sum()
    ):
        raise BudgetError(
            f"budget {budget} is more than the pool has: {census}; ask for at most "
            f"{may if budget.tokens is None else int(pool.n_tokens.sum()):,} "
            f"{budget.unit}, or give a ratio"
            + (", or raise near_duplicates.similarity" if near else "")
        )
    which = "that passed" if partial else "that may be chosen"
    asks = "leaves" if count.unit == "flops" else "asks for"
    more = f"more than the {count.told(offered)} {_TAKES[count.unit]}{which}"
    note = f"budget {budget} {asks} {count.number(amount)}, {more}"
    return offered, (f"{note}: the pool has {census}",)


_AT_ONCE: Final = 2**18  # rows looked at at a time
_TAKES: Final = {"samples": "", "tokens": "", "flops": "of training on all "}


def _used(reasons: tuple[str, ...], codes: Int1D) -> tuple[tuple[str, ...], npt.NDArray[np.int16]]:
    """Only the reasons that occur, and codes that point at them."""
    used = np.flatnonzero(np.bincount(codes, minlength=len(reasons)))
    new = np.zeros(len(reasons), np.int16)
    new[used] = np.arange(len(used))
    return tuple(reasons[i] for i in used), new[codes]
