"""Files → pool: canonicalised once into the cache, and found there again by a key."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from didact.core.atomic import digest
from didact.core.entries import intact_entry, temporary_folder
from didact.core.errors import ConfigError, DataError, NoSampleError
from didact.core.findings import Finding, findings_of
from didact.core.keep import adopt, keep
from didact.core.paths import Given, Place
from didact.core.pool import STORE_VERSION, Pool
from didact.core.protocols import Context
from didact.core.shared_entries import standing
from didact.data.reading.ahead import AT_A_TIME, is_small
from didact.data.reading.beside import beside
from didact.data.reading.containers import OBJECTS
from didact.data.reading.entries import resolved
from didact.data.reading.files import File, legible
from didact.data.reading.gathering import Gathering
from didact.data.reading.given import GivenRows, located
from didact.data.reading.mapped import refuse
from didact.data.reading.over import passed_over
from didact.data.reading.settings import DataSettings
from didact.data.reading.stamps import Stamp, hashed_by, stamps_of, tag_of, untagged
from didact.data.reading.tables import are_tables, shared_schema
from didact.data.reading.work import Job
from didact.data.rows.detection import check_columns, plug_in_sources
from didact.data.store.shard import PARTS
from didact.data.store.shard_writer import Overlap
from didact.data.store.token_counts import TokenCounter, token_counter
from didact.data.store.writer import StoreWriter

Role = Literal["pool", "target", "held-out"]
_NO_MATTER: Final = {"tokenizer", "exclude", "held_out_on_bad_row"}  # or they have a key of theirs
_SKIP: Final[dict[Role, str]] = {
    "pool": "on_bad_row=skip; they are then kept in rejected.jsonl",
    "target": "on_bad_row=skip; they are then counted and listed",
    "held-out": "held_out_on_bad_row=skip; text that is only in them is then not looked for",
}
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Ingested:
    """A pool, and the files it was read from as the manifest lists them.

    Attributes:
        pool: The pool.
        inputs: The files, held-out ones too.
        reused: It was found in the cache.
        held_out: The held-out files whose text was looked for, as a pool; None without any.
    """

    pool: Pool
    inputs: tuple[dict[str, Any], ...]
    reused: bool
    held_out: Pool | None = None


def read_pool(
    paths: Sequence[Given] | GivenRows,
    settings: DataSettings,
    ctx: Context,
    *,
    role: Role = "pool",
    overlap: Overlap | None = None,
    overlap_key: str = "",
) -> Ingested:
    """The pool behind some files: found in the cache, or read, checked and written there.

    Args:
        paths: Files, folders, globs, here or behind URLs; `-` for what is piped in; or rows.
        settings: How rows are read.
        ctx: Its cache holds the stores, its seed draws the validation split.
        role: What the files are for.
        overlap: Finds the rows of a batch that share held-out text; they are dropped.
        overlap_key: Identity of `overlap` for the cache.

    Raises:
        DataError: A file or row is bad, with file, row, value, expectation, remedy.
        ConfigError: A column is mapped that no row of a pool has.

    **Cost:** one pass over the bytes; a few batches, and less than 100 bytes a row, in memory.
    """
    check_columns(settings.columns)
    about: tuple[Finding, ...] = ()
    if not isinstance(paths, GivenRows):
        paths, settings, about = resolved(paths, settings)
    with located(paths, ctx.cache_dir) as found:
        about = (*about, *beside(found))
        return _pool_of(found.files, about, settings, ctx, role, overlap, overlap_key)


def _pool_of(
    files: list[File],
    about: tuple[Finding, ...],
    settings: DataSettings,
    ctx: Context,
    role: Role,
    overlap: Overlap | None,
    overlap_key: str,
) -> Ingested:
    if settings.columns.get("rows", "-") != "-" and not any(f.container in OBJECTS for f in files):
        raise ConfigError(
            f"data.columns.rows: no file is one JSON object, {files[0].path} is "
            f"{files[0].container}; leave the setting out"
        )
    counter = token_counter(settings.tokenizer)
    stamps = stamps_of(files)
    files = [replace(file, n_bytes=s[1]) for file, s in zip(files, stamps, strict=True)]
    key = {
        "store": STORE_VERSION,
        "settings": settings.model_dump(mode="json", exclude=_NO_MATTER),
        "counter": counter.name,
        "overlap": overlap_key,
        "seed": ctx.seed if settings.validation else 0,
        "files": stamps,
    }
    if plug_ins := plug_in_sources():
        key["plug_ins"] = plug_ins

    made = False

    def make(work: Context) -> dict[str, Any]:
        nonlocal made
        made = True
        return _read(files, stamps, settings, counter, work, overlap, _SKIP[role])

    entry = keep(ctx, "reads", key, make, save=_save, load=partial(_load, ctx))
    inputs = tuple(
        {
            "path": file.name if file.digest else legible(file.path),
            "bytes": stamp[1],
            "blake2b": hashed,
            **tag_of(stamp),
        }
        for file, stamp, hashed in zip(files, stamps, entry["blake2b"], strict=True)
    )
    if role == "pool":  # a target set need not have what the pool has
        refuse(entry["unmet"])
    pool = open_cached(entry["fingerprint"], ctx.cache_dir)
    of_files = (finding for file in files for finding in file.findings)
    noticed = (*about, *of_files, *untagged(files, stamps), *findings_of(entry["findings"]))
    return Ingested(replace(pool, noticed=noticed), inputs, reused=not made)


def _save(read: dict[str, Any], folder: Path) -> None:
    (folder / "read.json").write_text(json.dumps(read), encoding="utf-8")


def _load(ctx: Context, folder: Path) -> dict[str, Any] | None:
    """Fingerprint of the store and hashes of the files, if the store is still there."""
    read: dict[str, Any] = json.loads((folder / "read.json").read_bytes())
    store = ctx.cache_dir / "pools" / read["fingerprint"]
    return read if intact_entry(store, ctx.tell, whole=False) is not None else None


def _read(
    files: list[File],
    stamps: list[Stamp],
    settings: DataSettings,
    counter: TokenCounter,
    ctx: Context,
    overlap: Overlap | None,
    skip: str,
) -> dict[str, Any]:
    """Read the files into a new store; returns its fingerprint and the hashes of the files."""
    schema = shared_schema(files) if are_tables(files) else None
    with (
        temporary_folder(standing(ctx.cache_dir) / "tmp") as folder,
        _hashing(files, stamps, ctx) as hashed,
        ExitStack() as stack,
    ):
        (folder / PARTS).mkdir()
        job = Job(ctx.cache_dir, folder, settings, schema, overlap, skip)
        store = StoreWriter(folder, settings, schema)
        gathering = stack.enter_context(closing(Gathering(job, store, counter, ctx)))
        gathering.read(files)
        if store.n == 0:
            raise NoSampleError(_nothing(files, store.counts))
        hashes = hashed()
        for file, stamp, now in zip(files, stamps, stamps_of(files), strict=True):
            if now != stamp:
                raise DataError(
                    f"{file.path}: was changed while it was read; run the same command again once "
                    "nobody writes to it"
                )
        meta = store.finish(list(gathering.formats), counter, hashes, ctx.seed)
        adopt(ctx, "pools", meta["fingerprint"], folder, store.files, store.elsewhere)
    return {
        "fingerprint": meta["fingerprint"],
        "findings": [*(f.to_json() for f in passed_over(gathering.told)), *meta["findings"]],
        "blake2b": hashes,
        "unmet": gathering.unmet,
    }


@contextmanager
def _hashing(
    files: Sequence[File], stamps: Sequence[Stamp], ctx: Context
) -> Iterator[Callable[[], list[str]]]:
    """Hash files while they are read: it releases the interpreter's lock. Gives the hashes."""
    threads = ctx.executor.local_threads
    with ThreadPoolExecutor(threads) as few, ThreadPoolExecutor(AT_A_TIME) as many:
        timed = ctx.meter.timed(_digest)
        digests = [
            (many if is_small(file) else few).submit(timed, file, stamp)
            for file, stamp in zip(files, stamps, strict=True)
        ]
        try:
            yield lambda: [d.result() for d in digests]
        finally:
            for hasher in (few, many):
                hasher.shutdown(wait=False, cancel_futures=True)


