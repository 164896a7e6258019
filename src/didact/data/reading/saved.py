"""Folders that didact, `datasets` and `huggingface_hub` write: which files are the data."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePath
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from didact.core.bounded import read_bounded
from didact.core.errors import DataError
from didact.core.findings import Finding
from didact.core.nesting import parse_json
from didact.core.paths import Place, RemotePath
from didact.core.value_tables import KEY
from didact.data.reading.files import arrow_source, readable

_LINE: Final = 4096  # bytes of a file that has one line
# What `datasets` keeps of `map` and `filter` beside the data set they were made from.
_RESULT: Final = re.compile(r"cache-[0-9a-f]{8,}(_\d+_of_\d+)?\.arrow")


def saved_data_sets(paths: Iterable[Place]) -> dict[Place, set[str]]:
    """Folders of `save_to_disk` among the paths of a folder, each with the names of its files.

    Raises:
        DataError: One was saved with indices that say which of its rows count.
    """
    found = {}
    for state in (path for path in paths if path.name == "state.json"):
        described = _object(state)
        files = described.get("_data_files")
        if not isinstance(files, list):
            continue
        if described.get("_indices_files") or described.get("_indices_data_files"):
            raise DataError(
                f"{state.parent}: was saved with indices, which say which of its rows count; "
                "expected the rows alone: load it, flatten_indices() and save it again"
            )
        found[state.parent] = {
            str(f["filename"]) for f in files if isinstance(f, dict) and "filename" in f
        }
    return found


def is_result(path: PurePath) -> bool:
    """Whether a file, named from the folder that is read, is a kept result, or not finished."""
    unfinished = any(part.endswith(".incomplete") for part in path.parts)
    return unfinished or _RESULT.fullmatch(path.name) is not None


def is_own_table(path: Place) -> bool:
    """Whether a file is a table of didact's: scores, a selection, an order, clusters."""
    if path.suffix != ".parquet":
        return False
    try:
        with arrow_source(path) as source:
            return KEY in (pq.read_schema(source).metadata or {})
    except (OSError, pa.ArrowException):  # its reader says what is wrong with it
        return False


def snapshot_of(folder: Place) -> tuple[Place, tuple[Finding, ...]]:
    """The snapshot of a repository in the hub's cache; any other folder as it is.

    Raises:
        DataError: It has several snapshots, and does not say which is the main one.
    """
    if isinstance(folder, RemotePath):  # the hub's cache lies on a disk
        return folder, ()
    snapshots = folder / "snapshots"
    if not (snapshots.is_dir() and (folder / "refs").is_dir()):
        return folder, ()
    found = sorted(path for path in snapshots.iterdir() if path.is_dir())
    main = folder / "refs" / "main"
    revision = _line(main) if main.is_file() else ""
    named = snapshots / revision if revision else None
    if named not in found and len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise DataError(
            f"{folder}: is a repository of the hub's cache with the snapshots {names}; expected "
            "one: give the folder of the one you mean, or download it again"
        )
    chosen = named if named in found else found[0]
    if len(found) == 1:
        return chosen, ()
    others = len(found) - 1
    are = "snapshot of the repository is" if others == 1 else "snapshots of the repository are"
    text = f"{others:,} other {are} not read: the one that refs/main names is"
    return chosen, (Finding("snapshots", others, chosen.name, text, "data.path names another"),)


def _line(path: Place) -> str:
    """What a file holds that is one line; "" where it is longer than any."""
    try:
        with readable(path):
            data = read_bounded(path, longest=_LINE)
    except ValueError:
        return ""
    return data.decode("utf-8", "replace").strip()


def _object(path: Place) -> dict[str, Any]:
    """What a file holds as JSON; nothing where that is no object."""
    try:
        with readable(path):
            data = read_bounded(path)
        found = parse_json(data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
