"""Paths → files: folders and globs expanded, and of each file its container and compression."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import takewhile
from operator import attrgetter
from pathlib import Path
from typing import Final, NamedTuple

from didact.core.errors import DataError
from didact.core.paths import Given, Place, RemotePath, each, inside, listed, masked, place, shown
from didact.data.reading.containers import BY_SUFFIX, TABLES
from didact.data.reading.files import BOM, CHUNK, CODECS, Codec, File, chunks, legible, readable
from didact.data.reading.patterns import is_pattern, matches
from didact.data.reading.saved import is_own_table, is_result, saved_data_sets

# descriptions that data sets carry beside their rows
NOT_DATA: Final = {"dataset_info.json", "dataset_infos.json", "state.json", "dataset_dict.json"}
_BEGIN: Final = 2**16  # bytes that are read of a file to see what it is
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")


class Walked(NamedTuple):
    """Files behind paths.

    Attributes:
        files: Those that are read, in the order given; inside a folder, sorted by name.
        passed_over: Those of the folders that are not, and how each is called from its folder.
    """

    files: list[File]
    passed_over: dict[Place, str]


def expand(paths: Iterable[Given], ignored: Place | None = None) -> list[File]:
    """The files of `walked`."""
    return walked(paths, ignored).files


def walked(paths: Iterable[Given], ignored: Place | None = None) -> Walked:
    """Files behind paths, folders and globs, and what their folders hold beside them.

    Args:
        paths: Files, folders, globs, on this machine or behind URLs.
        ignored: A folder that is no data where it lies inside one of them: the cache.

    Raises:
        DataError: Nothing is there, a file is given twice, or is not of a known kind.
    """
    found: list[Place] = []
    passed_over: dict[Place, str] = {}
    for given in paths:
        if "\0" in str(given):
            raise DataError(f"{str(given)!r:.80} has a NUL character, which no path has; check it")
        path = place(given)
        with readable(path):
            is_folder = path.is_dir()
            there = is_folder or not is_pattern(path) or path.exists()
        if is_folder:
            read, left = _inside(path, ignored)
            found += read
            passed_over |= {one: legible(inside(one, path)) for one in left}
        elif there:
            found.append(path)
        else:
            matching = matches(path)
            if not matching:
                raise DataError(
                    f"{shown(given)}: no file matches this pattern; check it, or the folder"
                )
            found += matching
    if not found:
        raise DataError("no file was given; expected at least one file, folder or glob")
    places: dict[str, Place] = {}
    for path in found:
        where = _real(path)
        if where in places:
            raise DataError(
                f"{path} is given twice (also as {places[where]}); expected each file once: "
                "to read rows more often, set order.epochs"
            )
        places[where] = path
    files = [
        replace(file, name=name)
        for file, name in zip(each(describe, found), _names(found), strict=True)
    ]
    for path in found:  # it may be given beside its folder
        passed_over.pop(path, None)
    return Walked(files, passed_over)


def _real(path: Place) -> str:
    """What is the same for two paths that lead to one file."""
    # of a link that leads in a circle, too
    return path.url if isinstance(path, RemotePath) else os.path.realpath(path)


def _names(found: Sequence[Place]) -> list[str]:
    """What each file is called from the folder that all of them share."""
    local = [path.absolute() for path in found if isinstance(path, Path)]
    if len(local) == len(found):
        shared = os.path.commonpath([path.parent for path in local])
        return [legible(Path(os.path.relpath(path, shared))) for path in local]
    parts = [path.absolute().parts for path in found]
    folders = zip(*(one[:-1] for one in parts), strict=False)
    same = len(list(takewhile(lambda names: len(set(names)) == 1, folders)))
    return [masked("/".join(one[same:])) for one in parts]


def _inside(folder: Place, ignored: Place | None) -> tuple[list[Place], list[Place]]:
    """The data files of a folder and those that are passed over, each sorted.

    Among neither are hidden files, descriptions of data, what a run made, and the cache. Text
    beside tables is passed over.
    """
    if (folder / "dataset_dict.json").is_file():
        splits = sorted(p.name for p in folder.iterdir() if p.is_dir())
        raise DataError(
            f"{folder}: holds the splits {', '.join(splits)}; expected one: pass e.g. "
            f"{folder / ('train' if 'train' in splits else splits[0] if splits else 'train')}"
        )
    kinds: dict[Place, str] = {}
    no_data = None if ignored is None else ignored.absolute()
    if no_data is not None and folder.absolute() not in no_data.parents:
        no_data = None
    everything = listed(folder, "**/*")
    runs, saved = _run_folders(everything), saved_data_sets(everything)
    files: list[Place] = []
    for path in everything:
        if (
            any(name.startswith((".", "_")) for name in inside(path, folder).parts)
            or path.name in NOT_DATA
            or runs.intersection(path.parents)  # what a run made of the data beside it
            or no_data in path.absolute().parents
            or not path.is_file()
        ):
            continue
        files.append(path)
    for path, own in zip(files, each(is_own_table, files), strict=True):
        own_files = saved.get(path.parent)
        if own:
            continue
        unlisted = own_files is not None and path.name not in own_files
        left_over = is_result(inside(path, folder)) or unlisted
        kinds[path] = "" if left_over else _by_suffix(path) or ""
    # README.md and LICENSE.txt lie beside most data sets
    read = [path for path, known in kinds.items() if known not in {"", "text"}]
    read = read or [path for path, known in kinds.items() if known]
    if not read:
        raise DataError(f"{folder}: no data in this folder; expected {', '.join(BY_SUFFIX)}")
    return read, sorted(kinds.keys() - set(read), key=attrgetter("parts"))


def _run_folders(paths: Iterable[Place]) -> set[Place]:
    """Folders of runs among the paths of a folder."""
    manifests = (path for path in paths if path.name == "manifest.json")
    return {path.parent for path in manifests if (path.parent / "stages").is_dir()}


def _suffixes(path: Place) -> tuple[str, str]:
    """The last suffix that is no codec, and the codec's suffix behind it, in lower case."""
    suffixes = [s.lower() for s in path.suffixes]
    codec = suffixes.pop() if suffixes and suffixes[-1] in CODECS else ""
    return (suffixes[-1] if suffixes else ""), codec


