"""The contract of an orderer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from didact.config import bound
from didact.core.pool import Pool
from didact.core.scores import Scores, Selection, TrainingOrder
from didact.ordering.around.arrange import arrange
from didact.testing.pools import make_pool
from didact.testing.promises import check_description, check_settings, digest, promise
from didact.verbs import context

_MISSING = (3, 4)  # rows without a score


def check_orderer(
    method: str | Callable[..., Any],
    directory: Path,
    *,
    settings: Mapping[str, Any] | None = None,
) -> TrainingOrder:
    """The contract of an orderer: everything that didact promises of every method.

    Settings are JSON and bind again · the docstring has Source and Cost · every chosen row comes
    exactly once, for none, one, two and all of the rows, with and without ties · equal calls give
    equal orders, on any number of workers · scores of rows that are not chosen change nothing ·
    epochs, interleaving and jitter go with it · pool, selection and scores stay as they were.

    Args:
        method: A registered name, or the function.
        directory: A folder for pools and caches, such as pytest's `tmp_path`.
        settings: The method's settings, as they would stand in a config.

    Returns:
        Three epochs of thirty rows of the pool of the checks.

    Raises:
        AssertionError: A promise is broken; the message says which.
        ConfigError: Nothing has this name, or a setting is wrong.

    **Cost:** some twenty orders of at most fifty short rows.
    """
    name, orderer, checked, as_json = bound("orderers", method, settings or {}, "order")
    check_description(name, orderer, registered=isinstance(method, str))
    check_settings(name, orderer, as_json)
    rows = [{"id": f"r{i}", "text": f"row {i}", "source": "wb"[i % 2]} for i in range(50)]
    pool = make_pool(rows, directory, name="orderers")
    before = digest(pool)

    def order(chosen: Selection, scores: Scores, workers: int = 1, **more: Any) -> TrainingOrder:
        ctx = context(seed=17, workers=workers, cache_dir=directory / "cache")
        return arrange(orderer, checked, pool, chosen, scores, ctx, **more)

    for tied in (False, True):
        scores = _scores(pool, tied=tied)
        for k in (0, 1, 2, len(pool) - len(_MISSING)):
            _check_rows(name, order(_best(pool, scores, k), scores), _best(pool, scores, k))
        chosen = _best(pool, scores, 24)
        first, again, shared = (order(chosen, scores, w).rows.tolist() for w in (1, 1, 2))
        promise(first == again, f"{name}: two equal calls give two orders")
        promise(first == shared, f"{name}: the number of workers changes the order")
    scores = _scores(pool)
    chosen = _best(pool, scores, 30)
    kept = scores.values.copy(), chosen.rows.copy()
    values = scores.values.copy()
    values[~np.isin(np.arange(len(pool)), chosen.rows) & scores.present] = 1e6
    changed = _scores(pool, values=values)
    same = order(chosen, scores).rows.tolist() == order(chosen, changed).rows.tolist()
    promise(same, f"{name}: the score of a row that is not chosen changes the order")
    around = {"epochs": 3, "batch_size": 4, "jitter": 6, "interleave": True}
    found = order(chosen, scores, **around)
    promise(len(found) == 90, f"{name}: {len(found)} rows in three epochs of thirty")
    for epoch in found.rows.reshape(3, 30):
        promise(np.array_equal(np.sort(epoch), chosen.rows), f"{name}: an epoch lacks a row")
    own = {k: v for k, v in found.settings.items() if k not in around}
    check_settings(name, orderer, own)
    stayed = np.array_equal(kept[0], scores.values, equal_nan=True)
    promise(stayed and np.array_equal(kept[1], chosen.rows), f"{name}: the input was changed")
    promise(digest(pool) == before, f"{name} wrote to the pool's store")
    return found


def _check_rows(name: str, order: TrainingOrder, chosen: Selection) -> None:
    k = len(chosen)
    promise(np.array_equal(np.sort(order.rows), chosen.rows), f"{name}: not every one of {k} rows")
    promise(order.pool_fingerprint == chosen.pool_fingerprint, f"{name}: rows of another pool")


def _scores(pool: Pool, *, tied: bool = False, values: Any = None) -> Scores:
    """Made-up scores; some rows have none."""
    rng = np.random.default_rng(0)
    if values is None:
        values = rng.integers(0, 3, len(pool)).astype(float) if tied else rng.normal(size=len(pool))
        values[list(_MISSING)] = np.nan
    return Scores(
        values=values, higher_is_better=True, method="bm25", pool_fingerprint=pool.fingerprint,
        missing=dict.fromkeys(_MISSING, "empty"),
    )  # fmt: skip


def _best(pool: Pool, scores: Scores, k: int) -> Selection:
    """The best k rows with a score."""
    best = np.argsort(-np.where(scores.present, scores.values, -np.inf), kind="stable")[:k]
    return Selection.ranked(best, pool.fingerprint, "top_k")
