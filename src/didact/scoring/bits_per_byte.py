"""Bits per byte: how well a model foretells a sample, whatever its tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from didact.core.arrays import Float1D
from didact.core.identity import method
from didact.core.pool import Pool
from didact.core.protocols import Context, Fitted
from didact.models.tokens import Tokens
from didact.scoring.judging.judging_model import MODEL_LIBRARIES
from didact.scoring.judging.windowed_likelihood import WindowedLikelihood

if TYPE_CHECKING:
    from didact.models.windows import Likelihood


@method("bits_per_byte", libraries=MODEL_LIBRARIES, models=("model",), needs=("models",))
@dataclass(frozen=True, kw_only=True)
class BitsPerByte(WindowedLikelihood):
    """Bits a model needs for each byte of the tokens that count: what it would compress it to.

    The negative log-likelihood of all tokens that count, in bits, over the UTF-8 bytes of the very
    same tokens. Unlike perplexity it can be compared between tokenizers. Marks with which a
    template ends a turn count, their bytes too, EOS by its name ("</s>"). The first token of a
    sample without BOS is not foretold, so its bytes are not counted either. A token across the end
    of a turn is of the turn in which it ends, with all its bytes. Turns count whole or, with weight
    0, not at all. Everything else is as in `perplexity`.

    Args:
        model: A folder with a causal language model (safetensors), or a hub name.
        device: `auto` is every visible accelerator, else the CPU.
        dtype: `auto` is bfloat16 on an accelerator that has it, float32 elsewhere.
        loss: What counts: the `completion` (the turns a trainer learns), `all` tokens, or the
            sample as plain `text` without a template.
        template: How chats are written: the `model`'s own chat template, or one of didact's.
        max_length: Cut samples to so many tokens, and tell in the column `truncated`; not cut when
            not given.
        tokens_per_batch: Most tokens of a batch, padding included; less when memory runs out.
        prefer: Which end is better.
        window: Most tokens the model reads at once; its context when not given.
        stride: From one window's start to the next; half a window when not given.

    **Source:** bits per byte as in Gao et al. 2020, "The Pile" (arXiv:2101.00027), here of single
    samples.
    **Cost:** one forward pass, as `perplexity`.
    """

    def fit(self, pool: Pool, target: Pool | None, ctx: Context) -> Fitted:
        """Check the model against the pool."""
        del target, ctx
        return self.fitted(pool, bits_per_byte)


def bits_per_byte(found: Likelihood, tokens: Tokens) -> Float1D:
    """Bits of all tokens that count over their bytes, `(b,)`."""
    return np.asarray(found.nats / np.log(2) / tokens.n_bytes)
