"""Unit vectors of texts and samples: hidden states of a language model, static embeddings.

Static embeddings are numpy; torch is imported by the functions that run a transformer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from didact.accounting.flops import NOTHING, forward_flops
from didact.accounting.spec import ModelSpec
from didact.core.arrays import Float32s
from didact.core.cost import Cost, Metered
from didact.core.errors import need
from didact.models.folder import opening

if TYPE_CHECKING:
    from torch import Tensor

    from didact.models.batches import Batch
    from didact.models.language_model import LanguageModel
    from didact.models.tokens import Tokens

Embed = Callable[[Sequence[str]], "Metered[Vectors]"]


@dataclass(frozen=True, slots=True)
class Vectors:
    """Embeddings of `b` samples.

    Attributes:
        values: float32 `(b, d)`, each of length 1; 0 on missing rows.
        missing: Row to the reason it has no embedding.
        truncated: bool `(b,)`: the sample went on beyond what the model read; None where the model
            has no limit.
    """

    values: Float32s
    missing: Mapping[int, str] = field(default_factory=dict)
    truncated: npt.NDArray[np.bool_] | None = None


def unit_vectors(
    raw: npt.NDArray[Any],
    missing: Mapping[int, str],
    truncated: npt.NDArray[np.bool_] | None = None,
) -> Vectors:
    """Rows divided by their lengths; a row of length 0, or not finite, is missing."""
    values = np.asarray(raw, np.float64)
    length = np.linalg.norm(values, axis=1)
    reasons = dict(missing)
    for row in np.flatnonzero(~np.isfinite(length)).tolist():
        reasons.setdefault(row, "the model's embedding is not a finite number")
    for row in np.flatnonzero(length == 0).tolist():
        reasons.setdefault(row, "none of its tokens is known to the model")
    holes = list(reasons)
    values[holes], length[holes] = 0, 1
    unit = (values / length[:, None]).astype(np.float32)
    return Vectors(unit, dict(sorted(reasons.items())), truncated)


def blank(texts: Sequence[str]) -> dict[int, str]:
    """The texts without a word, with the reason that they have no embedding."""
    return {row: "the text is empty" for row, text in enumerate(texts) if not text.strip()}


# Hidden states of a language model


def hidden_states(
    model: LanguageModel,
    spec: ModelSpec,
    tokens: Tokens,
    *,
    weighted: bool,
    tokens_per_batch: int,
) -> Metered[Vectors]:
    """Unit vectors from a causal language model's last hidden layer.

    A sample's vector is the mean of the states of its tokens, token i of S weighted by i / Σi, as
    later tokens have seen more (SGPT, arXiv 2202.08904; RDS+, arXiv 2503.01807). The states are
    those after the final norm, which the vocabulary head reads; the head does not run.

    Args:
        model: The model.
        spec: The model's numbers without the head.
        tokens: The samples.
        weighted: Multiply position weights by loss weights, so that only tokens that count in the
            loss do; else all tokens count.
        tokens_per_batch: Most tokens of a batch, padding included.
    """
    import torch

    body = model.module.base_model

    def embed(batch: Batch) -> Tensor:
        states = body(**batch.inputs, use_cache=False).last_hidden_state
        states = states if states.dtype == torch.float64 else states.float()
        counts = batch.weights if weighted else batch.attention_mask
        weights = (batch.position_ids + 1) * counts
        weights = (weights / weights.sum(1, keepdim=True)).to(states.dtype)
        return torch.einsum("bsd,bs->bd", states, weights)

    return embed_in_batches(
        embed, tokens, width=spec.width, spec=spec, tokens_per_batch=tokens_per_batch,
        pad_id=model.pad_id, device=str(model.device),
    )  # fmt: skip


def embed_in_batches(
    embed: Callable[[Batch], Tensor],
    tokens: Tokens,
    *,
    width: int,
    spec: ModelSpec,
    tokens_per_batch: int,
    pad_id: int,
    device: str,
) -> Metered[Vectors]:
    """`embed` over micro-batches, rows back in place, FLOPs as executed."""
    import torch

    from didact.models.batches import over_batches

    raw = np.zeros((len(tokens), width))
    ran = NOTHING
    with torch.inference_mode():
        for batch, found in over_batches(
            embed, tokens, tokens_per_batch=tokens_per_batch, pad_id=pad_id, device=device
        ):
            raw[batch.rows] = found.double().cpu().numpy()
            ran += batch.executed
    cost = Cost(
        flops=forward_flops(spec, ran.tokens, ran.squares),
        tokens=int(tokens.lengths[tokens.scored].sum()),
    )
    return Metered(unit_vectors(raw, tokens.missing, tokens.truncated), cost)


# Static embeddings

_STATIC_BATCH = 16  # texts of one length that model2vec looks up at a time: bounds its memory


@contextmanager
def open_static_encoder(path: Path) -> Iterator[Embed]:
    """A model2vec model: a text's vector is the mean of its tokens' vectors, and no text too long.

    Args:
        path: A folder that `didact.models.folder.find` has checked.

    Yields:
        A function of texts: their unit vectors, at no FLOPs of a model.

    Raises:
        MissingDependencyError: model2vec is not installed.
        DataError: The folder is no model2vec model.
    """
    need("score.static_embedding", "static")
    from model2vec import StaticModel

    with opening(path, "model2vec cannot open it"):
        model = StaticModel.from_pretrained(path)

    def embed(texts: Sequence[str]) -> Metered[Vectors]:
        if not texts:
            return Metered(Vectors(np.zeros((0, model.dim), np.float32)))
        raw = model.encode(
            list(texts),
            max_length=None,
            normalize=False,
            batch_size=_STATIC_BATCH,
            use_multiprocessing=False,
        )
        return Metered(unit_vectors(raw, blank(texts)))

    yield embed
