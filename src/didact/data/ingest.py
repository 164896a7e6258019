"""Files → the canonical store of a pool, written once into the cache and found again by its key."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from didact.core.errors import DataError
from didact.core.manifest import fingerprint
from didact.core.pool import STORE_VERSION, Kind, Pool
from didact.core.protocols import Progress, ignore_progress
from didact.core.render import TURN, TURNS, derive
from didact.data import files
from didact.data.chunks import cut
from didact.data.formats import KIND, Row, RowError, Turn, check_columns, detect, get, turns_of
from didact.data.settings import DataSettings
from didact.data.tokens import TokenCounter, token_counter

# rows of a batch that share held-out text: (row in the batch, what they share)
Overlap = Callable[[pa.LargeStringArray], Sequence[tuple[int, str]]]


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

    Cost: one pass over the bytes; at most a batch of rows and 65 bytes a row in memory.
    """
    check_columns(settings.columns)
    found = files.expand(paths)
    counter = token_counter(settings.tokenizer)
    key = fingerprint(
        {
            "store": STORE_VERSION,
            "settings": settings.model_dump(mode="json", exclude={"tokenizer", "exclude"}),
            "counter": counter.name,
            "overlap": overlap_key,
            "seed": seed if settings.validation else 0,
            "files": [_stamp(f.path) for f in found],
        }
    )
    with _writable(cache_dir):
        known = cache_dir / "keys" / f"{key}.json"
        if known.exists():
            entry = json.loads(known.read_text())
            path = cache_dir / "pools" / entry["fingerprint"]
            if (path / "meta.json").exists():
                return Read(Pool(path, entry["fingerprint"]), tuple(entry["inputs"]), reused=True)
        scratch = cache_dir / "tmp" / uuid.uuid4().hex
        scratch.mkdir(parents=True)
        try:
            with ThreadPoolExecutor(1) as hasher:  # hashing releases the lock while rows are read
                digests = [hasher.submit(_digest, f.path) for f in found]
                try:
                    meta = _write_store(
                        found, settings, counter, scratch, seed=seed, overlap=overlap,
                        progress=progress,
                    )  # fmt: skip
                except BaseException:
                    hasher.shutdown(cancel_futures=True)
                    raise
                inputs = [
                    {"path": str(f.path), "bytes": f.path.stat().st_size, "blake2b": d.result()}
                    for f, d in zip(found, digests, strict=True)
                ]
            path = cache_dir / "pools" / meta["fingerprint"]
            path.parent.mkdir(exist_ok=True)
            if not path.exists():
                scratch.rename(path)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        known.parent.mkdir(exist_ok=True)
        entry = {"fingerprint": meta["fingerprint"], "inputs": inputs}
        temporary = known.with_suffix(f".{uuid.uuid4().hex}")
        temporary.write_text(json.dumps(entry))
        temporary.replace(known)
    return Read(Pool(path, meta["fingerprint"]), tuple(inputs), reused=False)


def open_cached(pool_fingerprint: str, cache_dir: Path) -> Pool:
    """A handle on a pool that was read before; reading from it fails if its store is gone."""
    return Pool(cache_dir / "pools" / pool_fingerprint, pool_fingerprint)


@contextlib.contextmanager
def _writable(cache_dir: Path) -> Iterator[None]:
    """Errors of writing the cache, mapped to a DataError with the remedy."""
    try:
        yield
    except OSError as error:
        remedy = "set another place with --cache-dir or DIDACT_CACHE"
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DataError(
                f"{cache_dir}: no space left on the disk while writing the canonical pool; free "
                f"about the size of the data, or {remedy}"
            ) from error
        raise DataError(f"{cache_dir}: the cache cannot be written ({error}); {remedy}") from error


def _stamp(path: Path) -> list[Any]:
    with files.readable(path):
        stat = path.stat()
    return [str(path.resolve()), stat.st_size, stat.st_mtime_ns, stat.st_ino]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


@dataclass
class _Names:
    """Text → small codes, in order of first appearance."""

    codes: dict[str, int] = field(default_factory=dict)

    def code(self, name: str) -> int:
        return self.codes.setdefault(name, len(self.codes))


@dataclass
class _Batch:
    """Rows on their way into one record batch."""

    ids: list[str | None] = field(default_factory=list)
    turns: list[list[Turn]] = field(default_factory=list)
    groups: list[bytes] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    tasks: list[int] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    records: list[bytes] = field(default_factory=list)
    arrow_rows: list[int] = field(default_factory=list)
    files: list[files.File] = field(default_factory=list)
    size: int = 0


