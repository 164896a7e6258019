"""The numbers of an architecture, from configuration and headers alone: no weights, no torch."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from didact.accounting.lora import default_targets, lora_spec
from didact.accounting.spec import LoraSpec, ModelSpec, Modules
from didact.core.errors import DataError
from didact.models.folder import TensorHeader, header, read_json, weight_files

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
_TOO_MANY = 2**31  # of layers, heads or numbers in a vector
_CONV1D = {"gpt2", "openai-gpt"}  # weights stored (d_in, d_out)


def read_spec(path: Path, *, head: bool | None = None) -> ModelSpec:
    """The numbers of a model, from its configuration and the headers of its weights.

    Weights of two dimensions inside the layers are counted, and the vocabulary head; an encoder's
    pooler, heads of tasks and the towers of other senses (vision, audio) are not. Context and
    overhead are the tokenizer's to say and stay open.

    Args:
        path: A folder `find` returned.
        head: Whether a pass ends in the vocabulary head; by default whether the architecture is a
            causal language model. False for a pass that needs hidden states only.

    Raises:
        DataError: A number is missing, weights and configuration disagree, or the architecture is
            one not counted yet: mixtures of experts, shared layers, encoder with decoder,
            quantized weights.
    """
    return _spec(_config(path), _tensors(path), path, _name(path), head=head)


def loaded_spec(
    config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], name: str
) -> ModelSpec:
    """`read_spec` of a model in memory.

    Args:
        config: Its configuration, as in config.json, with `architectures`.
        shapes: The shape of each parameter, by its name in the model.
        name: What messages call it.
    """
    checked = _text_config(config, name)
    tensors = {k: TensorHeader(shape, "F32") for k, shape in shapes.items()}
    return _spec(checked, _text_tensors(tensors, name), name, name)


def _spec(
    config: Mapping[str, Any],
    tensors: Mapping[str, TensorHeader],
    path: Path | str,
    name: str,
    *,
    head: bool | None = None,
) -> ModelSpec:
    architectures = config.get("architectures")
    architectures = architectures if isinstance(architectures, list) else []
    headed = any(str(n).endswith(_CAUSAL) for n in architectures) if head is None else head
    kept = {k: t for k, t in tensors.items() if _LAYER.search(k) or not _TASK.search(k)}
    if not headed:
        kept = {k: t for k, t in kept.items() if _LAYER.search(k) or not _HEAD.search(k)}
    tables = [t for k, t in kept.items() if _TOKENS.search(k) and len(t.shape) == 2]
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
    named = dict(_matrices(kept, str(config.get("model_type"))))
    matrices = Counter(named.values())
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
        name=name,
        matrices=tuple((d_out, d_in, n) for (d_out, d_in), n in sorted(matrices.items())),
        vocab=vocab,
        width=width,
        n_layers=n_layers,
        attention_width=n_heads * head_dim,
        n_embedding=sum(t.size for k, t in kept.items() if _LOOKUP.search(k)),
        n_total=sum(t.size for t in kept.values()),
        tied=tied,
        modules=_modules(named),
    )


def default_lora_targets(path: Path) -> tuple[str, ...]:
    """`accounting.lora.default_targets` of a folder `find` returned."""
    return default_targets(read_spec(path))


def read_lora(path: Path, *, rank: int, targets: Sequence[str]) -> LoraSpec:
    """`accounting.lora.lora_spec` of a folder `find` returned."""
    return lora_spec(read_spec(path), rank=rank, targets=targets)


def _modules(named: Mapping[str, tuple[int, int]]) -> Modules:
    """The matrices inside the layers, those of one name and shape counted together."""
    every: Counter[tuple[str, int, int]] = Counter()
    first: Counter[tuple[str, int, int]] = Counter()
    for name, shape in named.items():
        if layer := _LAYER.search(name):
            module = name[layer.end() :].rpartition(".")[0], *shape
            every[module] += 1
            first[module] += int(layer[1]) == 0
    return tuple((*module, n, first[module]) for module, n in sorted(every.items()))


def _name(path: Path) -> str:
    """The folder's name, or the hub's where it is a snapshot in the hub's cache."""
    if path.parent.name == "snapshots":
        return path.parent.parent.name.removeprefix("models--").replace("--", "/")
    return path.resolve().name


def _config(path: Path) -> dict[str, Any]:
    """config.json, with the part that describes a nested text model on top."""
    return _text_config(read_json(path / "config.json", dict), path / "config.json")


def _text_config(config: Mapping[str, Any], place: Path | str) -> dict[str, Any]:
    if config.get("quantization_config"):
        raise DataError(f"{place}: quantized weights; give an unquantized model")
    text = config.get("text_config") or {}
    if not isinstance(text, Mapping):
        raise DataError(f"{place}: 'text_config' is {text!r:.60}; expected an object")
    return {**config, **text, "architectures": config.get("architectures")}


def _tensors(path: Path) -> dict[str, TensorHeader]:
    """Tensors of the text model that are parameters."""
    out: dict[str, TensorHeader] = {}
    for file in weight_files(path):
        out |= header(file)
    return _text_tensors(out, path)


def _text_tensors(tensors: Mapping[str, TensorHeader], path: Path | str) -> dict[str, TensorHeader]:
    out = {
        k: t
        for k, t in tensors.items()
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


def _matrices(
    tensors: Mapping[str, TensorHeader], family: str
) -> Iterator[tuple[str, tuple[int, int]]]:
    """Name and `(d_out, d_in)` of each weight that is multiplied with every token."""
    for name, tensor in tensors.items():
        if len(tensor.shape) == 2 and not _LOOKUP.search(name):
            d_out, d_in = tensor.shape
            swap = family in _CONV1D and _LAYER.search(name)
            yield name, (d_in, d_out) if swap else (d_out, d_in)


def _number(
    config: Mapping[str, Any], what: str, path: Path | str, default: int | None = None
) -> int:
    for key in _KEYS[what]:
        if isinstance(value := config.get(key), int):
            if not 0 < value < _TOO_MANY:
                raise DataError(f"{path}: {key} is {value!r:.60} in config.json; expected above 0")
            return value
    if default is None:
        raise DataError(
            f"{path}: none of {', '.join(_KEYS[what])} in config.json; expected a transformer"
        )
    return default
