"""Pool: a frozen handle on a canonical store of samples.

The store is a folder that `didact.data` writes once and nobody changes:

```text
meta.json      what the pool is: kind, template, files, batch boundaries, counts, fingerprint
index.arrow    numeric columns, in memory while the pool is used (61 bytes a row)
pool.arrow     id and turns, one Arrow record batch per pool batch; read by row ranges
records.bin    the user's own JSON rows, byte for byte, addressed by the index; or
rows.arrow     the user's own Parquet or Arrow rows
```
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from didact.core.errors import DataError
from didact.core.render import DERIVED, derive
from didact.core.scores import Bool1D, Int1D

Kind = Literal["text", "chat", "pair", "labelled"]
KINDS: tuple[Kind, ...] = ("text", "chat", "pair", "labelled")
STORE_VERSION = 1
LENGTH_BINS = 64
_PART = 4096  # rows put together at a time
STORED = ("id", "turns", "parent", "start", "end")
NUMERIC = ("n_bytes", "n_tokens", "id_hash", "group", "source", "task")


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
    """

    n: int
    n_bytes: int
    n_tokens: int
    token_lengths: tuple[int, ...]
    tasks: tuple[str, ...]
    kind: Kind


@dataclass(frozen=True)
class Pool:
    """An immutable table of samples; pickles as a path and a fingerprint.

    Attributes:
        path: The store's folder.
        fingerprint: Identity of content, ids, sources, token counts and settings.
    """

    path: Path
    fingerprint: str
    _local: threading.local = field(
        default_factory=threading.local, init=False, repr=False, compare=False
    )

    def __reduce__(self) -> tuple[Any, ...]:
        return (Pool, (self.path, self.fingerprint))

    def __len__(self) -> int:
        return int(self.meta["n"])

    @cached_property
    def meta(self) -> dict[str, Any]:
        """The store's own description."""
        try:
            meta: dict[str, Any] = json.loads((self.path / "meta.json").read_text())
        except FileNotFoundError as error:
            raise DataError(
                f"pool {self.fingerprint[:12]}… is not in the cache ({self.path}); "
                "read the pool's files again (on the command line: --pool FILE)"
            ) from error
        if meta["fingerprint"] != self.fingerprint:
            raise DataError(f"the store {self.path} holds another pool; delete it and read again")
        return meta

    @cached_property
    def _index(self) -> dict[str, npt.NDArray[Any]]:
        _ = self.meta  # says so when the store is gone
        with pa.OSFile(str(self.path / "index.arrow")) as file:
            table = pa.ipc.open_file(file).read_all()
        out = {name: table.column(name).to_numpy() for name in table.column_names}
        for array in out.values():
            array.flags.writeable = False
        return out

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
    def id_hash(self) -> npt.NDArray[np.uint64]:
        """64-bit hashes of the ids, `(n,)`."""
        return self._index["id_hash"]

    @property
    def group(self) -> npt.NDArray[np.uint64]:
        """64-bit hashes of the content: equal on exact duplicates, `(n,)`."""
        return self._index["group"]

    @property
    def source_codes(self) -> npt.NDArray[np.int32]:
        """Each row's index into `source_names`, `(n,)`."""
        return self._index["source"]

    @property
    def source_names(self) -> tuple[str, ...]:
        """Names of the sources, in order of first appearance."""
        return tuple(self.meta["source_names"])

    @property
    def task_codes(self) -> npt.NDArray[np.int32]:
        """Each row's index into `task_names`, `(n,)`; all 0 when the pool names no tasks."""
        return self._index["task"]

    @property
    def task_names(self) -> tuple[str, ...]:
        """Names of the target tasks; one unnamed task when the rows carry none."""
        return tuple(self.meta["task_names"])

    @property
    def copy(self) -> npt.NDArray[np.int32]:
        """Which copy of its content each row is, from 1; above 1 on exact duplicates, `(n,)`."""
        return self._index["copy"]

    @property
    def held(self) -> Bool1D:
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

    @cached_property
    def source(self) -> pa.DictionaryArray:
        """The source of each row, dictionary-encoded, `(n,)`."""
        return pa.DictionaryArray.from_arrays(
            pa.array(self.source_codes), pa.array(self.source_names, pa.string())
        )

    @property
    def ids(self) -> pa.StringArray:
        """All ids, read from the store on every access, `(n,)`."""
        parts = [self.read(rows, ["id"]).column("id") for rows in self.batches()]
        return pa.concat_arrays(parts) if parts else pa.array([], pa.string())

    @cached_property
    def stats(self) -> PoolStats:
        """What `estimate` needs."""
        bins = np.floor(3 * np.log2(np.maximum(self.n_tokens, 1))).astype(np.int64)
        counts = np.bincount(np.minimum(bins, LENGTH_BINS - 1), minlength=LENGTH_BINS)
        return PoolStats(
            n=len(self),
            n_bytes=int(self.n_bytes.sum()),
            n_tokens=int(self.n_tokens.sum()),
            token_lengths=tuple(int(c) for c in counts),
            tasks=self.task_names,
            kind=self.kind,
        )

    def batches(self) -> Iterator[range]:
        """Row ranges of the store's batches: bounded in rows and bytes, set when it was written."""
        starts = self.meta["batch_starts"]
        for start, stop in zip(starts, [*starts[1:], len(self)], strict=True):
            yield range(start, stop)

    def read(self, rows: range | Int1D, columns: Sequence[str]) -> pa.RecordBatch:
        """Any rows, in the order asked for.

        Args:
            rows: A range, or row indices in any order, repeats allowed.
            columns: Of `id source task n_bytes n_tokens id_hash group` · the derived `text prompt
                completion chosen rejected messages` · `record`, the user's own row as JSON bytes ·
                for chunks `parent start end`.

        Raises:
            DataError: A column is not one of these, or a row is outside the pool.

        Cost: reads whole batches of the store; a range that is one batch is read without a copy.
        """
        indices = np.arange(rows.start, rows.stop) if isinstance(rows, range) else np.asarray(rows)
        if len(indices) and not (indices.min() >= 0 and indices.max() < len(self)):
            raise DataError(f"rows {indices.min()}..{indices.max()} of a pool of {len(self)}")
        stored = {c for c in columns if c in STORED}
        if any(c in DERIVED for c in columns):
            stored.add("turns")
        batch = self._stored(rows, indices, sorted(stored)) if stored else None
        out = [self._column(c, indices, batch) for c in columns]
        return pa.RecordBatch.from_arrays(out, list(columns))

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
            return pa.array(self._index[name][rows])
        if name == "record":
            return pa.array(self.records(rows), pa.large_binary())
        raise DataError(f"a pool has no column {name!r}; it has id, text, messages, record, …")

    def _named(self, ids: pa.StringArray, rows: Int1D) -> pa.StringArray:
        """Given ids; where there was none, the content's hash and, for copies, their number."""
        if ids.null_count == 0:
            return ids
        names = ids.to_pylist()
        for i in np.flatnonzero(ids.is_null().to_numpy(zero_copy_only=False)):
            copy = self._index["copy"][rows[i]]
            names[i] = f"{self.group[rows[i]]:016x}" + (f"~{copy}" if copy > 1 else "")
        return pa.array(names, pa.string())

    def _stored(self, asked: range | Int1D, rows: Int1D, columns: list[str]) -> pa.RecordBatch:
        """Stored columns of any rows: each touched batch is read once, then put in order."""
        starts = np.asarray(self.meta["batch_starts"], dtype=np.int64)
        reader = self._reader(tuple(columns))
        of_batch = np.searchsorted(starts, rows, side="right") - 1
        touched = np.unique(of_batch)
        if len(touched) == 1 and isinstance(asked, range):
            whole = reader.get_batch(int(touched[0]))
            return whole.slice(int(rows[0] - starts[touched[0]]), len(rows)).select(columns)
        pieces, places = [], []
        for b in touched:
            at = np.flatnonzero(of_batch == b)
            pieces.append(
                reader.get_batch(int(b)).select(columns).take(pa.array(rows[at] - starts[b]))
            )
            places.append(at)
        if not pieces:
            empty = [pa.array([], reader.schema.field(c).type) for c in columns]
            return pa.RecordBatch.from_arrays(empty, columns)
        order = np.argsort(np.concatenate(places))
        return pa.concat_batches(pieces).take(pa.array(order))

    def _reader(self, columns: tuple[str, ...]) -> pa.ipc.RecordBatchFileReader:
        """A reader of this thread's own: readers keep state and are not shared."""
        readers: dict[tuple[str, ...], Any] = self._local.__dict__.setdefault("readers", {})
        if columns not in readers:
            names = self.meta["stored_columns"]
            absent = [c for c in columns if c not in names]
            if absent:
                raise DataError(f"this pool has no column {absent[0]!r}; it holds no chunks")
            options = pa.ipc.IpcReadOptions(included_fields=[names.index(c) for c in columns])
            # OSFile rather than a memory map: mapped pages would count as this process's memory.
            file = pa.OSFile(str(self.path / "pool.arrow"))
            readers[columns] = pa.ipc.open_file(file, options=options)
        return readers[columns]

    @property
    def record_format(self) -> Literal["json", "arrow"]:
        """Whether the user's rows came as JSON text or as Arrow rows."""
        found: Literal["json", "arrow"] = self.meta["record_format"]
        return found

    def records(self, rows: Int1D | range) -> Iterator[bytes]:
        """The user's own rows as JSON: their original bytes, or an Arrow row written as JSON.

        A chunk is its parent's row with the chunk as its text, and `parent`, `start`, `end`.
        """
        indices = np.asarray(rows)
        if self.record_format == "arrow":
            yield from self._arrow_rows_as_json(indices)
            return
        whole = self._json_rows(indices)
        if self.meta["unit"] == "sample":
            yield from whole
            return
        for at in range(0, len(indices), _PART):
            for chunk, record in zip(self._chunks(indices[at : at + _PART]), whole, strict=False):
                row = json.loads(record) | chunk
                yield json.dumps(row, ensure_ascii=False).encode()

    def _json_rows(self, rows: Int1D) -> Iterator[bytes]:
        start = self._index["record_start"][rows].tolist()
        length = self._index["record_length"][rows].tolist()
        with (self.path / "records.bin").open("rb", buffering=0) as file:
            for s, n in zip(start, length, strict=True):
                file.seek(s)
                yield file.read(n)

    def _chunks(self, rows: Int1D) -> list[dict[str, Any]]:
        """What each chunk puts over its parent's row."""
        text = self.meta["columns"].get("text", "text")
        batch = self.read(rows, ["id", "text", "parent", "start", "end"])
        return batch.rename_columns(["id", text, "parent", "start", "end"]).to_pylist()

    def record_table(self, rows: Int1D) -> pa.Table:
        """The user's own Arrow rows, in the order asked for. Only for `record_format` "arrow"."""
        with pa.memory_map(str(self.path / "rows.arrow")) as file:
            table = pa.ipc.open_file(file).read_all()
            table = table.take(pa.array(self._index["record_start"][np.asarray(rows)]))
        if self.meta["unit"] == "sample":
            return table
        chunks = pa.Table.from_pylist(self._chunks(rows), schema=self._chunk_schema())
        kept = [name for name in table.column_names if name not in chunks.column_names]
        for name in kept:
            chunks = chunks.append_column(table.schema.field(name), table.column(name))
        return chunks

    def _chunk_schema(self) -> pa.Schema:
        text = self.meta["columns"].get("text", "text")
        return pa.schema(
            [("id", pa.string()), (text, pa.string()), ("parent", pa.string()),
             ("start", pa.int64()), ("end", pa.int64())]
        )  # fmt: skip

    def _arrow_rows_as_json(self, rows: Int1D) -> Iterator[bytes]:
        for at in range(0, len(rows), _PART):
            for row in self.record_table(rows[at : at + _PART]).to_pylist():
                yield json.dumps(row, ensure_ascii=False, default=_json_scalar).encode()


def _json_scalar(value: object) -> object:
    """Arrow values JSON has no type for: dates as ISO 8601, bytes as text."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
