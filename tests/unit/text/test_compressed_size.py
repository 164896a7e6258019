"""Compressed sizes are those of the libraries' own functions."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest
import zstandard
from isal import isal_zlib

from didact.core.errors import ConfigError, DataError
from didact.text.compression import (
    LEVELS,
    Codec,
    compressed_sizes,
    library,
    resolve_level,
    set_redundancy,
    worth_counting,
)

TEXTS = ["", "a", "the cat sat on the mat. " * 40, "吾輩は猫である" * 9, "", "x" * 100_000, "\0\n"]


def isal_stream(data: bytes, level: int) -> bytes:
    stream = isal_zlib.compressobj(level)
    compressed: bytes = stream.compress(data) + stream.flush()
    assert zlib.decompress(compressed) == data
    return compressed


ONE_SHOT: dict[Codec, Callable[[bytes, int], bytes]] = {
    "zlib": zlib.compress,
    "isal": isal_stream,
    "zstd": lambda data, level: zstandard.ZstdCompressor(level=level).compress(data),
}


@pytest.mark.parametrize("codec", LEVELS)
def test_each_text_is_compressed_on_its_own(codec: Codec) -> None:
    _, lowest, highest = LEVELS[codec]
    texts = pa.array(["not looked at", *TEXTS, "nor this"], pa.large_string()).slice(1, len(TEXTS))
    for level in {lowest, LEVELS[codec][0], min(highest, 19)}:
        expected = [len(ONE_SHOT[codec](t.encode(), level)) for t in TEXTS]
        assert compressed_sizes(texts, codec, level).tolist() == expected


@pytest.mark.skipif(not worth_counting("zlib", 9, 10**9), reason="nothing to count with here")
def test_counted_sizes_are_the_same() -> None:
    texts = pa.array(["not looked at", *TEXTS, None, "nor this"], pa.large_string()).slice(1, 8)
    assert compressed_sizes(texts, counted=True).tolist() == compressed_sizes(texts).tolist()
    others: list[tuple[Codec, int, int]] = [("zlib", 6, 10**9), ("zstd", 9, 10**9), ("zlib", 9, 0)]
    assert not any(worth_counting(*other) for other in others)


@pytest.mark.parametrize("codec", LEVELS)
def test_sizes_do_not_hang_on_what_memory_held_before(codec: Codec) -> None:
    drawn = random.Random(0)
    words = [
        "the",
        "a",
        "of",
        "and",
        "to",
        "in",
        "is",
        "was",
        "he",
        "for",
        "it",
        "with",
        "as",
        "his",
        "on",
        "be",
        "at",
        "by",
    ]
    contents = [" ".join(drawn.choices(words, k=drawn.randint(1, 300))) for _ in range(500)]
    texts = pa.array([*contents, *["ab" * k for k in range(40)]], pa.large_string())
    _, lowest, highest = LEVELS[codec]
    for level in range(lowest, min(highest, 4) + 1):

        def sizes(_: int, level: int = level) -> tuple[int, ...]:
            dirt = [drawn.randbytes(drawn.randint(1, 400_000)) for _ in range(2)]
            del dirt
            return tuple(compressed_sizes(texts, codec, level).tolist())

        with ThreadPoolExecutor(4) as pool:
            assert len({sizes(0), *pool.map(sizes, range(12))}) == 1, level


@pytest.mark.parametrize("codec", LEVELS)
def test_no_texts_and_only_empty_texts(codec: Codec) -> None:
    level = resolve_level(codec, None)
    assert compressed_sizes(pa.array([], pa.large_string()), codec, level).tolist() == []
    sizes = compressed_sizes(pa.array(["", ""], pa.large_string()), codec, level)
    assert sizes.tolist() == [len(ONE_SHOT[codec](b"", level))] * 2


def test_levels() -> None:
    assert [resolve_level(codec, None) for codec in ("zlib", "zstd", "isal")] == [9, 3, 2]
    assert resolve_level("isal", 0) == 0
    with pytest.raises(ConfigError, match=r"level 12; zlib has levels 1 to 9"):
        resolve_level("zlib", 12)


def test_library_versions() -> None:
    assert library("zlib") == f"zlib {zlib.ZLIB_RUNTIME_VERSION}"
    for codec in ("zstd", "isal"):
        name, version = library(codec).split(" ")
        assert name in {"zstd", "isa-l"}
        assert all(part.isdigit() for part in version.split("."))


def test_a_set_that_repeats_itself_far_apart_is_redundant() -> None:
    noise = np.random.default_rng(0).integers(0, 256, 3_000_000, dtype=np.uint8).tobytes()
    assert set_redundancy([noise]) == pytest.approx(1, abs=0.001)
    # zlib's window is 32 KiB and zstd's own at level 3 is 2 MiB: only the long window sees it
    assert set_redundancy([noise, noise]) == pytest.approx(2, abs=0.01)
    assert set_redundancy([noise, noise], window_log=20) == pytest.approx(1, abs=0.001)


def test_where_a_set_is_cut_into_chunks_does_not_matter() -> None:
    text = ("the cat sat on the mat. " * 5000 + "something else entirely. " * 300).encode()
    pieces = [memoryview(text)[at : at + 777] for at in range(0, len(text), 777)]
    assert set_redundancy(pieces) == set_redundancy([text]) > 50


def test_redundancy_of_nothing_is_an_error() -> None:
    with pytest.raises(DataError, match="without any text"):
        set_redundancy([b"", b""])
