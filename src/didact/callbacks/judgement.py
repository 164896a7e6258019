"""Whether the rows of each step are those of the order; the first step that is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import numpy as np

from didact.callbacks.recognition import Found
from didact.core.arrays import Int1D

Verdict = Literal["in order", "broken", "cannot tell"]
ENOUGH: Final = 0.95  # of a step's sequences, recognized


class Evidence(Protocol):
    """Looks at the sequences of a step again, where they seem to be wrong."""

    def closer(self, place: int, to: Iterable[int], than: Iterable[int]) -> list[int]:
        """Rows that explain a sequence as well as those that it was taken for."""

    def unexplained(self, place: int, row: int, by: Iterable[int]) -> bool:
        """Whether a sequence truly has the text of one more row."""

    def holds(self, place: int, row: int) -> bool:
        """Whether a sequence has all text of a row."""


class _NoEvidence:
    """Of what is known by its id there is no more to see."""

    def closer(self, place: int, to: Iterable[int], than: Iterable[int]) -> list[int]:
        del place, to, than
        return []

    def unexplained(self, place: int, row: int, by: Iterable[int]) -> bool:
        del place, row, by
        return True

    def holds(self, place: int, row: int) -> bool:
        del place, row
        return False


@dataclass(frozen=True, slots=True)
class WrongStep:
    """The first step that did not read what the order says.

    Attributes:
        step: Its number, from 1.
        expected: Positions of the order that were expected and are missing.
        seen: First positions in the order of the rows that were there instead.
        why: What most likely happened, and the remedy.
    """

    step: int
    expected: tuple[int, ...]
    seen: tuple[int, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Judged:
    """What was found of a step.

    Attributes:
        positions: Positions of the order whose rows were recognized.
        unrecognized: Number of sequences that no row was recognized in.
        verdict: Whether the step is in order.
    """

    positions: tuple[int, ...]
    unrecognized: int
    verdict: Verdict


@dataclass(slots=True)
class Judge:
    """Compares steps with an order, one after the other.

    Attributes:
        row: The distinct row at each position of the order, `(n,)`.
        first: First position of each distinct row.
        batch_size: Rows of a step.
        wrong: The first wrong step.
        judged: Number of steps in order.
        unverified: Number of steps of which too little was recognized.
        first_unverified: The first of them, its sequences that were recognized, and all of them.
        ambiguous: Number of sequences that several rows match.
        end: Position behind the last row that was read.
        began: Steps before the first that is judged: those of a run that went on from here.
    """

    row: Int1D
    first: Int1D
    batch_size: int
    wrong: WrongStep | None = None
    judged: int = 0
    unverified: int = 0
    first_unverified: tuple[int, int, int] | None = None
    ambiguous: int = 0
    end: int = 0
    began: int = 0

    @property
    def steps(self) -> int:
        """Steps of the whole order."""
        return -(-len(self.row) // self.batch_size)

    def step(
        self,
        number: int,
        found: Sequence[Found],
        look: Evidence | None = None,
    ) -> Judged:
        """Judge a step.

        Args:
            number: Its number, from 1.
            found: What is in each of its sequences.
            look: What can be seen of them again; see `recognition.Sequences`.
        """
        look = look or _NoEvidence()
        start = (number - 1) * self.batch_size
        positions = np.arange(start, min(start + self.batch_size, len(self.row)))
        slots = _Slots(self.row[positions].tolist(), positions.tolist())
        strange, unsure = _taken(found, slots, look)
        fewer = len(found) < len(positions)  # as where short rows stand in one sequence
        among: list[tuple[int, frozenset[int]]] = []
        unknown = 0
        for one in unsure:
            rows = frozenset(one.among & slots.wanted.keys())
            rows = rows or frozenset(look.closer(one.place, slots.wanted, one.among))
            if fewer and not rows:
                rows = frozenset(row for row in slots.wanted if look.holds(one.place, row))
            if rows:
                among.append((one.place, rows))
            elif one.among:
                strange.append(min(one.among))
            else:
                unknown += 1
        strange = [row for row in strange if not self._looped_back(number, row)]
        missing = slots.free([rows for _, rows in among])
        if missing:  # a sequence that was taken for a shorter row may be a cut one
            left = {int(self.row[position]) for position in missing}
            wider = [rows.union(look.closer(place, left, rows)) for place, rows in among]
            missing = slots.free(wider)
            packed = [one.place for one in found if fewer or len(one.rows) > 1]
            missing = [
                position
                for position in missing
                if not any(look.holds(place, int(self.row[position])) for place in packed)
            ]
        self.ambiguous += sum(len(rows) > 1 for _, rows in among)
        verdict = self._verdict_of(number, found, unknown, broken=len(missing) > unknown or strange)
        if verdict == "broken" and self.wrong is None:
            self.wrong = self._wrong(number, missing, strange, found)
        self.end = max(self.end, int(positions[-1]) + 1 if len(positions) else 0)
        taken = set(positions.tolist()) - set(missing)
        seen = sorted({*taken, *(int(self.first[row]) for row in strange)})
        return Judged(tuple(seen), unknown, verdict)

    def _verdict_of(
        self, number: int, found: Sequence[Found], unknown: int, *, broken: object
    ) -> Verdict:
        """The verdict of a step, which is counted."""
        if not found or unknown > (1 - ENOUGH) * len(found):
            self.unverified += 1
            counts = number, len(found) - unknown, len(found)
            self.first_unverified = self.first_unverified or counts
            return "cannot tell"
        if broken:
            return "broken"
        self.judged += 1
        return "in order"

    def _looped_back(self, number: int, row: int) -> bool:
        """Whether a row is one with which several processes fill their last step up."""
        uneven = number == self.steps and len(self.row) % self.batch_size > 0
        return uneven and row in self.row[: self.batch_size]

    def _wrong(
        self, number: int, missing: Sequence[int], strange: Sequence[int], found: Sequence[Found]
    ) -> WrongStep:
        seen = sorted({self._near(row, number) for row in strange})
        return WrongStep(number, tuple(missing), tuple(seen), self._why(number, seen, found))

    def _near(self, row: int, number: int) -> int:
        """The position of a row that is nearest to a step."""
        at = np.flatnonzero(self.row == row)
        return int(at[np.argmin(np.abs(at - (number - 1) * self.batch_size))])

    def _why(self, number: int, seen: Sequence[int], found: Sequence[Found]) -> str:
        size = self.batch_size
        steps = Counter(position // size + 1 for position in seen)
        step, count = steps.most_common(1)[0] if steps else (0, 0)
        if number > self.steps:
            return (
                f"the order ends after step {self.steps}: its epochs are written out, so "
                "num_train_epochs must be 1"
            )
        if any(len(one.rows) > 1 for one in found) and len(found) < size:
            return "several rows stand in one sequence: set packing: false"
        if self.began and step == 1 and number == self.began + 1 and count == len(seen) > 0:
            return (
                "training went on from a checkpoint and its data began anew: set ignore_data_skip: "
                "false"
            )
        if not seen:
            return (
                "its other rows did not come: a data loader that drops its last batch, or a batch "
                "size that is not the order's"
            )
        if step > number and count == len(seen):
            return f"it has rows of step {step}: a batch was left out, or rows were filtered"
        return (
            "the trainer shuffles or sorts its rows: set train_sampling_strategy: sequential, and "
            "shuffle_dataset: false"
        )

    def verdict(self, missing_at_end: int = 0) -> Verdict:
        """The verdict over all steps; rows missing at the end break an order."""
        if self.wrong is not None or missing_at_end:
            return "broken"
        return "cannot tell" if self.unverified or not self.judged else "in order"


def _taken(found: Sequence[Found], slots: _Slots, look: Evidence) -> tuple[list[int], list[Found]]:
    """Take the rows that sequences are of for certain.

    Returns:
        Rows that are not expected, and the sequences that may be of several rows, or of none.
    """
    strange: list[int] = []
    unsure: list[Found] = []
    for one in found:
        known = [row for row in one.rows if row in slots.wanted]
        for row in known:
            slots.take(row)
        if not one.rows:
            unsure.append(one)
        elif known:
            more = [row for row in one.rows if row not in slots.wanted]
            strange += [row for row in more if look.unexplained(one.place, row, slots.wanted)]
        elif near := look.closer(one.place, slots.wanted, one.rows):
            unsure.append(Found((), frozenset(near), one.place))
        else:
            strange.append(one.rows[0])
    return strange, unsure


class _Slots:
    """The rows that a step expects, taken one by one."""

    def __init__(self, rows: Sequence[int], positions: Sequence[int]) -> None:
        self.wanted = Counter(rows)
        self._left: dict[int, list[int]] = {}
        for row, position in zip(reversed(rows), reversed(positions), strict=True):
            self._left.setdefault(row, []).append(position)

    def take(self, row: int) -> None:
        """A sequence is of this row."""
        if self._left[row]:
            self._left[row].pop()

    def free(self, among: Sequence[frozenset[int]]) -> list[int]:
        """Positions that are left where sequences of one of several rows each take what they can.

        **Source:** augmenting paths (Kuhn 1955).
        """
        taken: dict[tuple[int, int], int] = {}  # row and which of its places → sequence
        place: dict[int, tuple[int, int]] = {}  # the other way round
        for sequence in range(len(among)):
            reached: dict[tuple[int, int], int] = {}
            queue, end = [sequence], None
            while queue and end is None:
                now = queue.pop(0)
                for slot in [(r, i) for r in among[now] for i in range(len(self._left[r]))]:
                    if slot in reached:
                        continue
                    reached[slot] = now
                    if slot not in taken:
                        end = slot
                        break
                    queue.append(taken[slot])
            while end is not None:
                now = reached[end]
                before = place.get(now)
                taken[end], place[now] = now, end
                end = None if now == sequence else before
        places = ((row, i) for row, left in self._left.items() for i in range(len(left)))
        return sorted(self._left[row][i] for row, i in places if (row, i) not in taken)
