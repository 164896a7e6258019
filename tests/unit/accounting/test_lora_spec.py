"""Adapters of architectures counted by hand; nothing is read from a file."""

from dataclasses import replace

import pytest

from didact.accounting.lora import default_targets, lora_spec
from didact.accounting.spec import LoraSpec, ModelSpec
from didact.core.errors import ConfigError, DataError

NAMED = ModelSpec("named", (), 61, 48, 3, 48, 0, 0, tied=True)


def of(*modules: tuple[str, int, int], layers: int = 3) -> ModelSpec:
    """A model of equal layers."""
    return replace(NAMED, modules=tuple((*module, layers, 1) for module in modules))


LLAMA = of(  # width 48, four heads of 16, two of keys and values
    ("self_attn.q_proj", 64, 48), ("self_attn.k_proj", 32, 48), ("self_attn.v_proj", 32, 48),
    ("self_attn.o_proj", 48, 64),
    ("mlp.gate_proj", 80, 48), ("mlp.up_proj", 80, 48), ("mlp.down_proj", 48, 80),
)  # fmt: skip
GPT2 = of(
    ("attn.c_attn", 144, 48), ("attn.c_proj", 48, 48), ("mlp.c_fc", 192, 48), ("mlp.c_proj", 48, 192)
)  # fmt: skip
NEOX = of(
    ("attention.query_key_value", 144, 48), ("attention.dense", 48, 48),
    ("mlp.dense_h_to_4h", 80, 48), ("mlp.dense_4h_to_h", 48, 80),
)  # fmt: skip
QKV = (64 + 32 + 32) * 48  # weights of Llama's first stage


@pytest.mark.parametrize(
    ("spec", "targets"),
    [
        (LLAMA, ("q_proj", "k_proj", "v_proj", "o_proj")),
        (GPT2, ("c_attn", "c_fc", "c_proj")),
        (NEOX, ("dense", "dense_4h_to_h", "dense_h_to_4h", "query_key_value")),
    ],
    ids=["llama", "gpt2", "neox"],
)
def test_default_targets(spec, targets):
    assert default_targets(spec) == targets
    assert lora_spec(spec, rank=2) == lora_spec(spec, rank=2, targets=targets)


@pytest.mark.parametrize(
    ("spec", "targets", "expected"),
    [
        # Gemma and a tied Llama have the same modules: the head is outside of the layers.
        (LLAMA, None, LoraSpec(
            2, ((32, 48, 6), (48, 64, 3), (64, 48, 3)), ((32, 48, 2), (64, 48, 1)), QKV, 0
        )),
        (LLAMA, ("q_proj", "v_proj"), LoraSpec(
            2, ((32, 48, 3), (64, 48, 3)), ((32, 48, 1), (64, 48, 1)), QKV, 1
        )),
        # values alone: neither queries, nor keys, nor their product
        (LLAMA, ("v_proj",), LoraSpec(2, ((32, 48, 3),), ((32, 48, 1),), QKV, 3)),
        # all that comes before the feed-forward part, and what stands beside
        (LLAMA, ("up_proj",), LoraSpec(
            2, ((80, 48, 3),), ((80, 48, 1),), QKV + 48 * 64 + 2 * 80 * 48, 4
        )),
        # both matrices of that name; the one after attention is the lower
        (GPT2, ("c_proj",), LoraSpec(
            2, ((48, 48, 3), (48, 192, 3)), ((48, 48, 1),), 144 * 48 + 48 * 48, 4
        )),
        (GPT2, ("c_attn",), LoraSpec(2, ((144, 48, 3),), ((144, 48, 1),), 144 * 48, 0)),
        (NEOX, ("dense_4h_to_h",), LoraSpec(
            2, ((48, 80, 3),), ((48, 80, 1),), (144 + 48) * 48 + 2 * 80 * 48, 4
        )),
    ],
)  # fmt: skip
def test_adapters_by_hand(spec, targets, expected):
    assert lora_spec(spec, rank=2, targets=targets) == expected


def test_llama_2_7b():  # LESS trains 134,217,728: rank 128 on q, k, v, o of 32 layers
    names = [f"self_attn.{part}_proj" for part in "qkvo"]
    spec = of(*((name, 4096, 4096) for name in names), layers=32)
    assert lora_spec(spec, rank=128).n_params == 134_217_728


def test_unknown_modules_and_none():
    with pytest.raises(ConfigError, match=r"\['q_proj'\]: named has no such modules.*c_attn"):
        lora_spec(GPT2, rank=2, targets=("q_proj", "c_attn"))
    with pytest.raises(DataError, match="named: no matrix inside numbered layers"):
        lora_spec(NAMED, rank=2)
