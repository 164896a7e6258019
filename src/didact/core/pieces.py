"""Finished pieces of a value under way: entries that go once the value is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from didact.core.atomic import link_tree, remove
from didact.core.cost import Bill, Cost, Meter
from didact.core.entries import ENTRY, Entry, intact_entry, seal, void, writing
from didact.core.errors import DamagedError, ExecutionError
from didact.core.paths import RemotePath
from didact.core.shared_entries import fetched, share

T = TypeVar("T")


def ignore(_: str, /) -> None:
    """The default `tell`: nobody is told."""


@dataclass(frozen=True)
class Pieces:
    """Finished pieces of one value under way, by name; a run that was killed goes on after them.

    Their cost is the value's own.

    Attributes:
        place: Where they are, removed when the value is there; None keeps nothing.
        meter: The work's.
        tell: Told of damage.
        shared: Where others find them, behind a URL; what they left there is found, too.
    """

    place: Path | None = None
    meter: Meter = field(default_factory=Meter)
    tell: Callable[[str], None] = ignore
    shared: RemotePath | None = None

    @property
    def folder(self) -> Path:
        """The folder they are in.

        Raises:
            ExecutionError: Nothing is kept: the work is not done inside of `keep`.
        """
        if self.place is None:
            raise ExecutionError("this work needs a place for its pieces; do it inside of `keep`")
        return self.place

    def load(self, name: str, load: Callable[[Path], T]) -> T | None:
        """A piece that an interrupted run left whole, or None; its cost is counted, not charged."""
        if self.place is None:
            return None
        entry = self._found(name)
        if entry is None:
            return None
        value = load(self.place / name)
        if entry.cumulative:
            self.meter.resume(entry.bill.own)
        else:
            self.meter.found(entry.bill.own)
        return value

    def intact(self, name: str) -> Path | None:
        """The folder of a piece that is there and whole; nothing is charged or counted."""
        return None if self._found(name) is None else self.folder / name

    def _found(self, name: str, *, whole: bool = True) -> Entry | None:
        """A piece that is there and whole, here or where it is shared."""
        folder = self.folder / name
        entry = intact_entry(folder, self.tell, whole=whole)
        if entry is None and self.shared is not None:
            entry = fetched(self.shared / name, folder, self.tell)
        return entry

    def save(self, name: str, save: Callable[[Path], None], cost: Cost | None = None) -> None:
        """Keep a piece.

        Args:
            name: A file name.
            save: Writes it into an empty folder.
            cost: What this piece alone took. None for work that goes straight on: then the piece
                stands for everything up to it, and a run that finds it goes on from there.
        """
        if self.place is not None:
            with self.writing(name, cost) as folder:
                save(folder)

    @contextmanager
    def writing(self, name: str, cost: Cost | None = None) -> Iterator[Path]:
        """A folder for a piece that is written bit by bit, kept when the block ends; see `save`."""
        with writing(self.folder / name) as temporary:
            yield temporary
            own = self.meter.bill.own if cost is None else cost
            seal(temporary, Bill(own=own), where=self.folder / name, cumulative=cost is None)
        if self.shared is not None:
            share(self.folder / name, self.shared / name)

    def link(self, name: str, target: Path) -> None:
        """The files of a piece under another folder, not copied where links are known.

        Raises:
            DamagedError: The piece is gone; it is made again by whoever goes on with the work.
        """
        folder = self.folder / name
        if self._found(name, whole=False) is None:
            raise DamagedError(folder, "it is gone")
        link_tree(folder, target, without=ENTRY)

    def drop(self, name: str) -> None:
        """Forget a piece that a later one stands for."""
        if self.place is not None:
            remove(self.place / name)
        if self.shared is not None:
            void(self.shared / name)

    def names(self) -> list[str]:
        """Names of the pieces that are there, damaged ones among them."""
        if self.place is None:
            return []
        there = {p.name for p in self.place.iterdir()} if self.place.is_dir() else set()
        if self.shared is not None and self.shared.is_dir():
            there |= {p.parent.name for p in self.shared.glob(f"*/{ENTRY}")}
        return sorted(name for name in there if not name.startswith("."))

    def workspace(self, name: str) -> Path:
        """A folder of the caller's own, which is there until the value is; it is not verified."""
        folder = self.folder / f".{name}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder
