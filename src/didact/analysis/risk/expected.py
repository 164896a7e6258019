"""What a model expects of rows: their loss in one forward pass, kept and counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from didact.core.array_folders import read_arrays, write_arrays
from didact.core.arrays import Float1D, Int1D
from didact.core.cost import Metered
from didact.core.identity import versions
from didact.core.keep import keep
from didact.core.paths import Place, RemotePath
from didact.core.pool import Pool
from didact.core.protocols import BatchScorer, BatchScores, Context, Fitted
from didact.models.folder import digest, find
from didact.scoring.around.score_pool import MODEL_ROWS
from didact.scoring.bits_per_byte import BitsPerByte
from didact.scoring.judging.judging_model import MODEL_LIBRARIES
from didact.training.telemetry import rows_digest

# settings of a training that decide how a sample is shown to the model
_SHOWN: Final = ("loss", "template", "max_length")


@dataclass(frozen=True, slots=True)
class Losses:
    """What rows took a model to foretell.

    Attributes:
        nats: Negative log-likelihood of the tokens that are learnt, `(n,)`; 0 where there is none.
        tokens: Their number, `(n,)`.
    """

    nats: Float1D
    tokens: Float1D

    def mean(self, chosen: Any = slice(None)) -> float:
        """Nats per token of some rows; NaN where they have no token."""
        tokens = float(self.tokens[chosen].sum())
        return float(self.nats[chosen].sum()) / tokens if tokens else float("nan")

    def variance(self, chosen: Any = slice(None)) -> float:
        """Variance of `mean`, the rows being draws."""
        nats, tokens = self.nats[chosen], self.tokens[chosen]
        if not tokens.sum():
            return float("nan")
        off = nats - self.mean(chosen) * tokens
        n = max(int(np.count_nonzero(tokens)), 2)
        return float((off**2).sum()) / float(tokens.sum()) ** 2 * n / (n - 1)


@dataclass(frozen=True, slots=True)
class _Rows:
    pool: Pool
    rows: Int1D
    fitted: Fitted


def expected_losses(
    model: Place, pool: Pool, rows: Int1D, settings: Mapping[str, Any], ctx: Context
) -> Losses:
    """What a model takes to foretell rows, as a training showed it samples.

    Args:
        model: Its folder, here or behind a URL.
        pool: Where the rows are.
        rows: The rows, in any order.
        settings: Those of the training (`training.json`): loss, template, max_length.
        ctx: Executor, cache, and the meter that is charged.

    **Cost:** one forward pass over the rows; what was done before is found in the cache.
    """
    shown = {name: settings[name] for name in _SHOWN if settings.get(name) is not None}
    named = model.url if isinstance(model, RemotePath) else str(model)
    scorer = BitsPerByte(model=named, tokens_per_batch=1024, **shown)
    key = {
        "model": digest(find(model)), "pool": pool.fingerprint, "shown": shown,
        "rows": rows_digest(rows), "libraries": versions(MODEL_LIBRARIES),
    }  # fmt: skip

    def make(work: Context) -> Losses:
        limit = scorer.judging_model(pool, "monitor").context
        fitted = replace(scorer, max_length=scorer.max_length or limit).fit(pool, None, work)
        pieces = [rows[i : i + MODEL_ROWS] for i in range(0, len(rows), MODEL_ROWS)]
        shared = _Rows(pool, rows, fitted)
        found = list(
            work.executor.map(_losses, pieces, shared=shared, open=_open, device=fitted.device)
        )
        return Losses(
            *(np.concatenate([one.parts[p] for one in found]) for p in ("nats", "tokens"))
        )

    return keep(ctx, "expected", key, make, save=_save, load=_load)


@contextmanager
def _open(shared: _Rows, device: str) -> Iterator[tuple[_Rows, BatchScorer]]:
    with shared.fitted.open(0, device) as score:
        yield shared, score


def _losses(opened: tuple[_Rows, BatchScorer], rows: Int1D) -> Metered[BatchScores]:
    shared, score = opened
    found = score(shared.pool.read(rows, shared.fitted.columns))
    parts = {name: np.array(values) for name, values in found.value.parts.items()}
    for row in found.value.missing:
        parts["nats"][row] = parts["tokens"][row] = 0
    return Metered(replace(found.value, parts=parts), found.cost)


def _save(losses: Losses, folder: Path) -> None:
    write_arrays(folder, {"nats": losses.nats, "tokens": losses.tokens}, {})


def _load(folder: Path) -> Losses:
    arrays, _ = read_arrays(folder)
    return Losses(arrays["nats"], arrays["tokens"])
