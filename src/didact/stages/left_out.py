"""Lists of rows that are in no pool, from the store into the run folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import ExitStack

from didact.core.atomic import replacing
from didact.core.paths import Place
from didact.core.pool import Pool


def listed(pools: Iterable[Pool], name: str, path: Place) -> list[Place]:
    """Write a list of some pools as one file; none where they have none.

    Args:
        pools: The pools.
        name: The list: `rejected` or `excluded`.
        path: The file.

    Returns:
        The file, if there is one.
    """
    having = [pool for pool in pools if pool.has_file(f"{name}.jsonl")]
    if not having:
        return []
    with ExitStack() as files:
        target = files.enter_context(files.enter_context(replacing(path)).open("wb"))
        for pool in having:
            shutil.copyfileobj(files.enter_context(pool.file(f"{name}.jsonl").stream()), target)
    return [path]


def rejected(pools: Iterable[Pool]) -> int:
    """Bad rows of some pools, skipped on request."""
    return sum(int(pool.meta["counts"]["rejected"]) for pool in pools)
