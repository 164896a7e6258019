"""Rows that are not in the pool, listed with the reason: rejected.jsonl and excluded.jsonl.

The list of bad rows has an entry a row, with its bytes. Of very many very short ones that would be
a hundred times their file; then those that follow are listed by their numbers alone.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Final

import orjson

from didact.core.pool import shard_name
from didact.data.reading.files import File
from didact.data.reading.incoming import BadRow
from didact.data.reading.parts import Before
from didact.data.rows.columns import WHO_HAS, who_has

LISTS: Final = ("rejected", "excluded")
_MET: Final = "met"  # of an entry whose reason has `WHO_HAS`
_ROOM: Final = 4 * 2**20  # bytes of entries, beside some for every byte of a bad row
_PER_BYTE: Final = 4
_SHORT: Final = 200  # bytes of a row that its entry is much longer than
_TOGETHER: Final = 1000  # runs of rows in an entry


class LeftOut:
    """Writes the two lists; a list without rows has no file.

    Attributes:
        counts: Rows in each list, by its name.
        first: File and number of the first row of each list that has one.
    """

    def __init__(self, folder: Path, shard: int, files: ExitStack) -> None:
        """Open nothing yet; `files` closes what is opened."""
        self.counts = dict.fromkeys(LISTS, 0)
        self.first: dict[str, tuple[str, int]] = {}
        self._folder, self._shard, self._files = folder, shard, files
        self._open: dict[str, BinaryIO] = {}
        self._room = _ROOM
        self._runs: dict[str, Any] = {}  # of rows by their numbers, the entry that is not written

    def reject(self, row: BadRow, most_bytes: int) -> None:
        """List a row that is no sample with its bytes, or their beginning if they are too many."""
        self._room += _PER_BYTE * len(row.data)
        if self._room < 0 or (self._runs and len(row.data) < _SHORT):
            self._number(row)
            return
        self.finish()
        entry: dict[str, Any] = {"file": row.file.name, "row": row.number, "reason": row.reason}
        if row.met is not None:
            entry[_MET] = row.met
        if len(row.data) > most_bytes:
            entry["begins"] = row.data[:1000].decode("utf-8", "backslashreplace")
        else:
            try:
                entry["raw"] = row.data.decode()
            except UnicodeDecodeError:
                entry["raw_latin1"] = row.data.decode("latin-1")  # a character a byte
        self._list("rejected", entry)

    def finish(self) -> None:
        """Write what was not written yet."""
        if self._runs:
            self._write("rejected", self._runs)
            self._runs = {}

    def _number(self, row: BadRow) -> None:
        """List a row by its number: one more of those before it, with the reason of the first."""
        self.counts["rejected"] += 1
        runs = self._runs.get("rows", [])
        if self._runs.get("file") != row.file.name or len(runs) == _TOGETHER:
            self.finish()
            reason = f"{row.reason}; of the others only the numbers are listed"
            self._runs = {"file": row.file.name, "rows": [], "reason": reason}
            if row.met is not None:
                self._runs[_MET] = row.met
            runs = self._runs["rows"]
        if runs and runs[-1][1] == row.number - 1:
            runs[-1][1] = row.number
        else:
            runs.append([row.number, row.number])

    def exclude(self, id_: str, file: File, number: int, shared: str) -> None:
        """List a row that shares text with held-out files."""
        entry = {"id": id_, "file": file.name, "row": number, "shared": shared}
        self._list("excluded", entry)

    def _list(self, name: str, entry: dict[str, Any]) -> None:
        self.first.setdefault(name, (entry["file"], entry["row"]))
        self.counts[name] += 1
        size = self._write(name, entry)
        if name == "rejected":
            self._room -= size

    def _write(self, name: str, entry: dict[str, Any]) -> int:
        if name not in self._open:
            file = (self._folder / shard_name(name, self._shard, "jsonl")).open("wb")
            self._open[name] = self._files.enter_context(file)
        line = orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE)
        self._open[name].write(line)
        return len(line)


def placed(line: bytes, file: str, before: Before) -> bytes:
    """An entry of a list whose shard did not know what stands before it.

    Args:
        line: The entry.
        file: The file of which the shard has a part.
        before: What stands before that.
    """
    entry = orjson.loads(line)
    if entry["file"] == file:
        if "row" in entry:
            entry["row"] += before.rows
        for run in entry.get("rows", ()):
            run[:] = [number + before.rows for number in run]
        if (met := entry.pop(_MET, None)) is not None:
            who = who_has(before.having + met[0], before.lacking + met[1])
            entry["reason"] = entry["reason"].replace(WHO_HAS, who)
    return orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE)