class _Seen:
    """Hashes met so far, as a few sorted arrays that are merged as they grow."""

    def __init__(self) -> None:
        self._runs: list[npt.NDArray[np.uint64]] = []

    def repeats(self, hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        """True where a hash was met before, earlier in this array or in an earlier call."""
        _, first = np.unique(hashes, return_index=True)
        again = np.ones(len(hashes), dtype=bool)
        again[first] = False
        for run in self._runs:
            at = np.searchsorted(run, hashes)
            again |= run[np.minimum(at, len(run) - 1)] == hashes
        self._runs.append(np.sort(hashes[~again]))
        while len(self._runs) > 1 and len(self._runs[-1]) * 2 > len(self._runs[-2]):
            last = self._runs.pop()
            self._runs[-1] = np.sort(np.concatenate([self._runs[-1], last]))
        self._runs = [run for run in self._runs if len(run)]
        return again


class _Writer:
    """Writes the store of one pool, batch by batch, and its index at the end."""

    def __init__(
        self, folder: Path, settings: DataSettings, counter: TokenCounter, overlap: Overlap | None
    ) -> None:
        self.folder, self.settings, self.counter, self.overlap = folder, settings, counter, overlap
        self.kind: Kind = "text"
        self.chunked = settings.unit == "chunk"
        fields = [("id", pa.string()), ("turns", TURNS)]
        if self.chunked:
            fields += [("parent", pa.string()), ("start", pa.int64()), ("end", pa.int64())]
        self.schema = pa.schema(fields)
        self.pool_file = pa.ipc.new_file(str(folder / "pool.arrow"), self.schema)
        self.records: BinaryIO = (folder / "records.bin").open("wb")
        self.rows_file: pa.ipc.RecordBatchFileWriter | None = None
        self.rejected: BinaryIO | None = None
        self.excluded: BinaryIO | None = None
        self.counts = dict.fromkeys(("read", "rejected", "excluded"), 0)
        self.record_at = self.rows_at = self.n = 0
        self.batch_starts: list[int] = []
        self.index: dict[str, list[npt.NDArray[Any]]] = {}
        self.sources, self.tasks = _Names(), _Names()
        self.seen_ids = _Seen()
        self.formats: dict[str, None] = {}
        self.identity = hashlib.blake2b(digest_size=16)

    def reject(self, file: files.File, number: int, reason: str, data: bytes) -> None:
        """A bad row: an error, or a line of rejected.jsonl."""
        if self.settings.on_bad_row == "raise":
            raise DataError(
                f"{file.path}: row {number}: {reason}. To go on without such rows, set "
                "on_bad_row=skip; they are then kept in rejected.jsonl"
            )
        if self.rejected is None:
            self.rejected = (self.folder / "rejected.jsonl").open("wb")
        entry: dict[str, Any] = {"file": str(file.path), "row": number, "reason": reason}
        if len(data) > self.settings.max_row_bytes:
            entry["begins"] = data[:1000].decode("utf-8", "backslashreplace")
        else:
            try:
                entry["raw"] = data.decode()
            except UnicodeDecodeError:
                entry["raw_latin1"] = data.decode("latin-1")  # every byte, one character each
        self.rejected.write(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE))
        self.counts["rejected"] += 1

    def exclude(self, id_: str, file: files.File, number: int, shared: str) -> None:
        """A row that shares text with held-out files: listed, not kept."""
        if self.excluded is None:
            self.excluded = (self.folder / "excluded.jsonl").open("wb")
        entry = {"id": id_, "file": str(file.path), "row": number, "shared": shared}
        self.excluded.write(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE))
        self.counts["excluded"] += 1

    def flush(self, batch: _Batch, arrow: pa.RecordBatch | None) -> None:
        """Write one batch: repeated ids and held-out text out, tokens counted."""
        if not batch.turns:
            return
        keep = np.ones(len(batch.turns), dtype=bool)
        given = np.array([i for i, id_ in enumerate(batch.ids) if id_ is not None], dtype=np.int64)
        hashes = np.zeros(len(keep), dtype=np.uint64)
        if len(given):
            hashes[given] = _hashes(batch.ids[i].encode() for i in given)  # type: ignore[union-attr]
            for i in given[self.seen_ids.repeats(hashes[given])]:
                self.reject(
                    batch.files[i], batch.numbers[i],
                    f"the id {batch.ids[i]!r} was already given to an earlier row; expected unique "
                    "ids: rename one, or map another column with --data columns.id=COLUMN "
                    "(columns.id=- makes ids from content)",
                    batch.records[i] if batch.records else b"",
                )  # fmt: skip
                keep[i] = False
        turns = _turns_array(batch.turns)
        texts = derive(turns, "text", self.settings.template, chat=self.kind != "text")
        groups = np.frombuffer(b"".join(batch.groups), dtype=np.uint64)
        if self.overlap is not None:
            for i, shared in self.overlap(texts):
                if keep[i]:
                    name = batch.ids[i] or f"{groups[i]:016x}"
                    self.exclude(name, batch.files[i], batch.numbers[i], shared)
                    keep[i] = False
        kept = np.flatnonzero(keep)
        self._write_records(batch, kept, arrow)
        columns = {
            "id": pa.array(batch.ids, pa.string()),
            "turns": turns,
            "n_bytes": pc.binary_length(texts).to_numpy().astype(np.int64),
            "group": groups,
            "id_hash": hashes,
            "source": np.asarray(batch.sources, dtype=np.int32),
            "task": np.asarray(batch.tasks, dtype=np.int32),
            "line": np.asarray(batch.numbers, dtype=np.int32),
        }
        if self.chunked:
            columns, places = self._chunks(columns, texts)
        else:
            columns["n_tokens"] = self.counter.count(texts)
            places = np.arange(len(keep))
        chosen = np.flatnonzero(keep[places])
        if not len(chosen):
            return
        self._append(columns, chosen, places)

    def _write_records(self, batch: _Batch, kept: npt.NDArray[np.int64], arrow: Any) -> None:
        """The user's rows; remembers where each row of the batch lies."""
        size = len(batch.turns)
        self.row_start = np.zeros(size, dtype=np.int64)
        self.row_length = np.zeros(size, dtype=np.int32)
        if arrow is not None:
            rows = arrow.take(pa.array(np.asarray(batch.arrow_rows)[kept]))
            if self.rows_file is None:
                self.rows_file = pa.ipc.new_file(str(self.folder / "rows.arrow"), rows.schema)
            self.rows_file.write_batch(rows)
            self.identity.update(fingerprint(rows.schema.to_string()).encode())
            for column in rows.columns:  # slices keep their whole buffers: take() made these fresh
                for buffer in column.buffers():
                    self.identity.update(buffer or b"")
            self.row_start[kept] = self.rows_at + np.arange(len(kept))
            self.rows_at += len(kept)
            return
        data = [batch.records[i] for i in kept]
        lengths = np.fromiter(map(len, data), dtype=np.int64, count=len(data))
        self.row_start[kept] = self.record_at + np.cumsum(lengths) - lengths
        self.row_length[kept] = lengths
        joined = b"".join(data)
        self.identity.update(joined)
        self.records.write(joined)
        self.record_at += len(joined)

    def _chunks(
        self, columns: dict[str, Any], texts: pa.LargeStringArray
    ) -> tuple[dict[str, Any], npt.NDArray[np.int64]]:
        """Each text cut into units; every other column repeated per unit."""
        chunk = self.settings.chunk
        pieces: list[str] = []
        spans: list[tuple[int, int]] = []
        places: list[int] = []
        for i, text in enumerate(texts.to_pylist()):
            found = cut(
                text, self.counter.ends(text), max_tokens=chunk.max_tokens,
                at_sentences=chunk.at == "sentence",
            )  # fmt: skip
            spans += found
            pieces += [text[a:b] for a, b in found]
            places += [i] * len(found)
        at = np.asarray(places, dtype=np.int64)
        parents = [
            id_ if id_ is not None else f"{group:016x}"
            for id_, group in zip(columns["id"].to_pylist(), columns["group"], strict=True)
        ]
        ids = [f"{parents[i]}#{start}" for i, (start, _) in zip(places, spans, strict=True)]
        out: dict[str, Any] = {
            name: values[at] for name, values in columns.items() if isinstance(values, np.ndarray)
        }
        text_array = pa.array(pieces, pa.large_string())
        out["id"] = pa.array(ids, pa.string())
        out["id_hash"] = _hashes(i.encode() for i in ids)
        out["parent"] = pa.array([parents[i] for i in places], pa.string())
        out["start"], out["end"] = (np.asarray(ends, dtype=np.int64) for ends in zip(*spans, strict=True))
        out["turns"] = _turns_array([[(0, "text", piece, 1.0)] for piece in pieces])
        out["group"] = _hashes(piece.encode() for piece in pieces)
        out["n_bytes"] = pc.binary_length(text_array).to_numpy().astype(np.int64)
        out["n_tokens"] = self.counter.count(text_array)
        return out, at

    def _append(
        self, columns: dict[str, Any], chosen: npt.NDArray[np.int64], places: npt.NDArray[np.int64]
    ) -> None:
        """Rows of a finished batch, written as one or more record batches of bounded size."""
        columns["record_start"] = self.row_start[places]
        columns["record_length"] = self.row_length[places]
        sizes = np.cumsum(columns["n_bytes"][chosen])
        step = np.maximum(
            np.arange(len(chosen)) // self.settings.batch_rows,
            (sizes - 1) // max(self.settings.batch_bytes, 1) if self.chunked else 0,
        )
        for part in np.split(chosen, np.flatnonzero(np.diff(step)) + 1):
            arrays = [
                pa.array(columns[f.name]).cast(f.type).take(pa.array(part)) for f in self.schema
            ]
            self.pool_file.write_batch(pa.RecordBatch.from_arrays(arrays, schema=self.schema))
            self.batch_starts.append(self.n)
            self.n += len(part)
            for name in _INDEX:
                self.index.setdefault(name, []).append(columns[name][part])

    def finish(self, seed: int) -> dict[str, Any]:
        """Index, validation split, fingerprint, meta."""
        index = {name: np.concatenate(self.index[name]) for name in _INDEX}
        index["copy"] = copies(index["group"])
        unnamed = index["id_hash"] == 0
        index["id_hash"] = np.where(
            unnamed, mixed(index["group"] + index["copy"].astype(np.uint64)), index["id_hash"]
        )
        index["held"] = validation_split(index["group"], self.settings.validation, seed)
        self.pool_file.close()
        if self.rows_file is not None:
            self.rows_file.close()
        for file in (self.records, self.rejected, self.excluded):
            if file is not None:
                file.close()
        table = pa.table({name: pa.array(values) for name, values in index.items()})
        with pa.ipc.new_file(str(self.folder / "index.arrow"), table.schema) as file:
            file.write_table(table)
        for name in ("id_hash", "group", "n_tokens", "source", "task", "held"):
            self.identity.update(np.ascontiguousarray(index[name]).tobytes())
        described: dict[str, Any] = {
            "store": STORE_VERSION,
            "kind": self.kind,
            "formats": list(self.formats),
            "columns": dict(self.settings.columns),
            "template": self.settings.template,
            "dedup": self.settings.dedup,
            "unit": self.settings.unit,
            "token_counter": {"name": self.counter.name, "estimate": self.counter.estimate},
            "source_names": list(self.sources.codes),
            "task_names": list(self.tasks.codes),
            "batch_starts": self.batch_starts,
            "record_format": "json" if self.rows_file is None else "arrow",
            "n": self.n,
        }
        self.identity.update(fingerprint(described).encode())
        counts = {**self.counts, "kept": self.n, "duplicates": int((index["copy"] > 1).sum())}
        meta = {
            **described,
            "stored_columns": self.schema.names,
            "counts": counts,
            "fingerprint": self.identity.hexdigest(),
        }
        (self.folder / "meta.json").write_text(json.dumps(meta))
        return meta


