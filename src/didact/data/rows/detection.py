"""Which format a row is of, and what reads the rows of a format."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import Final

from didact.core import registry
from didact.core.errors import ConfigError, did_you_mean
from didact.data.rows.columns import Columns, Row, RowError, get, keys, named
from didact.data.rows.format import Format
from didact.data.rows.marks import MEDIA_NAMES
from didact.data.rows.reasoning import PAIR_COLUMNS, ROW_KEYS, Reasoning, completed, dropped
from didact.data.rows.turns import TOOLS, Turn

_OF_MESSAGES: Final = frozenset({"role", "from", "value"})  # keys that tell a message from a row
_KEYS: Final = 200  # of a row, to choose a suggestion from
_DEPTH: Final = 4  # of objects in objects, to look for lists in


def formats() -> dict[str, Format]:
    """Every format by its name, in the order of registration."""
    return {name: registry.find("formats", name) for name in registry.known("formats")}


def plug_in_sources() -> dict[str, str]:
    """Identity of the code of each format that is not didact's own, by its name."""
    return {
        name: registry.source_of(found.turns)
        for name, found in formats().items()
        if registry.is_plug_in("formats", name)
    }


def column_names() -> tuple[str, ...]:
    """Didact's names for columns, which a mapping may give other names to."""
    return (*_names(), *MEDIA_NAMES)


def _names() -> tuple[str, ...]:
    of_formats = (name for f in formats().values() for name in (*f.content, *f.columns))
    return tuple(dict.fromkeys(("id", "source", "task", "rows", *of_formats)))


def columns_read(columns: Columns) -> set[str]:
    """Every column of a row that may be read, nested ones by the outermost name too.

    Those of images and the like are not among them, unless they are nested.
    """
    fixed = {name for f in formats().values() for name in f.fixed_columns}
    read = [column for name, column in columns.items() if name not in MEDIA_NAMES or "." in column]
    mapped = {c for column in read for c in (column, column.split(".")[0])}
    return {*_names(), *TOOLS, *fixed, *mapped}


def check_columns(columns: Columns) -> None:
    """Raise ConfigError when a mapping names a column didact does not know."""
    names = column_names()
    for name in columns:
        if name not in names:
            raise ConfigError(f"data.columns: unknown name {name!r}{did_you_mean(name, names)}")


def detect(row: Row, columns: Columns, *, may_wrap: bool = True) -> str:
    """The format of a row; where it could be several, one whose columns are mapped.

    Args:
        row: The row.
        columns: The user's columns.
        may_wrap: Whether `columns.rows` can find rows inside such a row.

    Raises:
        RowError: It is none of them; the message lists the row's keys and the remedy.
    """
    known = formats()
    by_rank = sorted(known, key=lambda name: -known[name].rank)
    found = [name for name in by_rank if known[name].may_hold(row, columns)]
    mapped = [name for name in found if any(column in columns for column in known[name].content)]
    labelled = [name for name in found if known[name].label is not None]
    if mapped and known[mapped[0]].kind == "chat" and labelled:
        mapped = labelled  # its columns are the label's, too
    name = next(iter((*mapped, *found)), None)
    if name is not None:
        _check_label(row, columns, name)
        return name
    if "input_ids" in row:
        raise RowError(
            "the row is already tokenized (input_ids); expected text or messages: pass the data "
            "from before tokenization, didact keeps its order for the trainer"
        )
    raise RowError(_why_none(row, columns, known, may_wrap=may_wrap))


def _check_label(row: Row, columns: Columns, name: str) -> None:
    """Raise RowError when a column is mapped to be the label of a row that has none."""
    if columns.get("label", "-") == "-" or formats()[name].label is not None:
        return
    if get(row, columns["label"]) is not None:
        raise RowError(
            f"the column {columns['label']!r} is mapped to be the label, and rows of {name} have "
            "none; expected a prompt and its completion, an instruction and its output, or "
            "messages: map these too, or leave columns.label out"
        )


