"""A causal language model from a folder: checked, opened on a device, closed again."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from didact.accounting.spec import ModelSpec
from didact.core.errors import ConfigError, DataError
from didact.core.protocols import Dtype
from didact.models.architecture import read_spec
from didact.models.encode import Encoding, overhead
from didact.models.folder import first_line, opening, read_json
from didact.models.saving import quiet

_UNLIMITED = 10**9  # tokenizers write 1e30 for "no limit"


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A causal language model that is open.

    Attributes:
        module: The transformers model, in evaluation mode on its device.
        tokenizer: The model's tokenizer.
        spec: The numbers of the architecture.
        device: The device of the model.
        dtype: Type of weights and arithmetic, by torch's name: "float32".
        context: Most tokens the model can read at once.
        pad_id: The token of padding; masked, so any token does.
    """

    module: Any
    tokenizer: Any
    spec: ModelSpec
    device: torch.device
    dtype: str
    context: int
    pad_id: int


def torch_dtype(setting: Dtype, device: str) -> torch.dtype:
    """The type of a setting: `auto` is bfloat16 where an accelerator has it, float32 elsewhere."""
    if setting == "auto":
        fast = device.startswith("cuda") and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if fast else torch.float32
    found: torch.dtype = getattr(torch, setting)
    return found


@contextmanager
def open_model(
    path: Path, *, device: str, dtype: Dtype = "auto", attention: str | None = None
) -> Iterator[LanguageModel]:
    """A causal language model, and its memory given back afterwards.

    Weights are read from safetensors only, and no code of the folder is run.

    Args:
        path: A folder that `didact.models.folder.find` has checked.
        device: "cpu", "cuda:0", …
        dtype: Type of weights and arithmetic.
        attention: Attention kernel of transformers ("eager", "sdpa", …); its default when None.

    Raises:
        DataError: The folder's files do not make a model.
        ConfigError: The tokenizer has tokens the model has not.
    """
    tokenizer = open_tokenizer(path)
    found = torch_dtype(dtype, device)
    module = _module(path, found, attention)
    _check_vocabulary(module, tokenizer, path)
    module = module.to(device).eval()
    try:
        yield LanguageModel(
            module=module,
            tokenizer=tokenizer,
            spec=read_spec(path),
            device=torch.device(device),
            dtype=str(found).removeprefix("torch."),
            context=context_of(path, tokenizer),
            pad_id=tokenizer.pad_token_id or 0,
        )
    finally:
        del module
        gc.collect()
        if device.startswith("cuda"):
            torch.cuda.empty_cache()


def _module(path: Path, dtype: torch.dtype, attention: str | None) -> Any:
    from transformers import AutoModelForCausalLM

    more = {} if attention is None else {"attn_implementation": attention}
    with opening(path, "transformers cannot open it as a causal language model"), quiet():
        opened: Any = AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype, use_safetensors=True, trust_remote_code=False,
            local_files_only=True, output_loading_info=True, **more,
        )  # fmt: skip
    module, found = opened
    if found["missing_keys"]:  # transformers would fill them with random numbers
        names = sorted(found["missing_keys"])
        raise DataError(
            f"{path}: as a causal language model it lacks {len(names)} weights, {names[0]} among "
            "them; give a model that was trained to predict the next token"
        )
    return module


def open_tokenizer(path: Path) -> Any:
    """The folder's tokenizer.

    Raises:
        DataError: There is none, or it is damaged.
    """
    from transformers import AutoTokenizer

    if not (path / "tokenizer.json").is_file():
        raise DataError(
            f"{path}: no tokenizer.json; save the model's fast tokenizer beside it "
            "(tokenizer.save_pretrained)"
        )
    try:
        found = AutoTokenizer.from_pretrained(path, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # the tokenizers library raises bare exceptions
        raise DataError(
            f"{path}: its tokenizer cannot be opened ({first_line(error)}); save it again"
        ) from error
    if found.is_fast:  # what the last call before saving asked for stays in the file
        found.backend_tokenizer.no_padding()
        found.backend_tokenizer.no_truncation()
    return found


def _check_vocabulary(module: Any, tokenizer: Any, path: Path) -> None:
    """Raise ConfigError when the tokenizer makes ids that the model has no embedding for."""
    rows = module.get_input_embeddings().weight.shape[0]
    highest = max(tokenizer.get_vocab().values(), default=-1)
    if highest >= rows:
        raise ConfigError(
            f"{path}: the tokenizer's highest id is {highest}, the model embeds {rows} tokens; "
            "tokenizer and model do not belong together"
        )


def spec_as_shown(
    path: Path,
    encodings: Sequence[Encoding],
    *,
    head: bool | None = None,
    tokenizer_folder: Path | None = None,
) -> ModelSpec:
    """`read_spec` with the context, and with what the model's template adds to samples.

    Args:
        path: The model's folder.
        encodings: How it is shown samples, of each kind that there is.
        head: As in `read_spec`.
        tokenizer_folder: Where its tokenizer is, if elsewhere.
    """
    tokenizer = open_tokenizer(tokenizer_folder or path)
    return replace(
        read_spec(path, head=head),
        context=context_of(path, tokenizer),
        overhead=tuple({each.kind: overhead(tokenizer, each) for each in encodings}.items()),
    )


def context_of(path: Path, tokenizer: Any) -> int:
    """Most tokens a model reads at once, by its configuration, else by its tokenizer."""
    config = read_json(path / "config.json", dict)
    config |= config.get("text_config") or {}
    for name in ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len"):
        found = config.get(name)
        if isinstance(found, int) and found > 0:
            return found
    limit = tokenizer.model_max_length
    return int(limit) if limit < _UNLIMITED else 2048
