"""The grades that some rows carry."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from didact.core.arrays import Float1D, Int1D
from didact.core.cost import Metered
from didact.core.errors import DataError, did_you_mean
from didact.core.findings import counted
from didact.core.pool import Pool
from didact.core.protocols import Context, Progress
from didact.data.rows.columns import get
from didact.scoring.column import as_float, keys_of, parse

FEWEST: Final = 20
_ABSENT: Final = object()
_FIRST: Final = 100  # rows whose columns are named where a grade is not found


@dataclass(frozen=True, slots=True)
class Grades:
    """Rows with a grade, in the pool's order.

    Attributes:
        rows: int64 `(m,)`.
        values: float64 `(m,)`, finite.
        not_a_number: Rows whose grade is NaN, which counts as none.
    """

    rows: Int1D
    values: Float1D
    not_a_number: int


@dataclass(frozen=True, slots=True)
class _Found:
    """What a batch of rows has: rows with their grades, and the first that is none."""

    rows: Int1D
    values: Float1D
    not_a_number: int
    has_column: bool
    bad: tuple[int, str] | None


def read_grades(pool: Pool, name: str, what: str, where: str, ctx: Context) -> Grades:
    """The grades of a pool; rows without the column, or with null, NaN or "" there, have none.

    Args:
        pool: The pool, or the target set.
        name: The column; dots reach into nested objects.
        what: "pool" or "target set", for messages.
        where: Where the setting stands, such as "score.learned_grade.grade".
        ctx: Reads the rows, in its workers.

    Raises:
        DataError: A grade is no number, the column is nowhere, grades are too few or all equal.
    """
    graded, grades = [], []
    holes, has_column = 0, False
    ctx.progress(Progress("read grades", 0, len(pool)))
    for rows, found in zip(
        pool.batches(),
        ctx.executor.map(grades_of, pool.batches(), shared=(pool, name)),
        strict=True,
    ):
        if found.bad is not None:
            row, value = found.bad
            raise DataError(
                f"{where}={name}: row {row} of the {what} ({_id(pool, row)}) has {value} there; "
                "expected a number, or null where there is no grade: write grades as numbers, such "
                "as 4 for good"
            )
        graded.append(found.rows)
        grades.append(found.values)
        holes += found.not_a_number
        has_column |= found.has_column
        ctx.progress(Progress("read grades", rows.stop, len(pool)))
    values = np.concatenate([np.zeros(0), *grades])
    _check(pool, name, what, where, values, has_column=has_column)
    return Grades(np.concatenate([np.zeros(0, np.int64), *graded]), values, holes)


def grades_of(of: tuple[Pool, str], rows: range) -> Metered[_Found]:
    """The grades of a range of rows."""
    pool, name = of
    grades: dict[int, float] = {}
    holes, has_column = 0, False
    bad: tuple[int, str] | None = None
    for row, record in zip(rows, pool.records(rows), strict=True):
        value = get(parse(record), name, _ABSENT)
        if value is _ABSENT:
            continue
        has_column = True
        if value is None or (isinstance(value, str) and not value.strip()):
            continue  # a cell of a CSV file that nobody filled is an empty text
        grade = as_float(value)
        if grade is None or math.isinf(grade):
            bad = row, f"{value!r:.60}"
            break
        if math.isnan(grade):
            holes += 1
        else:
            grades[row] = grade
    graded = np.fromiter(grades, np.int64, len(grades))
    values = np.fromiter(grades.values(), np.float64, len(grades))
    return Metered(_Found(graded, values, holes, has_column, bad))


def _check(
    pool: Pool, name: str, what: str, where: str, values: Float1D, *, has_column: bool
) -> None:
    if not has_column:
        first = pool.records(range(min(len(pool), _FIRST)))
        names = dict.fromkeys(key for record in first for key in keys_of(parse(record)))
        raise DataError(
            f"{where}={name}: no row of the {what} has this column{did_you_mean(name, names)}"
        )
    if len(values) < FEWEST:
        raise DataError(
            f"{where}={name}: {counted(len(values), 'row')} of the {what} "
            f"{'has' if len(values) == 1 else 'have'} a grade; expected {FEWEST} at least, better "
            "some hundreds: grade more rows, drawn at random"
        )
    if values.min() == values.max():
        raise DataError(
            f"{where}={name}: all {len(values):,} grades are {values[0]:g}, and nothing can be "
            "learned from grades that are all equal: grade rows that differ, drawn at random, or "
            "use another column"
        )


def _id(pool: Pool, row: int) -> str:
    found: Any = pool.read(range(row, row + 1), ["id", "source"]).to_pylist()[0]
    return f"id {found['id']!r}, source {found['source']!r}"
