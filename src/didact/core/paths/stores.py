"""What a store is: it lists, describes and opens what lies behind a bucket or host."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol


@dataclass(frozen=True, slots=True)
class Seen:
    """What a store says of something.

    Attributes:
        kind: What it is.
        size: Bytes; None where it is not said.
        mtime_ns: When it was last written; None where it is not said.
        tag: ETag, generation or hash: another for other bytes; "" where there is none.
    """

    kind: Literal["file", "folder"]
    size: int | None = None
    mtime_ns: int | None = None
    tag: str = ""


class Source(Protocol):
    """An open object of a store."""

    @property
    def seen(self) -> Seen:
        """What it was when it was opened."""

    def read(self, at: int, size: int) -> bytes:
        """Bytes from `at` on, `size` at most; fewer where the object or the connection ends."""

    def now(self) -> Seen | None:
        """What the object is now; None where asking is no use while it is read."""

    def close(self) -> None:
        """Give back what it holds."""


class Store(Protocol):
    """What is behind a scheme and a bucket or host. Keys begin with no slash."""

    @property
    def filesystem(self) -> Any:
        """It as pyarrow has it."""

    def path(self, key: str) -> str:
        """What `filesystem` calls a key."""

    def look(self, key: str) -> Seen | None:
        """Whether there is something, and what kind; the other fields may be left out."""

    def describe(self, key: str) -> Seen:
        """What an object is, freshly asked."""

    def inside(self, key: str, *, deep: bool) -> Iterator[tuple[str, Seen]]:
        """What lies in a folder, named from it; `deep`: in those below, too."""

    def source(self, key: str) -> Source:
        """Open an object."""

    def create(self, key: str, data: bytes) -> bool | None:
        """Write a small object unless there is one: whether it was written; None if it cannot."""
