"""Samples to read: the best, the worst, those at the line, those left out, those that repeat."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from didact.core.arrays import Bool1D, Float1D, Int1D
from didact.core.pool import Pool
from didact.core.protocols import Context
from didact.core.scores import Scores, Selection, TrainingOrder
from didact.reporting.formatting import count, shorten
from didact.reporting.sources import NAME_WIDTH, source_name

TEXT_CAP = 2_000
TURN_CAP = 40
FEW = 4
HALF = 3


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a sample; the role of raw text is empty."""

    role: str
    text: str


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
        turns: Its text, at most `TEXT_CAP` characters over at most `TURN_CAP` turns.
        characters: Of the whole text.
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
class Group:
    """Samples that are shown for the same reason."""

    name: str
    about: str
    samples: tuple[Sample, ...]


def groups(
    pool: Pool,
    scores: Scores | None,
    selection: Selection,
    order: TrainingOrder,
    candidates: Bool1D,
    ctx: Context,
) -> tuple[Group, ...]:
    """The samples a person would ask to see.

    Args:
        pool: The pool.
        scores: The selection's scores, when it used any.
        selection: The choice.
        order: For the position of each chosen sample.
        candidates: True on the rows that could have been chosen, `(n,)`.
        ctx: For random numbers, where there are no scores to go by.

    Cost: sorts the scores; reads some thirty rows.
    """
    chosen = selection.rows
    left = candidates.copy()
    left[chosen] = False
    out: list[tuple[str, str, list[tuple[int, str]]]] = []

    def add(name: str, about: str, rows: Iterable[int], why: str = "") -> None:
        out.append((name, about, [(int(r), why) for r in rows]))

    if scores is None:
        rng = ctx.rng("report", "samples")
        add("Chosen", "Drawn at random from the chosen samples.", _some(chosen, rng))
        others = _some(np.flatnonzero(left), rng)
        add("Not chosen", "Drawn at random from the other candidates.", others)
    else:
        out.extend(_by_score(scores, selection, left))
    out.append(_duplicates(pool, chosen))
    reader = _Reader(pool, scores, selection, order, candidates)
    return tuple(
        Group(name, about, tuple(reader.sample(row, why) for row, why in rows))
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
    line = _at_the_line(scores, first[FEW:], ascending, left)
    seen = {r for r, _ in top + line}
    bottom = [(int(r), "") for r in ascending[: 2 * FEW] if int(r) not in seen][:FEW]
    seen.update(r for r, _ in bottom)
    worst = _ranked(np.flatnonzero(left & scores.present), utility)[: 2 * FEW]
    gone = [(r, f"no score: {shorten(scores.missing[r], 200)}") for r in sorted(scores.missing)]
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
    yield "Without a score", "Never chosen: there is no score to go by.", gone[:FEW]


def _at_the_line(
    scores: Scores, first: Int1D, ascending: Int1D, left: Bool1D
) -> list[tuple[int, str]]:
    """The last chosen, the best of those that score no better, the best of those that do."""
    out = [(int(r), "") for r in first[-HALF:]]
    if not len(ascending):
        return out
    utility = scores.utility
    others = _ranked(np.flatnonzero(left & scores.present), utility)
    lowest = utility[ascending[0]]
    at = int(np.searchsorted(utility[others], lowest, side="right"))
    out += [
        (int(row), f"{_side(scores, utility[row], lowest)} the last score chosen")
        for row in others[max(at - HALF, 0) : at][::-1]
    ]
    preferred = "not chosen, though its score is preferred to the last one chosen"
    above = others[at:][utility[others[at:]] > utility[ascending[-1]]]
    return out + [(int(r), preferred) for r in (above[:2] if len(above) else others[at:][::-1][:2])]


def _side(scores: Scores, utility: float, lowest: float) -> str:
    if utility == lowest:
        return "ties with"
    return "below" if scores.higher_is_better else "above"


def _ranked(rows: Int1D, utility: Float1D) -> Int1D:
    """Rows from the least to the most preferred; of equals the later row counts as less."""
    return rows[np.lexsort((-rows, utility[rows]))]


def _some(rows: Int1D, rng: np.random.Generator) -> Int1D:
    return np.sort(rng.choice(rows, min(len(rows), FEW), replace=False))


def _duplicates(pool: Pool, chosen: Int1D) -> tuple[str, str, list[tuple[int, str]]]:
    """The first row of each of the largest groups of equal content."""
    _, first, group, size = np.unique(
        pool.content_hash, return_index=True, return_inverse=True, return_counts=True
    )
    largest = np.lexsort((first, -size))[:FEW]
    taken = np.bincount(group[chosen], minlength=len(size))
    rows = [
        (int(first[g]), f"{count(size[g])} equal rows, {count(taken[g])} of them chosen")
        for g in largest
        if size[g] > 1
    ]
    return "Duplicates", "The samples that occur most often in the pool.", rows


class _Reader:
    """Reads single samples; holds what every one of them needs."""

    def __init__(
        self,
        pool: Pool,
        scores: Scores | None,
        selection: Selection,
        order: TrainingOrder,
        candidates: Bool1D,
    ) -> None:
        self.pool = pool
        self.rivals = scores.utility[candidates] if scores is not None else np.empty(0)
        self.scores = scores
        self.selection = selection
        self.order = order
        self.columns = (
            ["text"]
            if pool.kind == "text"
            else ["messages", "chosen", "rejected"]
            if pool.kind == "pair"
            else ["messages"]
        )

    def sample(self, row: int, why: str) -> Sample:
        # One row at a time: samples may be large, and no two need to be in memory together.
        found = self.pool.read(np.array([row]), ["id", *self.columns]).to_pylist()[0]
        turns, shown, characters = _cut(_turns(found))
        selection = self.selection
        at = int(np.searchsorted(selection.rows, row))
        is_chosen = at < len(selection) and selection.rows[at] == row
        met = np.flatnonzero(self.order.rows == row)
        reason = ""
        if is_chosen and selection.why is not None:
            reason = selection.reasons[selection.why[at]]
        value = rank = None
        if self.scores is not None and self.scores.present[row]:
            value = float(self.scores.values[row])
            mine = value if self.scores.higher_is_better else -value
            rank = int(np.count_nonzero(self.rivals > mine)) + 1
        return Sample(
            row=row,
            id=shorten(found["id"], NAME_WIDTH),
            source=source_name(self.pool.source_names[self.pool.source_codes[row]]),
            score=value,
            rank=rank,
            tokens=int(self.pool.n_tokens[row]),
            position=int(met[0]) + 1 if len(met) else None,
            why="; ".join(filter(None, [shorten(reason, 300), why])),
            turns=turns,
            characters=characters,
            shown=shown,
        )


def _turns(found: Mapping[str, Any]) -> list[Turn]:
    """The turns of one row as `Pool.read` gives them."""
    if "text" in found:
        return [Turn("", found["text"] or "")]
    out = [Turn(m["role"] or "", m["content"] or "") for m in found["messages"]]
    return out + [Turn(k, found[k] or "") for k in ("chosen", "rejected") if k in found]


def _cut(turns: list[Turn]) -> tuple[tuple[Turn, ...], int, int]:
    """The turns within the cap, the characters they hold, and the characters of all."""
    out, room = [], TEXT_CAP
    for turn in turns[:TURN_CAP]:
        if room <= 0:
            break
        out.append(Turn(shorten(turn.role, 40), turn.text[:room]))
        room -= len(turn.text)
    return tuple(out), min(TEXT_CAP - room, TEXT_CAP), sum(len(t.text) for t in turns)
