"""How far texts compress: raw bytes ÷ compressed bytes, one by one or as a whole set."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa

from didact.core.arrays import Int1D, UInt8s
from didact.core.errors import ConfigError, DataError
from didact.text.buffers import utf8
from didact.text.deflate.sizes import Texts, classic_zlib, fast_backend, sizes_alone

Codec = Literal["zlib", "zstd", "isal"]

# codec → default level, lowest, highest
LEVELS: Final[dict[Codec, tuple[int, int, int]]] = {
    "zlib": (9, 1, 9),
    "zstd": (3, 1, 22),
    "isal": (2, 0, 3),
}

_WORTH_COUNTING: Final = 2 * 10**8  # bytes: it saves 10 ns each, and the kernel loads in 0.6 s


def resolve_level(codec: Codec, level: int | None) -> int:
    """The level, or the codec's default.

    Raises:
        ConfigError: The codec has no such level.
    """
    default, lowest, highest = LEVELS[codec]
    if level is None:
        return default
    if not lowest <= level <= highest:
        raise ConfigError(f"compression level {level}; {codec} has levels {lowest} to {highest}")
    return level


def library(codec: Codec) -> str:
    """Name and version of what compresses: another version may give other sizes."""
    if codec == "zlib":
        return f"zlib {zlib.ZLIB_RUNTIME_VERSION}"
    if codec == "zstd":
        import zstandard

        return f"zstd {'.'.join(str(part) for part in zstandard.ZSTD_VERSION)}"
    import isal

    return f"isa-l {isal.ISAL_VERSION}"


def worth_counting(codec: Codec, level: int, n_bytes: int) -> bool:
    """Whether sizes of so many bytes of texts are had sooner by counting than by compressing."""
    exact = codec == "zlib" and level == LEVELS["zlib"][0] and classic_zlib() and fast_backend()
    return exact and n_bytes >= _WORTH_COUNTING


def compressed_sizes(
    texts: pa.LargeStringArray, codec: Codec = "zlib", level: int = 9, *, counted: bool = False
) -> Int1D:
    """Bytes of each text after compression on its own, its container included.

    Args:
        texts: `n` texts. Their UTF-8 bytes are compressed where they lie, without a copy.
        codec: `zlib` (DEFLATE with zlib's 6 bytes around it), `isal` (the same format by Intel's
            faster, weaker library) or `zstd` (one frame each).
        level: See `LEVELS`.
        counted: The same sizes without compressing; see `worth_counting`.

    Returns:
        int64 `(n,)`; an empty text takes a few bytes.

    **Cost:** on one core of 2021 and rows of 800 bytes about 40 ns a byte for zlib 9, 15 for zstd 3
    and 17 for isal 2; counting takes 0.57 of the time of zlib 9. The interpreter lock is free
    meanwhile.
    """
    data, offsets = utf8(texts)
    if counted:
        return sizes_alone(Texts(data, offsets))
    if codec == "zstd":
        return _zstd_sizes(data, offsets, level)
    compress = _deflate(codec)
    view = data.data
    bounds = offsets.tolist()
    sizes = [len(compress(view[a:b], level)) for a, b in pairwise(bounds)]
    return np.array(sizes, np.int64)


def _deflate(codec: Codec) -> Callable[[Any, int], bytes]:
    if codec == "zlib":
        return zlib.compress
    return isal_stream


def isal_stream(data: Any, level: int) -> bytes:
    """As one stream, which starts from an empty history.

    The library's one-shot call at levels 1 and 2 reads memory that it never filled: the same text
    may then take other sizes in another thread.
    """
    from isal import isal_zlib

    stream = isal_zlib.compressobj(level)
    return stream.compress(data) + stream.flush()


def _zstd_sizes(data: UInt8s, offsets: Int1D, level: int) -> Int1D:
    """All frames in one call, which releases the interpreter lock once."""
    import zstandard

    lengths = np.diff(offsets)
    compressor = zstandard.ZstdCompressor(level=level)
    sizes = np.full(len(lengths), len(compressor.compress(b"")), np.int64)
    filled = np.flatnonzero(lengths)  # the call refuses empty segments
    if len(filled):
        where = np.stack([offsets[filled], lengths[filled]], axis=1).astype(np.uint64)
        rows = zstandard.BufferWithSegments(data.data, where.tobytes())
        frames = compressor.multi_compress_to_buffer(rows)
        sizes[filled] = [len(frames[i]) for i in range(len(frames))]
    return sizes


def set_redundancy(
    chunks: Iterable[bytes | memoryview], *, level: int = 3, window_log: int = 27
) -> float:
    """Raw bytes ÷ compressed bytes of a whole set, as one stream that sees far back.

    A sample's own ratio cannot see that two samples are alike; this can, up to a distance of
    2^window_log bytes (128 MiB by default), by zstd's long-distance matching.

    Args:
        chunks: The set's bytes in any pieces; where they are cut does not matter.
        level: zstd level, 1-22.
        window_log: log₂ of the farthest distance, 10-31; memory is about twice that distance.

    Raises:
        DataError: There are no bytes.

    **Cost:** about 7 ns a byte at level 3, 19 at level 9, on one core of 2021.
    """
    ratio, _ = _stream_ratios(chunks, [_far_sighted(level, window_log)])
    return ratio[0]


def set_redundancies(chunks: Iterable[bytes | memoryview]) -> tuple[float, float, int]:
    """`set_redundancy`, DEFLATE's (level 9, which sees 32 KiB back), and raw bytes, in one pass.

    Copies that are farther apart than 32 KiB are nothing to DEFLATE: what the two say apart is
    redundancy at a distance.

    Args:
        chunks: As in `set_redundancy`.

    Raises:
        DataError: There are no bytes.

    **Cost:** about 50 ns a byte on one core of 2021, most of it DEFLATE's.
    """
    streams = [_far_sighted(3, 27), zlib.compressobj(LEVELS["zlib"][0])]
    (far, near), raw = _stream_ratios(chunks, streams)
    return far, near, raw


def _far_sighted(level: int, window_log: int) -> Any:
    import zstandard

    parameters = zstandard.ZstdCompressionParameters.from_level(
        level, window_log=window_log, enable_ldm=True
    )
    return zstandard.ZstdCompressor(compression_params=parameters).compressobj()


def _stream_ratios(
    chunks: Iterable[bytes | memoryview], streams: Sequence[Any]
) -> tuple[list[float], int]:
    """Raw ÷ compressed bytes by each of several streams, and raw bytes."""
    raw = 0
    compressed = [0] * len(streams)
    for chunk in chunks:
        raw += len(chunk)
        for i, stream in enumerate(streams):
            compressed[i] += len(stream.compress(chunk))
    if not raw:
        raise DataError("redundancy of a set without any text is undefined")
    return [raw / (c + len(s.flush())) for c, s in zip(compressed, streams, strict=True)], raw
