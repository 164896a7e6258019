"""Samples: the best, the worst, those at the line, those left out, those that repeat."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from didact.core.arrays import Bool1D, Float1D, Int1D
from didact.core.pool import Pool
from didact.core.scores import Scores, Selection
from didact.reporting.formatting import NAME_WIDTH, count, shorten, source_name
from didact.reporting.sections.header import Header
from didact.reporting.sections.section import Section
from didact.reporting.subject import Subject

TEXT_CAP = 2_000
PREVIEW = 420
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
    rivals = np.empty(0) if scores is None else scores.utility[subject.candidates]
    return tuple(
        SampleGroup(name, about, tuple(_sample(subject, rivals, row, why) for row, why in rows))
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
    _, first, group_of, size = np.unique(
        pool.content_hash, return_index=True, return_inverse=True, return_counts=True
    )
    largest = np.lexsort((first, -size))[:FEW]
    taken = np.bincount(group_of[chosen], minlength=len(size))
    rows = [
        (int(first[g]), f"{count(size[g])} equal rows, {count(taken[g])} of them chosen")
        for g in largest
        if size[g] > 1
    ]
    return "Duplicates", "The samples that occur most often in the pool.", rows


def _sample(subject: Subject, rivals: Float1D, row: int, why: str) -> Sample:
    """One sample, read and described; `rivals` are the utilities it is ranked among."""
    pool, scores, selection = subject.pool, subject.scores, subject.selection
    columns = {"text": ["text"], "pair": ["messages", "chosen", "rejected"]}.get(
        pool.kind, ["messages"]
    )
    # One row at a time: samples may be large, and no two need to be in memory together.
    found = pool.read(np.array([row]), ["id", *columns]).to_pylist()[0]
    turns, shown, characters = _cut(_turns(found))
    at = int(np.searchsorted(selection.rows, row))
    is_chosen = at < len(selection) and selection.rows[at] == row
    met = np.flatnonzero(subject.order.rows == row)
    reason = ""
    if is_chosen and selection.why is not None:
        reason = selection.reasons[selection.why[at]]
    value = rank = None
    if scores is not None and scores.present[row]:
        value = float(scores.values[row])
        mine = value if scores.higher_is_better else -value
        rank = int(np.count_nonzero(rivals > mine)) + 1
    return Sample(
        row=row,
        id=shorten(found["id"], NAME_WIDTH),
        source=source_name(pool.source_names[pool.source_codes[row]]),
        score=value,
        rank=rank,
        tokens=int(pool.n_tokens[row]),
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


def preview(sample: Sample) -> tuple[list[Turn], list[Turn]]:
    """What of a sample is seen at once, and what a reader has to open."""
    head: list[Turn] = []
    tail: list[Turn] = []
    room = PREVIEW
    for turn in sample.turns:
        # A rest of a few words is not worth a click.
        if tail or room <= 0:
            tail.append(turn)
            continue
        cut = len(turn.text) if len(turn.text) <= room + 80 else _between_words(turn.text, room)
        head.append(Turn(turn.role, turn.text[:cut]))
        if cut < len(turn.text):
            tail.append(Turn("", turn.text[cut:]))
        room -= cut
    return head, tail


def _between_words(text: str, at_most: int) -> int:
    """Where to break a text: after the last space, if there is one not far before the limit."""
    space = text.rfind(" ", max(at_most - 40, 0), at_most)
    return at_most if space < 0 else space + 1


def _template_values(_samples: Samples, _header: Header) -> Mapping[str, Any]:
    return {"preview": preview}


SECTION = Section(name="samples", title="Samples", gather=_gather, template_values=_template_values)
