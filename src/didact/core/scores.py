"""Scores, Selection, TrainingOrder: frozen values, checked once when they are made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from didact.core.arrays import Bool1D, Float1D, Float2D, Int1D, frozen, occur
from didact.core.errors import ConfigError, DataError, PoolMismatchError
from didact.core.pool import Pool
from didact.core.value_tables import TABLE_ROWS, described, nullable, table_parts

Settings = Mapping[str, Any]
_VISITS: Final = 16  # to all of a store, for the ids of as many rows as it has
_MOST_PARTS: Final = 16  # 4.2 million ids, which Arrow holds together up to 511 bytes each


def check_pool(what: str, found: str, expected: str, remedy: str) -> None:
    """Raise PoolMismatchError unless the two pool fingerprints are equal."""
    if found != expected:
        raise PoolMismatchError(
            f"{what} belong to pool {found[:12]}…, this is pool {expected[:12]}…; {remedy}"
        )


@dataclass(frozen=True, slots=True)
class Scores:
    """One number per sample of one pool, in the method's natural unit.

    Attributes:
        values: float64 `(n,)`; NaN exactly on the rows in `missing`.
        higher_is_better: Direction of preference; `.utility` is the only place a sign flips.
        method: Name of the scorer, e.g. "compression".
        settings: The scorer's settings, JSON values.
        pool_fingerprint: The pool these scores belong to.
        tasks: Names of the K target tasks; `()` when the method has none.
        by_task: float64 `(n, K)` when there are tasks.
        parts: Named columns beside the score, each float64 `(n,)`.
        missing: Row index to the reason it has no score.
        facts: What the result depends on beside the settings (library versions, statistics).
        spent: FLOPs that making them takes from nothing: each kept value they stand on, by name →
            its own. None where that is not known. Whether they were found kept makes no difference.
    """

    values: Float1D
    higher_is_better: bool
    method: str
    pool_fingerprint: str
    settings: Settings = field(default_factory=dict)
    tasks: tuple[str, ...] = ()
    by_task: Float2D | None = None
    parts: Mapping[str, Float1D] = field(default_factory=dict)
    missing: Mapping[int, str] = field(default_factory=dict)
    facts: Settings = field(default_factory=dict)
    spent: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "values", frozen(self.values, np.float64))
        n = len(self.values)
        wrong = ~np.isfinite(self.values)
        for row in self.missing:
            if not 0 <= row < n:
                raise DataError(f"{self.method}: missing row {row} is outside 0..{n - 1}")
            wrong[row] = not np.isnan(self.values[row])
        bad = np.flatnonzero(wrong)
        if len(bad):
            row = int(bad[0])
            raise DataError(
                f"{self.method}: score of row {row} is {self.values[row]}; "
                "expected a finite number, or NaN with a reason in `missing`"
            )
        if self.by_task is not None:
            put(self, "by_task", frozen(self.by_task, np.float64))
            if self.by_task.shape != (n, len(self.tasks)):
                raise DataError(
                    f"{self.method}: by_task has shape {self.by_task.shape}, "
                    f"expected {(n, len(self.tasks))}"
                )
        put(self, "parts", {k: frozen(v, np.float64) for k, v in self.parts.items()})

    def __len__(self) -> int:
        return len(self.values)

    @property
    def utility(self) -> Float1D:
        """The scores with larger = preferred; -inf on missing rows. Shape `(n,)`."""
        signed = self.values.copy() if self.higher_is_better else -self.values
        signed[np.isnan(signed)] = -np.inf
        return signed

    @property
    def present(self) -> Bool1D:
        """True where a row has a score. Shape `(n,)`."""
        return np.asarray(np.isfinite(self.values))

    @property
    def flops(self) -> float | None:
        """FLOPs that making them takes from nothing; None where that is not known."""
        return None if self.spent is None else float(sum(self.spent.values()))

    def summary(self) -> dict[str, float]:
        """Smallest, median, mean and largest score; empty when no row has one."""
        found = self.values[self.present]
        # a power of two: exact, and sums of numbers near the largest one are numbers
        scale = 2.0**64 if len(found) and np.abs(found).max() > 1e300 else 1.0
        if not len(found):
            return {}
        return {
            "min": float(found.min()),
            "median": float(np.median(found / scale) * scale),
            "mean": float((found / scale).mean() * scale),
            "max": float(found.max()),
        }

    def check(self, pool: Pool) -> None:
        """Raise PoolMismatchError unless these scores belong to `pool`."""
        check_pool(
            "scores",
            self.pool_fingerprint,
            pool.fingerprint,
            "re-run 'didact score' or pass the pool it was run on",
        )

    def to_table(self, pool: Pool | None = None) -> pa.Table:
        """A row a sample: `row, id, score`, then `task:…`, `part:…` and `missing` if there are any.

        What it is stands in the metadata, as in scores.parquet; null where a row has no score.

        Args:
            pool: The pool they belong to, which has the ids; without it there is no `id`.

        Raises:
            PoolMismatchError: They belong to another pool.
        """
        if pool is None:
            return pa.Table.from_batches([self._batch(range(len(self.values)), None)])
        return pa.Table.from_batches(list(self.batches(pool)), self.table_schema())

    def table_schema(self) -> pa.Schema:
        """The schema of `to_table`, with its metadata."""
        numbers = ["score", *(f"task:{t}" for t in self.tasks), *(f"part:{p}" for p in self.parts)]
        fields = [pa.field("row", pa.int64()), pa.field("id", pa.string())]
        fields += [pa.field(name, pa.float64()) for name in numbers]
        if self.missing:
            fields.append(pa.field("missing", pa.string()))
        facts = {
            "pool_fingerprint": self.pool_fingerprint,
            "method": self.method,
            "higher_is_better": self.higher_is_better,
            "settings": dict(self.settings),
            "tasks": list(self.tasks),
            "facts": dict(self.facts),
            "spent": None if self.spent is None else dict(self.spent),
        }
        return pa.schema(fields, metadata=described("scores", facts))

    def batches(self, pool: Pool) -> Iterator[pa.RecordBatch]:
        """The rows of `to_table`, a batch of the pool at a time."""
        self.check(pool)
        for rows in pool.batches():
            yield self._batch(rows, pool.read(rows, ["id"]).column("id"))

    def _batch(self, rows: range, ids: pa.Array | None) -> pa.RecordBatch:
        schema, inside = self.table_schema(), slice(rows.start, rows.stop)
        columns: list[Any] = [np.asarray(rows), ids, nullable(self.values[inside])]
        if self.by_task is not None:
            columns += [nullable(self.by_task[inside, t]) for t in range(len(self.tasks))]
        columns += [nullable(values[inside]) for values in self.parts.values()]
        if self.missing:
            columns.append([self.missing.get(row) for row in rows])
        if ids is None:
            schema, columns = schema.remove(1), [columns[0], *columns[2:]]
        arrays = [pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)


@dataclass(frozen=True, slots=True)
class Selection:
    """A *set* of rows of one pool.

    Attributes:
        rows: int64 `(k,)`, ascending and unique.
        pool_fingerprint: The pool the rows belong to.
        method: Name of the selector.
        settings: The selector's settings, JSON values.
        rank: int64 `(k,)`: 0 for the row chosen first. A smaller budget is a prefix by rank.
        reasons: Distinct reasons; `why` indexes into them.
        why: int16 `(k,)`: the reason each row was chosen.
        notes: Decisions worth telling (clamped budgets, exhausted sources).
    """

    rows: Int1D
    pool_fingerprint: str
    method: str
    settings: Settings = field(default_factory=dict)
    rank: Int1D | None = None
    reasons: tuple[str, ...] = ("chosen",)
    why: npt.NDArray[np.int16] | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "rows", frozen(self.rows, np.int64))
        k = len(self.rows)
        if k and (self.rows[0] < 0 or np.any(self.rows[1:] <= self.rows[:-1])):
            raise DataError("a selection's rows must be ascending, unique and ≥ 0")
        if self.rank is not None:
            put(self, "rank", frozen(self.rank, np.int64))
            if len(self.rank) != k or not occur(self.rank, k):
                raise DataError("a selection's ranks must be a permutation of 0..k-1")
        why = np.zeros(k, np.int16) if self.why is None else self.why
        put(self, "why", frozen(why, np.int16))

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def ranked(
        cls,
        rows: npt.ArrayLike,
        pool_fingerprint: str,
        method: str,
        settings: Settings | None = None,
        *,
        reasons: tuple[str, ...] = ("chosen",),
        why: npt.ArrayLike | None = None,
        notes: tuple[str, ...] = (),
    ) -> Selection:
        """From rows in the order they were chosen (best first)."""
        chosen = np.asarray(rows, dtype=np.int64)
        by_row = np.argsort(chosen, kind="stable")
        return cls(
            rows=chosen[by_row],
            pool_fingerprint=pool_fingerprint,
            method=method,
            settings=settings or {},
            rank=by_row,
            reasons=reasons,
            why=None if why is None else np.asarray(why)[by_row],
            notes=notes,
        )

    def best_first(self) -> Int1D:
        """Rows in the order they were chosen; pool order when the method has no rank."""
        return self.rows if self.rank is None else self.rows[np.argsort(self.rank)]

    def check(self, pool: Pool) -> None:
        """Raise PoolMismatchError unless this selection belongs to `pool`."""
        check_pool(
            "selected rows",
            self.pool_fingerprint,
            pool.fingerprint,
            "re-run 'didact select' or pass the pool it was run on",
        )

    def to_table(self, pool: Pool | None = None, scores: Scores | None = None) -> pa.Table:
        """A row a chosen sample: `row, id, rank, score, why`, ascending by row.

        What it is stands in the metadata, as in selection.parquet.

        Args:
            pool: The pool it belongs to, which has the ids; without it there is no `id`.
            scores: What it was chosen by; without them `score` is null.

        Raises:
            PoolMismatchError: It or the scores belong to another pool.
        """
        return pa.Table.from_batches(
            list(self.batches(pool, scores)), self.table_schema(scores, ids=pool is not None)
        )

    def table_schema(self, scores: Scores | None, *, ids: bool = True) -> pa.Schema:
        """The schema of `to_table`, with its metadata."""
        fields = [("row", pa.int64()), ("id", pa.string()), ("rank", pa.int64())]
        fields += [("score", pa.float64()), ("why", pa.string())]
        if not ids:
            del fields[1]
        facts = {
            "pool_fingerprint": self.pool_fingerprint,
            "method": self.method,
            "settings": dict(self.settings),
            "reasons": list(self.reasons),
            "notes": list(self.notes),
            "score_method": None if scores is None else scores.method,
            "higher_is_better": None if scores is None else scores.higher_is_better,
        }
        return pa.schema(fields, metadata=described("selection", facts))

    def batches(self, pool: Pool | None, scores: Scores | None) -> Iterator[pa.RecordBatch]:
        """The rows of `to_table`, `TABLE_ROWS` at a time; at least one batch."""
        if pool is not None:
            self.check(pool)
        if scores is not None:
            check_pool(
                "the scores", scores.pool_fingerprint, self.pool_fingerprint,
                "give those of the pool it was chosen from",
            )  # fmt: skip
        schema = self.table_schema(scores, ids=pool is not None)
        reasons = pa.DictionaryArray.from_arrays(pa.array(self.why), pa.array(self.reasons))
        for some in table_parts(len(self)):
            rows, why = self.rows[some], reasons.slice(some.start, some.stop - some.start)
            columns = [
                pa.array(rows),
                *([] if pool is None else [pool.read(rows, ["id"]).column("id")]),
                pa.nulls(len(rows), pa.int64()) if self.rank is None else pa.array(self.rank[some]),
                nullable(np.full(len(rows), np.nan) if scores is None else scores.values[rows]),
                why.cast(pa.string()),
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)

    def describe(self, pool: Pool, scores: Scores | None = None) -> dict[str, Any]:
        """Count, bytes, tokens, share per source and score range of what was chosen."""
        self.check(pool)
        codes = np.bincount(pool.source_codes[self.rows], minlength=len(pool.source_names))
        out: dict[str, Any] = {
            "samples": len(self),
            "bytes": int(pool.n_bytes[self.rows].sum()),
            "tokens": int(pool.n_tokens[self.rows].sum()),
            "share_of_pool": len(self) / max(len(pool), 1),
            "sources": {
                name: int(c) for name, c in zip(pool.source_names, codes, strict=True) if c
            },
        }
        if scores is not None and len(self):
            inside = scores.values[self.rows]
            out["score_range"] = (float(np.nanmin(inside)), float(np.nanmax(inside)))
        return out


@dataclass(frozen=True, slots=True)
class TrainingOrder:
    """A *sequence*: each selected row exactly `epochs` times.

    Attributes:
        rows: int64 `(k · epochs,)`: the rows in the order the model should read them.
        pool_fingerprint: The pool the rows belong to.
        method: Name of the orderer.
        settings: The orderer's settings, JSON values.
        epochs: How often each row occurs.
        batch_size: Samples per optimizer step over all devices; the order inside a step is free.
    """

    rows: Int1D
    pool_fingerprint: str
    method: str
    settings: Settings = field(default_factory=dict)
    epochs: int = 1
    batch_size: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", frozen(self.rows, np.int64))
        if self.epochs < 1:
            raise ConfigError(f"epochs={self.epochs}; expected 1 or more")
        if self.batch_size is not None and self.batch_size < 1:
            raise ConfigError(f"batch_size={self.batch_size}; expected 1 or more")
        if not occur(self.rows, None, self.epochs):
            raise DataError(f"an order must hold each row exactly {self.epochs} times")

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def steps(self) -> int | None:
        """Optimizer steps over the whole sequence; the last one may be smaller."""
        return None if self.batch_size is None else -(-len(self.rows) // self.batch_size)

    def to_table(self, pool: Pool | None = None) -> pa.Table:
        """A row a step of the sequence: `position, row, id`.

        What it is stands in the metadata, as in order.parquet.

        Args:
            pool: The pool it belongs to, which has the ids; without it there is no `id`.

        Raises:
            PoolMismatchError: It belongs to another pool.
        """
        return pa.Table.from_batches(
            list(self.batches(pool)), self.table_schema(ids=pool is not None)
        )

    def table_schema(self, *, ids: bool = True) -> pa.Schema:
        """The schema of `to_table`, with its metadata."""
        fields = [("position", pa.int64()), ("row", pa.int64())]
        fields += [("id", pa.string())] if ids else []
        facts = {
            "pool_fingerprint": self.pool_fingerprint,
            "method": self.method,
            "settings": dict(self.settings),
            "epochs": self.epochs,
            "batch_size": self.batch_size,
        }
        return pa.schema(fields, metadata=described("order", facts))

    def batches(self, ids: Pool | pa.Array | None) -> Iterator[pa.RecordBatch]:
        """The rows of `to_table`, `TABLE_ROWS` at a time; at least one batch.

        Args:
            ids: The pool, which has them, or those of `rows`, `(k · epochs,)`; None for no column.
        """
        if isinstance(ids, Pool):
            check_pool(
                "the order's rows", self.pool_fingerprint, ids.fingerprint,
                "re-run 'didact order' or pass the pool it was made from",
            )  # fmt: skip
        schema = self.table_schema(ids=ids is not None)
        together = _together(len(ids)) if isinstance(ids, Pool) else 1
        for part in table_parts(len(self), together):
            names = None
            if isinstance(ids, Pool):
                names = ids.read(self.rows[part], ["id"]).column("id")
            elif ids is not None:
                names = ids[part]
            for some in table_parts(part.stop - part.start):
                positions = np.arange(part.start + some.start, part.start + some.stop)
                columns = [pa.array(positions), pa.array(self.rows[positions])]
                if names is not None:
                    columns.append(pa.array(names[some], pa.string()))
                yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _together(n: int) -> int:
    """Parts of an order whose ids are read together, of a pool of n rows.

    In any order they lie on all of its store, which each such reading visits.
    """
    return min(max(n // (_VISITS * TABLE_ROWS), 1), _MOST_PARTS)
