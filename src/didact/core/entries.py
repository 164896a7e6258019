"""Entries of the cache: folders written whole, with what making them cost and checksums.

What is read from one is what was written, byte for byte, or the entry is void.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from didact.core.atomic import remove, sync, sync_tree
from didact.core.checksums import CheckedFile, Checksums, read_signed, signed
from didact.core.cost import Bill, Cost
from didact.core.errors import DamagedError, DidactError
from didact.core.paths import Place, RemotePath
from didact.core.remote_files import checked

ENTRY: Final = "entry.json"
_LEFT: Final = ".tmp"  # ending of folders that are being written, or removed
_ABANDONED_SECONDS: Final = 24 * 3600


@dataclass(frozen=True, slots=True)
class Entry:
    """A folder that was written whole.

    Attributes:
        path: The folder.
        bill: What making it cost; nothing of it is charged any more.
        files: Name → checksums.
        cumulative: Of a piece: whether `bill.own` is of all the work up to it, or of it alone.
        at: The folder inside that its files are in; behind a URL one of whoever wrote them.
    """

    path: Place
    bill: Bill
    files: Mapping[str, Checksums]
    cumulative: bool = False
    at: str = ""

    @property
    def n_bytes(self) -> int:
        """Size of its files together."""
        return sum(f.n_bytes for f in self.files.values())

    def file(self, name: str) -> CheckedFile:
        """One of its files, read where its checksums hold.

        Raises:
            DamagedError: There is no such file.
        """
        if name not in self.files:
            with suppress(OSError, DidactError):
                (self.path / ENTRY).unlink()  # so that it is made again
            raise DamagedError(self.path / name, "it is not among the files that were written")
        return checked(self.path / self.at / name, self.files[name], self.path / ENTRY)

    def verify(self, *, whole: bool = True) -> None:
        """Raise DamagedError unless every file is what was written, or (not `whole`) as long."""
        if isinstance(self.path, RemotePath) and not whole:
            self._compare_sizes(self.path / self.at)
            return
        for name in self.files:
            self.file(name).verify(*(() if whole else (0, 0)))

    def _compare_sizes(self, folder: RemotePath) -> None:
        """`verify` by one listing."""
        there = {str(f.relative_to(folder)): f.listed_stat().st_size for f in folder.glob("**/*")}
        for name, expected in self.files.items():
            if there.get(name) != expected.n_bytes:
                found = f"{there[name]} bytes" if name in there else "nothing"
                (self.path / ENTRY).unlink(missing_ok=True)
                raise DamagedError(
                    self.path / name, f"{found} where {expected.n_bytes} bytes were written"
                )


def open_entry(folder: Place) -> Entry:
    """The entry in a folder; its files are not verified yet.

    Raises:
        FileNotFoundError: There is none.
        DamagedError: It is not what was written.
    """
    values = read_signed(folder / ENTRY)
    try:
        files = {_named(name): Checksums.from_json(v) for name, v in values["files"].items()}
        uses = {str(name): Cost.from_json(cost) for name, cost in values["uses"].items()}
        bill = Bill(own=Cost.from_json(values["own"]), uses=uses)
        name, at = values["name"], str(values.get("at", ""))
        entry = Entry(folder, bill, files, bool(values["cumulative"]), at and _named(at))
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise DamagedError(folder / ENTRY, f"{type(error).__name__}: {error}") from error
    if name != _name_of(folder):
        raise DamagedError(folder / ENTRY, f"it is that of {name!r}")
    return entry


def _named(name: str) -> str:
    """A file's name, which is inside of its folder."""
    name.encode()
    if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
        raise ValueError(f"{name!r} is outside of the folder")
    return name


def _name_of(folder: Place) -> str:
    return f"{folder.parent.name}/{folder.name}"


