"""Entries of a cache behind a URL: made and loaded on this machine, and shared from there.

```text
URL/<kind>/<key>/entry.json      put last, and only where there is none: whoever is first has it
URL/<kind>/<key>/<maker>/…       the files, of each maker in a folder of its own
```
So files of two makers never mix, and an entry is there whole or not at all. Beside pools, which are
read where they lie, an entry that is used is copied into the scratch once, block by block verified.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Final

from didact.core.atomic import remove
from didact.core.checksums import read_signed, signed
from didact.core.copied_paths import copied
from didact.core.entries import ENTRY, Entry, intact_entry, open_entry, void, writing
from didact.core.errors import DamagedError
from didact.core.manifest import fingerprint
from didact.core.paths import Place, RemotePath, each, inside
from didact.core.scratch import scratch

_UNUSED_SECONDS: Final = 24 * 3600
_CHUNK: Final = 2**23
_AT_A_TIME: Final = 8


def standing(cache: Place) -> Path:
    """Where entries of a cache stand on this machine: in it, or in the scratch."""
    if isinstance(cache, Path):
        return cache
    return copied(scratch("cache") / fingerprint(str(cache)), _copied_here, cache)


def _copied_here(cache: RemotePath, inside: PurePosixPath) -> Path:
    """What lies in a cache, on the machine where this is called; an entry is fetched with it."""
    root = standing(cache)
    if len(inside.parts) > 1:
        entry = PurePosixPath(*inside.parts[:2])
        if not (root / entry / ENTRY).is_file():
            fetched(cache / entry, root / entry, lambda _: None)
    return root / inside


def fetched(shared: RemotePath, folder: Path, tell: Callable[[str], None]) -> Entry | None:
    """A copy of a shared entry, made in a folder of this machine; None where there is none.

    A damaged one is removed, there too.
    """
    try:
        entry = open_entry(shared)
        sweep_unused(folder.parent)
        with writing(folder) as temporary:
            files = shared / entry.at
            each(
                lambda place: _fetch(entry, inside(place, files).as_posix(), temporary),
                [files / name for name in entry.files],
            )
            values = read_signed(shared / ENTRY)
            values.pop("at", None)
            (temporary / ENTRY).write_text(signed(values), encoding="utf-8")
    except FileNotFoundError:
        return None
    except DamagedError as error:
        tell(f"{error.path}: is damaged ({error.what}); what it held is made again")
        void(shared)
        return None
    return intact_entry(folder, tell, whole=False)


def _fetch(entry: Entry, name: str, folder: Path) -> None:
    source, size = entry.file(name), entry.files[name].n_bytes
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("wb") as file:
        for at in range(0, size, _CHUNK):
            file.write(source.read(at, min(at + _CHUNK, size)))


def share(
    folder: Path, shared: RemotePath, elsewhere: Mapping[str, RemotePath] | None = None
) -> None:
    """Put a sealed folder behind a URL, its entry last; one that is there already stays.

    Args:
        folder: The folder, whose files are there and whose entry names them.
        shared: Where it goes.
        elsewhere: Files of it that lie behind the same URL and not in the folder, and where.
    """
    if (shared / ENTRY).is_file():
        return
    values = read_signed(folder / ENTRY)
    maker = uuid.uuid4().hex

    def put(name: str) -> None:
        target, there = shared / maker / name, (elsewhere or {}).get(name)
        target.send(folder / name) if there is None else there.copy_to(target)

    try:
        with ThreadPoolExecutor(_AT_A_TIME) as workers:
            list(workers.map(put, values["files"]))
    except BaseException:  # Ctrl-C too: nobody would ever look for them
        with suppress(Exception):
            (shared / maker).remove()
        raise
    data = signed({**values, "at": maker}).encode()
    first = (shared / ENTRY).write_new(data)
    if first is None:
        (shared / ENTRY).write_bytes(data)
    elif not first and read_signed(shared / ENTRY).get("at") != maker:  # else the answer was lost
        (shared / maker).remove()


def sweep_unused(folder: Path) -> None:
    """Remove copies that were not used for a day."""
    for copy in folder.iterdir() if folder.is_dir() else ():
        with suppress(OSError):
            if time.time() - (copy / ENTRY).stat().st_mtime > _UNUSED_SECONDS:
                remove(copy)
