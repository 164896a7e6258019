"""Learned grade: what grade a sample would get, foretold from those of a few hundred others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, ClassVar, Final, Literal

import numpy as np
from pydantic import Field

from didact.core.arrays import Bool1D, Float1D, Int1D
from didact.core.cost import Cost
from didact.core.errors import DataError
from didact.core.findings import counted
from didact.core.hashing import mix
from didact.core.identity import method
from didact.core.pool import Pool, PoolStats
from didact.core.protocols import Context, Fitted
from didact.core.sample_field import check_sample_field
from didact.core.sampling import MOST_BYTES, random_key, within_bytes
from didact.core.statistics import CROSS_FITTED, spearman, spearman_interval
from didact.scoring.learned.cross_fitting import (
    CrossFitted,
    Folds,
    Shape,
    Unit,
    cross_fit,
    fitted,
)
from didact.scoring.learned.grades import FEWEST, read_grades
from didact.scoring.learned.learned_scorer import LearnedScorer, libraries
from didact.text.linear import Squared

_SECONDS_PER_ROW: Final = 2.5e-6  # of reading the grades, and a byte, as `column` has them
_SECONDS_PER_BYTE: Final = 3e-9
_GRADED: Final = 2000  # rows, that an estimate takes to be graded


@method("learned_grade", libraries=libraries, models=("model",))
@dataclass(frozen=True, kw_only=True)
class LearnedGrade(LearnedScorer):
    """The grade of each sample, foretold from those that some samples have, in the grades' unit.

    A ridge regression on the words and the shape of a text, fitted once for each fold of the graded
    rows. A graded row gets what the model without its fold says of it, not its own grade, and so do
    rows with the same words; every other row gets the mean of all models. Graded rows are those of
    the target set where one is given, else those of the pool. How well it foretells what it did not
    see, the rank correlation with the grades and its interval, is told with the scores: read it
    before anything is chosen. Rows of the same words count as one in the interval. What is foretold
    is not held within the range of the grades.

    Args:
        grade: The column with the grade, a number: 0 to 5, pairs won, a win rate; dots reach into
            nested objects, as in "meta.grade". Text counts where it is a decimal number, as in a
            CSV file. Rows without it, or with null, NaN or nothing there, have none. Grade rows
            that are drawn at random, or the others are foretold from unlike ones.
        prefer: Which end of the grades is better.
        features: `ngrams` are hashed words and pairs of words (of scripts without spaces, runs of
            characters), each once, as unit vectors; `static_embedding` and `embedding` the vectors
            of the scorers of these names, for which `model` is needed.
        shape: Length and repetition are features too: the logarithm of the bytes, and the share of
            words and pairs of words that a text has not had before.
        model: A folder with the encoder, or a hub name; not with `ngrams`.
        device: Where an `embedding` runs; `auto` is every visible accelerator, else the CPU.
        field: The part of the samples that is looked at.
        folds: Models that are fitted, each without the rows that it is to judge.
        l2: Strength of the penalty on the weights, beside a sum of squared errors.

    **Source:** regression on a few hundred grades of a strong judge, spread over a pool, as the
    classifiers of FineWeb-Edu (arXiv:2406.17557) and the deita scorers (arXiv:2312.15685) do with
    transformers and more grades; here a linear model.
    **Cost:** one pass over the text and one over the rows, about 20 ns a byte on one core; fitting,
    some tenths of a second for 500 grades; with an encoder, what that takes.
    """

    grade: Annotated[str, Field(min_length=1)]
    prefer: Literal["higher", "lower"] = "higher"
    shape: bool = True
    folds: Annotated[int, Field(ge=2, le=20)] = 10
    l2: Annotated[float, Field(gt=0)] = 0.3

    where: ClassVar[str] = "score.learned_grade"
    needs_target: ClassVar[bool] = False

    def estimate(self, pool: PoolStats, target: PoolStats | None) -> Cost:
        """Bytes and rows, and fitting to as many grades as a user may have."""
        graded = target if target is not None else pool
        reading = _SECONDS_PER_ROW * graded.n + _SECONDS_PER_BYTE * graded.n_bytes
        rows = 0 if target is not None else min(_GRADED, pool.n)
        return self.estimate_learned(pool, target, rows) + Cost(cpu_seconds=reading)

    def fit(self, pool: Pool, target: Pool | None, ctx: Context) -> Fitted:
        """The models of all folds, and how well they foretell the grades they did not see.

        Raises:
            DataError: Grades are no numbers, too few or all equal.
        """
        graded, what = (pool, "pool") if target is None else (target, "target set")
        check_sample_field(pool, self.field, f"{self.where}.field")
        check_sample_field(graded, self.field, f"{self.where}.field", what=what)
        reading = self.reading(self.field)
        grades = read_grades(graded, self.grade, what, f"{self.where}.grade", ctx)
        # copies may have several grades: in an order that does not know which of them came first
        key = mix(graded.content_hash[grades.rows] ^ np.uint64(random_key(ctx, "learned_grade")))
        rows = within_bytes(graded, grades.rows[np.lexsort((grades.values, key))])
        found = reading.texts(graded, rows, ctx, "read graded rows")
        texts = found.take(found.present)
        values = grades.values[np.searchsorted(grades.rows, rows[found.present])]
        distinct = len(np.unique(texts.keys))
        if distinct < FEWEST:
            raise DataError(
                f"{self.where}: the {len(grades.rows):,} graded rows have {distinct} different "
                f"texts with words; expected {FEWEST} at least: grade rows that differ"
            )
        folds = Folds.of(texts.keys, self.folds)
        which = folds.find(texts.keys)
        shape = Shape.of(texts) if self.shape else None
        unit = Unit.of(values)
        scaled = unit(values)
        model = cross_fit(
            texts, which, partial(_squared, scaled), folds, ctx, l2=self.l2, shape=shape
        )
        model = replace(_levelled(model, scaled, which), unit=unit)
        facts = self._told(values, model(texts, which), texts.shape[:, 0], distinct)
        facts |= {"folds": folds.count, "steps": model.steps}
        if not model.converged:
            facts["note"] += f"; the fit has not converged: raise {self.where}.l2 above {self.l2:g}"
        if grades.not_a_number:
            facts["note"] += f"; {counted(grades.not_a_number, 'grade')} of NaN counted as none"
        if len(rows) < len(grades.rows):
            facts["note"] += (
                f"; of {len(grades.rows):,} graded rows {len(rows):,} were drawn, "
                f"{MOST_BYTES / 2**20:.0f} MiB of text"
            )
        return fitted(
            reading, model, facts, mean_of_others=True, higher_is_better=self.prefer == "higher"
        )

    def _told(
        self, grades: Float1D, foretold: Float1D, length: Float1D, distinct: int
    ) -> dict[str, Any]:
        """How well the grades of so many distinct texts were foretold, as facts with a note."""
        n = len(grades)
        by_length = spearman(length, grades)
        rho = spearman(foretold, grades)
        facts: dict[str, Any] = {
            "graded": n,
            "distinct_texts": distinct,
            "lowest_grade": float(grades.min()),
            "highest_grade": float(grades.max()),
            "spearman_of_length": None if np.isnan(by_length) else by_length,
        }
        if np.isnan(rho):  # every row is foretold the same
            note = f"{n:,} grades, and nothing in the texts tells them apart"
            return {**facts, "spearman": None, "note": note}
        low, high = spearman_interval(rho, distinct, variance=CROSS_FITTED)
        note = (
            f"held-out Spearman {rho:.2f} ({low:.2f} to {high:.2f}) with {n:,} "
            "grades, each foretold by a model that did not see it"
        )
        if distinct < n:
            note += f"; the interval is that of {distinct:,} texts with words of their own"
        if not np.isnan(by_length):
            note += f"; length alone has {by_length:.2f}"
        if low <= 0:
            note += (
                "; that is not told from none: grade more rows, or look at another field or other "
                "features before choosing by it"
            )
        return {
            **facts, "spearman": rho, "spearman_low": low, "spearman_high": high, "note": note
        }  # fmt: skip


def _levelled(model: CrossFitted, grades: Float1D, which: Int1D) -> CrossFitted:
    """The models with one mean grade instead of each its own.

    A fold with high grades leaves low ones to its model, which foretells less of it: without this,
    few grades would seem to be foretold worse than they are, and worse than by chance.
    """
    means = np.array([grades[which != k].mean() for k in range(model.folds.count)])
    shifts = grades.mean() - means
    return replace(model, intercepts=model.intercepts + np.append(shifts, shifts.mean()))


def _squared(grades: Float1D, counted_rows: Bool1D) -> Squared:
    """Squared errors of the rows that count."""
    return Squared(grades, counted_rows.astype(np.float64))
