"""Small models to judge with: a Llama of a wanted size and a tokenizer trained on the pool."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from didact.core.errors import ConfigError
from didact.core.pool import Pool
from didact.models.saving import check_free, quiet, saving

SAMPLE_BYTES = 64 * 2**20  # a vocabulary of 32k has settled long before
PAD, END, TURN, TURN_END = "<|pad|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL = (END, PAD, TURN, TURN_END)
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
_LEAST_VOCAB = 256 + len(SPECIAL)  # every byte has a token
_LONGEST_TEXT = 2**16  # characters; the trainer's memory grows with the longest text it is given
_SUFFIX = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}


@dataclass(frozen=True, slots=True)
class Shape:
    """The numbers of a small Llama.

    Attributes:
        vocab: Number of tokens.
        width: Size of the hidden state.
        layers: Number of blocks.
        heads: Number of attention heads, each with its own keys and values.
        inner: Width of the feed-forward part.
    """

    vocab: int
    width: int
    layers: int
    heads: int
    inner: int

    @property
    def n_embedding(self) -> int:
        """Number of parameters of the token embedding, which is the output head as well."""
        return self.vocab * self.width

    @property
    def n_params(self) -> int:
        """Number of all parameters, the embedding counted once."""
        block = 4 * self.width**2 + 3 * self.width * self.inner + 2 * self.width
        return self.n_embedding + self.layers * block + self.width


@dataclass(frozen=True, slots=True)
class Proxy:
    """A model that `new_proxy` made.

    Attributes:
        path: Its folder.
        shape: Sizes of the architecture.
        context: Most tokens the model reads at once.
        sampled_bytes: Number of UTF-8 bytes the tokenizer was trained on.
    """

    path: Path
    shape: Shape
    context: int
    sampled_bytes: int

    def facts(self) -> dict[str, Any]:
        """Facts for people and machines: sizes with the embedding and without."""
        shape = self.shape
        return {
            "model": str(self.path), "parameters": shape.n_params,
            "without_embedding": shape.n_params - shape.n_embedding,
            "embedding": shape.n_embedding, "vocab": shape.vocab, "width": shape.width,
            "layers": shape.layers, "heads": shape.heads, "context": self.context,
            "tokenizer_trained_on_bytes": self.sampled_bytes,
        }  # fmt: skip


def new_proxy(
    directory: str | Path,
    pool: Pool,
    *,
    params: str | float,
    vocab: int | None = None,
    context: int = 1024,
    seed: int = 0,
) -> Proxy:
    """An untrained Llama of about `params` parameters, with a byte-level BPE of the pool's text.

    The same pool, settings and versions of the libraries give the same bytes.

    Args:
        directory: The model's new folder; must not be there, or be empty.
        pool: The pool whose text the tokenizer is trained on, all sources evenly, without the
            validation split.
        params: Number of all parameters, the tied embedding counted once: 3_000_000, "3M", "500k".
        vocab: Number of tokens; by default what suits the size. A small pool may give fewer.
        context: Most tokens the model reads at once.
        seed: Seed of the weights.

    Raises:
        ConfigError: The directory is not empty, or the size is not a number or too small.

    **Source:** Llama (arXiv:2302.13971); byte-level BPE as in GPT-2; ChatML as its chat template.
    **Cost:** reads at most 64 MiB of text, a few seconds on one core.
    """
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    directory, size = Path(directory), parameter_count(params)
    check_free(directory, "DIR")
    if vocab is not None and vocab < _LEAST_VOCAB:
        raise ConfigError(
            f"vocab={vocab}: expected {_LEAST_VOCAB} or more: 256 bytes and {len(SPECIAL)} "
            "special tokens"
        )
    if context < 2:
        raise ConfigError(f"context={context}: expected 2 tokens or more")
    wanted = vocab or suitable_vocab(size)
    shape_for(size, wanted)  # says what is wrong before the tokenizer is trained
    tokenizer, n_bytes = _tokenizer(_sample(pool), wanted, context)
    shape = shape_for(size, len(tokenizer))
    config = LlamaConfig(
        vocab_size=shape.vocab, hidden_size=shape.width, intermediate_size=shape.inner,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads, max_position_embeddings=context,
        tie_word_embeddings=True, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=[tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(TURN_END)],
        pad_token_id=tokenizer.pad_token_id,
    )
    with saving(directory) as folder, quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return Proxy(directory, shape, context, n_bytes)


def parameter_count(params: str | float) -> int:
    """A number of parameters from 3_000_000, "3M", "500k", "1.5M" or "3e6".

    Raises:
        ConfigError: It is none of these.
    """
    found = re.fullmatch(r"([\d_]*\.?\d+(?:e\d+)?)([kmb]?)", str(params).strip().lower())
    size = float(found[1]) * _SUFFIX[found[2]] if found else 0.0
    if not 1 <= size < 1e12:
        raise ConfigError(
            f"params={params!r}: expected a number of parameters such as 3M, 500k, 1.5M or 3e6"
        )
    return round(size)


def suitable_vocab(params: int) -> int:
    """4,096 tokens at 3M parameters, growing with their square root, a power of two.

    So the embedding is a quarter of a 3M model and an eighth of one of 200M. At least 512.
    """
    return int(min(max(2 ** math.floor(math.log2(4096 * math.sqrt(params / 3e6))), 512), 65536))


def shape_for(params: int, vocab: int) -> Shape:
    """The architecture nearest to a size: heads of 32 (64 from width 512), a width 40 times depth.

    Sizes matter more than proportions, whose influence on the loss is weak over a wide range
    (Kaplan et al., arXiv:2001.08361, section 3.1).

    Raises:
        ConfigError: Even one narrow layer is more than a quarter larger than `params`.
    """
    best, least = None, math.inf
    for heads in range(1, 129):
        for size in (32, 64):
            width = heads * size
            if (size == 64) != (width >= 512):
                continue
            inner = max(32, round(width * 8 / 3 / 32) * 32)
            block = 4 * width**2 + 3 * width * inner + 2 * width
            around = max(1, (params - vocab * width) // block)
            for layers in {around, around + 1}:
                shape = Shape(vocab, width, layers, heads, inner)
                off = abs(math.log(shape.n_params / params))
                rank = 8 * off + abs(math.log(width / (40 * layers)))
                if off < math.log(1.25) and rank < least:
                    best, least = shape, rank
    if best is None:
        raise ConfigError(
            f"params={params:,} with a vocabulary of {vocab:,}: no model is that small; raise "
            "params or lower vocab"
        )
    return best


def _tokenizer(texts: Iterator[str], vocab: int, context: int) -> tuple[Any, int]:
    """A byte-level BPE with ChatML and single digits, and the bytes it was trained on."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    n_bytes = 0

    def counted() -> Iterator[str]:
        nonlocal n_bytes
        for text in texts:
            n_bytes += len(text.encode("utf-8", "surrogatepass"))
            yield from (text[i : i + _LONGEST_TEXT] for i in range(0, len(text), _LONGEST_TEXT))

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True),
         pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )  # fmt: skip
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        min_frequency=2,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(counted(), trainer)
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=PAD,
        extra_special_tokens=[TURN, TURN_END], model_max_length=context,
    )  # fmt: skip
    fast.chat_template = CHAT_TEMPLATE
    return fast, n_bytes


def _sample(pool: Pool) -> Iterator[str]:
    """Texts of the pool, at most `SAMPLE_BYTES` of them: the same share of every batch."""
    share = min(1.0, SAMPLE_BYTES / max(int(pool.n_bytes.sum()), 1))
    for batch in pool.batches():
        rows = range(batch.start, batch.start + math.ceil(share * len(batch)))
        texts = pool.read(rows, ["text"]).column("text").to_pylist()
        for row, text in zip(rows, texts, strict=True):
            if not pool.in_validation[row]:
                yield text
