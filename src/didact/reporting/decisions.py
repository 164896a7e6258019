"""Why each row was chosen or not: a few words to filter by, and a sentence with numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from didact.core.arrays import Float1D, Int1D
from didact.core.scores import Scores
from didact.reporting.formatting import NAME_WIDTH, count, number, shorten
from didact.reporting.subject import Subject

BELOW: Final = "below the cut"
TIED: Final = "tied with the cut"
PASSED: Final = "passed over"
COPY: Final = "repeats another row"
HELD: Final = "validation split"
UNSCORED: Final = "no score"
LEFT: Final = "not chosen"
_LABEL_WIDTH: Final = 80

Rival = tuple[str, float | None]
"""Id and score of the row that one is compared with."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided about one row, and why.

    Attributes:
        row: Its row in the pool.
        id: Its id.
        chosen: Whether it is among the chosen.
        score: In natural units, or None.
        rank: Its place by score among the rows that could be chosen, from 1; equal scores share
            the best of their places. None without a score.
        margin: How much its score is preferred to the least preferred one chosen, in natural
            units; negative below it. None without a score or a choice.
        position: Where the model first meets it, from 1; None when it is not chosen.
        label: The reason in a few words, the same for many rows.
        text: The reason in a sentence.
    """

    row: int
    id: str
    chosen: bool
    score: float | None
    rank: int | None
    margin: float | None
    position: int | None
    label: str
    text: str


@dataclass(frozen=True, slots=True)
class _Side:
    """Rows with a score on one side of the choice, ascending in utility."""

    rows: Int1D
    utility: Float1D

    def nearest(self, value: float) -> int | None:
        """The row whose score is closest to a value; the less preferred of two as close."""
        if not len(self.rows):
            return None
        at = int(np.searchsorted(self.utility, value))
        around = [i for i in (at - 1, at) if 0 <= i < len(self.rows)]
        return int(self.rows[min(around, key=lambda i: abs(float(self.utility[i]) - value))])


@dataclass(frozen=True, slots=True)
class _Choice:
    """The choice by score: who is on which side of what line."""

    chosen: _Side
    left: _Side
    everyone: Float1D = field(repr=False)

    @property
    def cut(self) -> float | None:
        """Utility of the least preferred score chosen."""
        return float(self.chosen.utility[0]) if len(self.chosen.rows) else None

    @property
    def clean(self) -> bool:
        """Whether no score left out is preferred to one chosen."""
        return not (
            len(self.left.rows) and self.cut is not None and float(self.left.utility[-1]) > self.cut
        )


def decide(subject: Subject, rows: Sequence[int] | Int1D) -> list[Decision]:
    """Why rows were chosen or not.

    Args:
        subject: The values of a run.
        rows: Any rows of its pool.

    **Cost:** a sort of the scores; reads the ids of the rows and of those they are compared with.
    """
    pool, scores, selection = subject.pool, subject.scores, subject.selection
    rows = np.asarray(rows, dtype=np.int64)
    choice = None if scores is None else _choice(subject, scores)
    is_chosen = np.isin(rows, selection.rows)
    others = [
        _other(subject, choice, r, chosen=c)
        for r, c in zip(rows.tolist(), is_chosen.tolist(), strict=True)
    ]
    wanted = np.unique(np.array([*rows.tolist(), *(o for o in others if o is not None)], np.int64))
    ids = pool.read(wanted, ["id"]).column("id").to_pylist()
    named = {int(r): shorten(name, NAME_WIDTH) for r, name in zip(wanted, ids, strict=True)}
    met = np.zeros(len(pool), np.int64)
    met[subject.order.rows[::-1]] = np.arange(len(subject.order), 0, -1)
    out = []
    for row, chosen, other in zip(rows.tolist(), is_chosen.tolist(), others, strict=True):
        value = rank = margin = None
        if scores is not None and choice is not None and scores.present[row]:
            value = float(scores.values[row])
            mine = value if scores.higher_is_better else -value
            above = len(choice.everyone) - int(np.searchsorted(choice.everyone, mine, "right"))
            rank = above + 1
            if choice.cut is not None and math.isfinite(mine - choice.cut):
                margin = mine - choice.cut
        rival = None
        if other is not None:
            rival = (named[other], None if scores is None else float(scores.values[other]))
        label, text = _reason(subject, choice, row, rival, margin, chosen=chosen)
        out.append(
            Decision(
                row=row, id=named[row], chosen=chosen, score=value, rank=rank, margin=margin,
                position=int(met[row]) or None, label=label, text=text,
            )
        )  # fmt: skip
    return out


def _choice(subject: Subject, scores: Scores) -> _Choice:
    utility = scores.utility
    left = subject.candidates & scores.present
    left[subject.selection.rows] = False
    chosen = subject.selection.rows[scores.present[subject.selection.rows]]

    def side(rows: Int1D) -> _Side:
        rows = rows[np.argsort(utility[rows], kind="stable")]
        return _Side(rows, utility[rows])

    of_left, everyone = side(np.flatnonzero(left)), utility[subject.candidates]
    everyone.sort()
    return _Choice(side(chosen), of_left, everyone)


def _other(subject: Subject, choice: _Choice | None, row: int, *, chosen: bool) -> int | None:
    """The row that one is compared with: the nearest by score on the other side, or its equal."""
    pool = subject.pool
    if not chosen and not subject.candidates[row]:
        if pool.in_validation[row]:
            return None
        same = (pool.content_hash == pool.content_hash[row]) & subject.candidates
        return int(np.argmax(same)) if same.any() else None
    scores = subject.scores
    if choice is None or scores is None or not scores.present[row]:
        return None
    side = choice.left if chosen else choice.chosen
    return side.nearest(float(scores.values[row]) * (1 if scores.higher_is_better else -1))


def _reason(
    subject: Subject,
    choice: _Choice | None,
    row: int,
    rival: Rival | None,
    margin: float | None,
    *,
    chosen: bool,
) -> tuple[str, str]:
    """Why one row was chosen or not: a few words, and a sentence."""
    pool, scores, selection = subject.pool, subject.scores, subject.selection
    if not chosen and pool.in_validation[row]:
        return HELD, f"{HELD}: set aside, never chosen"
    if scores is not None and not scores.present[row]:
        return UNSCORED, f"{UNSCORED}: {shorten(scores.missing[row], 200)}"
    if not chosen and not subject.candidates[row]:
        return COPY, f"{COPY} exactly" + (f": {rival[0]} stands for both" if rival else "")
    if chosen:
        at = int(np.searchsorted(selection.rows, row))
        label = shorten(selection.reasons[_code(selection.why, at)], _LABEL_WIDTH)
        said = [label]
        if selection.rank is not None and (choice is None or not choice.clean):
            place = count(int(selection.rank[at]) + 1)
            said.append(f"taken as number {place} of {count(len(selection))}")
        said.append(_margin(margin, scores, choice))
        said.append(_nearest(rival, "nearest not chosen"))
        said.append(_ordering(subject))
        return label, "; ".join(filter(None, said))
    if choice is None or margin is None or choice.cut is None:
        return LEFT, f"{LEFT}: {shorten(selection.method, _LABEL_WIDTH)} took others"
    near = _nearest(rival, "nearest chosen")
    if margin < 0:
        label, first = BELOW, f"{BELOW}: {_margin(margin, scores, choice)}"
    elif margin == 0:
        label, first = TIED, f"{TIED}: equal scores are taken in the order of the pool"
        if not choice.clean:
            label, first = PASSED, f"{PASSED} at the score of the last chosen: {_rule(subject)}"
    else:
        label = PASSED
        first = f"{PASSED}, though {_margin(margin, scores, choice)}: {_rule(subject)}"
    return label, "; ".join(filter(None, [first, near]))


def _code(why: Any, at: int) -> int:
    return 0 if why is None else int(why[at])


def _margin(margin: float | None, scores: Scores | None, choice: _Choice | None) -> str:
    if margin is None or scores is None or choice is None or choice.cut is None:
        return ""
    cut = number(choice.cut if scores.higher_is_better else -choice.cut)
    if margin == 0:
        return f"it is at the cut, {cut}"
    side = "past" if margin > 0 else "short of"
    return f"{number(abs(margin))} {side} the cut at {cut}"


def _nearest(rival: Rival | None, what: str) -> str:
    if rival is None or rival[1] is None:
        return ""
    return f"{what}: {rival[0]} at {number(rival[1])}"


def _rule(subject: Subject) -> str:
    """What besides the score had a say, as far as the settings tell."""
    settings = subject.selection.settings
    around = {"quotas": "quotas", "near_duplicates": "near-duplicates"}
    rules = [
        said
        for name, said in around.items()
        if isinstance(given := settings.get(name), Mapping) and any(given.values())
    ]
    method = shorten(subject.selection.method, _LABEL_WIDTH)
    if rules and method == "top_k":
        return f"{' or '.join(rules)} kept it out"
    verb = "do" if rules else "does"
    return f"{' and '.join([method, *rules])} {verb} not go by this score alone"


def _ordering(subject: Subject) -> str:
    """What put the chosen where they are read."""
    order, scores = subject.order, subject.order_scores or subject.scores
    by = "" if scores is None or order.method in {"shuffle", "keep"} else f" by {scores.method}"
    return f"ordered: {shorten(order.method + by, _LABEL_WIDTH)}"
