"""An n-gram language model as a table of cells, and what it says of texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from didact.core.arrays import Float32s, Int1D, UInt64s, frozen
from didact.text.ngram_lm import kernel
from didact.text.ngram_lm.judged import Judged
from didact.text.ngram_lm.tokens import Sentence, Unit, sentences_of

MOST: Final = 2**32 - 8  # places of one order that a key has room for
# log₁₀ of an unknown word's probability where a file has no <unk>; KenLM's own.
NO_UNKNOWN: Final = -100.0


@dataclass(frozen=True)
class Model:
    """A back-off model of n-grams.

    Attributes:
        cells: uint64 `(2 · c,)`: cells of all orders, words first; <unk>, <s> and </s> stand after
            the words. See `didact.text.ngram_lm.kernel`.
        sizes: Cells of each order that are searched, int64 `(order,)`.
        closed: Whether every n-gram is there without its first word too.
        about: What should be known of it, JSON values.
    """

    cells: UInt64s
    sizes: Int1D
    closed: bool
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "cells", frozen(self.cells, np.uint64))
        object.__setattr__(self, "sizes", frozen(self.sizes, np.int64))

    @property
    def order(self) -> int:
        """Words of the longest n-grams."""
        return len(self.sizes)

    def judge(self, texts: pa.LargeStringArray, unit: Unit, sentence: Sentence) -> Judged:
        """The probability of each text; a text's own, whatever else is in the batch.

        **Cost:** see docs/cost-model.md; memory 30 bytes a token.
        """
        found = sentences_of(texts, unit, sentence)
        n = len(texts)
        out = Judged(np.zeros(n), *np.zeros((3, n), np.int64))
        kernel.judge(
            found.hashes, found.ends, found.texts, self.cells, self.cells.view(np.float32),
            first_cells(self.sizes), self.sizes, self.closed, *out,
        )  # fmt: skip
        return out


class Draft(NamedTuple):
    """A model while it is written.

    Attributes:
        cells: As of `Model`.
        bases: The first cell of each order.
        sizes: Cells of each order that are searched.
    """

    cells: UInt64s
    bases: Int1D
    sizes: Int1D

    @classmethod
    def of(cls, ngrams: npt.ArrayLike) -> Draft:
        """Room for so many n-grams of each order, special words not counted: 24 bytes for each.

        Raises:
            MemoryError: There is not so much memory.
        """
        sizes = np.asarray(ngrams, np.int64) * 3 // 2 + 1  # a search in it ends at an empty place
        bases = first_cells(sizes)
        cells = np.zeros(2 * (int(bases[-1] + sizes[-1]) + (len(sizes) == 1) * kernel.SPECIAL),
                         np.uint64)  # fmt: skip
        return cls(cells, bases, sizes)

    @property
    def weights(self) -> Float32s:
        """The cells as float32."""
        return self.cells.view(np.float32)

    def write(
        self, n: int, places: Int1D, logs: npt.ArrayLike, back_off: npt.ArrayLike | None
    ) -> None:
        """Write log₁₀ probabilities and back-off weights of n-grams of n + 1 words."""
        at = 4 * (self.bases[n] + places)
        self.weights[at + 2] = logs
        if back_off is not None:
            self.weights[at + 3] = back_off


def first_cells(sizes: Int1D) -> Int1D:
    """The first cell of each order: the special words stand after the words."""
    after = np.cumsum(sizes) + kernel.SPECIAL
    return np.concatenate([[0], after[:-1]]).astype(np.int64)
