"""Values of a JSON record: of the kind that is expected, or none. A report refuses no record."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def real(value: Any) -> float | None:
    """A finite number."""
    fine = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if fine and math.isfinite(value) else None


def whole(value: Any) -> int | None:
    """A whole number."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def words(value: Any) -> str:
    """A text; "" for none."""
    return value if isinstance(value, str) else ""


def values(value: Any) -> Mapping[str, Any]:
    """Values by name; an empty mapping for none."""
    return {str(k): v for k, v in value.items()} if isinstance(value, Mapping) else {}
