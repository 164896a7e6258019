"""Samples: the best, the worst, those at the line, those left out, those that repeat."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from didact.core.arrays import Bool1D, Float1D, Int1D
from didact.core.pool import Pool
from didact.core.scores import Scores, Selection
from didact.reporting.decisions import decide
from didact.reporting.excerpts import Turn, excerpt, parted, read_turns
from didact.reporting.formatting import count, source_name
from didact.reporting.sections.header import Header
from didact.reporting.sections.section import Section
from didact.reporting.subject import Subject
from didact.selection.around.budget import may_repeat

TEXT_CAP = 2_000
PREVIEW = 420
FEW = 4
HALF = 3


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample with what was decided about it.

    Attributes:
        row: Its row in the pool.
        id: Its id.
        source: Its source.
        score: In natural units, or None.
        rank: Its place by score among the rows that could be chosen, from 1; equal scores share
            the best of their places. None without a score.
        tokens: A count; an estimate where the pool says so.
        position: Where the model first meets it, from 1, or None when it is not chosen.
        why: A sentence.
        turns: Its text, at most `TEXT_CAP` characters over some turns.
        characters: Length of the whole text.
        shown: Characters in `turns`.
    """

    row: int
    id: str
    source: str
    score: float | None
    rank: int | None
    tokens: int
    position: int | None
    why: str
    turns: tuple[Turn, ...]
    characters: int
    shown: int


@dataclass(frozen=True, slots=True)
class SampleGroup:
    """Samples that are shown for the same reason."""

    name: str
    about: str
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class Samples:
    """Samples to read.

    Attributes:
        groups: By the reason they are shown for; None when all user text is left out.
        positions: How many there are in the training order.
    """

    groups: tuple[SampleGroup, ...] | None
    positions: int


def _gather(subject: Subject) -> Samples:
    return Samples(sample_groups(subject) if subject.samples else None, len(subject.order))


def sample_groups(subject: Subject) -> tuple[SampleGroup, ...]:
    """The samples a person would ask to see.

    **Cost:** sorts the scores; reads some thirty rows.
    """
    pool, scores, selection = subject.pool, subject.scores, subject.selection
    chosen = selection.rows
    left = subject.candidates.copy()
    left[chosen] = False
    out: list[tuple[str, str, list[tuple[int, str]]]] = []

    def add(name: str, about: str, rows: Iterable[int], why: str = "") -> None:
        out.append((name, about, [(int(r), why) for r in rows]))

    if scores is None:
        rng = subject.ctx.rng("report", "samples")
        add("Chosen", "Drawn at random from the chosen samples.", _some(chosen, rng))
        others = _some(np.flatnonzero(left), rng)
        add("Not chosen", "Drawn at random from the other candidates.", others)
    else:
        out.extend(_by_score(scores, selection, left))
    out.append(_duplicates(pool, chosen))
    described = iter(_samples(subject, [asked for *_, rows in out for asked in rows]))
    return tuple(
        SampleGroup(name, about, tuple(islice(described, len(rows))))
        for name, about, rows in out
        if rows
    )


def _by_score(
    scores: Scores, selection: Selection, left: Bool1D
) -> Iterable[tuple[str, str, list[tuple[int, str]]]]:
    utility = scores.utility
    ascending = _ranked(selection.rows, utility)
    ranked = selection.rank is not None
    first = selection.best_first() if ranked else ascending[::-1]
    top = [(int(r), "") for r in first[:FEW]]
    others = _ranked(np.flatnonzero(left & scores.present), utility)
    line = _at_the_line(utility, first[FEW:], ascending, others)
    seen = {r for r, _ in top + line}
    bottom = [(int(r), "") for r in ascending[: 2 * FEW] if int(r) not in seen][:FEW]
    seen.update(r for r, _ in bottom)
    worst = others[: 2 * FEW]
    gone = [(r, "") for r in sorted(scores.missing)[:FEW]]
    yield "Top", "The first chosen." if ranked else "The most preferred scores.", top
    yield (
        "Bottom of the chosen",
        "Chosen with the least preferred scores, next to the line.",
        bottom,
    )
    yield "At the line", "The last that made it and the first that did not.", line
    yield (
        "Rejected",
        "Candidates with the least preferred scores in the pool.",
        [(int(r), "") for r in worst if int(r) not in seen][:FEW],
    )
    yield "Without a score", "Never chosen: there is no score to go by.", gone


def _at_the_line(
    utility: Float1D, first: Int1D, ascending: Int1D, others: Int1D
) -> list[tuple[int, str]]:
    """The last chosen, the best of those that score no better, the best of those that do."""
    out = [(int(r), "") for r in first[-HALF:]]
    if not len(ascending):
        return out
    at = int(np.searchsorted(utility[others], utility[ascending[0]], side="right"))
    out += [(int(row), "") for row in others[max(at - HALF, 0) : at][::-1]]
    above = others[at:][utility[others[at:]] > utility[ascending[-1]]]
    found = above[:2] if len(above) else others[at:][::-1][:2]
    return out + [(int(row), "") for row in found]


def _ranked(rows: Int1D, utility: Float1D) -> Int1D:
    """Ascending rows from the least to the most preferred; of equals the later counts as less."""
    down = rows[::-1]
    return down[np.argsort(utility[down], kind="stable")]


def _some(rows: Int1D, rng: np.random.Generator) -> Int1D:
    return np.sort(rng.choice(rows, min(len(rows), FEW), replace=False))


def _duplicates(pool: Pool, chosen: Int1D) -> tuple[str, str, list[tuple[int, str]]]:
    """The first row of each of the largest groups of equal content."""
    places = np.flatnonzero(may_repeat(pool))
    _, first, group_of, size = np.unique(
        pool.content_hash[places], return_index=True, return_inverse=True, return_counts=True
    )
    largest = np.lexsort((first, -size))[:FEW]
    taken = np.bincount(group_of[np.isin(places, chosen, assume_unique=True)], minlength=len(size))
    rows = [
        (int(places[first[g]]), f"{count(size[g])} equal rows, {count(taken[g])} of them chosen")
        for g in largest
        if size[g] > 1
    ]
    return "Duplicates", "The samples that occur most often in the pool.", rows


def _samples(subject: Subject, asked: list[tuple[int, str]]) -> Iterable[Sample]:
    """Samples read and described, each with what is said of it beside the decision."""
    pool = subject.pool
    rows = [row for row, _ in asked]
    # Few whole samples are in memory together: they may be large.
    texts = read_turns(pool, rows, step=1)
    for decided, turns, (row, said) in zip(decide(subject, rows), texts, asked, strict=True):
        cut = excerpt(turns, TEXT_CAP)
        yield Sample(
            row=row,
            id=decided.id,
            source=source_name(pool.source_names[pool.source_codes[row]]),
            score=decided.score,
            rank=decided.rank,
            tokens=int(pool.n_tokens[row]),
            position=decided.position,
            why="; ".join(filter(None, [said, decided.text])),
            turns=cut.turns,
            characters=cut.characters,
            shown=cut.shown,
        )


def preview(sample: Sample) -> tuple[list[Turn], list[Turn]]:
    """What of a sample is seen at once, and what a reader has to open."""
    return parted(sample.turns, PREVIEW, 80)


def _template_values(_samples: Samples, _header: Header) -> Mapping[str, Any]:
    return {"preview": preview}


SECTION = Section(name="samples", title="Samples", gather=_gather, template_values=_template_values)
