"""The data scorer: a regression on annotated samples that gives the others their scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from didact.core.arrays import Float1D, Int1D
from didact.core.cost import Metered
from didact.core.pool import Pool
from didact.core.protocols import BatchScorer, BatchScores, Context, Device, Dtype, Fitted
from didact.models.encode import Encoding, encode
from didact.models.folder import digest
from didact.models.tokens import Tokens, concatenated
from didact.scoring.judging.model_scorer import missing_or_not_finite

if TYPE_CHECKING:
    from didact.models.regressor import Regressor
    from didact.training.regression import RegressionSettings

LABEL_CLIP = 3.0  # standard deviations, beyond which a label is cut
_ROWS = 512  # encoded at a time


def fit_data_scorer(
    pool: Pool,
    rows: Int1D,
    labels: Float1D,
    *,
    model: Path,
    encoding: Encoding,
    settings: RegressionSettings,
    device: Device,
    facts: Mapping[str, Any],
    ctx: Context,
) -> Fitted:
    """Train on labelled rows of a pool, or find what an earlier run trained.

    Args:
        pool: The pool.
        rows: The labelled rows, in an order that does not depend on the pool's: the dev samples
            and the order of training follow from it.
        labels: float64 `(n,)`, what is learned: scores in standard deviations.
        model: A folder that `didact.models.folder.find` has checked.
        encoding: How samples become its tokens; `max_length` None.
        settings: Settings of the regression.
        device: Where it is trained and scores.
        facts: What the labels depend on.
        ctx: Executor, progress, and where the data scorer is kept.
    """
    from didact.models.language_model import context_of, open_tokenizer
    from didact.training.regression import fit_regression

    tokenizer = open_tokenizer(model)
    context = context_of(model, tokenizer)
    parts = [
        cut(
            encode(pool.read(rows[at : at + _ROWS], ["turns"]).column(0), tokenizer, encoding),
            context,
        )
        for at in range(0, len(rows), _ROWS)
    ]
    fitted = fit_regression(model, concatenated(parts), labels, settings, ctx=ctx, device=device)
    return Fitted(
        open=partial(_open, fitted.path, encoding, settings.dtype, settings.tokens_per_batch),
        columns=("turns",),
        device=device,
        facts={**facts, "data_scorer": {"model": digest(model), **fitted.facts}},
    )


@contextmanager
def _open(
    path: Path, encoding: Encoding, dtype: Dtype, tokens_per_batch: int, index: int, device: str
) -> Iterator[BatchScorer]:
    """The data scorer, opened once per worker."""
    from didact.models.regressor import open_regressor

    del index
    with open_regressor(path, device=device, dtype=dtype) as model:
        yield partial(_score, model, encoding, tokens_per_batch)


def _score(
    model: Regressor, encoding: Encoding, tokens_per_batch: int, batch: pa.RecordBatch
) -> Metered[BatchScores]:
    from didact.models.regressor import predict

    tokens = cut(encode(batch.column("turns"), model.tokenizer, encoding), model.context)
    found = predict(model, tokens, tokens_per_batch=tokens_per_batch)
    values = found.value[:, np.newaxis]
    reason = "the data scorer gives no finite number"
    missing = missing_or_not_finite(tokens.missing, values, reason)
    return Metered(BatchScores(values, {}, missing), found.cost)


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
