"""A folder of exports knows its own files: a new one takes the earlier one's away, and no other.

Trainers read what a folder holds. Shards that an earlier export left there would be read as part of
the new one, and what somebody else put there is nobody's to remove.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from didact.core.atomic import lies_inside, remove, write_text
from didact.core.checksums import read_signed, signed
from didact.core.errors import DamagedError, DataError
from didact.core.locks import alone_in
from didact.core.paths import Place, inside, listed

LIST: Final = ".didact-export.json"
Listed = Mapping[str, tuple[str, int]]  # path in the folder → the export's name, bytes
_REMEDY: Final = "choose another folder with -o, or move it away"


@contextmanager
def owned(folder: Place, name: str, *beside: str) -> Iterator[Callable[[Sequence[Place]], None]]:
    """Hold a folder for one export; gives what is to be told of the files it wrote.

    Told of them, it removes those of the export of the same name before that are not among them;
    exports of other names stay. Whatever has the
    name of data when an export is interrupted counts as its own, so that the next one goes on.

    Args:
        folder: The folder; made if need be.
        name: What names of data begin with, before the number of a shard.
        beside: What other names of its data begin with.

    Raises:
        ConfigError: Another command writes there.
        DataError: A file that is not an export's, or was changed since, has the name of data.
    """
    stems = (name, *beside)
    with alone_in(folder):
        before, begun = _listed(folder)
        for path in listed(folder, "*"):
            if _is_data(path.name, stems) and not _is_data(path.name, begun):
                _refuse_strange(path, before)
        _list(folder, before, stems)

        def written(files: Sequence[Place]) -> None:
            now = {inside(p, folder).as_posix(): (name, p.stat().st_size) for p in files}
            others = {p: told for p, told in before.items() if told[0] != name}
            mine: dict[str, int | None] = {
                p: size for p, (of, size) in before.items() if of == name
            }
            mine |= {
                p.name: None
                for p in listed(folder, "*")
                if _is_data(p.name, begun) and p.name not in others
            }
            for old, size in mine.items():
                if old not in now and _is_unchanged(folder / old, size):
                    place = folder / old
                    remove(place)
                    if isinstance(place, Path) and place.parent != folder:
                        with suppress(OSError):  # a folder with files of others stays
                            place.parent.rmdir()
            _list(folder, {**others, **now}, ())

        try:
            yield written
        except BaseException:
            if not any(_is_data(path.name, stems) for path in listed(folder, "*")):
                _list(folder, before, ())  # nothing was written
            raise


def _is_data(name: str, stems: Sequence[str]) -> bool:
    return any(
        re.fullmatch(rf"{re.escape(stem)}(-\d+-of-\d+)?\.(jsonl|jsonl\.zst|parquet)", name)
        for stem in stems
    )


def _is_unchanged(path: Place, size: int | None) -> bool:
    return path.is_file() and (size is None or path.stat().st_size == size)


def _refuse_strange(path: Place, before: Listed) -> None:
    if path.name not in before:
        raise DataError(
            f"{path}: is no file of an earlier export here, and would be replaced or read with "
            f"the new ones; {_REMEDY}"
        )
    if not _is_unchanged(path, before[path.name][1]):
        raise DataError(f"{path}: was changed since it was exported, and would be lost; {_REMEDY}")


def _listed(folder: Place) -> tuple[dict[str, tuple[str, int]], list[str]]:
    """Files of the exports before, and what data of one that was interrupted begins with."""
    try:
        told = read_signed(folder / LIST)
        files = {name: (str(of), int(size)) for name, (of, size) in told["files"].items()}
        begun: list[str] = told["begun"]
    except FileNotFoundError:
        return {}, []
    except (DamagedError, LookupError, ValueError, TypeError) as error:
        raise DataError(
            f"{folder / LIST}: was changed or damaged, and says which files an earlier export "
            "wrote; remove it with them, or choose another folder with -o"
        ) from error
    return {name: told for name, told in files.items() if lies_inside(folder, name)}, begun


def _list(folder: Place, files: Listed, begun: Sequence[str]) -> None:
    if not files and not begun:
        remove(folder / LIST)
        return
    write_text(folder / LIST, signed({"files": dict(files), "begun": list(begun)}))
