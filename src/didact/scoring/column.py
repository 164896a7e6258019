"""A score that the data already carries."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import orjson
import pyarrow as pa
from pydantic import Field

from didact.core.cost import Cost
from didact.core.errors import DataError, did_you_mean
from didact.core.identity import method
from didact.core.one_pass import one_pass
from didact.core.pool import Pool, PoolStats
from didact.core.protocols import BatchScores, Context, Fitted
from didact.data.rows.columns import get

_ABSENT = object()
# As CSV files have every number, and decimals of Parquet as they come in a row's JSON.
_DECIMAL = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
# Processor seconds a row and a byte on one core of an AMD EPYC (Zen 3); only for `estimate`.
_SECONDS_PER_ROW = 2.5e-6
_SECONDS_PER_BYTE = 3e-9


@method("column")
@dataclass(frozen=True, kw_only=True)
class Column:
    """A number from the user's own row, such as the grade of another tool.

    A row is missing when the column is absent, null, not a number, or not finite. Text is a number
    where it is a decimal one ("0.5", "1e-3"), as in every column of a CSV file; true is none.

    Args:
        name: The column; dots reach into nested objects, as in "meta.score".
        prefer: Which end is better. There is no default: nobody can guess it.

    **Source:** the data.
    **Cost:** parses every row once, about 2.5 µs and 3 ns a byte on one core.
    """

    name: Annotated[str, Field(min_length=1)]
    prefer: Literal["higher", "lower"]
    needs_target = False

    def estimate(self, pool: PoolStats, target: PoolStats | None) -> Cost:
        """Rows and bytes times their rates."""
        del target
        return Cost(cpu_seconds=_SECONDS_PER_ROW * pool.n + _SECONDS_PER_BYTE * pool.n_bytes)

    def fit(self, pool: Pool, target: Pool | None, ctx: Context) -> Fitted:
        """Look for a first row that has the number.

        Raises:
            DataError: No row has one; the message lists the columns of the first row.
        """
        del target, ctx
        score = partial(numbers, name=self.name)
        _check_any(pool, self.name)
        return one_pass(score, ("record",), higher_is_better=self.prefer == "higher")


def numbers(batch: pa.RecordBatch, *, name: str) -> BatchScores:
    """The number called `name` in each JSON row of the column `record`."""
    values = np.full((batch.num_rows, 1), np.nan)
    missing = {}
    for i, record in enumerate(batch.column("record")):
        found = number(parse(record.as_py()), name)
        if isinstance(found, str):
            missing[i] = found
        else:
            values[i, 0] = found
    return BatchScores(values, missing=missing)


def number(row: dict[str, Any], name: str) -> float | str:
    """A finite number from a row, or the reason there is none."""
    value = get(row, name, _ABSENT)
    if value is _ABSENT:
        return f"the row has no {name!r}"
    out = as_float(value)
    if out is None:
        return f"{name!r} is {value!r:.40}, not a number"
    return out if math.isfinite(out) else f"{name!r} is {value!r:.40}, not a finite number"


def as_float(value: object) -> float | None:
    """A JSON value as a float64, infinite where it is too large; None where it is no number."""
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf


def parse(record: bytes) -> dict[str, Any]:
    """A row from its JSON, NaN and Infinity included."""
    try:
        row: dict[str, Any] = orjson.loads(record)
    except orjson.JSONDecodeError:  # NaN and Infinity are not JSON, but Python writes them
        row = json.loads(record)
    return row


def _check_any(pool: Pool, name: str) -> None:
    first: dict[str, Any] | None = None
    reason = ""
    for rows in pool.batches():
        for record in pool.records(rows):
            row = parse(record)
            found = number(row, name)
            if not isinstance(found, str):
                return
            if first is None:
                first, reason = row, found
    if first is not None:
        keys = dict.fromkeys(keys_of(first))
        raise DataError(
            f"score.column: no row of the pool has a number called {name!r}; row 0: {reason}"
            f"{did_you_mean(name, keys)}"
        )


def keys_of(row: dict[str, Any], before: str = "") -> Iterator[str]:
    """Names of a row's values, nested ones with dots."""
    for key, value in row.items():
        yield f"{before}{key}"
        if isinstance(value, dict):
            yield from keys_of(value, f"{before}{key}.")
