"""Cross-fitting: models that each judge the rows they did not see."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import pyarrow as pa

from didact.core.arrays import Bool1D, Float1D, Float2D, Float32s, Int1D, UInt64s
from didact.core.cost import Metered
from didact.core.hashing import mix
from didact.core.protocols import BatchScorer, BatchScores, Context, Fitted, Progress
from didact.scoring.learned.learned_scorer import BatchTexts, Reading, Texts
from didact.text.linear import Features, Linear, Loss, WithColumns, fit

_SALT: Final = np.uint64(0x6A09E667F3BCC909)
_SPREAD: Final = 0.3  # beside grams, whose features have length 1 together


@dataclass(frozen=True, slots=True)
class Folds:
    """Which fold a text is in, by its words: the same whatever stands around it.

    Attributes:
        count: Number of folds.
        known: uint64 `(m,)`, ascending: keys of texts that are dealt out evenly.
        fold: int64 `(m,)`: the fold of each.
    """

    count: int
    known: UInt64s
    fold: Int1D

    @classmethod
    def of(cls, keys: UInt64s, count: int) -> Folds:
        """Deal out texts, of which there are at least two with words of their own."""
        known = np.unique(keys)
        place = np.argsort(np.argsort(mix(known ^ _SALT)))
        count = min(count, len(known))
        return cls(count, known, place % count)

    def find(self, keys: UInt64s, *, otherwise: int | None = None) -> Int1D:
        """The fold of each text, `(n,)`.

        Args:
            keys: Of the texts.
            otherwise: The fold of texts that were not dealt out; by a hash of their keys if None.
        """
        at = np.minimum(np.searchsorted(self.known, keys), len(self.known) - 1)
        others = (
            (mix(keys ^ _SALT) >> np.uint64(32)).astype(np.int64) % self.count
            if otherwise is None
            else otherwise
        )
        return np.where(self.known[at] == keys, self.fold[at], others)


@dataclass(frozen=True, slots=True)
class Shape:
    """Length and repetition of a text as features, centred and in units of their spread.

    Attributes:
        middle: float64 `(2,)`: their means.
        scale: float64 `(2,)`: what they are multiplied by.
    """

    middle: Float1D
    scale: Float1D

    @classmethod
    def of(cls, texts: Texts) -> Shape:
        """From some texts, so that the standard deviation of each is `_SPREAD`."""
        spread = texts.shape.std(axis=0)
        return cls(texts.shape.mean(axis=0), _SPREAD / np.maximum(spread, 1e-6))

    def __call__(self, texts: Texts) -> Float2D:
        """Of some texts, `(n, 2)`."""
        columns: Float2D = (texts.shape - self.middle) * self.scale
        return columns


@dataclass(frozen=True, slots=True)
class Unit:
    """What values are measured in while they are learned: their mean is 0, their spread 1.

    A fit ends by an absolute tolerance and weights are float32, so that values of another unit
    would be fitted otherwise or not at all. Multiplied by a power of two the values are learned the
    same, bit for bit.

    Attributes:
        exponent: Values are divided by 2^`exponent` first, so that no sum of them overflows,
        middle: then their mean
        spread: and their standard deviation.
    """

    exponent: int
    middle: float
    spread: float

    @classmethod
    def of(cls, values: Float1D) -> Unit:
        """Of finite values, `(n,)`, that are not all equal."""
        exponent = int(np.frexp(np.abs(values).max())[1])
        small = np.ldexp(values, -exponent)
        return cls(exponent, float(small.mean()), float(small.std()))

    def __call__(self, values: Float1D) -> Float1D:
        """Values in this unit, `(n,)`."""
        scaled: Float1D = (np.ldexp(values, -self.exponent) - self.middle) / self.spread
        return scaled

    def back(self, scaled: Float1D) -> Float1D:
        """What was told in this unit in that of the values, `(n,)`, finite."""
        with np.errstate(over="ignore"):
            values = np.ldexp(scaled * self.spread + self.middle, self.exponent)
        ends = np.finfo(np.float64)
        return np.clip(values, ends.min, ends.max)


@dataclass(frozen=True, slots=True)
class CrossFitted:
    """A model for each fold, and at last the mean of them all.

    Attributes:
        folds: Which texts are in which.
        tables: float32 `(K + 1, width)`: weights.
        intercepts: float64 `(K + 1,)`.
        shape: Length and repetition as features, if they are.
        steps: Of the minimiser, in each fold.
        converged: Whether it came to the minimum in all of them.
        unit: What the models tell is in this unit; None where it has none.
    """

    folds: Folds
    tables: Float32s
    intercepts: Float1D
    shape: Shape | None
    steps: tuple[int, ...]
    converged: bool
    unit: Unit | None = None

    def __call__(self, texts: Texts, which: Int1D) -> Float1D:
        """Row i by model `which[i]`: float64 `(n,)`."""
        features: Features = texts.features
        if self.shape is not None:
            features = WithColumns(features, self.shape(texts))
        told = features.times_each(self.tables, which) + self.intercepts.take(which)
        return told if self.unit is None else self.unit.back(told)


@dataclass(frozen=True, slots=True)
class _Work:
    """What fitting the model of a fold needs."""

    features: Features
    losses: tuple[Loss | None, ...]
    l2: float


def cross_fit(
    texts: Texts,
    which: Int1D,
    loss: Callable[[Bool1D], Loss | None],
    folds: Folds,
    ctx: Context,
    *,
    l2: float,
    shape: Shape | None = None,
) -> CrossFitted:
    """Fit a model without each fold.

    Args:
        texts: What is learned from, `(n,)`, in an order that does not depend on the pool's.
        which: The fold of each.
        loss: The loss where only the rows marked count; None where nothing can be learned of them.
        folds: How texts are dealt out.
        ctx: Runs the fits, one for each fold.
        l2: Strength of the penalty.
        shape: Length and repetition as features, if they are.
    """
    features, columns = texts.features_that_occur()
    with_shape = features if shape is None else WithColumns(features, shape(texts))
    work = _Work(with_shape, tuple(loss(which != k) for k in range(folds.count)), l2)
    models = []
    ctx.progress(Progress("fit", 0, folds.count, "folds"))
    for model in ctx.executor.map(fit_fold, range(folds.count), shared=work):
        models.append(model)
        ctx.progress(Progress("fit", len(models), folds.count, "folds"))
    tables = np.zeros((folds.count + 1, texts.width + with_shape.width - features.width))
    for table, model in zip(tables, models, strict=False):
        table[columns] = model.weights[: features.width]
        table[texts.width :] = model.weights[features.width :]
    tables[-1] = tables[:-1].mean(axis=0)
    intercepts = np.array([model.intercept for model in models])
    return CrossFitted(
        folds,
        tables.astype(np.float32),
        np.append(intercepts, intercepts.mean()),
        shape,
        tuple(model.steps for model in models),
        all(model.converged for model in models),
    )


def fit_fold(work: _Work, fold: int) -> Metered[Linear]:
    """The model of a fold; nothing but zeros where there is nothing to learn from."""
    loss = work.losses[fold]
    if loss is None:
        return Metered(Linear(np.zeros(work.features.width), 0.0, 0, converged=True))
    return Metered(fit(work.features, loss, l2=work.l2))


def fitted(
    reading: Reading,
    model: CrossFitted,
    facts: Mapping[str, object],
    *,
    mean_of_others: bool,
    higher_is_better: bool = True,
) -> Fitted:
    """A fitted scorer of what was learned.

    Args:
        reading: How the pool's texts become features.
        model: What was learned.
        facts: What the scores depend on beside the settings, and what is told of them.
        mean_of_others: Texts that were not dealt out are judged by the mean of all models; else by
            the model of the fold that their words fall into.
        higher_is_better: Direction of preference.
    """
    otherwise = model.folds.count if mean_of_others else None
    return Fitted(
        open=partial(_open, reading, model, otherwise),
        columns=(reading.field,),
        device=reading.device,
        higher_is_better=higher_is_better,
        facts={**reading.facts, **facts},
    )


@contextmanager
def _open(
    reading: Reading, model: CrossFitted, otherwise: int | None, index: int, device: str
) -> Iterator[BatchScorer]:
    del index
    with reading.open(device) as (texts, facts):
        yield partial(_score, texts, facts, model, otherwise)


def _score(
    read: BatchTexts,
    facts: Mapping[str, str],
    model: CrossFitted,
    otherwise: int | None,
    batch: pa.RecordBatch,
) -> Metered[BatchScores]:
    found = read(batch)
    texts = found.value
    values = model(texts, model.folds.find(texts.keys, otherwise=otherwise))
    return Metered(BatchScores(values[:, None], missing=texts.missing, facts=facts), found.cost)
