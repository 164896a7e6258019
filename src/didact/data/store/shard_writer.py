"""Writes one shard of the canonical store of a pool, batch by batch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from didact.core.arrays import Bool1D, Int1D, UInt64s
from didact.core.atomic import sync
from didact.core.checksums import Checksums
from didact.core.errors import DataError
from didact.core.hashing import hexadecimal
from didact.core.pool import Kind, shard_name
from didact.core.render import REJECTED, derive
from didact.data.reading.incoming import BadRow, IncomingRows, turns_array
from didact.data.reading.settings import DataSettings
from didact.data.rows.columns import shown
from didact.data.rows.sayings import dropping
from didact.data.store import lessons
from didact.data.store.chunks import cut
from didact.data.store.gathered import Gathered
from didact.data.store.left_out import LeftOut
from didact.data.store.record_writers import ArrowRecords, ArrowWriter, JsonRecords
from didact.data.store.row_identity import Seen, content_hashes, text_hashes
from didact.data.store.shard import INDEX, PARTS, Known, Names, Shard, stored_columns
from didact.data.store.token_counts import TokenCounter

# rows of a batch that share held-out text: (row in the batch, what they share)
Overlap = Callable[[pa.LargeStringArray], Sequence[tuple[int, str]]]


class EndsEarly(Exception):  # noqa: N818 - no error: which row is at fault is not known yet
    """A row of a shard is bad, and bad rows are errors."""


class ShardWriter:
    """Writes one shard: `add` batches in row order, then `finish`; a context to be entered."""

    def __init__(
        self,
        folder: Path,
        number: int,
        settings: DataSettings,
        counter: TokenCounter,
        *,
        overlap: Overlap | None = None,
        rows_schema: pa.Schema | None = None,
        skip: str = "on_bad_row=skip",
        known: Known | None = None,
    ) -> None:
        """Open the files of a shard.

        Args:
            folder: The folder of the store; what only its writer needs goes to `parts` in it.
            number: The number of the shard.
            settings: How rows are read.
            counter: Counts tokens.
            overlap: Finds rows that share held-out text; they are dropped.
            rows_schema: The schema of the user's rows when they come as Arrow.
            skip: The setting that skips bad rows and what it does, for messages.
            known: What other shards tell of its rows; None while nobody knows.
        """
        self._folder, self._number = folder, number
        self._settings, self._counter = settings, counter
        self._overlap, self._skip = overlap, skip
        self._chunked = settings.unit == "chunk"
        self._schema = pa.schema(stored_columns(settings))
        self._files = contextlib.ExitStack()
        self._index: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in INDEX}
        self._names = {name: Names(name) for name in ("source", "task")}
        self._seen_ids, self._seen_texts = Seen(), Seen()
        self._known = known
        self._repeated = Known().repeated if known is None else known.repeated
        # of texts that are cut and have copies
        self._copies = {} if known is None else dict(known.copies)
        self._seen_texts.repeats(np.fromiter(self._copies, np.uint64))
        self._given: list[UInt64s] = []
        self._unnamed: list[UInt64s] = []
        self._batch_starts: list[int] = []
        self._rows_schema = rows_schema
        self._kind: Kind = "text"
        self._learned_bytes = 0
        self._gathered = Gathered()
        self._n = self._n_read = self._n_given = 0

    def __enter__(self) -> Self:
        folder, number, files = self._folder, self._number, self._files
        parts = folder / PARTS
        parts.mkdir(exist_ok=True)
        self._pool = ArrowWriter(folder / shard_name("pool", number, "arrow"), self._schema, files)
        self._left_out = LeftOut(parts, number, files)
        self._records: JsonRecords | ArrowRecords = (
            JsonRecords(folder / shard_name("records", number, "bin"), files)
            if self._rows_schema is None
            else ArrowRecords(
                folder / shard_name("rows", number, "arrow"), files, self._rows_schema
            )
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):  # after a failure the folder goes anyway
            self._files.close()

    # -- one batch ---------------------------------------------------------------------------------

    def add(self, batch: IncomingRows) -> None:
        """Write one batch: bad rows, repeated ids and held-out text out, tokens counted.

        Raises:
            DataError: A row is bad and bad rows are errors.
            EndsEarly: The same, while nobody knows whether one of another shard is.
        """
        self._n_read += len(batch)
        keep = np.ones(len(batch.turns), dtype=bool)
        ids = pa.array(batch.ids, pa.string())
        id_hash = np.zeros(len(keep), dtype=np.uint64)
        given = np.flatnonzero(ids.is_valid().to_numpy(zero_copy_only=False))
        id_hash[given] = text_hashes(ids.drop_null())
        keep[given[self._repeats(id_hash[given])]] = False
        unwanted = {int(row): (_repeated(batch.ids[row]), False) for row in np.flatnonzero(~keep)}
        if not batch.turns:
            self._reject(batch, unwanted)
            return
        self._kind = batch.kind
        turns = turns_array(batch.turns)
        marks = lessons.kinds_of(turns, batch.kind, batch.marks)
        for dropped in self._settings.drop:
            for row in marks.pop(dropped, ()):
                unwanted.setdefault(int(row), (dropping(dropped), True))
                self._gathered.dropped.add(dropped)
                keep[row] = False
        self._reject(batch, unwanted)
        texts = derive(turns, "text", self._settings.template, chat=batch.kind != "text")
        columns = {
            "id": ids,
            "turns": turns,
            "id_hash": id_hash,
            "group": content_hashes(turns, batch.beside_turns()),
            "n_bytes": pc.binary_length(texts).to_numpy(),
        }
        if self._overlap is not None:
            self._exclude(batch, columns, keep, self._overlap(texts))
        kept = np.flatnonzero(keep)
        if not len(kept):
            return
        for kind, rows in marks.items():
            self._gathered.add(kind, batch, rows[keep[rows]])
        columns["record_start"] = np.zeros(len(keep), np.int64)
        columns["record_length"] = np.zeros(len(keep), np.int32)
        columns["record_start"][kept], columns["record_length"][kept] = self._records.write(
            batch, kept
        )
        for name, given_names in (("source", batch.sources), ("task", batch.tasks)):
            column = pa.array(given_names, pa.string())
            codes = np.zeros(len(keep), np.int32)
            codes[kept] = self._names[name].of(column.take(pa.array(kept)))
            columns[name] = codes
        if self._chunked:
            self._append(*self._chunks(columns, texts, kept))
        else:
            columns["n_tokens"] = self._counter.count(texts)
            self._append(columns, kept)

    def _repeats(self, hashes: UInt64s) -> Bool1D:
        """True on those of some given ids that an earlier row has."""
        again = self._seen_ids.repeats(hashes)
        first, last = np.searchsorted(self._repeated, (self._n_given, self._n_given + len(hashes)))
        again[self._repeated[first:last] - self._n_given] = True
        self._given.append(hashes)
        self._n_given += len(hashes)
        return again

    def _reject(self, batch: IncomingRows, unwanted: Mapping[int, tuple[str, bool]]) -> None:
        """Bad rows and unwanted ones: an error, or lines of rejected.jsonl, in row order.

        Args:
            batch: The rows.
            unwanted: Samples that are not kept, by their row: why, and whether on request.
        """
        bad = list(batch.bad)
        for i, (reason, asked) in unwanted.items():
            bad.append(BadRow(i, batch.files[i], batch.numbers[i], reason, batch.raw(i), asked))
        bad.sort(key=lambda row: row.place)  # at one place, those that are no sample come first
        for row in bad:
            if self._settings.on_bad_row == "raise" and not row.asked:
                if self._known is None:
                    raise EndsEarly
                raise DataError(
                    f"{row.file.path}: row {row.number}: {row.reason}. To go on without such "
                    f"rows, set {self._skip}"
                )
            self._left_out.reject(row, self._settings.max_row_bytes)

    def _exclude(
        self,
        batch: IncomingRows,
        columns: dict[str, Any],
        keep: Bool1D,
        found: Iterable[tuple[int, str]],
    ) -> None:
        """Rows that share text with held-out files: listed, not kept."""
        for row, shared in found:
            if keep[row]:
                keep[row] = False
                name = batch.ids[row] or hexadecimal(columns["group"][row : row + 1])[0].as_py()
                self._left_out.exclude(name, batch.files[row], batch.numbers[row], shared)

    def _chunks(
        self, columns: dict[str, Any], texts: pa.LargeStringArray, kept: Int1D
    ) -> tuple[dict[str, Any], Int1D]:
        """Each kept text cut into units; every other column repeated per unit."""
        chunk, counter = self._settings.chunk, self._counter
        spans: list[tuple[int, int]] = []
        pieces: list[str] = []
        per_text = []
        for text in texts.take(pa.array(kept)).to_pylist():
            found = cut(
                text, counter.ends(text), counter.count_one, max_tokens=chunk.max_tokens,
                at_sentences=chunk.at == "sentence",
            )  # fmt: skip
            spans += found
            pieces += [text[a:b] for a, b in found]
            per_text.append(len(found))
        at = np.repeat(kept, per_text)
        start, end = np.asarray(spans, np.int64).T
        parents = self._parents(columns, kept).take(
            pa.array(np.repeat(np.arange(len(kept)), per_text))
        )
        ids = pc.binary_join_element_wise(parents, pa.array(start).cast(pa.string()), "#")
        text_array = pa.array(pieces, pa.large_string())
        turns = turns_array([[(0, "text", piece, 1.0)] for piece in pieces])
        out: dict[str, Any] = {
            name: values[at] for name, values in columns.items() if isinstance(values, np.ndarray)
        }
        out |= {
            "id": ids,
            "id_hash": text_hashes(ids),
            "parent": parents,
            "start": start,
            "end": end,
            "turns": turns,
            "group": content_hashes(turns, np.zeros(len(at), np.uint64)),
            "n_bytes": pc.binary_length(text_array).to_numpy(),
            "n_tokens": counter.count(text_array),
        }
        return out, np.arange(len(at))

    def _parents(self, columns: dict[str, Any], kept: Int1D) -> pa.StringArray:
        """The ids of texts to be cut; without one, the content and, for copies, their number."""
        given = columns["id"].take(pa.array(kept))
        unnamed = np.flatnonzero(given.is_null().to_numpy(zero_copy_only=False))
        contents = columns["group"][kept]
        names = hexadecimal(contents).to_pylist()
        self._unnamed.append(contents[unnamed])
        for i in unnamed[self._seen_texts.repeats(contents[unnamed])]:
            copy = self._copies[int(contents[i])] = self._copies.get(int(contents[i]), 1) + 1
            names[i] += f"~{copy}"
        return pc.coalesce(given, pa.array(names, pa.string()))

    def _append(self, columns: dict[str, Any], chosen: Int1D) -> None:
        """Rows of a finished batch, written as one or more record batches of bounded size."""
        sizes = np.cumsum(columns["n_bytes"][chosen])
        step = np.arange(len(chosen)) // self._settings.batch_rows
        if self._chunked:
            step = np.maximum(step, (sizes - 1) // self._settings.batch_bytes)
        arrays = [pa.array(columns[f.name], f.type) for f in self._schema]
        whole = pa.RecordBatch.from_arrays(arrays, schema=self._schema)
        if len(chosen) < len(whole):
            whole = whole.take(pa.array(chosen))
        self._learned_bytes += _learned_bytes(whole.column("turns"))
        starts = np.flatnonzero(np.diff(step, prepend=-1))
        for start, stop in zip(starts, [*starts[1:], len(chosen)], strict=True):
            self._pool.write(whole.slice(start, stop - start))
            self._batch_starts.append(self._n + int(start))
        self._n += len(chosen)
        for name, dtype in INDEX.items():
            self._index[name].append(columns[name][chosen].astype(dtype, copy=False))

    # -- the end -----------------------------------------------------------------------------------

    def finish(self, *, failed: bool = False) -> Shard:
        """Close the files, and wait until they are on the disk.

        Args:
            failed: A row is bad and bad rows are errors: nothing but `given` will be looked at.
        """
        self._pool.finish()
        self._records.finish()
        self._left_out.finish()
        self._files.close()
        index = {name: _joined(self._index.pop(name), INDEX[name]) for name in INDEX}
        files: dict[str, Checksums] = {}
        if not failed:
            batch = pa.RecordBatch.from_pydict({name: pa.array(v) for name, v in index.items()})
            part = self._folder / PARTS / shard_name("index", self._number, "arrow")
            with pa.ipc.new_file(str(part), batch.schema) as file:
                file.write_batch(batch)
            for path in (self._pool.path, self._records.path):
                files[path.name] = Checksums.of(path)
                sync(path)
        records = self._records
        arrow = records if isinstance(records, ArrowRecords) else None
        return Shard(
            number=self._number,
            n=self._n,
            n_read=self._n_read,
            kind=self._kind,
            failed=failed,
            groups=index["group"],
            given=_joined(self._given, np.uint64),
            unnamed=_joined(self._unnamed, np.uint64),
            names={name: list(names.codes) for name, names in self._names.items()},
            batch_starts=self._batch_starts,
            pool_offsets=self._pool.offsets,
            record_starts=[] if arrow is None else arrow.batch_starts,
            record_offsets=[] if arrow is None else arrow.file.offsets,
            n_records=records.size,
            records="" if isinstance(records, ArrowRecords) else records.digest,
            learned_bytes=self._learned_bytes,
            gathered=self._gathered,
            left_out=self._left_out.counts,
            first_left_out=self._left_out.first,
            files=files,
        )


def _joined(arrays: list[npt.NDArray[Any]], dtype: Any) -> npt.NDArray[Any]:
    return np.concatenate(arrays) if arrays else np.empty(0, dtype)


def _repeated(id_: str | None) -> str:
    return (
        f"the id {shown(id_)} was already given to an earlier row; expected unique ids: rename "
        "one, or map another column with --data columns.id=COLUMN (in a config: data.columns.id; "
        "columns.id=- makes ids from content)"
    )


def _learned_bytes(turns: pa.ListArray) -> int:
    """Bytes of the turns that a trainer learns, the chosen answer of a pair."""
    turn = turns.flatten()
    learned = pc.and_(
        pc.greater(turn.field("weight"), 0), pc.not_equal(turn.field("part"), REJECTED)
    )
    return pc.sum(pc.binary_length(turn.field("content").filter(learned))).as_py() or 0