def _by_suffix(path: Place) -> str | None:
    return BY_SUFFIX.get(_suffixes(path)[0])


_SHARD: Final = re.compile(r"(?<=.)-\d{5}-of-\d{5}$")
_RENAME: Final = "rename it, or convert it to JSONL"


def describe(path: Place, unknown: str = _RENAME) -> File:
    """Container and compression of one file, by its first bytes and its name.

    Args:
        path: The file.
        unknown: What to do where it is of no known kind.

    Raises:
        DataError: It cannot be read, or is of no known kind.
    """
    with readable(path):
        if isinstance(path, Path) and not stat.S_ISREG(path.stat().st_mode):
            raise DataError(
                f"{path}: is a pipe or device; expected a file, which can be read twice: save the "
                "rows in one, or pipe them in and give - as the path"
            )
        with path.open("rb") as file:
            begin = file.read(_BEGIN)
    head = begin[:8]
    for name, table in TABLES.items():
        if head.startswith(table.beginnings):
            return File(path, name, "")
    codec: Codec = ""
    if head.startswith(b"\x1f\x8b"):
        codec = "gz"
    elif head.startswith(b"\x28\xb5\x2f\xfd"):
        codec = "zst"
    inner, outer = _suffixes(path)
    if not codec and outer:
        raise DataError(
            f"{path}: is named {outer} but starts with {head!r}; expected compressed data: "
            "it may be empty, corrupt or misnamed"
        )
    known = BY_SUFFIX.get(inner)
    if known in TABLES:
        raise DataError(
            f"{path}: is named {inner} but starts with {head!r}; expected a {known} file: "
            "it may be truncated, corrupt or misnamed"
        )
    return File(path, _text_container(path, known, codec, unknown, begin), codec)


def _text_container(
    path: Place, known: str | None, codec: Codec, unknown: str, begin: bytes
) -> str:
    """What text holds, by its first character: .json files often hold one object a line."""
    start = b""
    whole = begin if len(begin) < _BEGIN else None
    enough = not codec and begin.removeprefix(BOM).strip()
    for piece in [begin] if enough else chunks(File(path, "text", codec, held=whole)):
        start = (start + piece)[:CHUNK]
        if start.removeprefix(BOM).strip() or len(start) == CHUNK:
            break
    if start.startswith(_UTF16):
        raise DataError(
            f"{path}: starts with {start[:2]!r}, the mark of UTF-16; expected UTF-8: convert it, "
            "e.g. iconv -f utf-16 -t utf-8"
        )
    first = start.removeprefix(BOM).lstrip()[:1]
    if known is not None and known not in {"json", "jsonl"}:
        return known
    if first in {b"[", b"{"}:
        return "json" if first == b"[" else "jsonl"
    if known is None:
        raise DataError(
            f"{path}: unknown kind of file, it starts with {start[:20]!r}; expected "
            f"{', '.join(BY_SUFFIX)}, plain or .gz/.zst: {unknown}"
        )
    return known


def default_source(path: Place) -> str:
    """The file's name without its suffixes, and of a shard without its number."""
    name = legible(Path(path.name))
    for suffix in reversed(path.suffixes):
        if suffix.lower() not in BY_SUFFIX and suffix.lower() not in CODECS:
            break
        name = name[: -len(suffix)]
    return _SHARD.sub("", name) or legible(Path(path.name))
