"""What the tables of scores, selections and orders share: metadata that says what they are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa

from didact.core.arrays import Float1D

KEY: Final = b"didact"  # of the metadata
TABLE_ROWS: Final = 2**18  # of a table put together at a time


def table_parts(n: int, times: int = 1) -> Iterator[slice]:
    """The parts of a table of n rows, or of `times` as many rows; an empty one is one part, too."""
    most = times * TABLE_ROWS
    for start in range(0, max(n, 1), most):
        yield slice(start, min(start + most, n))


def described(table: str, facts: Mapping[str, Any]) -> dict[bytes, str]:
    """The metadata of a table: its name and what it depends on."""
    return {KEY: json.dumps({"table": table, **facts}, sort_keys=True)}


def nullable(values: Float1D) -> pa.Array:
    """Numbers as an Arrow column, null where they are NaN."""
    return pa.array(values, pa.float64(), mask=np.isnan(values))
