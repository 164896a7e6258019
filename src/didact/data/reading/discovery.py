"""Paths → files: folders and globs expanded, and of each file its container and compression."""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

from didact.core.errors import DataError
from didact.data.reading.containers import BY_SUFFIX, TABLES
from didact.data.reading.files import BOM, CHUNK, CODECS, Codec, File, chunks, legible, readable
from didact.data.reading.patterns import matches
from didact.data.reading.saved import is_own_table, is_result, saved_data_sets

# descriptions that data sets carry beside their rows
NOT_DATA: Final = {"dataset_info.json", "dataset_infos.json", "state.json", "dataset_dict.json"}
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")


class Walked(NamedTuple):
    """Files behind paths.

    Attributes:
        files: Those that are read, in the order given; inside a folder, sorted by name.
        passed_over: Those of the folders that are not, and how each is called from its folder.
    """

    files: list[File]
    passed_over: dict[Path, str]


def expand(paths: Iterable[str | Path], ignored: Path | None = None) -> list[File]:
    """The files of `walked`."""
    return walked(paths, ignored).files


def walked(paths: Iterable[str | Path], ignored: Path | None = None) -> Walked:
    """Files behind paths, folders and globs, and what their folders hold beside them.

    Args:
        paths: Files, folders, globs.
        ignored: A folder that is no data where it lies inside one of them: the cache.

    Raises:
        DataError: Nothing is there, a file is given twice, or is not of a known kind.
    """
    found: list[Path] = []
    passed_over: dict[Path, str] = {}
    for given in paths:
        if "\0" in str(given):
            raise DataError(f"{str(given)!r:.80} has a NUL character, which no path has; check it")
        path = Path(given).expanduser()
        with readable(path):
            there, is_folder = path.exists(), path.is_dir()
        if is_folder:
            read, left = _inside(path, ignored)
            found += read
            passed_over |= {each: legible(each.relative_to(path)) for each in left}
        elif there or not glob.has_magic(str(path)):
            found.append(path)
        else:
            matching = matches(str(path))
            if not matching:
                raise DataError(f"{given}: no file matches this pattern; check it, or the folder")
            found += matching
    if not found:
        raise DataError("no file was given; expected at least one file, folder or glob")
    places: dict[str, Path] = {}
    for path in found:
        place = os.path.realpath(path)  # of a link that leads in a circle, too
        if place in places:
            raise DataError(
                f"{path} is given twice (also as {places[place]}); expected each file once: "
                "to read rows more often, set order.epochs"
            )
        places[place] = path
    shared = os.path.commonpath([path.absolute().parent for path in found])
    files = [
        replace(describe(path), name=legible(Path(os.path.relpath(path.absolute(), shared))))
        for path in found
    ]
    for path in found:  # it may be given beside its folder
        passed_over.pop(path, None)
    return Walked(files, passed_over)


def _inside(folder: Path, ignored: Path | None) -> tuple[list[Path], list[Path]]:
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
    kinds: dict[Path, str] = {}
    no_data = None if ignored is None else ignored.absolute()
    if no_data is not None and folder.absolute() not in no_data.parents:
        no_data = None
    everything = sorted(folder.rglob("*"))
    runs, saved = _run_folders(everything), saved_data_sets(everything)
    for path in everything:
        inside = path.relative_to(folder)
        if (
            any(name.startswith((".", "_")) for name in inside.parts)
            or path.name in NOT_DATA
            or runs.intersection(path.parents)  # what a run made of the data beside it
            or no_data in path.absolute().parents
            or not path.is_file()
        ):
            continue
        listed = saved.get(path.parent)
        if is_own_table(path):
            continue
        left_over = is_result(inside) or (listed is not None and path.name not in listed)
        kinds[path] = "" if left_over else _by_suffix(path) or ""
    # README.md and LICENSE.txt lie beside most data sets
    read = [path for path, known in kinds.items() if known not in {"", "text"}]
    read = read or [path for path, known in kinds.items() if known]
    if not read:
        raise DataError(f"{folder}: no data in this folder; expected {', '.join(BY_SUFFIX)}")
    return read, sorted(kinds.keys() - set(read))


def _run_folders(paths: Iterable[Path]) -> set[Path]:
    """Folders of runs among the paths of a folder."""
    manifests = (path for path in paths if path.name == "manifest.json")
    return {path.parent for path in manifests if (path.parent / "stages").is_dir()}


def _suffixes(path: Path) -> tuple[str, str]:
    """The last suffix that is no codec, and the codec's suffix behind it, in lower case."""
    suffixes = [s.lower() for s in path.suffixes]
    codec = suffixes.pop() if suffixes and suffixes[-1] in CODECS else ""
    return (suffixes[-1] if suffixes else ""), codec


def _by_suffix(path: Path) -> str | None:
    return BY_SUFFIX.get(_suffixes(path)[0])


_SHARD: Final = re.compile(r"(?<=.)-\d{5}-of-\d{5}$")
_RENAME: Final = "rename it, or convert it to JSONL"


def describe(path: Path, unknown: str = _RENAME) -> File:
    """Container and compression of one file, by its first bytes and its name.

    Args:
        path: The file.
        unknown: What to do where it is of no known kind.

    Raises:
        DataError: It cannot be read, or is of no known kind.
    """
    with readable(path):
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(
                f"{path}: is a pipe or device; expected a file, which can be read twice: save the "
                "rows in one, or pipe them in and give - as the path"
            )
        with path.open("rb") as file:
            head = file.read(8)
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
    return File(path, _text_container(path, known, codec, unknown), codec)


def _text_container(path: Path, known: str | None, codec: Codec, unknown: str) -> str:
    """What text holds, by its first character: .json files often hold one object a line."""
    start = b""
    for piece in chunks(File(path, "text", codec)):
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


def default_source(path: Path) -> str:
    """The file's name without its suffixes, and of a shard without its number."""
    name = legible(Path(path.name))
    for suffix in reversed(path.suffixes):
        if suffix.lower() not in BY_SUFFIX and suffix.lower() not in CODECS:
            break
        name = name[: -len(suffix)]
    return _SHARD.sub("", name) or legible(Path(path.name))
