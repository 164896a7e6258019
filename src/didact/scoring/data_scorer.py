"""The data scorer: a regression on annotated samples that gives the others their scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from didact.core.cost import Metered
from didact.core.pool import Pool
from didact.core.protocols import BatchScorer, BatchScores, Context
from didact.core.scores import Float1D, Int1D
from didact.scoring.judge import Dtype

if TYPE_CHECKING:
    from didact.models.encode import Encoding, Tokens
    from didact.models.regressor import Regressor
    from didact.training.regression import Regression

_ROWS = 512  # encoded at a time


@dataclass(frozen=True, kw_only=True)
class DataScorer:
    """A fitted data scorer; small and picklable.

    Attributes:
        path: Its folder.
        how: How samples become its tokens; cut at its own context.
        devices: Where it runs.
        dtype: Of weights and arithmetic.
        tokens_per_batch: Most tokens of a batch.
        facts: Of the labels and the fit.
    """

    path: Path
    how: Encoding
    devices: tuple[str, ...]
    dtype: Dtype
    tokens_per_batch: int
    facts: Mapping[str, Any]
    higher_is_better: bool = field(default=True, init=False)
    columns: tuple[str, ...] = field(default=("turns",), init=False)
    tasks: tuple[str, ...] = field(default=(), init=False)
    reduce: Literal["mean", "max"] = field(default="mean", init=False)
    passes: int = field(default=1, init=False)

    @contextmanager
    def open(self, index: int, device: str) -> Iterator[BatchScorer]:
        """The model, opened once per worker."""
        from didact.models.regressor import open_regressor

        del index
        with open_regressor(self.path, device=device, dtype=self.dtype) as model:
            yield partial(self._score, model)

    def _score(self, model: Regressor, batch: pa.RecordBatch) -> Metered[BatchScores]:
        from didact.models.encode import encode
        from didact.models.regressor import predict

        tokens = cut(encode(batch.column("turns"), model.tokenizer, self.how), model.context)
        found = predict(model, tokens, tokens_per_batch=self.tokens_per_batch)
        missing = dict(tokens.missing)
        for row in np.flatnonzero(~np.isfinite(found.value)).tolist():
            missing.setdefault(row, "the data scorer gives no finite number")
        return Metered(BatchScores(found.value[:, np.newaxis], {}, missing), found.cost)


def fit_data_scorer(
    pool: Pool,
    rows: Int1D,
    labels: Float1D,
    *,
    model: Path,
    how: Encoding,
    out: Path,
    settings: Regression,
    devices: tuple[str, ...],
    facts: Mapping[str, Any],
    ctx: Context,
) -> DataScorer:
    """Train on labelled rows of a pool, or find what an earlier run trained.

    Args:
        pool: The pool.
        rows: The labelled rows, in an order that does not depend on the pool's: the dev samples
            and the order of training follow from it.
        labels: float64 `(n,)`.
        model: A folder that `didact.models.folder.find` has checked.
        how: How samples become its tokens; `max_length` None.
        out: The data scorer's folder.
        settings: Of the regression.
        devices: The first trains, all of them score.
        facts: What the labels depend on.
        ctx: Executor and progress.
    """
    from didact.models.door import context_of, open_tokenizer
    from didact.models.encode import encode
    from didact.models.folder import digest
    from didact.training.regression import fit_regression

    tokenizer = open_tokenizer(model)
    context = context_of(model, tokenizer)
    parts = [
        cut(encode(pool.read(rows[at : at + _ROWS], ["turns"]).column(0), tokenizer, how), context)
        for at in range(0, len(rows), _ROWS)
    ]
    fit = partial(
        fit_regression, model, _joined(parts), labels, out, settings, device=devices[0],
        progress=ctx.progress,
    )  # fmt: skip
    fitted = ctx.executor.call(fit, device=devices[0])
    return DataScorer(
        path=fitted.path,
        how=how,
        devices=devices,
        dtype=settings.dtype,
        tokens_per_batch=settings.tokens_per_batch,
        facts={**facts, "data_scorer": {"model": digest(model), **fitted.facts}},
    )


def cut(tokens: Tokens, most: int) -> Tokens:
    """Every sample's first tokens; a sample without a loss has none at all."""
    keep = np.minimum(tokens.lengths, most)
    keep[list(tokens.missing)] = 0
    place = np.arange(len(tokens.ids)) - np.repeat(tokens.offsets[:-1], tokens.lengths)
    inside = place < np.repeat(keep, tokens.lengths)
    return replace(
        tokens,
        ids=tokens.ids[inside],
        weights=tokens.weights[inside],
        offsets=np.concatenate([[0], np.cumsum(keep)]).astype(np.int64),
        truncated=tokens.truncated | (tokens.lengths > most),
    )


def _joined(parts: list[Tokens]) -> Tokens:
    lengths = np.concatenate([p.lengths for p in parts])
    return replace(
        parts[0],
        ids=np.concatenate([p.ids for p in parts]),
        weights=np.concatenate([p.weights for p in parts]),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        n_bytes=np.concatenate([p.n_bytes for p in parts]),
        truncated=np.concatenate([p.truncated for p in parts]),
        missing={},
    )