def _why_none(row: Row, columns: Columns, known: Mapping[str, Format], *, may_wrap: bool) -> str:
    """Why a row is of no format: its content is null, or part of it lacks, or all of it."""
    content = {n: columns.get(n, n) for f in known.values() for n in (*f.content, *f.fixed_columns)}
    null = [c for c in content.values() if get(row, c, row) is None]
    for name, found in known.items():
        lacking = [n for n in found.content if get(row, content[n]) is None]
        if 0 < len(lacking) < len(found.content):
            has = " and ".join(content[n] for n in found.content if n not in lacking)
            column = content[lacking[0]]
            state = "null" if column in null else "missing"
            return (
                f"{column} is {state}; the row has {has} and needs both to be {name}: give it one, "
                f"or name the column that holds it, e.g. --data columns.{lacking[0]}=YOUR_COLUMN"
            )
    if null:
        return f"{null[0]} is null; expected content: give the row some, or leave such rows out"
    lost = {n: c for n, c in columns.items() if c != "-" and named(row, columns, n) is None}
    nothing = ", ".join(f"{n}={c}" for n, c in lost.items())
    near = [m[0] for c in lost.values() if (m := get_close_matches(c, list(row)[:_KEYS], n=1))]
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return (
        f"no known format has the columns {keys(row)}"
        + (f" (nothing is at {nothing}{hint})" if lost else "")
        + f"; expected one of {', '.join(known)}: {_remedy(row, may_wrap=may_wrap)}"
    )


def _remedy(row: Row, *, may_wrap: bool) -> str:
    """Which columns to name: those that look like messages, or like rows inside the row."""
    names = set(_names())
    key, first = min(
        _lists(row, _DEPTH), key=lambda found: names.isdisjoint(found[1]), default=("", {})
    )
    if first.keys() & _OF_MESSAGES:
        return f"its messages may be in {key!r}: --data columns.messages={key}"
    if key and may_wrap:
        return (
            f"its rows are in {key!r}: read them with --data columns.rows={key} (in a config: "
            "data.columns.rows)"
        )
    if key:
        return (
            f"its rows may be in {key!r}, and are read so from one object, or from one a line: "
            f"write the rows themselves, or such a file with --data columns.rows={key}"
        )
    if _holds_rows(row):
        return (
            "it looks like all rows in one object, as pandas may write them; write the frame with "
            "to_json(FILE, orient='records', lines=True)"
        )
    return "name the columns, e.g. --data columns.messages=dialogue or --data columns.text=body"


def _holds_rows(row: Row) -> bool:
    """Whether an object has rows by their index, or columns and rows apart."""
    split = {"columns", "data"} <= row.keys() and isinstance(row["data"], list)
    values = list(row.values())[:_KEYS]
    if split or len(values) < 2 or not all(isinstance(value, dict) for value in values):
        return split
    return all(map(str.isdigit, row)) or all(v.keys() == values[0].keys() for v in values)


def _lists(row: Row, depth: int) -> Iterator[tuple[str, Row]]:
    """Lists of objects in a row and in objects of it, by column, with the first object of each."""
    for key, value in list(row.items())[:_KEYS]:
        if isinstance(value, list) and value and isinstance(value[0], dict):
            yield key, value[0]
        elif isinstance(value, dict) and depth:
            yield from ((f"{key}.{inside}", first) for inside, first in _lists(value, depth - 1))


def trace_columns(form: Format, columns: Columns) -> frozenset[str]:
    """Columns of a row that may hold a reasoning trace which is read with its turns."""
    pair = form.kind == "pair"
    if (f"chosen_{ROW_KEYS[0]}" if pair else ROW_KEYS[0]) not in form.fixed_columns:
        return frozenset()
    own = columns.get("reasoning", "-")
    return frozenset(PAIR_COLUMNS if pair else (own, own.split(".")[0], *ROW_KEYS))


def turns_of(
    name: str, columns: Columns, reasoning: Reasoning = "keep"
) -> Callable[[Row], list[Turn]]:
    """The function that turns rows of a format into turns, with the user's column names."""
    form: Format = registry.find("formats", name)
    turns_in, pair = form.turns, form.kind == "pair"
    traces = trace_columns(form, columns)

    def parse(row: Row) -> list[Turn]:
        turns = turns_in(row, columns)
        if not traces.isdisjoint(row):
            turns = completed(turns, row, columns, pair=pair)
        if reasoning == "drop":
            turns = dropped(turns)
        for turn in turns:
            if turn[2]:
                return turns
        raise RowError("the sample has no text at all; expected some content in one turn or more")

    return parse
