"""Models people train and judge with, by the numbers of their published configurations.

Each row is the `config.json` of the repository it names; the sums are the published parameter
counts (tests compare them). Written in November 2026.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from didact.accounting.architectures import bert, gpt2, llama, mpnet, neox, t5_encoder
from didact.accounting.spec import ModelSpec

DATED: Final = "2026-11"


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A row of the table.

    Attributes:
        spec: Its numbers; its name is the last part of the repository's.
        repository: Where its configuration stands, "meta-llama/Llama-2-7b-hf".
        encoder: Whether it makes vectors of texts, and has no vocabulary head.
    """

    spec: ModelSpec
    repository: str
    encoder: bool

    @property
    def source(self) -> str:
        """Where the numbers are from."""
        return f"config.json of {self.repository} ({DATED})"


_Decoder = tuple[str, int, int, int, int, int, int, int, int, bool]

# repository, width, inner, layers, heads, heads of keys and values, numbers of a head, vocabulary,
# context, tied
_LLAMA: Final[tuple[_Decoder, ...]] = (
    ("meta-llama/Llama-2-7b-hf", 4096, 11008, 32, 32, 32, 128, 32000, 4096, False),
    ("meta-llama/Llama-2-13b-hf", 5120, 13824, 40, 40, 40, 128, 32000, 4096, False),
    ("meta-llama/Llama-2-70b-hf", 8192, 28672, 80, 64, 8, 128, 32000, 4096, False),
    ("meta-llama/Meta-Llama-3-8B", 4096, 14336, 32, 32, 8, 128, 128256, 8192, False),
    ("meta-llama/Meta-Llama-3-70B", 8192, 28672, 80, 64, 8, 128, 128256, 8192, False),
    ("meta-llama/Llama-3.1-8B", 4096, 14336, 32, 32, 8, 128, 128256, 131072, False),
    ("meta-llama/Llama-3.1-70B", 8192, 28672, 80, 64, 8, 128, 128256, 131072, False),
    ("meta-llama/Llama-3.1-405B", 16384, 53248, 126, 128, 8, 128, 128256, 131072, False),
    ("meta-llama/Llama-3.2-1B", 2048, 8192, 16, 32, 8, 64, 128256, 131072, True),
    ("meta-llama/Llama-3.2-3B", 3072, 8192, 28, 24, 8, 128, 128256, 131072, True),
    ("meta-llama/Llama-3.3-70B-Instruct", 8192, 28672, 80, 64, 8, 128, 128256, 131072, False),
    ("mistralai/Mistral-7B-v0.1", 4096, 14336, 32, 32, 8, 128, 32000, 32768, False),
    ("mistralai/Mistral-7B-v0.3", 4096, 14336, 32, 32, 8, 128, 32768, 32768, False),
    ("mistralai/Mistral-Nemo-Base-2407", 5120, 14336, 40, 32, 8, 128, 131072, 131072, False),
    ("TinyLlama/TinyLlama_v1.1", 2048, 5632, 22, 32, 4, 64, 32000, 2048, False),
    ("HuggingFaceTB/SmolLM2-135M", 576, 1536, 30, 9, 3, 64, 49152, 8192, True),
    ("HuggingFaceTB/SmolLM2-360M", 960, 2560, 32, 15, 5, 64, 49152, 8192, True),
    ("HuggingFaceTB/SmolLM2-1.7B", 2048, 8192, 24, 32, 32, 64, 49152, 8192, True),
)

_QWEN2: Final[tuple[_Decoder, ...]] = (
    ("Qwen/Qwen2.5-0.5B", 896, 4864, 24, 14, 2, 64, 151936, 32768, True),
    ("Qwen/Qwen2.5-1.5B", 1536, 8960, 28, 12, 2, 128, 151936, 131072, True),
    ("Qwen/Qwen2.5-3B", 2048, 11008, 36, 16, 2, 128, 151936, 32768, True),
    ("Qwen/Qwen2.5-7B", 3584, 18944, 28, 28, 4, 128, 152064, 131072, False),
    ("Qwen/Qwen2.5-14B", 5120, 13824, 48, 40, 8, 128, 152064, 131072, False),
    ("Qwen/Qwen2.5-32B", 5120, 27648, 64, 40, 8, 128, 152064, 131072, False),
    ("Qwen/Qwen2.5-72B", 8192, 29568, 80, 64, 8, 128, 152064, 131072, False),
)

_QWEN3: Final[tuple[_Decoder, ...]] = (
    ("Qwen/Qwen3-0.6B", 1024, 3072, 28, 16, 8, 128, 151936, 40960, True),
    ("Qwen/Qwen3-1.7B", 2048, 6144, 28, 16, 8, 128, 151936, 40960, True),
    ("Qwen/Qwen3-4B", 2560, 9728, 36, 32, 8, 128, 151936, 40960, True),
    ("Qwen/Qwen3-8B", 4096, 12288, 36, 32, 8, 128, 151936, 40960, False),
    ("Qwen/Qwen3-14B", 5120, 17408, 40, 40, 8, 128, 151936, 40960, False),
    ("Qwen/Qwen3-32B", 5120, 25600, 64, 64, 8, 128, 151936, 40960, False),
)

