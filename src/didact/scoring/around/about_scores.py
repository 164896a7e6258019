"""What should be known of the scores of a pool before anything is chosen by them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from didact.core.findings import Finding, counted
from didact.core.pool import Pool
from didact.core.scores import Scores

_REASONS: Final = 3  # why rows have no score, the most frequent
UNKNOWN: Final = "unknown"  # the part of scores with the share of tokens a model does not know
_MOSTLY: Final = 0.75  # share of them in the middle row, from which little is told
_NAMED: Final = 3  # files that a setting lists
_OF_POOL: Final = ("data.dedup", "data.drop")  # a target set is read whole, with every row


def about_scores(scores: Scores) -> tuple[Finding, ...]:
    """What should be known of scores, counted; nothing where there is nothing."""
    return (*_equal(scores), *_unknown(scores), *_unscored(scores))


def about_target(
    pool: Pool, target: Pool, files: Sequence[str], *, aimed_at: bool = True
) -> Iterator[Finding]:
    """What should be known of a target set, but its bad rows, of which `rejected_rows` tells.

    Args:
        pool: What is scored.
        target: The target set.
        files: Where that was read from, for the setting that keeps its rows out of the pool.
        aimed_at: It is what samples are selected for, so that its own rows are found first; else
            it may be of the pool, as graded rows are.
    """
    if aimed_at:
        yield from _in_pool(pool, target, files)
    for found in target.findings:
        if found.kind != "rejected":
            of_pool = found.remedy.startswith(_OF_POOL)
            text, remedy = f"target set: {found.text}", "" if of_pool else found.remedy
            yield replace(found, text=text, remedy=remedy)


def _in_pool(pool: Pool, target: Pool, files: Sequence[str]) -> Iterator[Finding]:
    """Rows of the pool that are rows of the target set: equal content, whatever their ids."""
    rows = np.flatnonzero(np.isin(pool.content_hash, target.content_hash))
    if n := len(rows):
        are, them = ("is", "it") if n == 1 else ("are", "them")
        listed = ", ".join(files[:_NAMED]) + (", …" if len(files) > _NAMED else "")
        remedy = f"data.exclude: [{listed}] leaves {them} out, and rows that share text with {them}"
        yield Finding(
            kind="target_in_pool",
            count=n,
            first=_row(int(rows[0])),
            text=f"{counted(n, 'row')} of the pool {are} in the target set too, and nearest to it",
            remedy=remedy if files else "",
        )


def _equal(scores: Scores) -> Iterator[Finding]:
    values = scores.values[scores.present]
    if len(values) > 1 and values.min() == values.max():
        yield Finding(
            kind="all_equal",
            count=len(values),
            first="",
            text=f"all {len(values):,} scores by {scores.method} are equal ({values[0]:g}): what "
            "is chosen by them is chosen by the order of the files",
            remedy="score.method: another one tells them apart, or score.target: files that "
            "share words with the pool, where it takes one",
        )


def _unknown(scores: Scores) -> Iterator[Finding]:
    """Rows of which the model of the scores knows no token, or hardly any where most are so."""
    if (shares := scores.parts.get(UNKNOWN)) is None or not scores.present.any():
        return
    middle = float(np.median(shares[scores.present]))
    mostly = _MOSTLY <= middle < 1
    rows = np.flatnonzero((shares >= (_MOSTLY if mostly else 1)) & scores.present)
    if not (n := len(rows)):
        return
    have = "has" if n == 1 else "have"
    yield Finding(
        kind="unknown",
        count=n,
        first=_row(int(rows[0])),
        text=f"the model of {scores.method} does not know {middle:.0%} of the tokens of a sample "
        "in the middle: scores say above all how many it happens to know"
        if mostly
        else f"{counted(n, 'row')} {have} no token that the model of {scores.method} knows: "
        "their scores say how long their lines are, no more",
        remedy="score.target: more samples, in the language of the pool"
        if mostly
        else "score.target: samples in their language too, where that is a mistake",
    )


def _unscored(scores: Scores) -> Iterator[Finding]:
    if n := len(scores.missing):
        have = "has" if n == 1 else "have"
        common = Counter(scores.missing.values()).most_common(_REASONS)
        reasons = "; ".join(f"{reason} ({times:,})" for reason, times in common)
        yield Finding(
            kind="unscored",
            count=n,
            first=_row(min(scores.missing)),
            text=f"{counted(n, 'row')} {have} no score and cannot be chosen: {reasons}",
            remedy="",
        )


def _row(row: int) -> str:
    """A row of the pool by its number, as the tables have it: a report may not show ids."""
    return f"row {row} of the pool"
