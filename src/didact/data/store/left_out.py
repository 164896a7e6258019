"""Rows that are not in the pool, listed with the reason: rejected.jsonl and excluded.jsonl."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from didact.core.findings import place
from didact.data.reading.files import File
from didact.data.reading.incoming import BadRow


class LeftOut:
    """Writes the two lists; a list without rows has no file.

    Attributes:
        counts: Rows in each list, by its name.
        first: The first row of each list that has one, "FILE row N".
    """

    def __init__(self, folder: Path, files: ExitStack, identify: Callable[[bytes], None]) -> None:
        """Open nothing yet; `files` closes what is opened, `identify` is told what is written."""
        self.counts = {"rejected": 0, "excluded": 0}
        self.first: dict[str, str] = {}
        self._folder, self._files, self._identify = folder, files, identify
        self._open: dict[str, BinaryIO] = {}

    def reject(self, row: BadRow, most_bytes: int) -> None:
        """List a row that is no sample with its bytes, or their beginning if they are too many."""
        entry: dict[str, Any] = {"file": row.file.name, "row": row.number, "reason": row.reason}
        if len(row.data) > most_bytes:
            entry["begins"] = row.data[:1000].decode("utf-8", "backslashreplace")
        else:
            try:
                entry["raw"] = row.data.decode()
            except UnicodeDecodeError:
                entry["raw_latin1"] = row.data.decode("latin-1")  # a character a byte
        self._list("rejected", entry)

    def exclude(self, id_: str, file: File, number: int, shared: str) -> None:
        """List a row that shares text with held-out files."""
        entry = {"id": id_, "file": file.name, "row": number, "shared": shared}
        self._list("excluded", entry)

    def _list(self, name: str, entry: dict[str, Any]) -> None:
        if name not in self._open:
            file = (self._folder / f"{name}.jsonl").open("wb")
            self._open[name] = self._files.enter_context(file)
        self.first.setdefault(name, place(entry["file"], entry["row"]))
        line = orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE)
        self._open[name].write(line)
        self._identify(line)
        self.counts[name] += 1
