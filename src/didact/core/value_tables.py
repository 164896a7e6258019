"""What the tables of scores, selections and orders share: metadata that says what they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa

from didact.core.arrays import Float1D

KEY: Final = b"didact"  # of the metadata


def described(table: str, facts: Mapping[str, Any]) -> dict[bytes, str]:
    """The metadata of a table: its name and what it depends on."""
    return {KEY: json.dumps({"table": table, **facts}, sort_keys=True)}


def nullable(values: Float1D) -> pa.Array:
    """Numbers as an Arrow column, null where they are NaN."""
    return pa.array(values, pa.float64(), mask=np.isnan(values))
