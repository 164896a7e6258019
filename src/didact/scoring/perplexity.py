"""Perplexity: how well a model foretells the tokens of a sample."""

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


@method("perplexity", libraries=MODEL_LIBRARIES, models=("model",), needs=("models",))
@dataclass(frozen=True, kw_only=True)
class Perplexity(WindowedLikelihood):
    """exp of a model's mean loss over the tokens of a sample that count, each of them once.

    Which end is better is a matter of the model and of what the selection is for, so it is a
    setting: lowest is text the model finds easy, highest is text it finds hard or that is broken.
    For the middle band use the selector `middle`, to which `prefer` makes no difference.

    Samples longer than `window` are read in overlapping windows; every token is predicted once,
    from at least `window - stride` tokens where there are as many before it. Mean over tokens, by
    the weights of their turns. The released code of arXiv:2410.16208 takes the mean over windows
    instead, however many tokens each of them adds, and counts the prompt (here `loss: all`).

    Args:
        model: A folder with a causal language model (safetensors), or a hub name.
        device: `auto` is every visible accelerator, else the CPU.
        dtype: `auto` is bfloat16 on an accelerator that has it, float32 elsewhere.
        loss: What counts: the `completion` (the turns a trainer learns, each by its weight), `all`
            tokens, or the sample as plain `text` without a template.
        template: How chats are written: the `model`'s own chat template, or one of didact's.
        max_length: Cut samples to so many tokens, and tell in the column `truncated`; not cut when
            not given.
        tokens_per_batch: Most tokens of a batch, padding included; less when memory runs out.
        prefer: Which end is better.
        window: Most tokens the model reads at once; its context when not given.
        stride: From one window's start to the next; half a window when not given.

    **Source:** Marion et al. 2023 (arXiv:2309.04564), Yin and Rush 2025 (arXiv:2410.16208).
    **Cost:** one forward pass, 2 FLOPs per weight and token and attention; of a sample beyond the
    window every token is read `window / stride` times.
    """

    def fit(self, pool: Pool, target: Pool | None, ctx: Context) -> Fitted:
        """Check the model against the pool."""
        del target, ctx
        return self.fitted(pool, perplexities)


def perplexities(found: Likelihood, _: Tokens) -> Float1D:
    """The exponential of each sample's mean loss, `(b,)`."""
    return np.asarray(np.exp(found.mean))