def _digest(file: File, stamp: Stamp) -> str:
    return file.digest or hashed_by(stamp) or digest(file.path)


def open_cached(pool_fingerprint: str, cache_dir: Place) -> Pool:
    """A handle on a pool that was read before; reading from it fails if its store is gone.

    Raises:
        DataError: That is no fingerprint: tables and manifests may come from anybody.
    """
    if not _FINGERPRINT.fullmatch(pool_fingerprint):
        raise DataError(
            f"{pool_fingerprint[:80]!r} is no pool's fingerprint; expected 32 hex digits: the "
            "table or manifest that has it was changed, make it again"
        )
    return Pool(cache_dir / "pools" / pool_fingerprint, pool_fingerprint)


def find_cached(pool_fingerprint: str, ctx: Context) -> Pool | None:
    """A pool that was read before; None where its store is gone or damaged."""
    pool = open_cached(pool_fingerprint, ctx.cache_dir)
    return pool if intact_entry(pool.path, ctx.tell, whole=False) is not None else None


def _nothing(files: Sequence[File], counts: dict[str, int]) -> str:
    what = ", ".join(str(file.path) for file in files[:3])
    return (
        f"{what}: no sample to use ({counts['read']} rows read, {counts['rejected']} rejected, "
        f"{counts['excluded']} excluded); expected at least one: the file is empty, or every row "
        "was refused"
    )
