"""Pool: a frozen handle on a canonical store of samples.

The store is a folder that `didact.data` writes once and nobody changes:

```text
entry.json     checksums of the other files, which are verified where they are read
meta.json      what the pool is: kind, template, shards, batch boundaries, counts, fingerprint
index.arrow    numeric columns, in memory once they are used (57 bytes a row, if all are)
rows.schema    of the user's own Parquet or Arrow rows: their schema
```
and, one of each for every shard, in which rows lie that stood together in the input:
```text
pool-00000.arrow    id and turns, one Arrow record batch per pool batch; read by row ranges
records-00000.bin   the user's own JSON rows, byte for byte, addressed by the index; or
rows-00000.arrow    the user's own Parquet or Arrow rows
```
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from didact.core.arrays import Bool1D, Int1D, Int32s, UInt64s
from didact.core.arrow_files import ArrowShards, telling_damage
from didact.core.checksums import CheckedFile
from didact.core.entries import Entry, open_entry
from didact.core.errors import DataError, PoolMismatchError, need
from didact.core.findings import Finding, findings_of
from didact.core.hashing import hexadecimal
from didact.core.index_columns import IndexColumns
from didact.core.paths import Place
from didact.core.records import (
    arrow_rows_as_json,
    chunk_records,
    chunk_table,
    json_records,
    json_rows_as_table,
    uniform_rows,
)
from didact.core.remote_files import RemoteFile
from didact.core.render import DERIVED, derive

Kind = Literal["text", "chat", "pair", "labelled"]
STORE_VERSION = 7
LENGTH_BINS = 64
_PLACE = ("parent", "start", "end")  # of a chunk
STORED = ("id", "turns", *_PLACE)
_SPARSE = 8  # of so many times the rows of a batch not all of it is made into text
_RECORDS = 4096  # put together at a time
_COUNTED = 2**18  # rows counted at a time
_READERS = 8  # files that a thread keeps open
_OF_RECORDS = ("record_start", "record_length", "n_bytes")
NUMERIC = ("n_bytes", "n_tokens", "id_hash", "content_hash")


def shard_name(what: str, shard: int, ending: str) -> str:
    """Name of a file of a shard."""
    return f"{what}-{shard:05d}.{ending}"


@dataclass(frozen=True, slots=True)
class PoolStats:
    """What a cost estimate may know of a pool without reading it.

    Attributes:
        n: Samples.
        n_bytes: UTF-8 bytes of all texts.
        n_tokens: Tokens of all texts.
        token_lengths: 64 counts; bin b holds samples of 2^(b/3) ≤ tokens < 2^((b+1)/3).
        tasks: Names of the target tasks.
        kind: What the samples are.
        learned: Share of the bytes that a trainer learns, 0 to 1; the rest is prompts.
    """

    n: int
    n_bytes: int
    n_tokens: int
    token_lengths: tuple[int, ...]
    tasks: tuple[str, ...]
    kind: Kind
    learned: float = 1.0


class Texts(Protocol):
    """Rows with their texts and numbers, of which a pass asks no more: a `Pool`, or a part of one.

    Attributes are `(n,)`; all of it is as in `Pool`.
    """

    @property
    def n_bytes(self) -> Int1D:
        """UTF-8 bytes of each text."""

    @property
    def n_tokens(self) -> Int1D:
        """Tokens of each text."""

    @property
    def content_hash(self) -> UInt64s:
        """Equal on exact duplicates."""

    @property
    def source_codes(self) -> Int32s:
        """Numbers of the sources."""

    def parts(self, rows: Int1D) -> list[slice]:
        """Where ascending rows that are read together are among them."""

    def texts_of(self, rows: Int1D) -> pa.LargeStringArray:
        """Texts of the rows of one part, or of some of these."""


@runtime_checkable
class Chosen(Protocol):
    """Rows of one pool: a `Selection` or a `TrainingOrder`."""

    @property
    def rows(self) -> Int1D:
        """Row indices."""

    @property
    def pool_fingerprint(self) -> str:
        """The pool they belong to."""


@dataclass(frozen=True, slots=True)
class Known:
    """Some columns of the index of a pool, of some rows.

    Attributes:
        rows: The rows, ascending.
        values: By column, `(k,)` each.
    """

    rows: Int1D
    values: dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class _Some:
    """A column of which some rows are known, asked as if it were whole."""

    rows: Int1D
    values: npt.NDArray[Any]

    def __getitem__(self, rows: npt.ArrayLike) -> npt.NDArray[Any]:
        return self.values[np.searchsorted(self.rows, rows)]


@dataclass(frozen=True)
class Pool:
    """An immutable table of samples; pickles as a path and a fingerprint.

    Attributes:
        path: The store's folder, on a disk or behind a URL.
        fingerprint: Identity of content, ids, sources, token counts and settings.
        noticed: What was found when its files were read just now; None of a pool that was opened
            by its fingerprint, which tells what was found when its store was written.
    """

    path: Place
    fingerprint: str
    noticed: tuple[Finding, ...] | None = field(default=None, compare=False, repr=False)
    _local: threading.local = field(
        default_factory=threading.local, init=False, repr=False, compare=False
    )
    _files: dict[str, CheckedFile] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __reduce__(self) -> tuple[Any, ...]:
        return (Pool, (self.path, self.fingerprint, self.noticed))

    def __len__(self) -> int:
        return int(self.meta["n"])

    @cached_property
    def meta(self) -> dict[str, Any]:
        """The store's own description."""
        meta: dict[str, Any] = json.loads(self.file("meta.json").read())
        if meta["fingerprint"] != self.fingerprint:
            raise DataError(f"the store {self.path} holds another pool; delete it and read again")
        return meta

    @cached_property
    def _entry(self) -> Entry:
        try:
            return open_entry(self.path)
        except FileNotFoundError as error:
            raise DataError(
                f"pool {self.fingerprint[:12]}… is not in the cache ({self.path}); "
                "read the pool's files again (on the command line: --pool FILE)"
            ) from error

    def has_file(self, name: str) -> bool:
        """Whether the store has a file of this name."""
        return name in self._entry.files

    def file(self, name: str) -> CheckedFile:
        """One of the store's files, of which nothing is read that is not what was written."""
        if name not in self._files:
            self._files[name] = self._entry.file(name)
        return self._files[name]

    @cached_property
    def _starts(self) -> Int1D:
        return self._numbers("batch_starts")

    def _numbers(self, name: str) -> Int1D:
        return np.asarray(self.meta[name], dtype=np.int64)

    @cached_property
    def _index(self) -> dict[str, npt.NDArray[Any]]:
        return IndexColumns(self.file("index.arrow"), len(self))

    @property
    def kind(self) -> Kind:
        """What the samples are."""
        kind: Kind = self.meta["kind"]
        return kind

    @property
    def n_bytes(self) -> Int1D:
        """UTF-8 bytes of each sample's text, `(n,)`."""
        return self._index["n_bytes"]

    @property
    def n_tokens(self) -> Int1D:
        """Tokens of each sample's text, `(n,)`; see `tokens_are_estimated`."""
        return self._index["n_tokens"]

    @property
    def id_hash(self) -> UInt64s:
        """64-bit hashes of the ids, `(n,)`."""
        return self._index["id_hash"]

    @property
    def content_hash(self) -> UInt64s:
        """64-bit hashes of the content: equal on exact duplicates, `(n,)`."""
        return self._index["group"]

    @property
    def source_codes(self) -> Int32s:
        """Each row's index into `source_names`, `(n,)`."""
        return self._index["source"]

    @property
    def source_names(self) -> tuple[str, ...]:
        """Names of the sources, in order of first appearance."""
        return tuple(self.meta["source_names"])

    @property
    def task_codes(self) -> Int32s:
        """Each row's index into `task_names`, `(n,)`; all 0 when the pool names no tasks."""
        return self._index["task"]

    @property
    def task_names(self) -> tuple[str, ...]:
        """Names of the target tasks; one unnamed task when the rows carry none."""
        return tuple(self.meta["task_names"])

    @property
    def copy_number(self) -> Int32s:
        """Which copy of its content each row is, from 1; above 1 on exact duplicates, `(n,)`."""
        return self._index["copy"]

    @property
    def in_validation(self) -> Bool1D:
        """True on the rows of the validation split, which are never selected, `(n,)`."""
        return self._index["held"]

    @property
    def dedup(self) -> bool:
        """Whether exact duplicates count once in a selection."""
        return bool(self.meta["dedup"] == "exact")

    @property
    def tokens_are_estimated(self) -> bool:
        """True when no tokenizer was given and token counts are a named estimate."""
        return bool(self.meta["token_counter"]["estimate"])

    @property
    def token_counter(self) -> str:
        """Name of what counted the tokens."""
        return str(self.meta["token_counter"]["name"])

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What its reader should know of the rows: counted, with the first row and the setting."""
        return findings_of(self.meta["findings"]) if self.noticed is None else self.noticed

    @property
    def ids(self) -> pa.StringArray:
        """All ids, read from the store on every access, `(n,)`."""
        arrays = [self.read(rows, ["id"]).column("id") for rows in self.batches()]
        return pa.concat_arrays(arrays) if arrays else pa.array([], pa.string())

    @cached_property
    def stats(self) -> PoolStats:
        """What `estimate` needs."""
        return self.stats_of(range(len(self)))

    def stats_of(self, rows: Int1D | range) -> PoolStats:
        """`stats` of some rows; the share of what is learned is the pool's."""
        whole, size, tokens = len(rows), 0, 0
        counts = np.zeros(LENGTH_BINS, np.int64)
        for at in range(0, whole, _COUNTED):  # what is worked with stays small beside the columns
            some = np.asarray(rows[at : at + _COUNTED])
            n_tokens = self.n_tokens[some]
            bins = np.floor(3 * np.log2(np.maximum(n_tokens, 1))).astype(np.int64)
            counts += np.bincount(np.minimum(bins, LENGTH_BINS - 1), minlength=LENGTH_BINS)
            size, tokens = size + int(self.n_bytes[some].sum()), tokens + int(n_tokens.sum())
        return PoolStats(
            n=whole,
            n_bytes=size,
            n_tokens=tokens,
            token_lengths=tuple(int(c) for c in counts),
            tasks=self.task_names,
            kind=self.kind,
            learned=min(self.meta["learned_bytes"] / max(int(self.n_bytes.sum()), 1), 1.0),
        )

    def batches(self) -> Iterator[range]:
        """Row ranges of the store's batches: bounded in rows and bytes, set when it was written."""
        starts = self.meta["batch_starts"]
        yield from map(range, starts, [*starts[1:], len(self)])

    def parts(self, rows: Int1D) -> list[slice]:
        """Where the rows of each batch of the store are among ascending rows; none is empty."""
        cuts = np.searchsorted(rows, [*self._starts, len(self)]).tolist()
        return [slice(a, b) for a, b in pairwise(cuts) if a < b]

    def texts_of(self, rows: Int1D) -> pa.LargeStringArray:
        """Texts of ascending rows of one batch of the store, at least one."""
        number = int(np.searchsorted(self._starts, rows[0], side="right"))
        first, last = int(self._starts[number - 1]), len(self)
        if number < len(self._starts):
            last = int(self._starts[number])
        if len(rows) * _SPARSE < last - first:
            return self.read(rows, ["text"]).column("text")
        texts = self.read(range(first, last), ["text"]).column("text")
        return texts if len(rows) == len(texts) else texts.take(pa.array(rows - first))

    def texts(self, rows: Int1D) -> Iterator[tuple[slice, pa.LargeStringArray]]:
        """Texts of ascending rows, a batch of the store at a time, and where they are in `rows`."""
        for part in self.parts(rows):
            yield part, self.texts_of(rows[part])

    def read(self, rows: range | npt.ArrayLike, columns: Sequence[str]) -> pa.RecordBatch:
        """Any rows, in the order asked for.

        Args:
            rows: A range, or row indices in any order, repeats allowed; at most 2 GiB of text.
            columns: Of `id source task n_bytes n_tokens id_hash content_hash` · the derived
                `text prompt first_message completion chosen rejected messages` · `record`, the
                user's own row as JSON bytes · for chunks `parent start end`.

        Raises:
            DataError: A column is not one of these, or a row is outside the pool.

        **Cost:** a range reads its batches of the store, and one that is a batch is not copied;
        scattered rows read the pages they lie on.
        """
        indices = self._checked(rows)
        stored = {c for c in columns if c in STORED}
        if any(c in DERIVED for c in columns):
            stored.add("turns")
        batch = self._stored(rows, indices, sorted(stored)) if stored else None
        out = [self._column(c, indices, batch) for c in columns]
        return pa.RecordBatch.from_arrays(out, list(columns))

    def _checked(self, rows: range | npt.ArrayLike) -> Int1D:
        """Row indices as an array, each inside the pool."""
        if isinstance(rows, range):
            indices = np.arange(rows.start, rows.stop, rows.step)
        else:
            indices = np.asarray(rows)
            if indices.ndim != 1 or (len(indices) and indices.dtype.kind not in "iu"):
                raise DataError(
                    f"rows have shape {indices.shape} and type {indices.dtype}; expected a range "
                    "or one-dimensional row indices"
                )
        if len(indices) and not (indices.min() >= 0 and indices.max() < len(self)):
            raise DataError(f"rows {indices.min()}..{indices.max()} of a pool of {len(self)}")
        return indices.astype(np.int64, copy=False)

    def _column(self, name: str, rows: Int1D, batch: pa.RecordBatch | None) -> pa.Array:
        if batch is not None and name == "id":
            return self._named(batch.column("id"), rows)
        if batch is not None and name in batch.schema.names:
            return batch.column(name)
        if batch is not None and name in DERIVED:
            turns = batch.column("turns")
            return derive(turns, name, self.meta["template"], chat=self.kind != "text")
        if name in {"source", "task"}:
            codes = self._index[name][rows]
            return pa.array(self.meta[f"{name}_names"], pa.string()).take(pa.array(codes))
        if name in NUMERIC:
            return pa.array(getattr(self, name)[rows])
        if name == "record":
            return pa.array(self.records(rows), pa.large_binary())
        raise DataError(f"a pool has no column {name!r}; it has id, text, messages, record, …")

    def _named(self, ids: pa.StringArray, rows: Int1D) -> pa.StringArray:
        """Given ids; where there was none, the content's hash and, for copies, their number."""
        if ids.null_count == 0:
            return ids
        names = hexadecimal(self.content_hash[rows])
        copy = pa.array(self.copy_number[rows])
        numbered = pc.binary_join_element_wise(names, copy.cast(pa.string()), "~")
        return pc.coalesce(ids, pc.if_else(pc.greater(copy, 1), numbered, names))

    def _stored(
        self, asked: range | npt.ArrayLike, rows: Int1D, columns: list[str]
    ) -> pa.RecordBatch:
        """Stored columns of any rows."""
        absent = [c for c in columns if c not in self.meta["stored_columns"]]
        if absent:
            raise DataError(f"this pool has no column {absent[0]!r}; it holds no chunks")
        if not (isinstance(asked, range) and asked.step == 1 and len(asked)):
            return self._pool_shards.gather(rows, columns)
        first, last = np.searchsorted(self._starts, (rows[0], rows[-1]), side="right") - 1
        read: list[pa.RecordBatch] = []
        for shard, numbers in self._pool_shards.by_file(range(first, last + 1)):
            self._pool_shards.verify(shard, numbers, columns)
            file = self._pool_shards.files[shard]
            if isinstance(file, RemoteFile) and "turns" in columns:  # nearly all there is, at once
                file.hold(*self._pool_shards.places(shard, numbers))
            with telling_damage(file):
                reader = self._reader(shard, tuple(columns))
                read += [reader.get_batch(b).select(columns) for b in numbers]
        whole = read[0] if len(read) == 1 else pa.concat_batches(read)
        return whole.slice(int(rows[0] - self._starts[first]), len(rows))

    @cached_property
    def _pool_shards(self) -> ArrowShards:
        starts = self._numbers("shard_rows")
        firsts = np.searchsorted(self._starts, starts)
        return self._arrow_shards("pool", self._starts, "pool_offsets", firsts)

    @cached_property
    def _row_shards(self) -> ArrowShards:
        starts = self._numbers("record_batch_starts")
        firsts = np.searchsorted(starts, self._numbers("shard_records"))
        return self._arrow_shards("rows", starts, "rows_offsets", firsts)

    def _arrow_shards(self, name: str, starts: Int1D, offsets: str, firsts: Int1D) -> ArrowShards:
        files = [self.file(shard_name(name, shard, "arrow")) for shard in range(len(firsts))]
        return ArrowShards(files, starts, self._numbers(offsets), firsts)

    def _reader(self, shard: int, columns: tuple[str, ...]) -> pa.ipc.RecordBatchFileReader:
        """A reader of this thread's own: readers keep state and are not shared."""
        readers: dict[tuple[int, tuple[str, ...]], Any]
        readers = self._local.__dict__.setdefault("readers", {})
        if (shard, columns) not in readers:
            while len(readers) >= _READERS:
                del readers[next(iter(readers))]
            names = self.meta["stored_columns"]
            options = pa.ipc.IpcReadOptions(included_fields=[names.index(c) for c in columns])
            # OSFile rather than a memory map: mapped pages would count as this process's memory.
            file = self._pool_shards.files[shard]
            if isinstance(file, RemoteFile):
                source = pa.PythonFile(file.stream(), mode="r")
            else:
                source = pa.OSFile(str(file.path))
            readers[shard, columns] = pa.ipc.open_file(source, options=options)
        return readers[shard, columns]

    def known(self, rows: Int1D) -> Known:
        """What a handle has to know to give the records of some rows; see `knowing`."""
        distinct = np.unique(rows)
        return Known(distinct, {name: self._index[name][distinct] for name in _OF_RECORDS})

    def knowing(self, known: Known) -> Pool:
        """A handle for records of some rows, that does not load the index: for workers.

        Of the numeric columns it has `n_bytes`, to be asked for these rows alone.
        """
        handle = Pool(self.path, self.fingerprint)
        index = {name: _Some(known.rows, values) for name, values in known.values.items()}
        # and what was read of the store and verified once is not again
        vars(handle).update(_index=index, _files=self._files, _entry=self._entry, meta=self.meta)
        return handle

    @property
    def record_format(self) -> Literal["json", "arrow"]:
        """Whether the user's rows came as JSON text or as Arrow rows."""
        found: Literal["json", "arrow"] = self.meta["record_format"]
        return found

    def records(self, rows: range | npt.ArrayLike) -> Iterator[bytes]:
        """The user's own rows as JSON: their original bytes, or an Arrow row written as JSON.

        A chunk is its parent's row with the chunk as its text, its own id, and `parent`, `start`,
        `end`.
        """
        indices = self._checked(rows)
        if self.record_format == "json" and self.meta["unit"] == "sample":
            yield from self._json_records(indices)
            return
        for at in range(0, len(indices), _RECORDS):
            some = indices[at : at + _RECORDS]
            if self.record_format == "arrow":
                yield from arrow_rows_as_json(self.record_table(some))
            else:
                yield from chunk_records(self._json_records(some), self._chunks(some))

    def _json_records(self, rows: Int1D) -> Iterator[bytes]:
        start = self._index["record_start"][rows]
        length = self._index["record_length"][rows].astype(np.int64)
        firsts = self._numbers("shard_records")
        names = (shard_name("records", shard, "bin") for shard in range(len(firsts)))
        return json_records([self.file(name) for name in names], firsts, start, length)

    @cached_property
    def record_schema(self) -> pa.Schema:
        """The schema of the user's own Arrow rows. Only for `record_format` "arrow"."""
        return pa.ipc.read_schema(pa.py_buffer(self.file("rows.schema").read()))

    def record_table(self, rows: range | npt.ArrayLike) -> pa.Table:
        """The user's own Arrow rows, in the order asked for. Only for `record_format` "arrow"."""
        indices = self._checked(rows)
        places = self._index["record_start"][indices]
        found = self._row_shards.gather(places, self.record_schema.names)
        table = pa.Table.from_batches([found]).cast(self.record_schema)
        return table if self.meta["unit"] == "sample" else chunk_table(table, self._chunks(indices))

    def select(self, rows: range | npt.ArrayLike | Chosen) -> pa.Table:
        """The user's own rows as a table, with their columns as they came, in the order asked for.

        Args:
            rows: A selection, an order, a range, or row indices, repeats allowed.

        Raises:
            PoolMismatchError: The selection or order belongs to another pool.
            DataError: Rows that came as JSON have no common type; `records` gives them as they are.

        **Cost:** the rows in memory.
        """
        indices = self._checked(self._rows_of(rows))
        if self.record_format == "arrow":
            return self.record_table(indices)
        return json_rows_as_table(self.records(indices))

    def to_dataset(self, rows: range | npt.ArrayLike | Chosen | None = None) -> Any:
        """The user's own rows as a `datasets.Dataset`, in the order asked for.

        Objects in rows that came as JSON keep their own keys, without nulls for those of others.

        Args:
            rows: As in `select`; all of the pool when None.

        Raises:
            MissingDependencyError: `datasets` is not installed: `pip install 'didact[hf]'`.
            PoolMismatchError: The selection or order belongs to another pool.
            DataError: The library has no type for what a column holds.
        """
        need("a data set of the library datasets", "hf")
        import datasets

        wanted = range(len(self)) if rows is None else self._rows_of(rows)
        as_arrow = self.record_format == "arrow"
        found: Any = self.select(wanted) if as_arrow else uniform_rows(self.records(wanted))
        try:
            if as_arrow:
                return datasets.Dataset(found)
            return datasets.Dataset.from_list(found, on_mixed_types="use_json")
        except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
            raise DataError(
                f"the library datasets cannot hold these rows ({error}); expected columns of types "
                "that it knows: take pool.records(rows), which gives every row as it came"
            ) from error

    def _rows_of(self, rows: range | npt.ArrayLike | Chosen) -> range | npt.ArrayLike:
        """The row indices of a selection or order, which must be of this pool."""
        if not isinstance(rows, Chosen):
            return rows
        if rows.pool_fingerprint != self.fingerprint:
            raise PoolMismatchError(
                f"the rows belong to pool {rows.pool_fingerprint[:12]}…, this is pool "
                f"{self.fingerprint[:12]}…; pass the pool they were chosen from"
            )
        return rows.rows

    def _chunks(self, rows: Int1D) -> list[dict[str, Any]]:
        """What each chunk puts over its parent's row, by the user's names."""
        batch = self.read(rows, ["id", "text", *_PLACE])
        mapped = self.meta["columns"]
        names = [mapped.get(n, n).removeprefix("-") or n for n in ("id", "text")]
        chunks: list[dict[str, Any]] = batch.rename_columns([*names, *_PLACE]).to_pylist()
        return chunks
