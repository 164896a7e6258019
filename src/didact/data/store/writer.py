"""Writes the canonical store of a pool, batch by batch; `didact.core.pool` reads it."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from didact.core.arrays import Bool1D, Int1D, Int32s, UInt64s
from didact.core.errors import DataError
from didact.core.hashing import hexadecimal
from didact.core.manifest import fingerprint
from didact.core.pool import STORE_VERSION, Kind
from didact.core.render import REJECTED, TURNS, derive
from didact.data.reading.incoming import BadRow, IncomingRows, turns_array
from didact.data.reading.settings import DataSettings
from didact.data.rows.columns import shown
from didact.data.rows.sayings import dropping
from didact.data.store import lessons
from didact.data.store.chunks import cut
from didact.data.store.gathered import Gathered, accounted
from didact.data.store.left_out import LeftOut
from didact.data.store.record_writers import ArrowRecords, ArrowWriter, JsonRecords
from didact.data.store.row_identity import (
    Seen,
    content_hashes,
    copy_numbers,
    mixed,
    text_hashes,
    validation_split,
)
from didact.data.store.token_counts import TokenCounter

# rows of a batch that share held-out text: (row in the batch, what they share)
Overlap = Callable[[pa.LargeStringArray], Sequence[tuple[int, str]]]

_INDEX: Final[dict[str, Any]] = {
    "n_bytes": np.int64,
    "n_tokens": np.int64,
    "id_hash": np.uint64,
    "group": np.uint64,
    "source": np.int32,
    "task": np.int32,
    "record_start": np.int64,
    "record_length": np.int32,
}
_MOST_NAMES: Final = 65_536


@dataclass(slots=True)
class _Names:
    """Text → small codes, in order of first appearance."""

    column: str
    codes: dict[str, int] = field(default_factory=dict)

    def of(self, names: pa.StringArray) -> Int32s:
        """The code of each name, `(n,)`."""
        encoded = names.dictionary_encode()
        distinct = encoded.dictionary.to_pylist()
        codes = [self.codes.setdefault(name, len(self.codes)) for name in distinct]
        if len(self.codes) > _MOST_NAMES:
            raise DataError(
                f"the column {self.column!r} has more than {_MOST_NAMES:,} different values, such "
                f"as {shown(distinct[-1])}; expected names that many rows share: map another "
                f"column with --data columns.{self.column}=COLUMN (columns.{self.column}=- for "
                "none)"
            )
        found: Int32s = np.asarray(codes, np.int32)[encoded.indices.to_numpy()]
        return found


class StoreWriter:
    """Writes one store: `add` batches in row order, then `finish`; a context to be entered."""

    def __init__(
        self,
        folder: Path,
        settings: DataSettings,
        counter: TokenCounter,
        overlap: Overlap | None,
        rows_schema: pa.Schema | None,
        skip: str = "on_bad_row=skip",
    ) -> None:
        """Open the files of a store.

        Args:
            folder: An empty folder.
            settings: How rows are read.
            counter: Counts tokens.
            overlap: Finds rows that share held-out text; they are dropped.
            rows_schema: The schema of the user's rows when they come as Arrow.
            skip: The setting that skips bad rows and what it does, for messages.
        """
        self._folder, self._settings, self._counter = folder, settings, counter
        self._overlap = overlap
        self._chunked = settings.unit == "chunk"
        fields = [("id", pa.string()), ("turns", TURNS)]
        if self._chunked:
            fields += [("parent", pa.string()), ("start", pa.int64()), ("end", pa.int64())]
        self._schema = pa.schema(fields)
        self._files = contextlib.ExitStack()
        self._identity = hashlib.blake2b(digest_size=16)
        self._index = {name: bytearray() for name in _INDEX}
        self._sources, self._tasks = _Names("source"), _Names("task")
        self._seen_ids, self._seen_texts = Seen(), Seen()
        self._copies: dict[np.uint64, int] = {}  # of texts that are cut and have copies
        self._batch_starts: list[int] = []
        self._rows_schema, self._skip = rows_schema, skip
        self.kind: Kind = "text"
        self._learned_bytes = 0
        self._gathered = Gathered()
        self.n = self._n_read = 0

    def __enter__(self) -> Self:
        folder, files, identify = self._folder, self._files, self._identity.update
        self._pool = ArrowWriter(folder / "pool.arrow", self._schema, files)
        self._left_out = LeftOut(folder, files, identify)
        self._records: JsonRecords | ArrowRecords = (
            JsonRecords(folder, files, identify)
            if self._rows_schema is None
            else ArrowRecords(folder, files, self._rows_schema)
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

    @property
    def counts(self) -> dict[str, int]:
        """Rows read so far, rejected and excluded."""
        return {"read": self._n_read, **self._left_out.counts}

    # -- one batch ---------------------------------------------------------------------------------

    def add(self, batch: IncomingRows) -> None:
        """Write one batch: bad rows, repeated ids and held-out text out, tokens counted.

        Raises:
            DataError: A row is bad and bad rows are errors.
        """
        self._n_read += len(batch)
        keep = np.ones(len(batch.turns), dtype=bool)
        ids = pa.array(batch.ids, pa.string())
        id_hash = np.zeros(len(keep), dtype=np.uint64)
        given = np.flatnonzero(ids.is_valid().to_numpy(zero_copy_only=False))
        id_hash[given] = text_hashes(ids.drop_null())
        keep[given[self._seen_ids.repeats(id_hash[given])]] = False
        unwanted = {int(row): (_repeated(batch.ids[row]), False) for row in np.flatnonzero(~keep)}
        if not batch.turns:
            self._reject(batch, unwanted)
            return
        self.kind = batch.kind
        turns = turns_array(batch.turns)
        marks = lessons.kinds_of(turns, self.kind, batch.marks)
        for dropped in self._settings.drop:
            for row in marks.pop(dropped, ()):
                unwanted.setdefault(int(row), (dropping(dropped), True))
                self._gathered.dropped.add(dropped)
                keep[row] = False
        self._reject(batch, unwanted)
        texts = derive(turns, "text", self._settings.template, chat=self.kind != "text")
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
        for name, names, given_names in (
            ("source", self._sources, batch.sources),
            ("task", self._tasks, batch.tasks),
        ):
            column = pa.array(given_names, pa.string())
            codes = np.zeros(len(keep), np.int32)
            codes[kept] = names.of(column.take(pa.array(kept)))
            columns[name] = codes
        if self._chunked:
            self._append(*self._chunks(columns, texts, kept))
        else:
            columns["n_tokens"] = self._counter.count(texts)
            self._append(columns, kept)

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
        for i in unnamed[self._seen_texts.repeats(contents[unnamed])]:
            copy = self._copies[contents[i]] = self._copies.get(contents[i], 1) + 1
            names[i] += f"~{copy}"
        return pc.coalesce(given, pa.array(names, pa.string()))

    def _append(self, columns: dict[str, Any], chosen: Int1D) -> None:
        """Rows of a finished batch, written as one or more record batches of bounded size."""
        sizes = np.cumsum(columns["n_bytes"][chosen])
        step = np.arange(len(chosen)) // self._settings.batch_rows
        if self._chunked:
            step = np.maximum(step, (sizes - 1) // self._settings.batch_bytes)
        self._learned_bytes += _learned_bytes(columns["turns"].take(pa.array(chosen)))
        arrays = [pa.array(columns[f.name], f.type) for f in self._schema]
        whole = pa.RecordBatch.from_arrays(arrays, schema=self._schema)
        if len(chosen) < len(whole):
            whole = whole.take(pa.array(chosen))
        starts = np.flatnonzero(np.diff(step, prepend=-1))
        for start, stop in zip(starts, [*starts[1:], len(chosen)], strict=True):
            self._pool.write(whole.slice(start, stop - start))
            self._batch_starts.append(self.n + int(start))
        self.n += len(chosen)
        for name, dtype in _INDEX.items():
            self._index[name] += np.ascontiguousarray(columns[name][chosen], dtype).data.cast("B")

    # -- the end -----------------------------------------------------------------------------------

    def finish(self, formats: Sequence[str], inputs: Sequence[str], seed: int) -> dict[str, Any]:
        """Index, validation split, fingerprint, meta; the store is complete then.

        Args:
            formats: The formats of the rows.
            inputs: Hashes of the input files, which identify Arrow rows.
            seed: Draws the validation split.
        """
        del self._seen_ids, self._seen_texts
        self._pool.finish()
        self._records.finish()
        self._left_out.finish()
        self._files.close()
        arrow = self._records if isinstance(self._records, ArrowRecords) else None
        index: dict[str, npt.NDArray[Any]] = {
            name: np.frombuffer(self._index.pop(name), dtype) for name, dtype in _INDEX.items()
        }
        index["copy"] = copy_numbers(index["group"])
        index["id_hash"] = _all_ids(index)
        settings = self._settings
        counted = (index["copy"] == 1) | (settings.dedup == "none")
        # chunks of one document stay together, and with chunks that are equal to one of them
        units = mixed(index["record_start"].astype(np.uint64)) if self._chunked else index["group"]
        set_aside = validation_split(units, counted, settings.validation, seed)
        index["held"] = set_aside | np.isin(index["group"], index["group"][set_aside])
        batch = pa.RecordBatch.from_pydict({k: pa.array(v) for k, v in index.items()})
        with pa.ipc.new_file(str(self._folder / "index.arrow"), batch.schema) as file:
            file.write_batch(batch)
        described: dict[str, Any] = {
            "store": STORE_VERSION,
            "kind": self.kind,
            "formats": list(formats),
            "columns": dict(self._settings.columns),
            "reasoning": self._settings.reasoning,
            "template": self._settings.template,
            "dedup": self._settings.dedup,
            "unit": self._settings.unit,
            "token_counter": {"name": self._counter.name, "estimate": self._counter.estimate},
            "source_names": list(self._sources.codes),
            "task_names": list(self._tasks.codes),
            "record_format": "json" if arrow is None else "arrow",
            "batch_starts": self._batch_starts,  # finished shards of scores are kept by batch
            "n": self.n,
        }
        identity = {**described, "rows": [] if arrow is None else list(inputs)}
        for name in ("id_hash", "group", "n_tokens", "source", "task", "held", "record_length"):
            self._identity.update(index[name].data)
        self._identity.update(fingerprint(identity).encode())
        duplicates = int(np.count_nonzero(index["copy"] > 1))
        counts = {**self.counts, "kept": self.n, "duplicates": duplicates}
        first, once = self._left_out.first, settings.dedup == "exact"
        findings = (
            *self._gathered.findings(settings.drop),
            *accounted(counts, first, dedup=once),
        )
        meta = {
            **described,
            "pool_offsets": self._pool.offsets,
            "record_batch_starts": [] if arrow is None else arrow.batch_starts,
            "rows_offsets": [] if arrow is None else arrow.file.offsets,
            "stored_columns": self._schema.names,
            "learned_bytes": self._learned_bytes,
            "first_listed": self._left_out.first,
            "findings": [found.to_json() for found in findings],
            "counts": counts,
            "fingerprint": self._identity.hexdigest(),
        }
        (self._folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
        return meta


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


def _all_ids(index: dict[str, npt.NDArray[Any]]) -> UInt64s:
    """Hashes of the ids; those of rows without one come from content and copy number."""
    unnamed = index["id_hash"] == 0
    if not unnamed.any():
        return index["id_hash"]
    by_content = mixed(index["group"] + index["copy"].astype(np.uint64))
    return np.where(unnamed, by_content, index["id_hash"])
