"""What is known of a shard of a store, and what its writer is told of others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa

from didact.core.arrays import Int1D, Int32s, UInt64s
from didact.core.checksums import Checksums
from didact.core.errors import DataError
from didact.core.pool import Kind, shard_name
from didact.core.render import TURNS
from didact.data.reading.settings import DataSettings
from didact.data.rows.columns import shown
from didact.data.store.gathered import Gathered

INDEX: Final[dict[str, Any]] = {
    "n_bytes": np.int64,
    "n_tokens": np.int64,
    "id_hash": np.uint64,
    "group": np.uint64,
    "source": np.int32,
    "task": np.int32,
    "record_start": np.int64,
    "record_length": np.int32,
}
PARTS: Final = "parts"  # what only the writer of a store needs, until it is done
MOST_NAMES: Final = 65_536


@dataclass(slots=True)
class Names:
    """Text → small codes, in order of first appearance."""

    column: str
    codes: dict[str, int] = field(default_factory=dict)

    def of(self, names: pa.StringArray) -> Int32s:
        """The code of each name, `(n,)`."""
        encoded = names.dictionary_encode()
        codes: Int32s = self.codes_of(encoded.dictionary.to_pylist())[encoded.indices.to_numpy()]
        return codes

    def codes_of(self, names: Sequence[str]) -> Int32s:
        """The code of each of some distinct names, `(k,)`."""
        codes = [self.codes.setdefault(name, len(self.codes)) for name in names]
        if len(self.codes) > MOST_NAMES:
            raise DataError(
                f"the column {self.column!r} has more than {MOST_NAMES:,} different values, such "
                f"as {shown(names[-1])}; expected names that many rows share: map another "
                f"column with --data columns.{self.column}=COLUMN (columns.{self.column}=- for "
                "none)"
            )
        return np.asarray(codes, np.int32)


def stored_columns(settings: DataSettings) -> dict[str, pa.DataType]:
    """The columns of the texts in a store."""
    place = {"parent": pa.string(), "start": pa.int64(), "end": pa.int64()}
    return {"id": pa.string(), "turns": TURNS, **(place if settings.unit == "chunk" else {})}


@dataclass(frozen=True, slots=True)
class Known:
    """What only the rows of other shards tell.

    Attributes:
        repeated: Which of the given ids, counted from 0 over all samples of the shard, an earlier
            shard has; ascending.
        copies: Texts that are cut and have no id → how many of the earlier shards are equal.
    """

    repeated: Int1D = field(default_factory=lambda: np.empty(0, np.int64))
    copies: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Shard:
    """What its reader says of a shard: numbers and a few names, no texts.

    Attributes:
        number: Its number.
        n: Its rows.
        n_read: Rows read, bad ones among them.
        kind: What its samples are.
        failed: A row is bad and bad rows are errors; nothing was read behind it.
        groups: Hashes of the contents of its rows, `(n,)`.
        given: Hashes of the given ids of all its samples, of those that are not kept too.
        unnamed: Hashes of the texts that were cut and have no id.
        names: Sources and tasks, by their codes in the shard.
        batch_starts: First row of each of its batches.
        pool_offsets: Where in its file each of them begins.
        record_starts: Arrow rows: first row of each batch of the records.
        record_offsets: Where in its file each of them begins.
        n_records: Size of the records: bytes of JSON rows, rows of Arrow.
        records: Digest of JSON rows.
        learned_bytes: Bytes that a trainer learns.
        gathered: What its rows show.
        left_out: Rows in each list of those left out.
        first_left_out: File and number of the first in each.
        files: Checksums of its files.
    """

    number: int
    n: int
    n_read: int
    kind: Kind
    failed: bool
    groups: UInt64s
    given: UInt64s
    unnamed: UInt64s
    names: Mapping[str, list[str]]
    batch_starts: list[int]
    pool_offsets: list[int]
    record_starts: list[int]
    record_offsets: list[int]
    n_records: int
    records: str
    learned_bytes: int
    gathered: Gathered
    left_out: Mapping[str, int]
    first_left_out: Mapping[str, tuple[str, int]]
    files: Mapping[str, Checksums]


def of_writer(shard: Shard) -> Iterator[str]:
    """What its writer left of a shard in `PARTS`: the index, and the lists of rows left out."""
    if shard.n:
        yield shard_name("index", shard.number, "arrow")
    for name, rows in shard.left_out.items():
        if rows:
            yield shard_name(name, shard.number, "jsonl")
