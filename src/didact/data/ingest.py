"""Files → pool: canonicalised once into the cache, and found there again by a key."""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from didact._version import __version__
from didact.core.atomic import digest, writable, write_text
from didact.core.errors import DataError
from didact.core.manifest import fingerprint
from didact.core.pool import STORE_VERSION, Pool
from didact.core.protocols import Progress, ignore_progress
from didact.data import files
from didact.data.arrow import arrow_schema
from didact.data.batch import Batch
from didact.data.formats import check_columns
from didact.data.rows import Reader, check_containers
from didact.data.settings import DataSettings
from didact.data.store import Overlap, StoreWriter
from didact.data.tokens import TokenCounter, token_counter

_ABANDONED_SECONDS: Final = 24 * 3600


@dataclass(frozen=True, slots=True)
class Read:
    """A pool, and the files it was read from as the manifest lists them."""

    pool: Pool
    inputs: tuple[dict[str, Any], ...]
    reused: bool


def read_pool(
    paths: Sequence[str | Path],
    settings: DataSettings,
    *,
    cache_dir: Path,
    seed: int = 0,
    overlap: Overlap | None = None,
    overlap_key: str = "",
    progress: Callable[[Progress], None] = ignore_progress,
) -> Read:
    """The pool behind some files: found in the cache, or read, checked and written there.

    Args:
        paths: Files, folders, globs.
        settings: How rows are read.
        cache_dir: Where stores are kept.
        seed: Draws the validation split.
        overlap: Finds the rows of a batch that share held-out text; they are dropped.
        overlap_key: Identity of `overlap` for the cache.
        progress: Told of bytes read.

    Raises:
        DataError: A file or row is bad, with file, row, value, expectation, remedy.

    **Cost:** one pass over the bytes; a few batches, and less than 100 bytes a row, in memory.
    """
    check_columns(settings.columns)
    found = files.expand(paths, ignored=cache_dir)
    counter = token_counter(settings.tokenizer)
    stamps = [_stamp(file.path) for file in found]
    key = fingerprint(
        {
            "store": STORE_VERSION,
            "didact": __version__,
            "settings": settings.model_dump(mode="json", exclude={"tokenizer", "exclude"}),
            "counter": counter.name,
            "overlap": overlap_key,
            "seed": seed if settings.validation else 0,
            "files": stamps,
        }
    )
    known = cache_dir / "keys" / f"{key}.json"
    pools = cache_dir / "pools"
    with writable(cache_dir, "set another place with --cache-dir or DIDACT_CACHE"):
        entry = _entry(known, pools)
        reused = entry is not None
        if entry is None:
            entry = _read(found, stamps, settings, counter, cache_dir, seed, overlap, progress)
            write_text(known, json.dumps(entry))
    inputs = tuple(
        {"path": str(file.path), "bytes": stamp[1], "blake2b": hashed}
        for file, stamp, hashed in zip(found, stamps, entry["blake2b"], strict=True)
    )
    return Read(open_cached(entry["fingerprint"], cache_dir), inputs, reused=reused)


def _read(
    found: list[files.File],
    stamps: list[list[Any]],
    settings: DataSettings,
    counter: TokenCounter,
    cache_dir: Path,
    seed: int,
    overlap: Overlap | None,
    progress: Callable[[Progress], None],
) -> dict[str, Any]:
    """Read the files into a new store; returns its fingerprint and the hashes of the files."""
    schema = arrow_schema(found) if check_containers(found) else None
    with (
        _scratch(cache_dir / "tmp") as folder,
        StoreWriter(folder, settings, counter, overlap, schema) as writer,
        _hashing(found) as hashed,
    ):
        with _behind(writer.add) as emit:
            reader = Reader(settings, emit, schema)
            reader.read(found, progress)
        if writer.n == 0:
            raise DataError(_nothing(found, writer.counts))
        hashes = hashed()
        for file, stamp in zip(found, stamps, strict=True):
            if _stamp(file.path) != stamp:
                raise DataError(
                    f"{file.path}: was changed while it was read; run the same command again once "
                    "nobody writes to it"
                )
        meta = writer.finish(list(reader.formats), hashes, seed)
        _keep(folder, cache_dir / "pools" / meta["fingerprint"])
    return {"fingerprint": meta["fingerprint"], "blake2b": hashes}


@contextmanager
def _hashing(found: Sequence[files.File]) -> Iterator[Callable[[], list[str]]]:
    """Hash files while they are read: it releases the interpreter's lock. Gives the hashes."""
    with ThreadPoolExecutor(1) as hasher:
        digests = [hasher.submit(digest, file.path) for file in found]
        try:
            yield lambda: [d.result() for d in digests]
        finally:
            hasher.shutdown(wait=False, cancel_futures=True)


def open_cached(pool_fingerprint: str, cache_dir: Path) -> Pool:
    """A handle on a pool that was read before; reading from it fails if its store is gone."""
    return Pool(cache_dir / "pools" / pool_fingerprint, pool_fingerprint)


def default_cache_dir() -> Path:
    """`$DIDACT_CACHE`, or the user's cache folder."""
    given = os.environ.get("DIDACT_CACHE")
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "didact"


def _stamp(path: Path) -> list[Any]:
    with files.readable(path):
        found = path.stat()
    # the change time too: copying and restoring tools set the modification time back
    times = [found.st_mtime_ns, found.st_ctime_ns]
    return [str(path.resolve()), found.st_size, *times, found.st_ino]


def _entry(known: Path, pools: Path) -> dict[str, Any] | None:
    """What the cache knows of a key, if its store is still there."""
    try:
        entry: dict[str, Any] = json.loads(known.read_text(encoding="utf-8"))
        there = (pools / entry["fingerprint"] / "meta.json").exists()
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None  # a damaged entry is written again
    return entry if there else None


@contextmanager
def _scratch(place: Path) -> Iterator[Path]:
    """An empty folder that is gone afterwards; those that killed readers left go, too."""
    for left in place.glob("*"):
        newest = max((p.stat().st_mtime for p in [left, *left.glob("*")]), default=0.0)
        if time.time() - newest > _ABANDONED_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
    folder = place / uuid.uuid4().hex
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _keep(folder: Path, place: Path) -> None:
    """Move a finished store to its place, unless another reader was first with the same bytes."""
    place.parent.mkdir(exist_ok=True)
    try:
        folder.rename(place)
    except OSError:
        if not (place / "meta.json").exists():
            raise


@contextmanager
def _behind(add: Callable[[Batch], None]) -> Iterator[Callable[[Batch], None]]:
    """Run `add` one batch behind its caller, in order; its errors are raised on the next call."""
    with ThreadPoolExecutor(1) as worker:
        waiting: list[Future[None]] = []

        def emit(batch: Batch) -> None:
            if waiting:
                waiting.pop().result()
            waiting.append(worker.submit(add, batch))

        yield emit
        if waiting:
            waiting.pop().result()


def _nothing(found: Sequence[files.File], counts: dict[str, int]) -> str:
    what = ", ".join(str(file.path) for file in found[:3])
    return (
        f"{what}: no sample to use ({counts['read']} rows read, {counts['rejected']} rejected, "
        f"{counts['excluded']} excluded); expected at least one: the file is empty, or every row "
        "was refused"
    )
