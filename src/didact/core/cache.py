"""The cache as its user sees it: its folders by kind, pruned and cleared by nobody else."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from didact.core.atomic import remove
from didact.core.claims import is_claimed
from didact.core.cost import Cost, total
from didact.core.entries import ENTRY, open_entry, void
from didact.core.errors import ConfigError, DamagedError, DidactError
from didact.core.keep import CLAIM, UNFINISHED
from didact.core.locks import folder_to_oneself, is_locked
from didact.core.paths import Place, RemotePath, each, place
from didact.core.shared_entries import standing

_UNITS: Final = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_KEY: Final = r"[0-9a-f]{32}"
_CUT_OFF: Final = rf"\.(?:{_KEY}\.)?{_KEY}\.tmp"  # what an interrupted writer left
# What didact names so itself, by folder; whatever else lies there is somebody's own.
_OURS: Final = {
    UNFINISHED: re.compile(rf"[a-z-]+-{_KEY}"),
    "tmp": re.compile(rf"{_KEY}|{_CUT_OFF}"),
    "keys": re.compile(rf"{_KEY}\.json"),  # of earlier versions
}
_ENTRY: Final = re.compile(rf"{_KEY}|{_CUT_OFF}")


def default_cache_dir() -> Place:
    """`$DIDACT_CACHE`, a folder or a URL, or the user's cache folder."""
    given = os.environ.get("DIDACT_CACHE")
    if given:
        return place(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "didact"


@dataclass(frozen=True, slots=True)
class CachedFolder:
    """A folder of the cache, with what a listing tells of it.

    Attributes:
        path: Its folder.
        kind: What it holds.
        n_bytes: Its files' size.
        used: When it was last used, seconds since 1970.
        cost: What making it alone took.
    """

    path: Place
    kind: str
    n_bytes: int
    used: float
    cost: Cost


def cached_folders(cache_dir: Place) -> Iterator[CachedFolder]:
    """Every folder of the cache: entries, values under way, what earlier versions left.

    What does not look like one of them is nobody's business here and stays.
    """
    if isinstance(cache_dir, RemotePath):
        yield from _folders_behind(cache_dir)
        return
    for home in sorted(cache_dir.iterdir()) if cache_dir.is_dir() else ():
        if home.is_symlink() or not home.is_dir():
            continue
        ours = _OURS.get(home.name, _ENTRY)
        for folder in sorted(home.iterdir()):
            if not folder.is_symlink() and ours.fullmatch(folder.name):
                with suppress(FileNotFoundError):  # somebody else is faster
                    yield _described(folder, home.name)


def _folders_behind(cache: RemotePath) -> Iterator[CachedFolder]:
    """Those behind a URL, by one listing, and a look at each entry for what it cost."""
    files: dict[RemotePath, list[RemotePath]] = {}
    for file in cache.glob("*/*/**") if cache.is_dir() else ():
        kind, name, *_ = file.relative_to(cache).parts
        if file.is_file() and _OURS.get(kind, _ENTRY).fullmatch(name):
            files.setdefault(cache / kind / name, []).append(file)
    costs = each(_cost_of, list(files))
    for (folder, inside), cost in zip(files.items(), costs, strict=True):
        stats = {file.relative_to(folder).as_posix(): file.listed_stat() for file in inside}
        used = stats.get(ENTRY) or max(stats.values(), key=lambda found: found.st_mtime_ns)
        size = sum(found.st_size for found in stats.values())
        yield CachedFolder(folder, folder.parent.name, size, used.st_mtime, cost)


def _cost_of(folder: Place) -> Cost:
    with suppress(FileNotFoundError, DamagedError):
        return open_entry(folder).bill.own
    return Cost()


def _described(folder: Path, kind: str) -> CachedFolder:
    files = [p for p in folder.rglob("*") if p.is_file()] if folder.is_dir() else [folder]
    sizes = [(p.stat().st_size, p.stat().st_mtime) for p in files]
    used = max((at for _, at in sizes), default=folder.stat().st_mtime)
    cost = Cost()
    with suppress(FileNotFoundError, NotADirectoryError, DamagedError):
        entry = open_entry(folder)
        cost, used = entry.bill.own, (folder / ENTRY).stat().st_mtime
    return CachedFolder(folder, kind, sum(size for size, _ in sizes), used, cost)


def listed(cache_dir: Place) -> dict[str, Any]:
    """Kinds with their number of entries, bytes, cost and last use, as JSON values."""
    found: dict[str, list[CachedFolder]] = {}
    for one in cached_folders(cache_dir):
        found.setdefault(one.kind, []).append(one)
    kinds = []
    for kind, entries in found.items():
        cost = total(e.cost for e in entries)
        last = datetime.fromtimestamp(max(e.used for e in entries), UTC)
        kinds.append(
            {
                "kind": kind, "entries": len(entries), "bytes": sum(e.n_bytes for e in entries),
                "cpu_seconds": cost.cpu_seconds, "flops": cost.flops,
                "device_seconds": cost.device_seconds, "last_used": f"{last:%Y-%m-%d %H:%M}",
            }
        )  # fmt: skip
    return {
        "cache": str(cache_dir), "kinds": kinds, "entries": sum(k["entries"] for k in kinds),
        "bytes": sum(k["bytes"] for k in kinds),
    }  # fmt: skip


def seconds(age: str) -> float:
    """Seconds of an age such as 30d, 12h, 90m.

    Raises:
        ConfigError: It is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([dhms])", age.strip())
    if found is None:
        raise ConfigError(f"--older {age!r}: expected a number and a unit: 30d, 12h, 90m or 45s")
    return float(found[1]) * _UNITS[found[2]]


def prune(cache_dir: Place, older: float, *, dry_run: bool = False) -> dict[str, Any]:
    """Remove what was not used for `older` seconds; how many folders and bytes that is.

    Values that some process is making stay.
    """
    now = time.time()
    doomed = (one for one in cached_folders(cache_dir) if now - one.used > older)
    return _removed(cache_dir, doomed, dry_run=dry_run)


def clear(cache_dir: Place, *, dry_run: bool = False) -> dict[str, Any]:
    """Remove everything that didact keeps; other files in the folder stay."""
    if isinstance(cache_dir, RemotePath) and not dry_run:
        remove(standing(cache_dir))
    return _removed(cache_dir, cached_folders(cache_dir), dry_run=dry_run)


def _removed(cache_dir: Place, doomed: Iterator[CachedFolder], *, dry_run: bool) -> dict[str, Any]:
    out = {"removed": 0, "bytes": 0, "in_use": 0, "could_not_be_removed": 0}
    for one in list(doomed):
        if one.kind == UNFINISHED and _in_use(one.path):
            out["in_use"] += 1
            continue
        if not dry_run:
            with suppress(OSError, DidactError), _alone(one):
                void(one.path)
                remove(one.path)  # what is no folder, or could not be moved
        if dry_run or not one.path.exists():
            out["removed"] += 1
            out["bytes"] += one.n_bytes
        else:
            out["could_not_be_removed"] += 1
    return {"cache": str(cache_dir), "dry_run": dry_run, **out}


def _in_use(folder: Place) -> bool:
    return is_locked(folder) if isinstance(folder, Path) else is_claimed(folder / CLAIM)


def _alone(one: CachedFolder) -> AbstractContextManager[None]:
    """Nobody makes the value meanwhile; an OSError where somebody began to, or nothing can go."""

    def taken() -> None:
        raise BlockingIOError

    if one.kind != UNFINISHED or isinstance(one.path, RemotePath) or not one.path.is_dir():
        return nullcontext()
    return folder_to_oneself(one.path, taken)
