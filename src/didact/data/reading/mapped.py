"""Columns that a mapping names: which of them no row has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from didact.core.errors import ConfigError, did_you_mean
from didact.data.rows.columns import Columns, Row, get
from didact.data.rows.json_text import parsed

_MISSING: Final = object()
_KEYS: Final = 200  # of rows, to choose a suggestion from
_OF_MESSAGES: Final = frozenset({"role", "content", "weight", "reasoning"})


class Unmet:
    """Mapped columns that no row had so far.

    Attributes:
        columns: didact's name → the user's.
    """

    def __init__(self, columns: Columns) -> None:
        """Start with every column that is mapped to one; "-" means none."""
        named = {name: column for name, column in columns.items() if column != "-"}
        self.columns = {name: column for name, column in named.items() if name != "rows"}
        self._keys: dict[str, dict[str, None]] = {name: {} for name in self.columns}

    def look_at(self, row: Row) -> None:
        """Take what a row has off the list. Nothing is looked at once the list is empty."""
        for name, column in list(self.columns.items()):
            if get(row, column, _MISSING) is not _MISSING:
                del self.columns[name]
                continue
            places: Iterator[Row] = iter((row,))
            if name in _OF_MESSAGES:
                places = _messages(row)
            keys = self._keys[name]
            for place in places:
                if column in place:
                    del self.columns[name]
                    break
                if len(keys) < _KEYS:
                    keys.update(dict.fromkeys(list(place)[:_KEYS]))

    def to_json(self) -> dict[str, Any]:
        """Each column with the keys that rows have in its place."""
        return {name: [column, list(self._keys[name])] for name, column in self.columns.items()}


def both_unmet(earlier: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """What rows and those behind them lack: each what `Unmet.to_json` gave."""
    out = {}
    for name, (column, keys) in earlier.items():
        if name in later:
            more = later[name][1] if len(keys) < _KEYS else []
            out[name] = [column, list(dict.fromkeys([*keys, *more]))]
    return out


def _messages(row: Row) -> Iterator[Row]:
    """Objects in lists of a row, and objects that stand alone: what may be messages."""
    for value in row.values():
        found = parsed(value, list)
        for item in found if isinstance(found, list) else (found,):
            if isinstance(item, dict):
                yield item


def refuse(unmet: Mapping[str, Any]) -> None:
    """Raise ConfigError when there are columns that no row had.

    Args:
        unmet: What `Unmet.to_json` gave.
    """
    for name, (column, keys) in unmet.items():
        last = column.rpartition(".")[2]
        what = "message" if name in _OF_MESSAGES else "row"
        raise ConfigError(
            f"data.columns.{name}: no {what} has {column!r}"
            f"{did_you_mean(last, [key for key in keys if key != last])}; name a column that "
            "there is, or leave the setting out"
        )
