"""Runs from a table of values, CSV or JSONL: what other trainers and other evaluations found."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from didact.analysis.runs import Measure, Run, What
from didact.core.errors import DataError, did_you_mean
from didact.core.nesting import parse_json
from didact.core.paths import Place
from didact.data.reading.files import readable
from didact.evaluation.results import HIGHER_IS_BETTER

NEEDED: Final = ("run", "set", "metric", "value")
OPTIONAL: Final = ("file", "task", "higher_is_better", "seed", "init", "draw", "order", "size")
_SEEDS: Final = ("seed", "init", "draw", "order")
_OF_A_RUN: Final = ("set", *_SEEDS, "size")
DIRECTIONS: Final = {**HIGHER_IS_BETTER, "perplexity": False, "loss": False}
_FLAGS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def read_run_table(path: Place) -> tuple[Run, ...]:
    """The runs of a table with a value a line.

    Columns are `run`, `set`, `metric`, `value`, and where there are any `task`, `file`,
    `higher_is_better`, `size` (number of parameters) and the seeds `init`, `draw`, `order`, or
    `seed` where there is but one. Direction may be left out for metrics of didact's own,
    `perplexity` and `loss`. Rows of one run repeat its set, seeds and size.

    Raises:
        DataError: A column or a value is missing, is no number, or contradicts another row; the
            message has the line.
    """
    found: dict[str, _Collected] = {}
    for number, row in _rows(path):
        place = f"{path}:{number}"
        name = _text(row, "run", place)
        facts = {k: row.get(k) for k in _OF_A_RUN}
        run = found.setdefault(name, _Collected(facts, place))
        for k, fact in facts.items():
            if fact != run.facts[k]:
                raise DataError(
                    f"{place}: run {name!r} has {k} {fact!r} here and {run.facts[k]!r} at "
                    f"{run.place}; expected one: give runs names of their own"
                )
        what = What(row.get("file") or "", row.get("task") or "", _text(row, "metric", place))
        if what in run.measures:
            raise DataError(
                f"{place}: run {name!r} has two values of {what}; expected one: remove a row, or "
                "give runs names of their own"
            )
        run.measures[what] = Measure(
            finite(row.get("value"), "value", place),
            direction(row.get("higher_is_better"), what.metric, place),
        )
    if not found:
        raise DataError(f"{path}: holds no run; expected lines with {', '.join(NEEDED)}")
    return tuple(_run(name, run) for name, run in found.items())


@dataclass(frozen=True, slots=True)
class _Collected:
    """What rows tell of a run: what must be equal in all, the first's place, its values."""

    facts: Mapping[str, Any]
    place: str
    measures: dict[What, Measure] = field(default_factory=dict)


def _run(name: str, found: _Collected) -> Run:
    seeds = {k: _whole(found.facts[k], k, found.place) for k in _SEEDS}
    draw = seeds["draw"]
    return Run(
        name=name,
        set=_text(found.facts, "set", found.place),
        measures=found.measures,
        seeds=seeds,
        draw="" if draw is None else f"draw {draw}",
        size=_whole(found.facts["size"], "size", found.place),
    )


def _rows(path: Place) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and row; empty values are left out."""
    lines = csv_rows(path) if path.suffix == ".csv" else _json_rows(path)
    for number, row in lines:
        place = f"{path}:{number}"
        unknown = next((k for k in row if k not in {*NEEDED, *OPTIONAL}), None)
        if unknown is not None:
            known = did_you_mean(str(unknown), (*NEEDED, *OPTIONAL))
            raise DataError(f"{place}: unknown column {unknown!r}{known}")
        yield number, {k: v for k, v in row.items() if v is not None and v != ""}


def csv_rows(path: Place, needed: Sequence[str] = ()) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and row of a CSV with a header, values as text.

    Args:
        path: The file, in UTF-8.
        needed: Columns that it must have.

    Raises:
        DataError: It is no CSV, a column is missing, or a row has more or fewer values.
    """
    with readable(path):
        text = path.read_bytes().decode("utf-8-sig")
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        missing = [name for name in needed if name not in (rows.fieldnames or ())]
        if missing:
            raise DataError(f"{path}: no column {missing[0]!r}; expected {', '.join(needed)}")
        for row in rows:
            if None in row or None in row.values():
                raise DataError(
                    f"{path}:{rows.line_num}: does not have the {len(rows.fieldnames or ())} "
                    "values that the header names; quote values with commas"
                )
            yield rows.line_num, row
    except csv.Error as error:
        raise DataError(
            f"{path}:{rows.line_num}: no CSV ({error}); expected values between commas, text with "
            "commas in double quotes"
        ) from error


def _json_rows(path: Place) -> Iterator[tuple[int, dict[str, Any]]]:
    with readable(path):
        text = path.read_text("utf-8-sig")
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except ValueError as error:
            raise DataError(f"{path}:{number}: not JSON ({error}); mend the line") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}: is {line[:40]!r}; expected an object a line")
        yield number, row


def _text(row: Mapping[str, Any], name: str, place: str) -> str:
    value = row.get(name)
    if value is None:
        raise DataError(f"{place}: has no {name!r}; expected {', '.join(NEEDED)} in every row")
    return str(value)


def finite(told: Any, name: str, place: str) -> float:
    """A number of a table.

    Args:
        told: What stands there.
        name: Its column.
        place: What messages call the row.

    Raises:
        DataError: It is none, or not finite.
    """
    try:
        value = math.nan if isinstance(told, bool) else float(told)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise DataError(
            f"{place}: {name} is {told!r}; expected a finite number: mend it, or leave the row out"
        )
    return value


def _whole(value: Any, name: str, place: str) -> int | None:
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not number.is_integer():
        raise DataError(f"{place}: {name} is {value!r}; expected a whole number, or nothing")
    return int(number)


def direction(told: Any, metric: str, place: str) -> bool:
    """Whether higher values of a metric are better, as a table says it; known ones may be left out.

    Raises:
        DataError: It says neither, and the metric is not known.
    """
    if told is None and metric in DIRECTIONS:
        return DIRECTIONS[metric]
    flag = _FLAGS.get(str(told).strip().lower())
    if flag is None:
        raise DataError(
            f"{place}: higher_is_better of {metric!r} is {told!r}; expected true or false: the "
            "direction of this metric is not known"
        )
    return flag
