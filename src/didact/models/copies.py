"""Models behind URLs, copied once into the cache: weights are read from local files."""

from __future__ import annotations

import logging
import shutil
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Final

from didact.core.cache import default_cache_dir
from didact.core.copied_paths import copied
from didact.core.cost import Bill
from didact.core.entries import intact_entry, put_in_place, seal, temporary_folder
from didact.core.errors import DataError
from didact.core.manifest import fingerprint
from didact.core.paths import Place, RemotePath, each
from didact.core.shared_entries import standing

_logger: Final = logging.getLogger(__name__)
_MOST: Final = 500  # files; a bucket's root is no model
_CHUNK: Final = 2**22


def local_copy(folder: RemotePath, kept: tuple[str, ...], pickles: tuple[str, ...]) -> Path:
    """The copy of a model's folder, made where there is none of these files yet.

    Args:
        folder: The folder behind a URL.
        kept: Patterns of the names of files that are copied, from the folder and from those right
            in it.
        pickles: Suffixes of files that are not.

    Raises:
        DataError: There is no such folder, or it has pickled weights alone.
    """
    if folder.is_file():
        raise DataError(f"{folder}: a file; expected the model's folder, give {folder.parent}")
    files = [f for f in (*folder.glob("*"), *folder.glob("*/*")) if f.is_file()]
    files = list(dict.fromkeys(files))
    wanted = [f for f in files if any(fnmatchcase(f.name, pattern) for pattern in kept)]
    if not wanted:
        raise DataError(
            f"{folder}: no model's folder; expected config.json and safetensors there: check the "
            "URL"
        )
    if not any(f.suffix == ".safetensors" for f in wanted):
        found = next((f for f in files if f.suffix in pickles), None)
        if found is not None:
            raise DataError(
                f"{found}: pickled weights can run code when they are read; expected "
                "model.safetensors: load the model once where you trust it and save it again with "
                "save_pretrained"
            )
    if len(wanted) > _MOST:
        raise DataError(
            f"{folder}: has {len(wanted):,} files; expected the folder of one model: check the URL"
        )
    stats = each(_about, list(wanted))
    key = fingerprint([[f.relative_to(folder).as_posix(), *about] for f, about in
                       zip(wanted, stats, strict=True)])  # fmt: skip
    place = standing(default_cache_dir()) / "models" / key
    name = folder.name or folder.root
    if intact_entry(place, _logger.warning, whole=False) is None:
        n_bytes = sum(size for size, _, _ in stats)
        _logger.warning("%s: copied into %s (%s bytes)", folder, place, f"{n_bytes:,}")
        with temporary_folder(place.parent) as temporary:
            for file in wanted:
                _copy(file, temporary / name / file.relative_to(folder))
            if each(_about, list(wanted)) != stats:
                raise DataError(
                    f"{folder}: was changed while it was copied; run the same command again once "
                    "nobody writes to it"
                )
            seal(temporary, Bill(), where=place)
            put_in_place(temporary, place)
    return copied(place / name, _again, folder, kept, pickles)


def _again(
    folder: RemotePath, kept: tuple[str, ...], pickles: tuple[str, ...], inside: PurePosixPath
) -> Path:
    """What lies in the copy of a folder, on the machine where this is called."""
    return local_copy(folder, kept, pickles) / inside


def _about(file: Place) -> tuple[int, int, str]:
    found = file.stat()
    tag = found.tag if isinstance(file, RemotePath) and not isinstance(found, tuple) else ""
    return found.st_size, 0 if tag else found.st_mtime_ns, tag


def _copy(file: RemotePath, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    with file.open("rb") as source, to.open("wb") as target:
        shutil.copyfileobj(source, target, _CHUNK)
