"""The units a text is recognized by: tokens of a model, or characters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from didact.core.arrays import UInt32s
from didact.core.errors import ConfigError

WINDOW_TOKENS: Final = 12
WINDOW_CHARACTERS: Final = 40


@dataclass(frozen=True, slots=True)
class Units:
    """What texts are cut into.

    Attributes:
        encode: Texts → the units of each, uint32 `(units,)`.
        decode: Units → their text.
        window: Units of a window.
    """

    encode: Callable[[Sequence[str]], list[UInt32s]]
    decode: Callable[[UInt32s], str]
    window: int


def _code_points(texts: Sequence[str]) -> list[UInt32s]:
    return [np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32) for text in texts]


def _characters(ids: UInt32s) -> str:
    return ids.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")


CHARACTERS: Final = Units(_code_points, _characters, WINDOW_CHARACTERS)


def token_units(tokenizer: Any) -> Units:
    """The tokens of a tokenizer of transformers, or of the one in a processor.

    Raises:
        ConfigError: It is none.
    """
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
    if not callable(getattr(tokenizer, "decode", None)) or not callable(tokenizer):
        raise ConfigError(
            f"a {type(tokenizer).__name__} is no tokenizer; expected one of transformers: "
            'OrderGuard("OUT", tokenizer)'
        )
    if not getattr(tokenizer, "is_fast", False):

        def slowly(texts: Sequence[str]) -> list[UInt32s]:
            found = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
            return [np.asarray(ids, np.uint32) for ids in found]

        return Units(slowly, lambda ids: str(tokenizer.decode(ids.tolist())), WINDOW_TOKENS)

    from tokenizers import Tokenizer

    # A copy: the script's own calls set truncation and padding on the one underneath.
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()

    def encode(texts: Sequence[str]) -> list[UInt32s]:
        found = backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.asarray(e.ids, np.uint32) for e in found]

    def decode(ids: UInt32s) -> str:
        return str(backend.decode(ids.tolist(), skip_special_tokens=False))

    return Units(encode, decode, WINDOW_TOKENS)
