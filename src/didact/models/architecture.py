"""The numbers of an architecture, from configuration and headers alone: no weights, no torch."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from didact.accounting.spec import LoraSpec, ModelSpec
from didact.core.errors import ConfigError, DataError
from didact.models.folder import Tensor, header, read_json, weight_files

# What the numbers are called, by family of architectures.
_KEYS = {
    "width": ("hidden_size", "n_embd", "d_model", "dim"),
    "n_layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "n_heads": ("num_attention_heads", "n_head", "n_heads", "num_heads"),
    "head_dim": ("head_dim", "d_kv"),
}
_CAUSAL = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
_LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\.")
_LOOKUP = re.compile(
    r"(?:^|\.)(?:wte|wpe|shared|embed_in|relative_attention_bias|tokens_embed|positions_embed"
    r"|\w*embeddings|embed_tokens\w*|embed_positions)\.weight$"
)
_TOKENS = re.compile(
    r"(?:^|\.)(?:wte|shared|embed_in|tokens_embed|word_embeddings|tok_embeddings|embed_tokens)"
    r"\.weight$"
)
_HEAD = re.compile(r"(?:^|\.)(?:lm_head|embed_out)\.")
_TASK = re.compile(  # outside the layers: what a hidden state or a next token does not need
    r"(?:^|\.)(?:pooler|cls|classifier|qa_outputs|score|head|vocab_\w+)\."
)
_OTHER_SENSES = re.compile(
    r"(?:^|\.)(?:vision_\w+|visual|multi_modal_projector|audio_\w+|embed_vision|embed_audio)\."
)
_SIDE = re.compile(r"(?:^|\.)(encoder|decoder)\.(?:layers?|block)\.")
_BUFFER = re.compile(r"(?:inv_freq|masked_bias|position_ids)$")
_CONV1D = {"gpt2", "openai-gpt"}  # weights stored (d_in, d_out)


def read_spec(path: Path, *, head: bool | None = None) -> ModelSpec:
    """The numbers of a model, from its configuration and the headers of its weights.

    Weights of two dimensions inside the layers are counted, and the vocabulary head; an encoder's
    pooler, heads of tasks and the towers of other senses (vision, audio) are not.

    Args:
        path: A folder `find` returned.
        head: Whether a pass ends in the vocabulary head; by default whether the architecture is a
            causal language model. False for a pass that needs hidden states only.

    Raises:
        DataError: A number is missing, weights and configuration disagree, or the architecture is
            one not counted yet: mixtures of experts, shared layers, encoder with decoder,
            quantized weights.
    """
    config, tensors = _config(path), _tensors(path)
    architectures = config.get("architectures") or []
    headed = any(str(n).endswith(_CAUSAL) for n in architectures) if head is None else head
    kept = {k: t for k, t in tensors.items() if _LAYER.search(k) or not _TASK.search(k)}
    if not headed:
        kept = {k: t for k, t in kept.items() if _LAYER.search(k) or not _HEAD.search(k)}
    tables = [t for k, t in kept.items() if _TOKENS.search(k)]
    if not tables:
        raise DataError(f"{path}: no token embedding among the weights; give a language model")
    vocab, d_embedding = tables[0].shape
    separate = [k for k in kept if _HEAD.search(k) and k.endswith(".weight")]
    tied = headed and bool(config.get("tie_word_embeddings", not separate))
    if headed and not tied and not separate:
        raise DataError(
            f"{path}: no vocabulary head among the weights and none tied to the embedding; "
            "give a causal language model"
        )
    if tied:
        kept = {k: t for k, t in kept.items() if k not in separate}
    matrices = Counter(shape for _, shape in _matrices(kept, str(config.get("model_type"))))
    if tied:
        matrices[vocab, d_embedding] += 1
    width, n_layers = _number(config, "width", path), _number(config, "n_layers", path)
    n_heads = _number(config, "n_heads", path)
    found = {int(m[1]) for k in kept if (m := _LAYER.search(k))}
    if found != set(range(n_layers)):
        raise DataError(
            f"{path}: config.json says {n_layers} layers, the weights have {len(found)}; layers "
            "that share weights are not counted yet, else the files do not belong together"
        )
    head_dim = _number(config, "head_dim", path, default=width // n_heads)
    return ModelSpec(
        name=_name(path),
        matrices=tuple((d_out, d_in, n) for (d_out, d_in), n in sorted(matrices.items())),
        vocab=vocab,
        width=width,
        n_layers=n_layers,
        attention_width=n_heads * head_dim,
        n_embedding=sum(t.size for k, t in kept.items() if _LOOKUP.search(k)),
        n_total=sum(t.size for t in kept.values()),
        tied=tied,
    )


# Where in a block a matrix stands: 0 reads the block's input, 1 follows the attention, 2 opens the
# feed-forward part, 3 closes it.
_STAGES = (
    (
        0,
        r"(?:[qkv]_proj|qkv_proj|c_attn|query_key_value|query|key|value|Wqkv|SelfAttention\.[qkv])",
    ),
    (2, r"(?:gate_proj|up_proj|gate_up_proj|c_fc|dense_h_to_4h|fc1|intermediate\.dense|wi\w*)"),
    (3, r"(?:mlp\.c_proj|down_proj|dense_4h_to_h|fc2|wo|mlp\.Wo)"),
)


def read_lora(path: Path, *, rank: int, targets: Sequence[str]) -> LoraSpec:
    """The numbers of adapters on the modules called `targets` in every layer.

    A block is taken to be attention, then feed-forward. Where both read its input (GPT-NeoX),
    `n_below` misses the feed-forward part of the first layer.

    Args:
        path: A folder `find` returned.
        rank: Of the adapters.
        targets: Last parts of module names, such as `q_proj`.

    Raises:
        ConfigError: No matrix of the model has one of these names.
    """
    config = _config(path)
    named = dict(_matrices(_tensors(path), str(config.get("model_type"))))
    layered = {k: s for k, s in named.items() if _LAYER.search(k)}
    adapted = {k: s for k, s in layered.items() if k.split(".")[-2] in targets}
    unknown = sorted(set(targets) - {k.split(".")[-2] for k in adapted})
    if unknown:
        known = sorted({k.split(".")[-2] for k in layered})
        raise ConfigError(
            f"targets {unknown}: {_name(path)} has no such modules; its layers have {known}"
        )
    bottom = {k: _stage(k) for k in layered if int(_LAYER.search(k)[1]) == 0}  # type: ignore[index]
    lowest = min((stage for k, stage in bottom.items() if k in adapted), default=-1)
    # Of attention's products, one each leads to queries, keys and values, and one to the scores.
    need = {part for k in adapted if bottom.get(k) == 0 for part in _parts(k)}
    first = Counter(s for k, s in adapted.items() if bottom.get(k, 9) == lowest)
    return LoraSpec(
        rank=rank,
        targets=_counted(Counter(adapted.values())),
        first=_counted(first),
        n_below=sum(math.prod(layered[k]) for k, stage in bottom.items() if stage <= lowest),
        idle=4 - len(need) - bool(need & {"q", "k"}) if lowest >= 0 else 0,
    )


def _counted(shapes: Counter[tuple[int, int]]) -> tuple[tuple[int, int, int], ...]:
    return tuple((d_out, d_in, n) for (d_out, d_in), n in sorted(shapes.items()))


def _parts(name: str) -> str:
    """Which of queries, keys and values a matrix that reads the block's input makes."""
    last = name.split(".")[-2]
    return last[0] if re.fullmatch(r"[qkv]|[qkv]_proj|query|key|value", last) else "qkv"


