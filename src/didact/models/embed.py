"""Unit vectors of texts and samples: sentence encoders, static embeddings, hidden states.

Static embeddings are numpy; torch is imported by the functions that run a transformer.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from didact.accounting.flops import forward_flops
from didact.accounting.spec import ModelSpec
from didact.core.cost import Cost, Metered
from didact.core.errors import ConfigError, DataError, MissingDependencyError
from didact.models.folder import read_spec

if TYPE_CHECKING:
    from torch import Tensor

    from didact.models.batches import Batch
    from didact.models.door import Dtype, LanguageModel
    from didact.models.encode import Tokens

Float32 = npt.NDArray[np.float32]
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

    values: Float32
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


# Sentence encoders


@dataclass(frozen=True, slots=True)
class SentenceFolder:
    """What a sentence-transformers folder says of itself, read without torch.

    Attributes:
        spec: The numbers of its transformer.
        limit: Most tokens it reads of a text.
        overhead: Special tokens it adds to a text.
    """

    spec: ModelSpec
    limit: int
    overhead: int


def read_sentence_folder(path: Path) -> SentenceFolder:
    """The numbers of a sentence-transformers model.

    Raises:
        DataError: The folder is no sentence-transformers model, or does not begin with a
            transformer.
    """
    modules = path / "modules.json"
    if not modules.is_file():
        raise DataError(
            f"{path}: no modules.json; expected a folder that sentence-transformers saved. For a "
            "causal language model use the scorer rds"
        )
    first = json.loads(modules.read_text("utf-8"))[0]
    kind = str(first["type"]).rsplit(".", 1)[-1]
    if kind != "Transformer":
        other = "; use the scorer static_embedding" if kind == "StaticEmbedding" else ""
        raise DataError(f"{path}: its first module is a {kind}, expected a Transformer{other}")
    inner = path / first["path"]
    config = _optional_json(inner / "config.json")
    limits = (
        _sentence_config(inner).get("max_seq_length"),
        _optional_json(inner / "tokenizer_config.json").get("model_max_length"),
        config.get("max_position_embeddings"),
    )
    # The first two are one limit, the model's own word before its tokenizer's.
    found = [n for n in (limits[0] or limits[1], limits[2]) if isinstance(n, int) and n > 0]
    if not found:
        raise DataError(
            f"{path}: neither max_seq_length nor max_position_embeddings; set "
            "max_seq_length in sentence_bert_config.json"
        )
    return SentenceFolder(
        spec=read_spec(inner, head=False), limit=min(found), overhead=_special_tokens(inner)
    )


def _sentence_config(folder: Path) -> dict[str, Any]:
    return next((_optional_json(f) for f in sorted(folder.glob("sentence_*_config.json"))), {})


def _optional_json(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text("utf-8"))) if file.is_file() else {}


def _special_tokens(folder: Path) -> int:
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if not file.is_file():
        raise DataError(f"{folder}: no tokenizer.json; save the model with its fast tokenizer")
    return int(Tokenizer.from_file(str(file)).num_special_tokens_to_add(is_pair=False))


@contextmanager
def open_sentence_encoder(
    path: Path,
    *,
    device: str,
    dtype: Dtype,
    max_length: int,
    tokens_per_batch: int,
    prompt: str | None = None,
    attention: str | None = None,
) -> Iterator[Embed]:
    """A sentence-transformers model on a device, and its memory given back afterwards.

    Args:
        path: A folder that `didact.models.folder.find` has checked.
        device: "cpu", "cuda:0", …
        dtype: Of weights and arithmetic.
        max_length: Most tokens read of a text; the rest is cut off.
        tokens_per_batch: Most tokens of a batch, padding included.
        prompt: Put before every text; None for the model's own default.
        attention: Attention kernel of transformers ("eager", "sdpa", …); its default when None.

    Yields:
        A function of texts: their unit vectors, with FLOPs and tokens as executed.

    Raises:
        MissingDependencyError: sentence-transformers is not installed.
        ConfigError: The model leaves prompts out of its pooling.
    """
    require("sentence_transformers", "embedding")
    import torch
    from sentence_transformers import SentenceTransformer

    from didact.models.door import torch_dtype

    kwargs = {"dtype": torch_dtype(dtype, device), "use_safetensors": True}
    if attention is not None:
        kwargs["attn_implementation"] = attention
    try:
        model = SentenceTransformer(
            str(path), device=device, trust_remote_code=False, local_files_only=True,
            model_kwargs=kwargs,
        ).eval()  # fmt: skip
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise DataError(f"{path}: sentence-transformers cannot open it: {error}") from error
    if prompt is None:
        prompt = model.prompts.get(model.default_prompt_name or "") or ""
    if prompt and not all(getattr(module, "include_prompt", True) for module in model):
        raise ConfigError(
            f"{path}: pools without its prompt, which is not supported; set prompt to '' or give "
            "another model"
        )
    embed = partial(
        _encode, model, read_sentence_folder(path).spec, prompt, max_length, tokens_per_batch
    )
    try:
        yield embed
    finally:
        del model, embed
        gc.collect()
        if device.startswith("cuda"):
            torch.cuda.empty_cache()


def _encode(
    model: Any,
    spec: ModelSpec,
    prompt: str,
    max_length: int,
    tokens_per_batch: int,
    texts: Sequence[str],
) -> Metered[Vectors]:
    """Texts through a sentence encoder, in batches sorted by length."""
    tokens = _text_tokens([prompt + t if t.strip() else "" for t in texts], model, max_length)

    def embed(batch: Batch) -> Tensor:
        features = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
        found: Tensor = model(features)["sentence_embedding"]
        return found

    return _gather(
        embed, tokens, width=int(model.get_embedding_dimension()), spec=spec,
        tokens_per_batch=tokens_per_batch, pad_id=model.tokenizer.pad_token_id or 0,
        device=str(model.device),
    )  # fmt: skip


def _text_tokens(texts: Sequence[str], model: Any, max_length: int) -> Tokens:
    """Texts as an encoder's tokens with its special tokens; all weights are 1."""
    from didact.models.encode import Tokens

    encodings: Sequence[Any] = []
    if texts:
        encodings = model.tokenizer(
            list(texts), truncation=True, max_length=max_length, padding=False
        ).encodings
    ids = [np.asarray(e.ids, np.int32) for e in encodings]
    offsets = np.cumsum([0, *map(len, ids)], dtype=np.int64)
    return Tokens(
        ids=np.concatenate([*ids, np.empty(0, np.int32)]),
        weights=np.ones(int(offsets[-1]), np.float32),
        offsets=offsets,
        n_bytes=np.asarray([len(t.encode("utf-8", "surrogatepass")) for t in texts], np.int64),
        truncated=np.asarray([bool(e.overflowing) for e in encodings], np.bool_),
        missing=blank(texts),
    )


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
        spec: Its numbers without the head.
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

    return _gather(
        embed, tokens, width=spec.width, spec=spec, tokens_per_batch=tokens_per_batch,
        pad_id=model.pad_id, device=str(model.device),
    )  # fmt: skip


def _gather(
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
    executed, squares = 0, 0.0
    with torch.inference_mode():
        for batch, found in over_batches(
            embed, tokens, tokens_per_batch=tokens_per_batch, pad_id=pad_id, device=device
        ):
            raw[batch.rows] = found.double().cpu().numpy()
            rows, length = batch.input_ids.shape
            executed += rows * length
            squares += rows * length**2
    cost = Cost(
        flops=forward_flops(spec, executed, squares),
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
    require("model2vec", "static_embedding")
    from model2vec import StaticModel
    from safetensors import SafetensorError

    try:
        model = StaticModel.from_pretrained(path)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise DataError(f"{path}: model2vec cannot open it: {error}") from error

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


def require(library: str, scorer: str) -> None:
    """Raise MissingDependencyError unless a library of the extra `embed` is installed."""
    try:
        import_module(library)
    except ImportError as error:
        raise MissingDependencyError(
            f"score.{scorer} needs {library}: pip install 'didact[embed]'"
        ) from error
