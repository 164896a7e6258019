"""Architectures as numbers: a function for each family, from its configuration to a `ModelSpec`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from didact.accounting.spec import ModelSpec, Overhead
from didact.core.pool import Kind

_BUCKETS = 32  # of relative positions, in T5 and MPNet
_KINDS: tuple[Kind, ...] = ("text", "chat", "pair", "labelled")

Matrix = tuple[str, int, int]  # name inside a layer, d_out, d_in


def llama(
    name: str,
    *,
    width: int,
    inner: int,
    layers: int,
    heads: int,
    kv_heads: int,
    vocab: int,
    context: int,
    tied: bool = False,
    head_dim: int | None = None,
    norms: int = 2,
    qkv_bias: bool = False,
    qk_norm: bool = False,
) -> ModelSpec:
    """Decoders with rotary positions, a gated feed-forward part and RMS norms.

    Llama, Mistral and SmolLM2 as they are; Qwen2.5 with `qkv_bias`; Qwen3 with `qk_norm`; Gemma 2
    with four `norms` a layer, Gemma 3 with `qk_norm` beside them.

    Args:
        name: What messages call it.
        width: Size of the hidden state.
        inner: Width of the feed-forward part.
        layers: Number of blocks.
        heads: Query heads.
        kv_heads: Heads of keys and values.
        vocab: Rows of the token embedding.
        context: Most tokens it reads at once.
        tied: Whether the head is the token embedding.
        head_dim: Numbers of a head; width / heads when not given.
        norms: Norms in a layer.
        qkv_bias: Whether queries, keys and values have biases.
        qk_norm: Whether queries and keys are normed, each by `head_dim` weights.
    """
    dim = head_dim or width // heads
    queries, keys = heads * dim, kv_heads * dim
    return _spec(
        name, width=width, layers=layers, vocab=vocab, attention_width=queries, context=context,
        head="tied" if tied else "own",
        modules=[
            ("self_attn.q_proj", queries, width), ("self_attn.k_proj", keys, width),
            ("self_attn.v_proj", keys, width), ("self_attn.o_proj", width, queries),
            ("mlp.gate_proj", inner, width), ("mlp.up_proj", inner, width),
            ("mlp.down_proj", width, inner),
        ],
        vectors=norms * width + qkv_bias * (queries + 2 * keys) + qk_norm * 2 * dim,
        outside=width,
        looked_up=vocab * width,
    )  # fmt: skip


def gpt2(
    name: str, *, width: int, layers: int, vocab: int = 50257, context: int = 1024
) -> ModelSpec:
    """GPT-2: learned positions, biases, a tied head."""
    return _spec(
        name, width=width, layers=layers, vocab=vocab, attention_width=width, context=context,
        head="tied",
        modules=[
            ("attn.c_attn", 3 * width, width), ("attn.c_proj", width, width),
            ("mlp.c_fc", 4 * width, width), ("mlp.c_proj", width, 4 * width),
        ],
        vectors=9 * width + 4 * width,
        outside=2 * width,
        looked_up=(vocab + context) * width,
    )  # fmt: skip


def neox(
    name: str, *, width: int, layers: int, vocab: int = 50304, context: int = 2048
) -> ModelSpec:
    """GPT-NeoX, which Pythia is: rotary positions, biases, a head of its own."""
    return _spec(
        name, width=width, layers=layers, vocab=vocab, attention_width=width, context=context,
        head="own",
        modules=[
            ("attention.query_key_value", 3 * width, width), ("attention.dense", width, width),
            ("mlp.dense_h_to_4h", 4 * width, width), ("mlp.dense_4h_to_h", width, 4 * width),
        ],
        vectors=9 * width + 4 * width,
        outside=2 * width,
        looked_up=vocab * width,
    )  # fmt: skip


def bert(
    name: str, *, width: int, layers: int, context: int = 512, inner: int | None = None,
    vocab: int = 30522,
) -> ModelSpec:  # fmt: skip
    """BERT as an encoder: 512 learned positions, two segments, no pooler and no head.

    Args:
        name: What messages call it.
        width: Size of the hidden state.
        layers: Number of blocks.
        context: Most tokens that sentence encoders made of it are told to read.
        inner: Width of the feed-forward part; four times the width when not given.
        vocab: Rows of the token embedding.
    """
    wide = inner or 4 * width
    return _spec(
        name, width=width, layers=layers, vocab=vocab, attention_width=width, context=context,
        head=None,
        modules=[
            ("attention.self.query", width, width), ("attention.self.key", width, width),
            ("attention.self.value", width, width), ("attention.output.dense", width, width),
            ("intermediate.dense", wide, width), ("output.dense", width, wide),
        ],
        vectors=9 * width + wide,
        outside=2 * width,
        looked_up=(vocab + 512 + 2) * width,
        added=2,
    )  # fmt: skip


def mpnet(
    name: str, *, width: int, layers: int, heads: int, context: int, vocab: int = 30527
) -> ModelSpec:
    """MPNet as an encoder: BERT with relative positions beside the learned ones, no segments."""
    return _spec(
        name, width=width, layers=layers, vocab=vocab, attention_width=width, context=context,
        head=None,
        modules=[
            ("attention.attn.q", width, width), ("attention.attn.k", width, width),
            ("attention.attn.v", width, width), ("attention.attn.o", width, width),
            ("intermediate.dense", 4 * width, width), ("output.dense", width, 4 * width),
        ],
        vectors=13 * width,
        outside=2 * width,
        looked_up=(vocab + 514) * width + _BUCKETS * heads,
        added=2,
    )  # fmt: skip


def t5_encoder(
    name: str, *, width: int, inner: int, layers: int, heads: int, context: int,
    head_dim: int = 64, vocab: int = 32128,
) -> ModelSpec:  # fmt: skip
    """The encoder half of T5 (version 1.0): relative positions, no biases, one inner matrix."""
    every = heads * head_dim
    return _spec(
        name, width=width, layers=layers, vocab=vocab, attention_width=every, context=context,
        head=None,
        modules=[
            ("layer.0.SelfAttention.q", every, width), ("layer.0.SelfAttention.k", every, width),
            ("layer.0.SelfAttention.v", every, width), ("layer.0.SelfAttention.o", width, every),
            ("layer.1.DenseReluDense.wi", inner, width),
            ("layer.1.DenseReluDense.wo", width, inner),
        ],
        vectors=2 * width,
        outside=width,
        looked_up=vocab * width + _BUCKETS * heads,
        added=1,
    )  # fmt: skip


def _spec(
    name: str,
    *,
    width: int,
    layers: int,
    vocab: int,
    attention_width: int,
    context: int,
    head: Literal["own", "tied"] | None,
    modules: Sequence[Matrix],
    vectors: int,
    outside: int,
    looked_up: int,
    added: int = 0,
) -> ModelSpec:
    """A model of equal layers.

    Args:
        name: What messages call it.
        width: Size of the hidden state.
        layers: Number of blocks.
        vocab: Rows of the token embedding.
        attention_width: Query heads times their dimension.
        context: Most tokens it reads at once.
        head: Whether there is a vocabulary head, and whether it has weights of its own.
        modules: The matrices of one layer.
        vectors: Norms and biases of one layer.
        outside: Norms outside the layers.
        looked_up: Parameters of embeddings.
        added: Special tokens that an encoder adds to a text.
    """
    matrices: Counter[tuple[int, int]] = Counter()
    for _, d_out, d_in in modules:
        matrices[d_out, d_in] += layers
    if head is not None:
        matrices[vocab, width] += 1
    inside = sum(d_out * d_in for _, d_out, d_in in modules) + vectors
    overhead: Overhead = tuple((kind, added) for kind in _KINDS) if added else ()
    return ModelSpec(
        name=name,
        matrices=tuple((d_out, d_in, n) for (d_out, d_in), n in sorted(matrices.items())),
        vocab=vocab,
        width=width,
        n_layers=layers,
        attention_width=attention_width,
        n_embedding=looked_up,
        n_total=layers * inside + outside + looked_up + (head == "own") * vocab * width,
        tied=head == "tied",
        context=context,
        overhead=overhead,
        modules=tuple((module, d_out, d_in, layers, 1) for module, d_out, d_in in sorted(modules)),
    )
