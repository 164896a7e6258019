"""Classifier: how much a sample looks like the target set rather than like the pool."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, Final

import numpy as np
from pydantic import Field

from didact.core.arrays import Bool1D, Int1D
from didact.core.cost import Cost
from didact.core.errors import DataError
from didact.core.findings import counted
from didact.core.identity import method
from didact.core.pool import Pool, PoolStats
from didact.core.protocols import Context, Fitted
from didact.core.sample_field import SampleField, check_fields
from didact.core.sampling import (
    MOST_BYTES,
    drawable_rows,
    random_key,
    shuffled_rows,
    within_bytes,
)
from didact.core.statistics import CROSS_FITTED, auc
from didact.scoring.learned.cross_fitting import CrossFitted, Folds, cross_fit, fitted
from didact.scoring.learned.learned_scorer import LearnedScorer, Texts, libraries
from didact.text.linear import Logistic

_FORMAT: Final = 0.99  # area from which the two differ in more than what they are about
_FEW: Final = 20  # target samples of which little can be learned


@method("classifier", libraries=libraries, models=("model",))
@dataclass(frozen=True, kw_only=True)
class Classifier(LearnedScorer):
    """Log-odds that a sample is of the target set rather than of the pool; higher is better.

    A logistic regression tells target samples from samples drawn from the pool. Both classes count
    equally, however many rows they have, so 0 is where it cannot tell; the unit is nats. It is
    fitted once for each fold, and judges a row by the model that did not see the row's fold: rows
    of the same words are in the same fold, of pool and target alike. Its held-out AUC, how often a
    target sample is above one of the pool, is told with the scores, with an interval in which rows
    of the same words count as one. Rows of the pool that are like the target count as the pool's,
    so it is not what finds all of them but what puts them first. All tasks of a target set are one
    class.

    Args:
        features: `ngrams` are hashed words and pairs of words (of scripts without spaces, runs of
            characters), each once, as unit vectors; `static_embedding` and `embedding` the vectors
            of the scorers of these names, for which `model` is needed.
        model: A folder with the encoder, or a hub name; not with `ngrams`.
        device: Where an `embedding` runs; `auto` is every visible accelerator, else the CPU.
        field: The part of the pool's samples that is looked at.
        target_field: The part of the target's samples; by default as `field`.
        folds: Models that are fitted, each without the rows that it is to judge.
        train_rows: Rows of the pool that stand for it in training, drawn by their content: at most
            so many, and at most 16 MiB of text, as of the target.
        l2: Strength of the penalty on the weights, beside mean losses; more keeps to the words that
            tell the most.

    **Source:** quality filters that tell a reference corpus from the web by a linear model of
    hashed words and pairs of words: Brown et al. 2020 (arXiv:2005.14165, appendix A, hashed words),
    Li et al. 2024 (DCLM, arXiv:2406.11794, fastText). Neither is cross-fitted.
    **Cost:** one pass over the text, about 15 ns a byte on one core, and fitting, 3 s for 20,000
    rows of 600 bytes; with an encoder, what that takes.
    """

    target_field: SampleField | None = None
    train_rows: Annotated[int, Field(ge=1)] = 20_000
    l2: Annotated[float, Field(gt=0)] = 1e-4

    where: ClassVar[str] = "score.classifier"
    needs_target: ClassVar[bool] = True

    def estimate(self, pool: PoolStats, target: PoolStats | None) -> Cost:
        """Bytes of the pool, and of what is trained on for every fold."""
        return self.estimate_learned(pool, target, min(self.train_rows, pool.n))

    def fit(self, pool: Pool, target: Pool, ctx: Context) -> Fitted:
        """The models of all folds, and how well they tell what they did not see.

        Raises:
            DataError: The target has fewer than two samples with different words.
        """
        target_field = check_fields(pool, target, self.field, self.target_field, self.where)
        reading = self.reading(self.field)
        key = random_key(ctx, "classifier")
        wanted = within_bytes(target, shuffled_rows(target, np.arange(len(target)), key))
        found = self.reading(target_field).texts(target, wanted, ctx, "read the target")
        positive = found.take(found.present)
        folds = self._folds(positive, found)
        drawn = shuffled_rows(pool, drawable_rows(pool), key)[: self.train_rows]
        drawn = within_bytes(pool, drawn)
        others = reading.texts(pool, drawn, ctx, "read a part of the pool")
        # a copy of a target sample is no example of the pool
        negative = others.take(
            np.setdiff1d(others.present, np.flatnonzero(np.isin(others.keys, folds.known)))
        )
        texts = Texts.joined([positive, negative])
        is_target = np.arange(len(texts)) < len(positive)
        which = folds.find(texts.keys)
        model = cross_fit(texts, which, partial(_balanced, is_target), folds, ctx, l2=self.l2)
        facts: dict[str, Any] = {
            "target_rows": len(positive), "pool_rows": len(negative), "folds": folds.count,
            "steps": model.steps,
        }  # fmt: skip
        facts |= self._told(model, texts, which, is_target)
        if len(wanted) < len(target):
            facts["note"] += (
                f"; of the target's {len(target):,} rows {len(wanted):,} were drawn, "
                f"{MOST_BYTES / 2**20:.0f} MiB of text"
            )
        return fitted(reading, model, facts, mean_of_others=False)

    def _folds(self, positive: Texts, found: Texts) -> Folds:
        """Folds that the target's samples are dealt out to evenly."""
        distinct = len(np.unique(positive.keys))
        if distinct < 2:
            row = min(found.missing, default=None)
            why = "" if row is None else f" (row {row}: {found.missing[row]})"
            raise DataError(
                f"{self.where}: the target has {counted(distinct, 'distinct sample')}"
                f"{why}; a classifier learns from some and is tried on "
                "others: give it two at least, better a hundred, or use bm25, which needs one"
            )
        return Folds.of(positive.keys, self.folds)

    def _told(
        self, model: CrossFitted, texts: Texts, which: Int1D, is_target: Bool1D
    ) -> dict[str, Any]:
        """How well the target is told from the pool, as facts with a note."""
        values = model(texts, which)
        n = int(is_target.sum())
        if is_target.all():
            return {"note": "the pool has no sample to tell the target from: all scores are 0"}
        if len(np.unique(which[~is_target])) == 1:
            return {
                "note": (
                    f"{counted(len(texts) - n, 'row')} of the pool to tell the target from, all in "
                    "one fold, whose model has none to learn from and scores 0: the held-out AUC "
                    "cannot be measured; score a pool with more rows that differ"
                    + (f", or raise {self.where}.train_rows" * (self.train_rows < _FEW))
                )
            }
        ours, theirs = (len(np.unique(texts.keys[kind])) for kind in (is_target, ~is_target))
        area, low, high = auc(
            values[is_target],
            values[~is_target],
            variance=CROSS_FITTED,
            independent=(ours, theirs),
        )
        note = (
            f"held-out AUC {area:.3f} ({low:.3f} to {high:.3f}): so often has a target "
            f"sample a higher score than one of the pool, by models that saw neither "
            f"({counted(n, 'target sample')}, {len(texts) - n:,} of the pool)"
        )
        if ours + theirs < len(texts):
            note += f"; the interval is that of {ours:,} and {theirs:,} with words of their own"
        if area >= _FORMAT and ours >= _FEW:
            note += (
                "; so near to 1, the target may differ in format, in language or in where it is "
                "from and not in what it is about: look at the samples with the highest scores"
            )
        elif low <= 1 / 2:
            note += "; the target cannot be told from the pool: another method may, or more samples"
        if ours < _FEW:
            different = " different" if ours < n else ""
            note += f"; {ours}{different} target samples are few to learn from"
        if not model.converged:
            note += f"; the fit has not converged: raise {self.where}.l2 above {self.l2:g}"
        facts = {"target_texts": ours, "pool_texts": theirs}
        return {**facts, "auc": area, "auc_low": low, "auc_high": high, "note": note}


def _balanced(is_target: Bool1D, counted_rows: Bool1D) -> Logistic | None:
    """The mean loss of each class, each a half; None where one has no row that counts."""
    weight = np.zeros(len(is_target))
    for kind in (is_target, ~is_target):
        members = kind & counted_rows
        if not members.any():
            return None
        weight[members] = 0.5 / members.sum()
    return Logistic(is_target, weight)
