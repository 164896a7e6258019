"""Samples as a model reads them: ragged arrays of token ids, with a loss weight for every token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

# Ids and loss weights of one sample.
Sample = tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Ragged tokens of `n` samples.

    Attributes:
        ids: int32 `(total,)`, sample after sample.
        weights: float32 `(total,)`: how much the prediction *of* this token counts in the
            sample's loss; 0 on a sample's first token, which nothing predicts.
        offsets: int64 `(n + 1,)`: where each sample starts.
        n_bytes: int64 `(n,)`: UTF-8 bytes of the tokens that count. A token has those from the end
            of the one before it to its own; EOS after the text those of its name, "</s>".
        truncated: bool `(n,)`: the sample went on beyond its last token here.
        missing: Sample to the reason it has no loss.
    """

    ids: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32]
    offsets: npt.NDArray[np.int64]
    n_bytes: npt.NDArray[np.int64]
    truncated: npt.NDArray[np.bool_]
    missing: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each sample, `(n,)`."""
        return np.diff(self.offsets)

    @property
    def scored(self) -> npt.NDArray[np.int64]:
        """The samples that have a loss, ascending."""
        return np.setdiff1d(np.arange(len(self)), np.fromiter(self.missing, np.int64))

    def sample(self, row: int) -> Sample:
        """Ids and weights of one sample."""
        span = slice(int(self.offsets[row]), int(self.offsets[row + 1]))
        return self.ids[span], self.weights[span]

    def take(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> Tokens:
        """Samples that have a loss, in any order, as often as they are named."""
        of_samples = ragged([self.sample(row) for row in rows])
        chosen = np.asarray(rows, np.int64)
        return Tokens(
            of_samples.ids, of_samples.weights, of_samples.offsets,
            self.n_bytes[chosen], self.truncated[chosen],
        )  # fmt: skip


def ragged(samples: Sequence[Sample]) -> Tokens:
    """Samples, or pieces of samples, behind one another; how much text they are is left out."""
    return Tokens(
        ids=np.concatenate([np.empty(0, np.int32), *(ids for ids, _ in samples)]),
        weights=np.concatenate([np.empty(0, np.float32), *(weights for _, weights in samples)]),
        offsets=np.cumsum([0, *(len(ids) for ids, _ in samples)], dtype=np.int64),
        n_bytes=np.zeros(len(samples), np.int64),
        truncated=np.zeros(len(samples), np.bool_),
    )


def concatenated(parts: Sequence[Tokens]) -> Tokens:
    """The samples of several `Tokens` as one, without the reasons why some have no loss."""
    lengths = np.concatenate([np.empty(0, np.int64), *(p.lengths for p in parts)])
    return Tokens(
        ids=np.concatenate([np.empty(0, np.int32), *(p.ids for p in parts)]),
        weights=np.concatenate([np.empty(0, np.float32), *(p.weights for p in parts)]),
        offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
        n_bytes=np.concatenate([np.empty(0, np.int64), *(p.n_bytes for p in parts)]),
        truncated=np.concatenate([np.empty(0, np.bool_), *(p.truncated for p in parts)]),
    )
