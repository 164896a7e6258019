"""What a model of n-grams says of texts, whoever judges them."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from didact.core.arrays import Float1D, Int1D

_LARGEST: Final = 308.0  # of float64, as a power of ten


class Judged(NamedTuple):
    """What a model says of `n` texts.

    Attributes:
        logs: float64 `(n,)`: log₁₀ of the probability.
        tokens: int64 `(n,)`: tokens.
        sentences: int64 `(n,)`: sentences that have tokens.
        unknown: int64 `(n,)`: tokens that are no words of the model.
    """

    logs: Float1D
    tokens: Int1D
    sentences: Int1D
    unknown: Int1D

    @property
    def perplexity(self) -> Float1D:
        """10 ^ (-log₁₀ p / (tokens + sentences)), `(n,)`; NaN where there are no tokens.

        Every sentence has an end that is foretold like a token; as `perplexity` of `kenlm`.
        """
        none = np.full(len(self.logs), np.nan)
        per_token = np.divide(
            -self.logs, self.tokens + self.sentences, out=none, where=self.tokens > 0
        )
        return np.asarray(10.0 ** np.minimum(per_token, _LARGEST))

    @property
    def unknown_share(self) -> Float1D:
        """Share of the tokens that are unknown, `(n,)`; 0 where there are none."""
        return np.asarray(self.unknown / np.maximum(self.tokens, 1))
