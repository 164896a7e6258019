"""A model's folder: found, checked and measured without loading the model, or torch."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from didact.accounting.spec import LoraSpec, ModelSpec
from didact.core import atomic
from didact.core.errors import ConfigError, DataError, MissingDependencyError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_BESIDE = ("*.json", "*.model", "*.txt", "*.jinja")  # configuration and tokenizers
_MAY_ASK_FOR_CODE = ("config.json", "tokenizer_config.json", "processor_config.json")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?", re.ASCII)
_MAX_HEADER = 100_000_000  # bytes; the format's own limit
_BYTES = {"BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "BF16": 2} | {
    f"{kind}{8 * n}": n for kind in "FIU" for n in (1, 2, 4, 8)
}


def find(model: str | Path) -> Path:
    """The checked folder of a model.

    Args:
        model: A local folder, or a name on the Hugging Face hub, of which safetensors,
            configuration and tokenizer files are fetched and nothing else.

    Raises:
        DataError: There is no such model, or `check` refuses it.
        MissingDependencyError: A hub name without huggingface_hub.
    """
    path = Path(model)
    if path.exists():
        check(path)
        return path
    if isinstance(model, Path) or not _HUB_NAME.fullmatch(model):
        raise DataError(
            f"model {str(model)!r}: no such folder; expected a folder with config.json and "
            f"{WEIGHTS}, or a hub name like 'owner/name'"
        )
    path = _downloaded(model)
    check(path)
    return path


def _downloaded(name: str) -> Path:
    try:
        import httpx
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingDependencyError(
            f"model {name!r} is not a local folder, and fetching it from the hub needs "
            "huggingface_hub: pip install 'didact[models]', or give a local folder"
        ) from error
    try:
        return Path(snapshot_download(name, allow_patterns=["*.safetensors", *_BESIDE]))
    except (OSError, ValueError, httpx.HTTPError) as error:  # the hub's own are of the first two
        raise DataError(
            f"model {name!r} is neither a folder here nor to be had from the Hugging Face hub "
            f"({type(error).__name__}: {_first_line(error)}); give a local folder"
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no message"


def check(path: Path) -> None:
    """Refuse a folder that cannot be loaded, or not without running code that came with it.

    Pickles beside safetensors are left alone: load with `use_safetensors=True`.

    Raises:
        DataError: No configuration; no weights, or only pickled ones; remote code; a damaged,
            short or missing file.
    """
    if not path.is_dir():
        raise DataError(f"{path}: a file; expected the model's folder, give {path.parent}")
    places = _places(path)
    if len(places) == 1 and not (path / "config.json").is_file():
        if (path / "adapter_config.json").is_file():
            raise DataError(
                f"{path}: an adapter without its base model; merge the two "
                "(merge_and_unload and save_pretrained in PEFT) and give that folder"
            )
        raise DataError(f"{path}: no config.json; give the folder save_pretrained wrote")
    weights = []
    for place in places:
        _refuse_remote_code(place)
        found = weight_files(place)
        pickles = sorted(p.name for p in place.glob("*") if p.suffix in _PICKLES)
        if not found and pickles:
            raise DataError(
                f"{place / pickles[0]}: pickled weights can run code when they are read; expected "
                f"{WEIGHTS}: load the model once where you trust it and save it again with "
                "save_pretrained, or take a version that has safetensors"
            )
        weights += found
    if not weights:
        raise DataError(
            f"{path}: no weights; expected {WEIGHTS}, or {INDEX} and the files it names: "
            "give the folder save_pretrained wrote"
        )
    for file in weights:
        header(file)


def _places(path: Path) -> list[Path]:
    """The folder and those of its sentence-transformers modules, where it has them."""
    modules = path / "modules.json"
    if not modules.is_file():
        return [path]
    places = [path]
    for module in _json(modules, list):
        if not str(module.get("type", "")).startswith("sentence_transformers."):
            raise DataError(
                f"{modules}: module type {module.get('type')!r} is code that came with the model, "
                "which is never run; give a model of sentence_transformers' own modules"
            )
        place = path / str(module.get("path", ""))
        if place.is_dir() and place not in places:
            places.append(place)
    return places


def _refuse_remote_code(place: Path) -> None:
    for file in (place / name for name in _MAY_ASK_FOR_CODE):
        if file.is_file() and _json(file, dict).get("auto_map"):
            raise DataError(
                f"{file}: 'auto_map' asks to run code that came with the model, which is never "
                "done; if the installed transformers knows this architecture itself, remove the "
                "entry from a local copy, else give another model"
            )


def weight_files(place: Path) -> list[Path]:
    """The safetensors files of the weights, in transformers' order of preference; [] if none.

    Raises:
        DataError: The index is damaged or names a file that is not there.
    """
    if (place / WEIGHTS).is_file():
        return [place / WEIGHTS]
    index = place / INDEX
    if not index.is_file():
        return []
    named = _json(index, dict).get("weight_map")
    if not isinstance(named, dict) or not named:
        raise DataError(f"{index}: no 'weight_map'; fetch the file again")
    files = [place / name for name in sorted(set(named.values()))]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise DataError(
            f"{index}: names {len(missing)} of {len(files)} files that are not there "
            f"({missing[0]}, …); fetch them again"
        )
    return files


@dataclass(frozen=True, slots=True)
class Tensor:
    """What a safetensors header says of one tensor."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)