_INDEX = (
    "n_bytes", "n_tokens", "id_hash", "group", "source", "task", "line", "record_start",
    "record_length",
)  # fmt: skip


def _hashes(values: Iterable[bytes]) -> npt.NDArray[np.uint64]:
    joined = b"".join(hashlib.blake2b(v, digest_size=8).digest() for v in values)
    return np.maximum(np.frombuffer(joined, dtype=np.uint64), 1)  # 0 means "no id given"


def mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's finalizer: well-spread 64-bit hashes of 64-bit numbers.

    Source: Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators", figure 19.
    """
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def copies(groups: npt.NDArray[np.uint64]) -> npt.NDArray[np.int32]:
    """For each row, which copy of its content it is, from 1, in row order."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    begins = np.flatnonzero(np.diff(ordered, prepend=ordered[:1] ^ np.uint64(1)) != 0)
    within = np.arange(len(groups)) - np.repeat(begins, np.diff(begins, append=len(groups)))
    out = np.empty(len(groups), dtype=np.int32)
    out[order] = within + 1
    return out


def validation_split(
    groups: npt.NDArray[np.uint64], amount: float, seed: int
) -> npt.NDArray[np.bool_]:
    """Rows set aside: whole groups of equal content, drawn by a hash of content and seed.

    Args:
        groups: Content hashes, `(n,)`.
        amount: A share below 1, or a number of rows.
        seed: Another seed draws another split.

    Returns:
        True on the rows set aside, `(n,)`: at least the amount, more only by the copies of the
        last group. Depends on contents, not on row order.
    """
    n = len(groups)
    wanted = int(amount * n + 1e-9) if amount < 1 else int(amount)
    if wanted > n:
        raise DataError(f"data.validation: {wanted} rows of a pool of {n}; ask for fewer")
    if wanted == 0:
        return np.zeros(n, dtype=bool)
    unique, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    salt = mixed(np.array([seed], dtype=np.uint64))
    order = np.argsort(mixed(unique ^ salt), kind="stable")
    enough = int(np.searchsorted(np.cumsum(counts[order]), wanted)) + 1
    held = np.zeros(len(unique), dtype=bool)
    held[order[:enough]] = True
    return held[inverse]


