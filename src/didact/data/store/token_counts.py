"""Token counts: from a local tokenizer.json, or a named estimate that says it is one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from didact.core.arrays import Int1D
from didact.core.errors import ConfigError, MissingDependencyError
from didact.core.paths import place
from didact.data.reading.files import readable

BYTES_PER_TOKEN = 4
ESTIMATE = f"bytes/{BYTES_PER_TOKEN}"


@dataclass(frozen=True, slots=True)
class TokenCounter:
    """What counts tokens.

    Attributes:
        name: Shown wherever a count is shown.
        estimate: True when no tokenizer was given.
        count: large_string `(n,)` → int64 `(n,)`.
        count_one: Text → its tokens.
        ends: Text → character offsets where tokens end, ascending.
    """

    name: str
    estimate: bool
    count: Callable[[pa.LargeStringArray], Int1D]
    count_one: Callable[[str], int]
    ends: Callable[[str], Int1D]


def token_counter(tokenizer: str | None) -> TokenCounter:
    """The counter for a `tokenizer.json`, here or behind a URL, or the estimate when there is none.

    The estimate is UTF-8 bytes ÷ 4, rounded up: close to byte-level BPE vocabularies of 32k to 128k
    on English (within about 15 %), too high by up to half on scripts of three bytes a character.

    Raises:
        MissingDependencyError: The `tokenizers` library is not installed.
        DataError: The file cannot be read.
        ConfigError: It is not a tokenizer.json.
    """
    if tokenizer is None:
        return TokenCounter(
            ESTIMATE, estimate=True, count=_estimated, count_one=_estimated_one,
            ends=_estimated_ends,
        )  # fmt: skip
    path = place(tokenizer)
    if path.is_dir():
        path = path / "tokenizer.json"
    with readable(path):
        data = path.read_bytes()
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingDependencyError(
            "counting with a tokenizer needs a library: pip install 'didact[tokenize]'"
        ) from error
    try:
        model: Any = Tokenizer.from_str(data.decode())
    except Exception as error:  # the library raises a bare Exception for every malformed file
        raise ConfigError(
            f"data.tokenizer: {path} is not a tokenizer.json ({error}); expected the file that "
            "Hugging Face models carry under that name"
        ) from error
    model.no_padding()
    model.no_truncation()

    def count(texts: pa.LargeStringArray) -> Int1D:
        encoded = model.encode_batch_fast(texts.to_pylist(), add_special_tokens=False)
        return np.fromiter((len(e) for e in encoded), dtype=np.int64, count=len(encoded))

    def count_one(text: str) -> int:
        return len(model.encode(text, add_special_tokens=False))

    def ends(text: str) -> Int1D:
        offsets = model.encode(text, add_special_tokens=False).offsets
        return np.maximum.accumulate(np.asarray([end for _, end in offsets], dtype=np.int64))

    digest = hashlib.blake2b(data, digest_size=4).hexdigest()
    return TokenCounter(
        f"{path.name} {digest}", estimate=False, count=count, count_one=count_one, ends=ends
    )


def _estimated(texts: pa.LargeStringArray) -> Int1D:
    n_bytes: Int1D = pc.binary_length(texts).to_numpy()
    return -(-n_bytes // BYTES_PER_TOKEN)


def _estimated_one(text: str) -> int:
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def _estimated_ends(text: str) -> Int1D:
    """Every place where another `BYTES_PER_TOKEN` bytes are full, as character offsets."""
    width = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    n_bytes = 1 + (width > 0x7F).astype(np.int64) + (width > 0x7FF) + (width > 0xFFFF)
    tokens = np.cumsum(n_bytes) // BYTES_PER_TOKEN
    full = np.flatnonzero(np.diff(tokens, prepend=0)) + 1
    return np.unique(np.append(full, len(text)))
