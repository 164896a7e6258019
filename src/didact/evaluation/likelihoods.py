"""Likelihood of answers, of everything and of options, each from as few passes as there can be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from didact.accounting.flops import forward_flops
from didact.core.arrays import Float1D, Int1D
from didact.core.cost import Cost, Metered
from didact.core.errors import DataError
from didact.core.render import TURNS
from didact.evaluation.options import Options, Turn, with_answer
from didact.models.batches import Batch, over_batches
from didact.models.encode import Encoding, encode
from didact.models.language_model import LanguageModel
from didact.models.losses import token_nll
from didact.models.tokens import Tokens
from didact.models.windows import likelihood, windows

OTHER, ANSWER = 1.0, 2.0  # weights that tell tokens apart; everything counts whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a model reads samples.

    Attributes:
        encoding: How they become tokens; `loss` says what the answer is.
        size: Most tokens of a window.
        stride: From the start of a window to that of the next.
        tokens_per_batch: Most tokens of a batch, padding included.
    """

    encoding: Encoding
    size: int
    stride: int
    tokens_per_batch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """What tokens took to foretell, by sample, each `(n,)`.

    Attributes:
        nats: Their negative log-likelihood, float64.
        n_bytes: Their UTF-8 bytes.
        tokens: Their number.
    """

    nats: Float1D
    n_bytes: Int1D
    tokens: Int1D


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleLikelihoods:
    """What samples took to foretell.

    Attributes:
        answer: The answers; zeros on a sample without one.
        everything: All tokens.
        mark_nats: float64 `(n,)`: nats of the template's marks.
        marks: int64 `(n,)`: number of these.
        missing: Sample → why nothing of its answer counts.
    """

    answer: Amounts
    everything: Amounts
    mark_nats: Float1D
    marks: Int1D
    missing: dict[int, str]


def of_samples(
    model: LanguageModel, turns: pa.ListArray, how: Reading
) -> Metered[SampleLikelihoods]:
    """Likelihood of the answers and of everything, from one pass over the samples.

    Args:
        model: The model.
        turns: The samples' column `turns`, `(n,)`.
        how: Encoding and windows.

    **Cost:** one forward pass over all windows of every sample.
    """
    answers = encode(turns, model.tokenizer, how.encoding)
    as_text = how.encoding.loss == "text"
    whole = replace(how.encoding, loss="text" if as_text else "all")
    everything = encode(turns, model.tokenizer, whole)
    n = len(everything)
    out = {name: np.zeros(n) for name in ("answer", "all", "marks")}
    counts = {name: np.zeros(n, np.int64) for name in out}
    marks = torch.as_tensor(_marks(model.tokenizer, how.encoding), device=model.device)
    cost = Cost()
    pieces = windows(_told_apart(everything, answers), how.size, how.stride)

    def forward(batch: Batch) -> torch.Tensor:
        return token_nll(model.module(**batch.inputs, use_cache=False).logits, batch)

    with torch.inference_mode():
        for batch, found in over_batches(
            forward, pieces.tokens, tokens_per_batch=how.tokens_per_batch, pad_id=model.pad_id,
            device=model.device,
        ):  # fmt: skip
            rows, nll = pieces.owner[batch.rows], found.double()
            counted = batch.weights != 0
            for name, chosen in (
                ("answer", batch.weights == ANSWER),
                ("all", counted),
                ("marks", counted & torch.isin(batch.input_ids, marks)),
            ):
                np.add.at(out[name], rows, (nll * chosen).sum(1).cpu().numpy())
                np.add.at(counts[name], rows, chosen.sum(1).cpu().numpy())
            ran = batch.executed
            flops = forward_flops(model.spec, ran.tokens, ran.squares)
            cost += Cost(flops=flops, tokens=int(batch.attention_mask.sum()))
    value = SampleLikelihoods(
        answer=Amounts(nats=out["answer"], n_bytes=answers.n_bytes, tokens=counts["answer"]),
        everything=Amounts(nats=out["all"], n_bytes=everything.n_bytes, tokens=counts["all"]),
        mark_nats=out["marks"], marks=counts["marks"],
        missing={**everything.missing, **answers.missing},
    )  # fmt: skip
    return Metered(value, cost)


def _told_apart(everything: Tokens, answers: Tokens) -> Tokens:
    """All tokens with a weight that says whether they are of the answer."""
    weights = np.where(everything.weights != 0, np.float32(OTHER), np.float32(0))
    weights[answers.weights != 0] = ANSWER
    return replace(everything, weights=weights)


def _marks(tokenizer: Any, how: Encoding) -> list[int]:
    """Tokens with which the model's template marks turns; [] where there is no such template."""
    if how.kind == "text" or how.loss == "text" or how.template != "model":
        return []
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return sorted(special - {tokenizer.bos_token_id})


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionLikelihoods:
    """What the options of one sample took to foretell, each list as long as the options.

    Attributes:
        nats: Their negative log-likelihood as the answer.
        n_bytes: UTF-8 bytes of their tokens, with the marks that end an answer.
        tokens: Number of these tokens.
        chars: Characters of their text.
    """

    nats: list[float]
    n_bytes: list[int]
    tokens: list[int]
    chars: list[int]


def of_options(
    model: LanguageModel,
    samples: Sequence[Sequence[Turn]],
    options: Sequence[Options],
    how: Reading,
    places: Sequence[str],
) -> Metered[list[OptionLikelihoods]]:
    """Likelihood of every option in the place of the sample's last answer.

    The tokens that count are those of the answer: the option and the marks with which the template
    ends a turn. The marks are the same for every option, and so is the prompt.

    Args:
        model: The model.
        samples: Turns of the samples, `(n,)`.
        options: Their options, `(n,)`.
        how: Encoding and windows; answers are never cut.
        places: File and row of each sample, for messages.

    Raises:
        DataError: Nothing of an option counts, or the option does not fit `max_length`.

    **Cost:** a forward pass over prompt and option, for each option of each sample.
    """
    written = [
        with_answer(turns, text)
        for turns, found in zip(samples, options, strict=True)
        for text in found.texts
    ]
    owner = np.repeat(np.arange(len(samples)), [len(found.texts) for found in options])
    encoding = replace(how.encoding, loss="completion")
    tokens = encode(pa.array(written, TURNS), model.tokenizer, encoding)
    cut = np.flatnonzero(tokens.truncated)
    if len(cut) or tokens.missing:
        at = int(cut[0]) if len(cut) else next(iter(tokens.missing))
        why = "is cut" if len(cut) else f"cannot be judged ({tokens.missing[at]})"
        raise DataError(
            f"{places[owner[at]]}: the option {written[at][-1]['content'][:80]!r} {why}; expected "
            "every option whole: raise max_length or leave it out, or correct the row"
        )
    pieces = windows(tokens, how.size, how.stride)
    found = likelihood(model, pieces, tokens_per_batch=how.tokens_per_batch)
    bounds = np.cumsum([0, *(len(each.texts) for each in options)]).tolist()
    out = [
        OptionLikelihoods(
            nats=found.value.nats[a:b].tolist(), n_bytes=tokens.n_bytes[a:b].tolist(),
            tokens=found.value.counted[a:b].tolist(), chars=[len(text) for text in each.texts],
        )
        for each, a, b in zip(options, bounds, bounds[1:], strict=False)
    ]  # fmt: skip
    return Metered(out, found.cost)
