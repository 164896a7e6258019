"""Perplexity and bits per byte: how well a model foretells a sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from didact.accounting.flops import forward_flops
from didact.accounting.lengths import executed, windowed_lengths
from didact.accounting.spec import ModelSpec
from didact.core.cost import Cost, Metered
from didact.core.errors import ConfigError
from didact.core.identity import method
from didact.core.pool import Pool, PoolStats
from didact.core.protocols import BatchScores, Context, Fitted
from didact.scoring.around.score_pool import MODEL_ROWS
from didact.scoring.judging.model_scorer import JUDGING, Judge, judged

if TYPE_CHECKING:
    from didact.models.language_model import LanguageModel
    from didact.models.tokens import Tokens

Unit = Literal["perplexity", "bits_per_byte"]
UNLIMITED = 10**9  # tokens of a context that is not known


@method("perplexity", libraries=JUDGING, models=("model",), needs=("models",))
@dataclass(frozen=True, kw_only=True)
class Perplexity(Judge):
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

    prefer: Literal["lowest", "highest"] = "lowest"
    window: Annotated[int, Field(ge=2)] | None = None
    stride: Annotated[int, Field(ge=1)] | None = None
    needs_target = False
    unit: ClassVar[Unit] = "perplexity"

    def foreseen(
        self, pool: PoolStats, target: PoolStats | None, specs: Mapping[str, ModelSpec]
    ) -> Cost:
        """A forward pass over all windows, also those of a long sample in which nothing counts."""
        del target
        spec = specs["model"]
        size, stride = self._windows(spec.context or UNLIMITED)
        lengths, scale = windowed_lengths(
            pool,
            size=size,
            stride=stride,
            max_length=self.max_length,
            overhead=spec.added(pool.kind),
        )
        ran, tokens = executed(
            lengths, scale=scale, tokens_per_batch=self.tokens_per_batch, rows=MODEL_ROWS
        )
        return Cost(flops=forward_flops(spec, ran.tokens, ran.squares), tokens=tokens)

    def fit(self, pool: Pool, target: Pool | None, ctx: Context) -> Fitted:
        """Check the model against the pool."""
        del target, ctx
        seat = replace(self, max_length=None).seat(pool, f"score.{self.unit}", truncate=False)
        size, stride = self._windows(seat.context)
        score = partial(
            score_tokens,
            unit=self.unit,
            size=size,
            stride=stride,
            cut=self.max_length is not None,
            tokens_per_batch=seat.tokens_per_batch,
        )
        return judged(
            replace(seat, how=replace(seat.how, max_length=self.max_length)),
            score,
            higher_is_better=self.prefer == "highest",
            facts={"window": size, "stride": stride},
        )

    def _windows(self, context: int) -> tuple[int, int]:
        """Size and stride of the windows.

        Raises:
            ConfigError: The window is beyond the context, or the stride leaves nothing in common.
        """
        size = context if self.window is None else self.window
        if size > context:
            raise ConfigError(
                f"score.{self.unit}.window={size}: {self.model} reads at most {context} tokens"
            )
        stride = max(size // 2, 1) if self.stride is None else self.stride
        if stride >= size:
            raise ConfigError(
                f"score.{self.unit}.stride={stride}: expected less than the window of {size} "
                "tokens, so that the first token of a window has some before it"
            )
        return size, stride


@method("bits_per_byte", libraries=JUDGING, models=("model",), needs=("models",))
@dataclass(frozen=True, kw_only=True)
class BitsPerByte(Perplexity):
    """Bits a model needs for each byte of the text that counts: what it would compress it to.

    The negative log-likelihood of all tokens that count, in bits, over the UTF-8 bytes of their
    text. Unlike perplexity it can be compared between tokenizers. Marks with which a template ends
    a turn count, their bytes too; turns count whole or, with weight 0, not at all. Everything else
    is as in `perplexity`.

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

    unit: ClassVar[Unit] = "bits_per_byte"


def score_tokens(
    model: LanguageModel,
    tokens: Tokens,
    *,
    unit: Unit,
    size: int,
    stride: int,
    cut: bool,
    tokens_per_batch: int,
) -> Metered[BatchScores]:
    """Perplexity or bits per byte of every sample of a batch."""
    from didact.models.windows import likelihood, windows

    pieces = windows(tokens, size, stride)
    found = likelihood(model, pieces, tokens_per_batch=tokens_per_batch)
    # Overflow and 0 / 0 become missing rows.
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        if unit == "perplexity":
            values = np.exp(found.value.mean)
        else:
            values = found.value.nats / np.log(2) / tokens.n_bytes
    parts = {"tokens": found.value.counted.astype(np.float64), "nats": found.value.nats}
    if cut:
        parts["truncated"] = tokens.truncated.astype(np.float64)
    return Metered(BatchScores(values.reshape(-1, 1), parts), found.cost)