def _turns_array(rows: list[list[Turn]]) -> pa.ListArray:
    flat = [turn for turns in rows for turn in turns]
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    columns = list(zip(*flat, strict=True)) if flat else [(), (), (), ()]
    arrays = [pa.array(values, f.type) for values, f in zip(columns, TURN, strict=True)]
    return pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()), pa.StructArray.from_arrays(arrays, fields=list(TURN))
    )


def _group(turns: list[Turn], label: object) -> bytes:
    """8 bytes that are equal for equal content: parts, roles, contents, and the label if any."""
    try:
        data = "\0".join([f"{part}{role}\0{len(text)}\0{text}" for part, role, text, _ in turns]).encode()
    except UnicodeEncodeError as error:
        raise RowError(
            f"the text holds {error.object[error.start : error.end]!r}, half of a surrogate pair; "
            "expected valid Unicode"
        ) from error
    if label is not None:
        data += b"\0label" + repr(label).encode()
    return hashlib.blake2b(data, digest_size=8).digest()


def _parse_json(data: bytes) -> Row:
    try:
        row = orjson.loads(data)
    except orjson.JSONDecodeError as first:
        try:  # NaN and Infinity are not JSON, but Python writes them into people's metadata
            row = json.loads(data)
        except (ValueError, RecursionError):
            shown = data[:60].decode("utf-8", "backslashreplace")
            raise RowError(f"{shown!r}… is not JSON ({first}); expected one object a line") from first
    if not isinstance(row, dict):
        raise RowError(f"{row!r:.60} is a {type(row).__name__}; expected a JSON object")
    return row