_GEMMA2: Final[tuple[_Decoder, ...]] = (
    ("google/gemma-2-2b", 2304, 9216, 26, 8, 4, 256, 256000, 8192, True),
    ("google/gemma-2-9b", 3584, 14336, 42, 16, 8, 256, 256000, 8192, True),
    ("google/gemma-2-27b", 4608, 36864, 46, 32, 16, 128, 256000, 8192, True),
)

# From 4B on the text model alone, without the vision tower.
_GEMMA3: Final[tuple[_Decoder, ...]] = (
    ("google/gemma-3-270m", 640, 2048, 18, 4, 1, 256, 262144, 32768, True),
    ("google/gemma-3-1b-pt", 1152, 6912, 26, 4, 1, 256, 262144, 32768, True),
    ("google/gemma-3-4b-pt", 2560, 10240, 34, 8, 4, 256, 262208, 131072, True),
    ("google/gemma-3-12b-pt", 3840, 15360, 48, 16, 8, 256, 262208, 131072, True),
    ("google/gemma-3-27b-pt", 5376, 21504, 62, 32, 16, 128, 262208, 131072, True),
)

# repository, width, layers
_GPT2: Final = (
    ("openai-community/gpt2", 768, 12),
    ("openai-community/gpt2-medium", 1024, 24),
    ("openai-community/gpt2-large", 1280, 36),
    ("openai-community/gpt2-xl", 1600, 48),
)

# repository, width, layers, vocabulary
_PYTHIA: Final = (
    ("EleutherAI/pythia-70m", 512, 6, 50304),
    ("EleutherAI/pythia-160m", 768, 12, 50304),
    ("EleutherAI/pythia-410m", 1024, 24, 50304),
    ("EleutherAI/pythia-1b", 2048, 16, 50304),
    ("EleutherAI/pythia-1.4b", 2048, 24, 50304),
    ("EleutherAI/pythia-2.8b", 2560, 32, 50304),
    ("EleutherAI/pythia-6.9b", 4096, 32, 50432),
    ("EleutherAI/pythia-12b", 5120, 36, 50688),
)

# repository, width, layers, most tokens (max_seq_length of sentence_bert_config.json)
_BERT: Final = (
    ("google-bert/bert-base-uncased", 768, 12, 512),
    ("google-bert/bert-large-uncased", 1024, 24, 512),
    ("sentence-transformers/all-MiniLM-L6-v2", 384, 6, 256),
    ("sentence-transformers/all-MiniLM-L12-v2", 384, 12, 128),
    ("BAAI/bge-small-en-v1.5", 384, 12, 512),
    ("BAAI/bge-base-en-v1.5", 768, 12, 512),
    ("BAAI/bge-large-en-v1.5", 1024, 24, 512),
    ("intfloat/e5-small-v2", 384, 12, 512),
    ("intfloat/e5-base-v2", 768, 12, 512),
    ("intfloat/e5-large-v2", 1024, 24, 512),
    ("thenlper/gte-small", 384, 12, 512),
    ("thenlper/gte-base", 768, 12, 512),
    ("thenlper/gte-large", 1024, 24, 512),
)

# repository, width, inner, layers, heads
_T5: Final = (
    ("sentence-transformers/gtr-t5-base", 768, 3072, 12, 12),
    ("sentence-transformers/gtr-t5-large", 1024, 4096, 24, 16),
)


def _last(repository: str) -> str:
    return repository.rpartition("/")[2]


def _decoder(
    row: _Decoder, *, norms: int = 2, qkv_bias: bool = False, qk_norm: bool = False
) -> KnownModel:
    repository, width, inner, layers, heads, kv_heads, head_dim, vocab, context, tied = row
    spec = llama(
        _last(repository), width=width, inner=inner, layers=layers, heads=heads,
        kv_heads=kv_heads, head_dim=head_dim, vocab=vocab, context=context, tied=tied,
        norms=norms, qkv_bias=qkv_bias, qk_norm=qk_norm,
    )  # fmt: skip
    return KnownModel(spec, repository, encoder=False)


def _rows() -> Iterator[KnownModel]:
    yield from (_decoder(row) for row in _LLAMA)
    yield from (_decoder(row, qkv_bias=True) for row in _QWEN2)
    yield from (_decoder(row, qk_norm=True) for row in _QWEN3)
    yield from (_decoder(row, norms=4) for row in _GEMMA2)
    yield from (_decoder(row, norms=4, qk_norm=True) for row in _GEMMA3)
    for name, width, layers in _GPT2:
        yield KnownModel(gpt2(_last(name), width=width, layers=layers), name, encoder=False)
    for name, width, layers, vocab in _PYTHIA:
        spec = neox(_last(name), width=width, layers=layers, vocab=vocab)
        yield KnownModel(spec, name, encoder=False)
    for name, width, layers, context in _BERT:
        spec = bert(_last(name), width=width, layers=layers, context=context)
        yield KnownModel(spec, name, encoder=True)
    name = "sentence-transformers/all-mpnet-base-v2"
    spec = mpnet(_last(name), width=768, layers=12, heads=12, context=384)
    yield KnownModel(spec, name, encoder=True)
    for name, width, inner, layers, heads in _T5:
        spec = t5_encoder(
            _last(name), width=width, inner=inner, layers=layers, heads=heads, context=512
        )
        yield KnownModel(spec, name, encoder=True)


KNOWN_MODELS: Final[tuple[KnownModel, ...]] = tuple(_rows())