def intact_entry(folder: Place, tell: Callable[[str], None], *, whole: bool = True) -> Entry | None:
    """The entry in a folder, if it is there and what was written; a damaged one is removed.

    Args:
        folder: The folder.
        tell: Told of damage, in a sentence.
        whole: Verify all of its files, and not only that they are there and as long.
    """
    try:
        entry = open_entry(folder)
        entry.verify(whole=whole)
    except FileNotFoundError:
        if isinstance(folder, Path) and folder.is_dir():
            tell(f"{folder}: {ENTRY} is gone; what it held is made again")
            void(folder)
        return None
    except DamagedError as error:
        tell(f"{error.path}: is damaged ({error.what}); what it held is made again")
        void(folder)
        return None
    _mark_used(folder / ENTRY)
    return entry


def _mark_used(file: Place) -> None:
    """Tell `prune` when an entry was last used; behind a URL, where it is written again, by day."""
    if isinstance(file, Path):
        with suppress(OSError):
            os.utime(file)
        return
    with suppress(DidactError):
        if time.time() - file.stat().st_mtime > _ABANDONED_SECONDS:
            file.write_bytes(file.read_bytes())


def void(folder: Place) -> None:
    """Take an entry away; what is left of it is not found any more."""
    if isinstance(folder, RemotePath):
        (folder / ENTRY).unlink(missing_ok=True)
        folder.remove()
        return
    aside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}{_LEFT}")
    with suppress(OSError):
        folder.rename(aside)
        remove(aside)


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """A temporary folder in `parent`, gone when the block ends unless it was moved."""
    sweep_abandoned(parent)
    folder = parent / f".{uuid.uuid4().hex}{_LEFT}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        remove(folder)


@contextmanager
def writing(folder: Path) -> Iterator[Path]:
    """A temporary folder, which becomes `folder` when the block ends without an error."""
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}{_LEFT}")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        put_in_place(temporary, folder)
    finally:
        remove(temporary)


def seal(
    folder: Path,
    bill: Bill,
    *,
    where: Place | None = None,
    cumulative: bool = False,
    known: Mapping[str, Checksums] | None = None,
) -> None:
    """Write the entry of a folder whose files are there, and wait until all is on the disk.

    Args:
        folder: The folder.
        bill: What making it cost.
        where: The name it will get; it has it already when not given.
        cumulative: See `Entry`.
        known: Checksums of files that need not be read for them, or lie elsewhere: whoever wrote
            them made these.
    """
    files = {name: sums.to_json() for name, sums in (known or {}).items()}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != ENTRY and name not in files:
            files[name] = Checksums.of(path).to_json()
    values = {
        "name": _name_of(where or folder),
        "files": files,
        "own": asdict(bill.own),
        "uses": {name: asdict(cost) for name, cost in sorted(bill.uses.items())},
        "cumulative": cumulative,
    }
    (folder / ENTRY).write_text(signed(values), encoding="utf-8")
    sync_tree(folder)


def put_in_place(temporary: Path, folder: Path) -> None:
    """Give a sealed folder its name, unless another process was first."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(3):
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.exists() and not folder.is_symlink():
                raise
            with suppress(FileNotFoundError, DamagedError):
                open_entry(folder).verify()
                return
            void(folder)
        else:
            sync(folder.parent)
            return
    raise DamagedError(folder, "it cannot be replaced")


def sweep_abandoned(place: Place) -> None:
    """Remove temporary folders that killed processes left, once they are a day old."""
    if isinstance(place, RemotePath):
        _sweep_behind(place)
        return
    for left in place.glob(f".*{_LEFT}"):
        with suppress(OSError):
            newest = max(p.stat().st_mtime for p in [left, *left.rglob("*")])
            if time.time() - newest > _ABANDONED_SECONDS:
                remove(left)


def _sweep_behind(place: RemotePath) -> None:
    """The same behind a URL, by one listing; where a store tells no times nothing is removed."""
    newest: dict[str, float] = {}
    with suppress(DidactError):  # who comes next will
        for file in place.glob(f".*{_LEFT}/**"):
            name = file.relative_to(place).parts[0]
            newest[name] = max(newest.get(name, 0.0), file.listed_stat().st_mtime)
        for name, used in newest.items():
            if used and time.time() - used > _ABANDONED_SECONDS:
                (place / name).remove()
