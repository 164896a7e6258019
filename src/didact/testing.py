"""For didact's own tests and for authors of plug-ins: small pools, and the contract of a scorer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from didact import pipeline
from didact.core.pool import Pool


def make_pool(
    rows: Sequence[Mapping[str, Any]], directory: Path, *, name: str = "pool", **data: Any
) -> Pool:
    """A real pool from JSON-like rows, written to `directory` and read through the data door.

    Args:
        rows: Samples, e.g. `{"id": "a", "text": "…", "source": "web"}` or with `messages`.
        directory: A folder for the file and the cache.
        name: Stem of the file.
        data: Settings of the data door, e.g. `dedup="none"`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.jsonl"
    path.write_bytes(b"".join(orjson.dumps(dict(row)) + b"\n" for row in rows))
    return pipeline.read(path, cache_dir=directory / "cache", **data)
