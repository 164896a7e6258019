"""Compressed sizes of one text followed by each of some others, and the distances they give."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from didact.core.arrays import Float1D, Int1D
from didact.core.errors import ConfigError
from didact.text.compression import isal_stream, library
from didact.text.deflate.sizes import DeflateSizes, Texts, classic_zlib

PairCodec = Literal["gzip", "zlib", "isal", "zstd", "lz4"]

# codec → default level, lowest, highest
LEVELS: Final[dict[PairCodec, tuple[int, int, int]]] = {
    "gzip": (9, 0, 9),
    "zlib": (9, 0, 9),
    "isal": (2, 0, 3),
    "zstd": (3, 1, 22),
    "lz4": (0, 0, 12),
}
_PRIMED: Final = 9  # the level whose sizes are counted from the state after the first text,
_MANY: Final = 8  # where so many others follow it: going back to the empty state takes time too
# Bytes of a container beside what the library here writes: gzip's header and trailer are longer
# than zlib's; a frame of LZ4 says how long its content is, which pyarrow's leaves out.
_GZIP: Final = 12
_LZ4: Final = 8

Sizes = Callable[[bytes], Int1D]


def resolve_pair_level(codec: PairCodec, level: int | None) -> int:
    """The level, or the codec's default.

    Raises:
        ConfigError: The codec has no such level, or is not in this build of pyarrow.
    """
    default, lowest, highest = LEVELS[codec]
    if codec == "lz4" and not pa.Codec.is_available("lz4"):
        raise ConfigError(
            "codec lz4: this build of pyarrow is without it; install pyarrow's own wheel, or use "
            "codec=gzip"
        )
    if level is None:
        return default
    if not lowest <= level <= highest:
        raise ConfigError(f"compression level {level}; {codec} has levels {lowest} to {highest}")
    return level


def pair_library(codec: PairCodec) -> str:
    """Name and version of what compresses."""
    if codec == "lz4":
        return f"lz4 of pyarrow {pa.__version__}"
    return library("zlib" if codec == "gzip" else codec)


def is_primed(codec: PairCodec, level: int, others: int) -> bool:
    """Whether a text is compressed once for so many others, or with each of them anew."""
    worth = others >= _MANY or not classic_zlib()  # whose sizes are those that are counted
    return codec in {"gzip", "zlib"} and level == _PRIMED and worth


def pair_sizes(codec: PairCodec, level: int, others: list[bytes]) -> Sizes:
    """A function of a text: its compressed bytes followed by each of some others, and alone.

    Args:
        codec: `gzip` and `zlib` are DEFLATE in two containers, by zlib; `isal` another, faster
            DEFLATE; `zstd` and `lz4` frames of their own, `lz4` with the length of its content.
        level: See `LEVELS`.
        others: `m` texts.

    Returns:
        A function that gives int64 `(m + 1,)`: sizes of text + other for each, then of the text.
        To be used by one thread at a time.

    **Cost:** at zlib's level 9, and from eight others on, a text is compressed once and each other
    goes on from there: about 90 µs and 40 ns a byte for the text, 8 µs and 10 ns a byte for each
    other, on one core of 2021 with numba. Elsewhere both are compressed anew: some µs a pair, and
    2 ns a byte of both with lz4, 5 with zstd 3, 10 with isal 2, 25 with zlib.
    """
    primed, others = is_primed(codec, level, len(others)), [*others, b""]
    if primed:
        return _primed(others, _GZIP if codec == "gzip" else 0)
    size = _size(codec, level)
    return lambda text: np.array([size(text + other) for other in others], np.int64)


def distances(sizes: Int1D, alone: Int1D) -> Float1D:
    """Normalised compression distances of a text to each of some others.

    Args:
        sizes: What `pair_sizes` gives for the text, `(m + 1,)`.
        alone: Sizes of the others, `(m,)`.

    Returns:
        (C(ab) - min(C(a), C(b))) / max(C(a), C(b)), float64 `(m,)`: about 0 for copies, about 1
        for texts that have nothing in common, and a little over.

    **Source:** Cilibrasi & Vitányi 2005 (arXiv:cs/0312044), equation 6.
    """
    own = sizes[-1]
    return np.asarray((sizes[:-1] - np.minimum(own, alone)) / np.maximum(own, alone))


def _primed(others: list[bytes], more: int) -> Sizes:
    offsets = np.cumsum([0, *map(len, others)])
    counter = DeflateSizes(Texts(_bytes(b"".join(others)), offsets))
    rows = np.arange(len(others))

    def sizes(text: bytes) -> Int1D:
        counter.reset()
        counter.feed(_bytes(text))
        return counter.sizes(rows) + more

    return sizes


def _size(codec: PairCodec, level: int) -> Callable[[bytes], int]:
    if codec == "lz4":
        lz4 = pa.Codec("lz4", compression_level=level or None)
        return lambda text: lz4.compress(text).size + (_LZ4 if text else 0)
    if codec == "zstd":
        import zstandard

        zstd = zstandard.ZstdCompressor(level=level)
        return lambda text: len(zstd.compress(text))
    if codec == "isal":
        return lambda text: len(isal_stream(text, level))
    more = _GZIP if codec == "gzip" else 0
    return lambda text: len(zlib.compress(text, level)) + more


def _bytes(data: bytes) -> npt.NDArray[np.uint8]:
    return np.frombuffer(data, np.uint8)