def _write_store(
    found: list[files.File],
    settings: DataSettings,
    counter: TokenCounter,
    folder: Path,
    *,
    seed: int,
    overlap: Overlap | None,
    progress: Callable[[Progress], None],
) -> dict[str, Any]:
    arrows = [f.container in {"parquet", "arrow"} for f in found]
    if any(arrows) and not all(arrows):
        raise DataError(
            f"{found[arrows.index(True)].path} is {found[arrows.index(True)].container} and "
            f"{found[arrows.index(False)].path} is not; expected one kind of container in a pool: "
            "convert one of them, so that every row can be given back as it came"
        )
    writer = _Writer(folder, settings, counter, overlap)
    total, before = sum(f.path.stat().st_size for f in found), 0
    kinds: dict[Kind, Path] = {}
    for file in found:
        def watch(done: int, before: int = before) -> None:
            progress(Progress("read", before + done, total, "bytes"))

        kind = _read_file(replace(file, watch=watch), writer, kinds)
        if kind is not None:
            kinds.setdefault(kind, file.path)
        before += file.path.stat().st_size
    if writer.n == 0:
        what = ", ".join(str(f.path) for f in found[:3])
        raise DataError(
            f"{what}: no sample to use ({writer.counts['read']} rows read, "
            f"{writer.counts['rejected']} rejected, {writer.counts['excluded']} excluded); "
            "expected at least one: the file is empty or every row was refused"
        )
    progress(Progress("read", total, total, "bytes"))
    return writer.finish(seed)


def _rows(
    file: files.File, settings: DataSettings
) -> Iterator[tuple[int, bytes, Row | None, pa.RecordBatch | None, int]]:
    """(number, bytes, row or None when the bytes are JSON, Arrow batch, row in that batch)."""
    most = settings.max_row_bytes
    if file.container in {"parquet", "arrow"}:
        number = 0
        for batch in files.arrow_batches(file, batch_rows=settings.batch_rows):
            for i, row in enumerate(batch.to_pylist()):
                number += 1
                yield number, b"", row, batch, i
        return
    if file.container == "text":
        split = {"line": files.lines, "paragraph": files.paragraphs, "file": files.whole}
        for number, data in split[settings.lines](file, max_row_bytes=most):
            yield number, data, {}, None, 0
        return
    read = files.array_elements if file.container == "json" else files.lines
    for number, data in read(file, max_row_bytes=most):
        yield number, data, None, None, 0


