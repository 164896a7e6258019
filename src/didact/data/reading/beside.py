"""What stands beside the files that are read: files that are not, and splits that are mixed."""

from __future__ import annotations

import glob
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from didact.core.findings import Finding, counted
from didact.core.paths import Place, RemotePath
from didact.data.reading.discovery import Walked
from didact.data.reading.files import File
from didact.data.reading.splits import held_splits, split_of

# What people keep beside data to read themselves.
_DOCUMENTS: Final = re.compile(
    r"(readme|licen[cs]e|notice|citation|changelog)\b|.*\.(md|rst|pdf|lock)$"
)
_NAMED: Final = 3  # patterns that a remedy spells out


def beside(found: Walked) -> tuple[Finding, ...]:
    """What should be known of the files of a pool, from their names alone."""
    return (*_unread(found.passed_over), *_mixed(found.files))


def _unread(passed_over: Mapping[Place, str]) -> Iterator[Finding]:
    """Files of the given folders that are not read, but for documents."""
    unread = {p: name for p, name in passed_over.items() if not _DOCUMENTS.match(p.name.lower())}
    left = list(unread.values())
    endings = Counter(_shown(path.suffix.lower()) or "without ending" for path in unread)
    if left:
        kinds = ", ".join(f"{ending} {n:,}" for ending, n in endings.most_common(_NAMED))
        more = ", …" if len(endings) > _NAMED else ""
        is_not = "file of the folder is not read" if len(left) == 1 else "files are not read"
        yield Finding(
            kind="files_skipped",
            count=len(left),
            first=left[0],
            text=f"{len(left):,} {is_not} ({kinds}{more})",
            remedy="data.path with their own names reads those of a known kind",
        )


def _mixed(found: Sequence[File]) -> Iterator[Finding]:
    """Files of a split that is usually held out, among others."""
    splits = held_splits([file.name or file.path.name for file in found])
    held = [file for file, split in zip(found, splits, strict=True) if split]
    if not held:
        return
    kept = [file for file in found if file not in held]
    names = ", ".join(dict.fromkeys(filter(None, splits)))
    are, them = ("is", "it") if len(held) == 1 else ("are", "them")
    yield Finding(
        kind="splits_mixed",
        count=len(held),
        first=_shown(held[0].name),
        text=f"{counted(len(held), 'file')} of another split ({names}) {are} in the pool beside "
        f"{_others(kept)}",
        remedy=f"data.path: {_listed(kept)} with data.exclude: {_listed(held)} keeps {them}, and "
        f"rows that share text with {them}, out",
    )


def _others(kept: Sequence[File]) -> str:
    """What the files of other splits are beside."""
    if all(split_of(file.name) == "train" for file in kept):
        return "those of train"
    return counted(len(kept), "other file")


def _shown(name: str) -> str:
    """A file's name for a message, where its bytes may be no UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode()


def _listed(files: Sequence[File]) -> str:
    """Files as a setting lists them, with globs where they name these files and no others."""
    out: list[str] = []
    left = list(files)
    while left and len(out) < _NAMED:
        pattern, matched = _pattern(left)
        out.append(pattern)
        left = [file for file in left if file.path not in matched]
    return f"[{_shown(', '.join(out))}{', …' if left else ''}]"


def _pattern(files: Sequence[File]) -> tuple[str, set[Place]]:
    """A glob for the first of some files and as many others of them as it can name."""
    path = files[0].path
    if isinstance(path, RemotePath):
        return str(path), {path}
    among = {file.path for file in files}
    stem = re.split(r"\d", path.name, maxsplit=1)[0]
    ending = "".join(path.suffixes[-2:])
    pattern = f"{glob.escape(str(path.parent / stem))}*{ending}"
    matched: set[Place] = {Path(match) for match in glob.glob(pattern)}  # noqa: PTH207 - Path.glob refuses absolute patterns
    if len(matched) > 1 and matched <= among:
        return pattern, matched
    return str(path), {path}
