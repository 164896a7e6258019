"""Interpolated modified Kneser-Ney: n-grams of a stream of texts, counted and made a model.

Only the n-grams are kept, never the texts.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from didact.core.arrays import Float1D, Int1D
from didact.text.ngram_lm import kernel
from didact.text.ngram_lm.kernel import BEGIN, ORDERS, SPECIAL
from didact.text.ngram_lm.model import Draft, Model
from didact.text.ngram_lm.tokens import Sentences

# What is taken off counts of 1, 2, 3 and more where too few n-grams tell: KenLM's own, as its
# option --discount_fallback has them.
FALLBACK: Final = (0.5, 1.0, 1.5)
_STEP: Final = 1 << 16  # tokens counted between two looks at the room there is
_Arrays = list[npt.NDArray[Any]]


class Counts:
    """Counts of the n-grams of all texts that were added; order of texts makes no difference.

    Memory is 16 bytes an n-gram and 6 to 10 for finding it, twice that of one order while it grows.
    """

    def __init__(self, order: int) -> None:
        self.order = order
        self.tokens = 0
        self.sentences = 0
        room = 1 << 10
        self._keys: _Arrays = [np.zeros(room, np.uint64) for _ in range(ORDERS)]
        self._counts: _Arrays = [np.zeros(room, np.uint32) for _ in range(ORDERS)]
        self._shorter: _Arrays = [np.zeros(room, np.uint32) for _ in range(ORDERS)]
        self._tables: _Arrays = [np.zeros(room * 3 // 2, np.uint32) for _ in range(ORDERS)]
        self._filled = np.zeros(ORDERS, np.int64)
        self._filled[0] = SPECIAL

    def add(self, found: Sentences) -> None:
        """Count the n-grams of some sentences.

        **Cost:** a look-up and a half or so for every token and order.
        """
        ends = found.ends
        first = 0
        while first < len(ends) - 1:
            last = int(np.searchsorted(ends, ends[first] + _STEP, side="right")) - 1
            last = max(last, first + 1)
            self._make_room(int(ends[last] - ends[first]) + last - first)
            kernel.count(
                found.hashes, ends[first : last + 1], self.order,
                tuple(self._keys), tuple(self._counts), tuple(self._shorter), tuple(self._tables),
                self._filled,
            )  # fmt: skip
            first = last
        lengths = np.diff(ends)
        self.sentences += int(np.count_nonzero(lengths))
        self.tokens += int(ends[-1]) if len(ends) else 0

    def _make_room(self, more: int) -> None:
        for n in range(self.order):
            filled = int(self._filled[n])
            if filled + more <= len(self._keys[n]):
                continue
            room = max(filled + more, len(self._keys[n]) * 8 // 5)
            for arrays in (self._keys, self._counts, self._shorter):
                grown = np.zeros(room, arrays[n].dtype)
                grown[:filled] = arrays[n][:filled]
                arrays[n] = grown
            self._tables[n] = np.zeros(room * 3 // 2, np.uint32)
            kernel.renumber(self._keys[n], SPECIAL if n == 0 else 0, filled, self._tables[n])

    @property
    def ngrams(self) -> list[int]:
        """n-grams of each order; <s> and </s> are words, <unk> is none."""
        return [int(n) - (order == 0) for order, n in enumerate(self._filled[: self.order])]

    def estimate(self) -> Model:
        """The model; the counts are used up.

        **Source:** Chen and Goodman 1998, modified Kneser-Ney with three discounts per order from
        the counts of counts; as in KenLM's `lmplz` (Heafield et al. 2013), n-grams that begin a
        sentence keep their own counts, and words are interpolated with a uniform distribution over
        words, </s> and <unk>. Where no n-gram of an order counts as 1, 2 or 3, its discounts are
        ½, 1 and 1½, as with `--discount_fallback`; `about` names such orders.
        **Cost:** four look-ups an n-gram; memory 40 bytes an n-gram beside the counts.
        """
        self._tables = []
        sizes = [int(n) for n in self._filled[: self.order]]
        draft = Draft.of([sizes[0] - SPECIAL, *sizes[1:]])
        found = [_discounts(self._counts[n][:size]) for n, size in enumerate(sizes)]
        below = self._words(found[0][0])
        words = self._settle_words(draft, sizes[0])
        places = words
        for n in range(1, self.order):
            below, places = self._longer(draft, n, found[n][0], below, places, words)
        draft.write(self.order - 1, places, np.log10(below), None)
        about = {
            "tokens": self.tokens,
            "sentences": self.sentences,
            "ngrams": self.ngrams,
            "discounts": [[round(float(d), 4) for d in discounts[1:]] for discounts, _ in found],
            "fallback": [n + 1 for n, (_, estimated) in enumerate(found) if not estimated],
        }
        return Model(draft.cells, draft.sizes, closed=True, about=about)

    def _words(self, discounts: Float1D) -> Float1D:
        """Probabilities of the words, the special ones first."""
        counts = self._counts[0][: self._filled[0]].astype(np.int64)
        kind = np.minimum(counts, 3)
        total, left = counts.sum(), np.bincount(kind, minlength=4) @ discounts
        p = (counts - discounts[kind]) / total + left / total / (len(counts) - 1)
        p[BEGIN] = 1.0  # it is never foretold
        return np.asarray(p)

    def _settle_words(self, draft: Draft, n: int) -> Int1D:
        places: Int1D = np.arange(n) + draft.sizes[0]
        none = np.empty(0, np.int64)
        kernel.settle(
            self._keys[0][SPECIAL:n], none, none, draft.cells, 0, int(draft.sizes[0]),
            places[SPECIAL:],
        )  # fmt: skip
        return places

    def _longer(
        self,
        draft: Draft,
        n: int,
        discounts: Float1D,
        below: Float1D,
        contexts: Int1D,
        words: Int1D,
    ) -> tuple[Float1D, Int1D]:
        """n-grams of n + 1 words from those of n, whose weights are written.

        Args:
            draft: The model.
            n: Their words but the last.
            discounts: What is taken off their counts.
            below: Probabilities of the n-grams one shorter,
            contexts: and their places.
            words: Places of the words.

        Returns:
            Their probabilities and places.
        """
        size = int(self._filled[n])
        keys, counts, shorter = self._keys[n][:size], self._counts[n][:size], self._shorter[n]
        sums = np.zeros(len(below), np.int64)
        kinds = np.zeros((len(below), 3), np.uint32)
        kernel.totals(keys, counts, sums, kinds)
        left = np.zeros(len(below))
        np.divide(kinds @ discounts[1:], sums, out=left, where=sums > 0)
        back_off = np.zeros(len(below))
        np.log10(left, out=back_off, where=left > 0)
        draft.write(n - 1, contexts, np.log10(below), back_off)
        p, places = np.empty(size), np.empty(size, np.int64)
        kernel.interpolate(keys, counts, shorter[:size], sums, left, discounts, below, p)
        kernel.settle(
            keys, words, contexts, draft.cells, int(draft.bases[n]), int(draft.sizes[n]), places
        )
        self._keys[n] = self._counts[n] = self._shorter[n] = np.empty(0)
        return p, places


def _discounts(counts: npt.NDArray[np.uint32]) -> tuple[Float1D, bool]:
    """What is taken off counts of 0, 1, 2, 3 or more, `(4,)`, and whether the counts tell it."""
    kinds = np.bincount(np.minimum(counts, 5), minlength=6).astype(np.float64)
    once, twice = kinds[1], kinds[2]
    if kinds[1:4].all():
        share = once / (once + 2 * twice)
        k = np.arange(1, 4)
        found = k - (k + 1) * share * kinds[2:5] / kinds[1:4]
        if ((found >= 0) & (found <= k)).all():
            return np.concatenate([[0.0], found]), True
    return np.array([0.0, *FALLBACK]), False
