"""Sentence encoders: sentence-transformers folders read, opened, and run in batches by length.

Torch is imported by the functions that run a transformer.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from didact.accounting.spec import ModelSpec
from didact.core.cost import Metered
from didact.core.errors import ConfigError, DataError, need
from didact.models.architecture import read_spec
from didact.models.embed import Embed, Vectors, blank, embed_in_batches
from didact.models.folder import first_line, opening, read_json, read_modules
from didact.models.tokens import ragged

if TYPE_CHECKING:
    from torch import Tensor

    from didact.core.protocols import Dtype
    from didact.models.batches import Batch
    from didact.models.tokens import Tokens


@dataclass(frozen=True, slots=True)
class SentenceFolder:
    """The numbers of a sentence-transformers folder, read without torch.

    Attributes:
        spec: The numbers of its transformer.
        limit: Most tokens the encoder reads of a text.
        overhead: Number of special tokens it adds to a text.
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
    first = read_modules(modules)[0]
    kind = str(first.get("type")).rsplit(".", 1)[-1]
    if kind != "Transformer":
        other = "; use the scorer static_embedding" if kind == "StaticEmbedding" else ""
        raise DataError(f"{path}: its first module is a {kind}, expected a Transformer{other}")
    inner = path / first.get("path", "")
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
    return dict(read_json(file, dict)) if file.is_file() else {}


def _special_tokens(folder: Path) -> int:
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if not file.is_file():
        raise DataError(f"{folder}: no tokenizer.json; save the model with its fast tokenizer")
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the tokenizers library raises bare exceptions
        raise DataError(
            f"{file}: cannot be opened ({first_line(error)}); save the tokenizer again"
        ) from error
    return int(tokenizer.num_special_tokens_to_add(is_pair=False))


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
        dtype: Type of weights and arithmetic.
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
    need("score.embedding", "sentences")
    import torch
    from sentence_transformers import SentenceTransformer

    from didact.models.language_model import torch_dtype
    from didact.models.saving import quiet

    kwargs = {"dtype": torch_dtype(dtype, device), "use_safetensors": True}
    if attention is not None:
        kwargs["attn_implementation"] = attention
    with opening(path, "sentence-transformers cannot open it"), quiet():
        model = SentenceTransformer(
            str(path), device=device, trust_remote_code=False, local_files_only=True,
            model_kwargs=kwargs,
        ).eval()  # fmt: skip
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

    return embed_in_batches(
        embed, tokens, width=_width(model), spec=spec,
        tokens_per_batch=tokens_per_batch, pad_id=model.tokenizer.pad_token_id or 0,
        device=str(model.device),
    )  # fmt: skip


def _width(model: Any) -> int:
    """Numbers of an embedding; version 6 has another name for it and warns of the old one."""
    name = "get_embedding_dimension"
    return int(
        getattr(model, name if hasattr(model, name) else "get_sentence_embedding_dimension")()
    )


def _text_tokens(texts: Sequence[str], model: Any, max_length: int) -> Tokens:
    """Texts as an encoder's tokens with its special tokens; all weights are 1."""
    encodings: Sequence[Any] = []
    if texts:
        # One token more than the limit tells a text that was cut from one that just fits.
        encodings = model.tokenizer(
            list(texts), truncation=True, max_length=max_length + 1, padding=False
        ).encodings
    ids = [np.asarray(e.ids, np.int32) for e in encodings]
    truncated = np.asarray([len(e.ids) > max_length for e in encodings], np.bool_)
    for row in np.flatnonzero(truncated).tolist():
        own = np.flatnonzero(np.asarray(encodings[row].special_tokens_mask) == 0)
        left = model.tokenizer.truncation_side == "left"
        ids[row] = np.delete(ids[row], own[0 if left else -1])
    return replace(
        ragged([(row, np.ones(len(row), np.float32)) for row in ids]),
        n_bytes=np.asarray([len(t.encode("utf-8", "surrogatepass")) for t in texts], np.int64),
        truncated=truncated,
        missing=blank(texts),
    )