def _read_file(file: files.File, writer: _Writer, kinds: dict[Kind, Path]) -> Kind | None:
    """Every row of one file into the writer; returns the file's kind."""
    settings = writer.settings
    columns = settings.columns
    text_file = file.container == "text"
    format_name: str = "text" if text_file else settings.format
    parse: Callable[[Row], list[Turn]] | None = None
    batch, arrow = _Batch(), None
    names = {n: columns.get(n, n) for n in ("id", "source", "task")}
    default_source = file.stem
    for number, raw, given, from_arrow, arrow_row in _rows(file, settings):
        data = raw
        if from_arrow is not arrow or len(batch.turns) >= settings.batch_rows or (
            batch.size >= settings.batch_bytes and not writer.chunked
        ) or batch.size >= 8 * settings.batch_bytes:
            writer.flush(batch, arrow)
            batch, arrow = _Batch(), from_arrow
        writer.counts["read"] += 1
        try:
            if len(data) > settings.max_row_bytes:
                raise RowError(
                    f"longer than {settings.max_row_bytes} bytes, it begins {data[:40]!r}; expected "
                    "one sample a line: a line end may be missing, or raise data.max_row_bytes"
                )
            if text_file:
                row, data = _text_row(data)
            else:
                row = _parse_json(data) if given is None else given
            if parse is None:
                if format_name == "auto":
                    format_name = detect(row, columns)
                writer.kind = _one_kind(format_name, file, kinds, settings)
                writer.formats[format_name] = None
                parse = turns_of(format_name, columns)
            turns = parse(row)
            label = get(row, columns.get("label", "label"), row.get("kto_tag"))
            group = _group(turns, label if format_name == "labelled" else None)
            id_ = _name(get(row, names["id"]), "id")
            source = _name(get(row, names["source"]), "source") or default_source
            task = _name(get(row, names["task"]), "task") or source
        except RowError as error:
            writer.reject(file, number, str(error), data or repr(given).encode())
            continue
        batch.ids.append(id_)
        batch.turns.append(turns)
        batch.groups.append(group)
        batch.sources.append(writer.sources.code(source))
        batch.tasks.append(writer.tasks.code(task))
        batch.numbers.append(number)
        batch.records.append(data)
        batch.arrow_rows.append(arrow_row)
        batch.files.append(file)
        batch.size += len(data) or sum(len(turn[2]) for turn in turns)
    writer.flush(batch, arrow)
    return KIND[format_name] if parse is not None else None


def _one_kind(
    format_name: str, file: files.File, kinds: dict[Kind, Path], settings: DataSettings
) -> Kind:
    kind = KIND[format_name]
    for other, path in kinds.items():
        if other != kind:
            raise DataError(
                f"{file.path}: holds {kind} ({format_name}) rows, {path} holds {other} rows; "
                "expected one kind of sample in a pool: run them apart, or map columns so that "
                "both are read alike"
            )
    if settings.unit == "chunk" and kind != "text":
        raise DataError(
            f"{file.path}: unit=chunk cuts raw text, these rows are {kind} ({format_name}); "
            "use unit=sample"
        )
    return kind


def _text_row(data: bytes) -> tuple[Row, bytes]:
    if b"\0" in data:
        raise RowError(f"{data[:40]!r} has a NUL byte; expected text, this looks like binary data")
    try:
        row = {"text": data.decode()}
    except UnicodeDecodeError as error:
        raise RowError(
            f"{data[error.start : error.start + 20]!r} at byte {error.start} is not UTF-8; "
            "expected UTF-8: convert it, e.g. iconv -f latin1 -t utf-8"
        ) from error
    return row, orjson.dumps(row)


def _name(value: Any, column: str) -> str | None:
    """An id, source or task: text, or a number written as text."""
    if type(value) is str or value is None:
        return value or None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise RowError(f"{column} is {value!r:.60} ({type(value).__name__}); expected text or a number")


def default_cache_dir() -> Path:
    """`$DIDACT_CACHE`, or the user's cache folder."""
    given = os.environ.get("DIDACT_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "didact"
