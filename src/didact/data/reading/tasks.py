"""Input files → tasks: what is read into one shard of the store.

Boundaries come from the sizes of the files and `shard_bytes`, never from the number of workers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from didact.core.paths import Place
from didact.core.pool import Kind
from didact.data.reading.containers import TEXTS
from didact.data.reading.files import File, chunks
from didact.data.reading.parts import Before, Part
from didact.data.reading.reader import format_of
from didact.data.reading.settings import DataSettings
from didact.data.store.shard import Known

EXPANSION: Final = 4  # bytes of text in a byte of a compressed file, about


@dataclass(frozen=True, slots=True)
class Task:
    """What is read into one shard.

    Attributes:
        number: Its place among all tasks.
        files: Files, whole or a part of one.
        n_bytes: Bytes of input, for progress.
        known: What other shards tell of its rows; None the first time.
        kinds: What samples of files before it are, once that is known: kind → format and file of
            the first.
    """

    number: int
    files: tuple[File, ...]
    n_bytes: int
    known: Known | None = None
    kinds: Mapping[Kind, tuple[str, Place]] = field(default_factory=dict)

    def __repr__(self) -> str:
        first = self.files[0]
        start = 0 if first.part is None else first.part.start
        more = f" and {len(self.files) - 1} files more" if len(self.files) > 1 else ""
        return f"reading {first.path} from byte {start:,} on{more}"

    def again(self, known: Known, before: Before, kinds: Mapping[Kind, tuple[str, Place]]) -> Task:
        """The task of one whose rows are told more of.

        Args:
            known: What other shards tell of them.
            before: What stands before them in their file.
            kinds: What samples of files before it are.
        """
        first = self.files[0]
        if first.part is not None:
            first = replace(first, part=replace(first.part, before=before))
        return replace(self, files=(first, *self.files[1:]), known=known, kinds=dict(kinds))


def tasks_of(files: Iterable[File], settings: DataSettings, folder: Path) -> Iterator[Task]:
    """The tasks of some files, in their order.

    Small files are read together; one of lines that is larger than `shard_bytes` is read in parts.
    The text of a compressed one is written to `folder` part by part, as tasks are asked for: else
    whoever reads a part would decompress all that stands before it.
    """
    number, together, size = 0, list[File](), 0
    most = settings.shard_bytes
    for place, file in enumerate(files):
        n_bytes = file.size
        parts = _parts(file, n_bytes, settings, folder / f"lines-{place}")
        if together and (parts is not None or size + n_bytes > most):
            yield Task(number, tuple(together), size)
            number, together, size = number + 1, [], 0
        if parts is None:
            together.append(file)
            size += n_bytes
            continue
        for part, of_file in parts:
            yield Task(number, (replace(file, part=part),), of_file)
            number += 1
    if together:
        yield Task(number, tuple(together), size)


def _parts(
    file: File, n_bytes: int, settings: DataSettings, lines: Path
) -> Iterator[tuple[Part, int]] | None:
    """The parts of a file with the bytes of it they lie in; None where it is to be read whole."""
    text = TEXTS.get(file.container)
    expected = n_bytes * (EXPANSION if file.codec else 1)
    if text is None or not text.by_line(settings) or expected <= settings.shard_bytes:
        return None
    first = Part(0, None if file.codec else settings.shard_bytes)
    found = format_of(replace(file, part=None if file.codec else first), settings)
    if not found:
        return None
    if file.codec:
        return _decompressed(file, found, settings.shard_bytes, lines)
    return _ranges(n_bytes, found, settings.shard_bytes)


def _ranges(n_bytes: int, format_: str, most: int) -> Iterator[tuple[Part, int]]:
    """Ranges of the bytes of a file."""
    for start in range(0, n_bytes, most):
        last = start + most >= n_bytes
        before = None if start else Before()
        yield (
            Part(start, None if last else start + most, format_ if start else "", before),
            min(most, n_bytes - start),
        )


def _decompressed(
    file: File, format_: str, most: int, lines_at: Path
) -> Iterator[tuple[Part, int]]:
    """Ranges of the text of a compressed file, each written to a file of its own."""
    start, read, told = 0, 0, 0

    def watch(done: int) -> None:
        nonlocal read
        read = done

    pieces = chunks(replace(file, watch=watch))
    rest = b""
    while True:
        stop, at = (start // most + 1) * most, start
        path = lines_at.with_name(f"{lines_at.name}-{start}")
        with path.open("wb") as lines:
            while piece := rest or next(pieces, b""):
                rest = b""
                if at + len(piece) >= stop:
                    end = piece.find(b"\n", max(stop - 1 - at, 0)) + 1
                    if end:
                        piece, rest = piece[:end], piece[end:]
                        lines.write(piece)
                        at += end
                        break
                lines.write(piece)
                at += len(piece)
        if at > start:
            before = None if start else Before()
            yield Part(start, at, format_ if start else "", before, path), read - told
            told = read
        else:
            path.unlink()
        if not piece:
            return
        start = at
