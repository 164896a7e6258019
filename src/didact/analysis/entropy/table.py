"""Runs from a CSV: what other trainers and other evaluations found."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Final

from didact.analysis.entropy.runs import LawRun, dose_of
from didact.core.errors import DataError
from didact.core.paths import Place
from didact.data.reading.files import readable

NEEDED: Final = ("run", "ratio", "first_epoch_loss", "performance")
_NUMBERS: Final = ("tokens", "bytes", "mean_length", "similarity", "deflate_ratio")
_TEXTS: Final = ("family", "backbone", "stage", "dose", "seed", "set", "tokenizer", "held_out")
COLUMNS: Final = (*NEEDED, *_NUMBERS, *_TEXTS)
_EARLY: Final = re.compile(r"loss_(\d{1,2})")  # loss_10: L over the first 10 % of the epoch


def read_law_table(path: Place) -> tuple[tuple[LawRun, ...], tuple[str, ...]]:
    """The runs of a CSV with a run a line; and notes on how it was understood.

    Columns are `run`, `ratio`, `first_epoch_loss` (nats per token), `performance` (higher is
    better: bits per byte negated), and where there are any `tokens`, `bytes`, `mean_length`
    (tokens), `similarity`, `family`, `backbone`, `stage`, `deflate_ratio`, `loss_5`, `loss_10`, …
    (L over so many per cent of the epoch), `dose` (what was done to the family's set), `set`,
    `seed`, `tokenizer`, `held_out`; others are left out, which a note says. Runs of one `set` are
    seeds of it; without that column, and with `seed`, those of one family and dose are, else each
    run is a set. Without `family` it is what stands before the dose in the set's name: `random` of
    `random+copies4`. Values are separated by commas, semicolons or tabs.

    Raises:
        DataError: A column or a value is missing or no number, a column is nearly a known one,
            or there are seeds of no set; the message has file and line.
    """
    runs: list[LawRun] = []
    places: dict[str, str] = {}
    names, rows = _rows(path)
    for number, row in rows:
        place = f"{path}:{number}"
        run = _run(row, place)
        if run.run in places:
            raise DataError(
                f"{place}: run {run.run!r} is there already, at {places[run.run]}; expected a run "
                "a line: remove one, or give runs names of their own"
            )
        places[run.run] = place
        runs.append(run)
    if not runs:
        raise DataError(f"{path}: holds no run; expected lines with {', '.join(NEEDED)}")
    return tuple(runs), tuple(_understood(path, names, runs))


def _understood(path: Place, names: Sequence[str], runs: Sequence[LawRun]) -> Iterator[str]:
    """What was taken for granted, in sentences."""
    if left := [name for name in names if not _known(name)]:
        yield f"{path.name}: {len(left)} columns are not looked at: {', '.join(map(repr, left))}."
    if "set" not in names and "seed" in names:
        yield (
            f"{path.name} has no column set: runs of one family and dose were taken for seeds of "
            "one set. Name the sets where a family has several."
        )
    if "set" not in names and "seed" not in names and len(runs) > 1:
        yield f"{path.name} has neither set nor seed: each of its {len(runs)} runs is a set."
    if "family" not in names and len({run.family for run in runs}) > 1:
        yield (
            f"{path.name} has no column family: it was taken from the names of the sets, and where "
            "nothing stands before a dose each set is a family of its own."
        )


def _known(name: str) -> bool:
    return name in COLUMNS or _EARLY.fullmatch(name) is not None


def _run(row: Mapping[str, str], place: str) -> LawRun:
    if not row["run"]:
        raise DataError(f"{place}: has no 'run'; expected a name in every row")
    needed = {name: _number(row[name], name, place) for name in NEEDED[1:]}
    numbers = {n: _number(row[n], n, place) for n in _NUMBERS if row.get(n)}
    early = {
        int(found[1]) / 100: _number(value, name, place)
        for name, value in row.items()
        if value and (found := _EARLY.fullmatch(name))
    }
    texts = {name: row[name] for name in _TEXTS if row.get(name)}
    dose = texts.pop("dose", None) or dose_of(texts.get("set", ""))
    if "set" not in texts and "seed" in texts and "family" in texts:
        texts["set"] = texts["family"] if dose is None else f"{texts['family']}+{dose}"
    try:
        return LawRun(run=row["run"], dose=dose, early=early, **needed, **numbers, **texts)  # type: ignore[arg-type]
    except DataError as error:
        raise DataError(f"{place}: {error}; mend the value, or leave the row out") from error


def _number(told: str, name: str, place: str) -> float:
    try:
        value = float(told)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(
            f"{place}: {name} is {told!r}; expected a finite number: mend it, or leave the row out"
        )
    return value


def _rows(path: Place) -> tuple[list[str], Iterator[tuple[int, dict[str, str]]]]:
    """Columns; line number and row, values without spaces around them."""
    with readable(path):
        try:
            text = path.read_text("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: no UTF-8 text ({error}); save it as UTF-8 CSV") from error
    head = text.partition("\n")[0]
    separator = next((s for s in ",;\t" if s in head), ",")
    lines = io.StringIO(text, newline="")  # a line ends where CSV says, and nowhere else
    rows = csv.DictReader(lines, strict=True, delimiter=separator)
    try:
        names = [name.strip() for name in rows.fieldnames or ()]
    except csv.Error as error:
        raise DataError(f"{path}:1: no CSV ({error}); mend the line") from error
    _check_header(names, path)
    return names, _lines(rows, path)


def _lines(rows: csv.DictReader[str], path: Place) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        for row in rows:
            if None in row or None in row.values():
                raise DataError(
                    f"{path}:{rows.line_num}: does not have the {len(rows.fieldnames or ())} "
                    "values that the header names; quote values with commas"
                )
            yield rows.line_num, {name.strip(): value.strip() for name, value in row.items()}
    except csv.Error as error:
        raise DataError(f"{path}:{rows.line_num}: no CSV ({error}); mend the line") from error


def _check_header(names: list[str], path: Place) -> None:
    for name in names:
        near = [] if _known(name) else get_close_matches(name, (*COLUMNS, "loss_10"), 1, 0.8)
        if near:
            raise DataError(
                f"{path}:1: unknown column {name!r}; did you mean {near[0]!r}? Rename or remove it"
            )
        if names.count(name) > 1:
            raise DataError(f"{path}:1: has two columns {name!r}; expected one: remove one")
    for name in NEEDED:
        if name not in names:
            raise DataError(f"{path}:1: has no column {name!r}; expected {', '.join(NEEDED)}")
    if "seed" in names and not {"set", "family"} & set(names):
        raise DataError(
            f"{path}:1: has the column 'seed' and neither 'set' nor 'family', so which runs are "
            "seeds of one set cannot be told; add 'set'"
        )
