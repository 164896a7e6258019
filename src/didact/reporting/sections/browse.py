"""A bounded sample of the pool to search, filter and sort: a table, and a script that works it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from didact.core.arrays import Int1D
from didact.reporting.decisions import Decision, decide
from didact.reporting.excerpts import Turn, excerpt, place_to_cut, read_turns
from didact.reporting.formatting import source_name
from didact.reporting.sections.header import Header
from didact.reporting.sections.section import Section
from didact.reporting.subject import Subject

ROWS: Final = 400
TEXT_CAP: Final = 700  # characters of a sample: the page has to open at once
LINE: Final = 150  # characters of its first line
_AT_THE_CUT = 60  # on either side
_AT_THE_ENDS = 20
_SOURCES = 40
_OTHERS = 8  # of each kind that could not be chosen


@dataclass(frozen=True, slots=True)
class Browsed:
    """One row of the table.

    Attributes:
        decided: What was decided about it.
        source: Index into `Browse.sources`.
        label: Index into `Browse.labels`.
        tokens: A count; an estimate where the pool says so.
        turns: Its text, at most `TEXT_CAP` characters.
        left: Characters that are not in `turns`.
    """

    decided: Decision
    source: int
    label: int
    tokens: int
    turns: tuple[Turn, ...]
    left: int


@dataclass(frozen=True, slots=True)
class Browse:
    """A sample of the pool: all of it where it is small.

    Attributes:
        rows: The preferred scores first; those without one in the order of the pool, at the end.
        of: Rows of the pool.
        sources: Names of the sources that occur, most frequent first.
        labels: Reasons that occur, those of chosen rows first; whether each is of chosen rows.
    """

    rows: tuple[Browsed, ...]
    of: int
    sources: tuple[str, ...]
    labels: tuple[tuple[str, bool], ...]


def _gather(subject: Subject) -> Browse | None:
    """The table.

    **Cost:** some sorts of columns in memory; reads at most `ROWS` rows and some hundred ids.
    """
    pool = subject.pool
    if not subject.samples or not len(pool):
        return None
    rows = sampled(subject)
    decided = decide(subject, rows)
    source_of = [source_name(pool.source_names[c]) for c in pool.source_codes[rows]]
    sources = sorted(set(source_of), key=lambda name: (-source_of.count(name), name))
    labels = sorted({(d.label, d.chosen) for d in decided}, key=lambda each: (not each[1], each[0]))
    found = []
    for one, source, turns in zip(decided, source_of, read_turns(pool, rows), strict=True):
        cut = excerpt(turns, TEXT_CAP)
        found.append(
            Browsed(
                decided=one, source=sources.index(source),
                label=labels.index((one.label, one.chosen)), tokens=int(pool.n_tokens[one.row]),
                turns=cut.turns, left=cut.characters - cut.shown,
            )
        )  # fmt: skip
    found.sort(key=lambda b: (b.decided.rank or len(pool) + 1, b.decided.row))
    return Browse(tuple(found), len(pool), tuple(sources), tuple(labels))


def sampled(subject: Subject, at_most: int = ROWS) -> Int1D:
    """Rows worth looking through, ascending; the whole pool where it has no more than `at_most`.

    First those on both sides of the cut, the best and the worst, some of every kind that could not
    be chosen, of each of the largest sources one chosen and one not; then chosen and others in
    equal parts, at random.

    **Cost:** a sort of the scores, two permutations.
    """
    n = len(subject.pool)
    if n <= at_most:
        return np.arange(n)
    taken = dict.fromkeys(int(r) for part in _parts(subject) for r in part)
    return np.sort(np.array(list(taken)[:at_most], dtype=np.int64))


def _parts(subject: Subject) -> Iterator[Int1D]:
    pool, scores = subject.pool, subject.scores
    rng = subject.ctx.rng("report", "browse")
    chosen = subject.selection.rows
    free = subject.candidates.copy()
    free[chosen] = False
    left = np.flatnonzero(free)
    if scores is not None:
        up = chosen[np.argsort(scores.utility[chosen], kind="stable")]
        out = left[np.argsort(-scores.utility[left], kind="stable")]
        for rows in (up, out):  # from the cut outwards
            yield rows[:_AT_THE_CUT]
            yield rows[::-1][:_AT_THE_ENDS]
    barred = ~subject.candidates
    for kind in (pool.in_validation, pool.copy_number > 1):
        yield np.flatnonzero(barred & kind)[:_OTHERS]
    yield np.array(sorted(scores.missing if scores is not None else ())[:_OTHERS], np.int64)
    size = np.bincount(pool.source_codes, minlength=len(pool.source_names))
    largest = np.argsort(-size, kind="stable")[:_SOURCES]
    drawn = [rng.permutation(rows) for rows in (chosen, left)]
    for rows in drawn:
        codes, first = np.unique(pool.source_codes[rows], return_index=True)
        yield rows[first[np.isin(codes, largest)]]
    some = min(max(map(len, drawn)), ROWS)
    for i in range(some):
        for rows in drawn:
            yield rows[i : i + 1]


def first_line(row: Browsed) -> str:
    """The beginning of a sample, on one line."""
    text = "\n".join(turn.text for turn in row.turns).strip()
    cut = place_to_cut(text, LINE)
    return " ".join(text[:cut].split()) + (" …" if cut < len(text) or row.left else "")


def _template_values(browse: Browse, _header: Header) -> Mapping[str, Any]:
    scored = any(row.decided.score is not None for row in browse.rows)
    return {"first_line": first_line, "scored": scored}


SECTION = Section(
    name="browse", title="Browse", gather=_gather, template_values=_template_values
)  # fmt: skip