def _stage(name: str) -> int:
    return next((s for s, p in _STAGES if re.search(rf"\.{p}\.weight$", name)), 1)


def _name(path: Path) -> str:
    """The folder's name, or the hub's where it is a snapshot in the hub's cache."""
    if path.parent.name == "snapshots":
        return path.parent.parent.name.removeprefix("models--").replace("--", "/")
    return path.resolve().name


def _config(path: Path) -> dict[str, Any]:
    """config.json, with the part that describes a nested text model on top."""
    config: dict[str, Any] = read_json(path / "config.json", dict)
    if config.get("quantization_config"):
        raise DataError(f"{path / 'config.json'}: quantized weights; give an unquantized model")
    return (
        config | (config.get("text_config") or {}) | {"architectures": config.get("architectures")}
    )


def _tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of the text model that are parameters."""
    out: dict[str, Tensor] = {}
    for file in weight_files(path):
        out |= header(file)
    out = {
        k: t
        for k, t in out.items()
        if t.dtype.startswith(("F", "BF"))
        and not _OTHER_SENSES.search(k)
        and not _BUFFER.search(k)
        and not (k.endswith(".bias") and len(t.shape) > 1)  # GPT-2 kept its causal mask so
    }
    for name, tensor in out.items():
        if ".experts." in name or len(tensor.shape) > 2:
            raise DataError(
                f"{path}: {name} {list(tensor.shape)}: mixtures of experts and convolutions are "
                "not counted yet; give a dense model"
            )
    sides = {m[1] for k in out if (m := _SIDE.search(k))}
    if len(sides) == 2:
        raise DataError(
            f"{path}: encoder with decoder: not counted yet; give a model with one of the two"
        )
    return out


def _matrices(tensors: Mapping[str, Tensor], family: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """Name and `(d_out, d_in)` of each weight that is multiplied with every token."""
    for name, tensor in tensors.items():
        if len(tensor.shape) == 2 and not _LOOKUP.search(name):
            d_out, d_in = tensor.shape
            swap = family in _CONV1D and _LAYER.search(name)
            yield name, (d_in, d_out) if swap else (d_out, d_in)


def _number(config: Mapping[str, Any], what: str, path: Path, default: int | None = None) -> int:
    for key in _KEYS[what]:
        if isinstance(value := config.get(key), int):
            return value
    if default is None:
        raise DataError(
            f"{path / 'config.json'}: none of {', '.join(_KEYS[what])}; expected a transformer"
        )
    return default