def header(file: Path) -> dict[str, Tensor]:
    """Names, shapes and types of a safetensors file's tensors; its data is not read.

    Raises:
        DataError: The header is not one, or the file is shorter or longer than it says.
    """
    n_bytes = file.stat().st_size
    with file.open("rb") as source:
        length = int.from_bytes(source.read(8), "little")
        if not 2 <= length <= min(n_bytes - 8, _MAX_HEADER):
            raise DataError(
                f"{file}: not a safetensors file, or cut short (a header of {length} bytes in a "
                f"file of {n_bytes}); fetch it again"
            )
        raw = source.read(length)
    try:
        entries = json.loads(raw)
        entries.pop("__metadata__", None)
        tensors = {k: Tensor(tuple(v["shape"]), str(v["dtype"])) for k, v in entries.items()}
        spans = sorted((int(a), int(b)) for a, b in (v["data_offsets"] for v in entries.values()))
        sized = [
            (v["data_offsets"][1] - v["data_offsets"][0], tensors[k]) for k, v in entries.items()
        ]
        fits = all(n == t.size * _BYTES[t.dtype] for n, t in sized if t.dtype in _BYTES)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{file}: damaged safetensors header; fetch the file again") from error
    bounds = [(0, 0), *spans, (n_bytes - 8 - length,) * 2]
    if not fits or any(a[1] != b[0] for a, b in pairwise(bounds)):
        raise DataError(
            f"{file}: its {len(tensors)} tensors take {bounds[-2][1]} bytes after the header, the "
            f"file has {bounds[-1][1]}; it is cut short or damaged, fetch it again"
        )
    return tensors


def digest(path: Path) -> str:
    """blake2b over names and contents of configuration, tokenizer and weights, 32 hex digits.

    **Cost:** reads the weights once.
    """
    files = {f for place in _places(path) for glob in _BESIDE for f in place.glob(glob)}
    files.update(f for place in _places(path) for f in weight_files(place))
    hasher = hashlib.blake2b(digest_size=16)
    for name, file in sorted((f.relative_to(path).as_posix(), f) for f in files):
        hasher.update(json.dumps([name, atomic.digest(file)]).encode())
    return hasher.hexdigest()


def _json(file: Path, kind: type) -> Any:
    try:
        value = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: not JSON ({error}); fetch the file again") from error
    if not isinstance(value, kind):
        raise DataError(f"{file}: expected a JSON {kind.__name__}; fetch the file again")
    return value


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
    config: dict[str, Any] = _json(path / "config.json", dict)
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
