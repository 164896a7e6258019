"""ZIP-FIT against a plain version that compresses everything anew, and its released package.

Birth certificate: the numbers of `RELEASED` are what `zip-fit` 1.0.9 gave for these texts:
`ZIPFIT(...).rank_sequences_by_alignment(POOL, TARGET)` with Python 3.11.7, zlib 1.2.13, lz4 4.4.5,
zstandard 0.25.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from isal import isal_zlib

import didact
from didact.testing import make_pool
from didact.text.deflate.sizes import classic_zlib
from didact.text.pair_sizes import distances, is_primed, pair_sizes

POOL = [
    "Tom has 3 apples. He buys 5 more and gives 2 to Ann. How many apples does Tom have?",
    "def add(a, b):\n    return a + b\n",
    "Once upon a time there was a king who had three daughters, each fairer than the last.",
    "猫は魚が好きです。犬は肉が好きです。",
    "القطة تجلس على السجادة، والكلب ينام.",
    "x",
    "the same words " * 40,
]
TARGET = [
    "Ann has 4 apples. She buys 6 more and gives 1 to Tom. How many apples does Ann have?",
    "Weng earns $12 an hour for babysitting. She babysat for 50 minutes. How much did she earn?",
]
RELEASED: dict[tuple[str, int], list[float]] = {
    ("gzip", 9): [
        0.5788738448312916,
        0.2595099935525467,
        0.3988287126584999,
        0.2023425746830002,
        0.21271222866967548,
        0.21271222866967548,
        0.24860305179454112,
    ],
    ("gzip", 0): [
        0.20924654701844347,
        0.20924654701844347,
        0.20825139298590623,
        0.20924654701844347,
        0.20924654701844347,
        0.20924654701844347,
        0.036918138041733495,
    ],
    ("lz4", 0): [
        0.4651113377528472,
        0.21209416964133943,
        0.19644644644644643,
        0.26742308346081933,
        0.21209416964133943,
        0.21209416964133943,
        0.26742308346081933,
    ],
    ("zstd", 3): [
        0.5567023778416514,
        0.2230206428011497,
        0.31447609093284556,
        0.08622942252417037,
        0.20636268617716225,
        0.10288737914815782,
        0.22903057224980405,
    ],
}


def by_isal(data: bytes) -> bytes:
    stream = isal_zlib.compressobj(2)
    return stream.compress(data) + stream.flush()


COMPRESSORS: dict[tuple[str, int], Callable[[bytes], bytes]] = {
    ("gzip", 9): lambda data: gzip.compress(data, 9),
    ("gzip", 6): lambda data: gzip.compress(data, 6),
    ("gzip", 0): lambda data: gzip.compress(data, 0),
    ("zlib", 9): lambda data: zlib.compress(data, 9),
    ("zlib", 1): lambda data: zlib.compress(data, 1),
    ("isal", 2): by_isal,
    ("zstd", 3): lambda data: zstandard.ZstdCompressor(level=3).compress(data),
}


def plain(pool: list[str], target: list[str], compress: Callable[[bytes], bytes]) -> list[float]:
    def size(text: str) -> int:
        return len(compress(text.encode()))

    def similarity(a: str, b: str) -> float:
        least, most = sorted([size(a), size(b)])
        return 1 - (size(a + b) - least) / most

    return [sum(similarity(text, other) for other in target) / len(target) for text in pool]


def score(tmp_path: Path, pool: list[str], target: list[str], **settings: Any) -> np.ndarray:
    made = [
        make_pool([{"id": str(i), "text": t} for i, t in enumerate(texts)], tmp_path, name=name)
        for name, texts in (("pool", pool), ("target", target))
    ]
    return didact.score(made[0], "zip_fit", target=made[1], **settings).values


@pytest.mark.skipif(not classic_zlib(), reason="this zlib is not the classic one")
@pytest.mark.parametrize("how", COMPRESSORS, ids=str)
def test_equal_to_the_plain_version(tmp_path: Path, how: tuple[str, int]) -> None:
    found = score(tmp_path, POOL, TARGET, codec=how[0], level=how[1])
    np.testing.assert_allclose(found, plain(POOL, TARGET, COMPRESSORS[how]), rtol=1e-14)


@pytest.mark.skipif(not classic_zlib(), reason="this zlib is not the classic one")
@pytest.mark.parametrize("how", RELEASED, ids=str)
def test_equal_to_the_released_package(tmp_path: Path, how: tuple[str, int]) -> None:
    found = score(tmp_path, POOL, TARGET, codec=how[0], level=how[1])
    np.testing.assert_allclose(found, RELEASED[how], rtol=1e-13)


@pytest.mark.skipif(not classic_zlib(), reason="this zlib is not the classic one")
def test_going_on_from_a_text_gives_the_size_of_both() -> None:
    """Around the window of 32 KiB too, and where zlib first slides it."""
    rng = np.random.default_rng(0)
    words = [f"word{i} ".encode() for i in range(300)]
    first = b"".join(words[i] for i in rng.integers(0, 300, 12_000))
    others = 2 * [first[500:900], rng.bytes(300), b"abc" * 9000, "猫は魚".encode()]
    assert is_primed("gzip", 9, len(others))
    in_gzip, in_zlib = pair_sizes("gzip", 9, others), pair_sizes("zlib", 9, others)
    for length in (0, 1, 32_768, 65_274, 65_275):
        text = first[:length]
        expected = [len(gzip.compress(text + other, 9)) for other in [*others, b""]]
        assert in_gzip(text).tolist() == expected
        assert (in_gzip(text) - in_zlib(text) == 12).all()


def test_level_0_is_a_function_of_lengths_alone(tmp_path: Path) -> None:
    """The released default: stored bytes and 23 more, so 23 / (longest + 23), whatever is said."""
    target = ["a" * 40, "what is meant " * 5]
    pool = ["a" * 40, "z" * 40, "猫" * 13 + ".", "a" * 100, "what is meant " * 5, "x" * 70]
    by_length = [
        sum(23 / (max(len(text.encode()), len(t)) + 23) for t in target) / 2 for text in pool
    ]
    found = score(tmp_path, pool, target, codec="gzip", level=0)
    np.testing.assert_allclose(found, by_length, rtol=1e-12)
    assert found[0] == found[1] == found[2]  # a copy of a target, and what shares no byte with it
    ranked = score(tmp_path, pool, target, codec="gzip", level=9)
    assert ranked[0] > ranked[2]
    assert ranked[4] > ranked[5]


def test_distances_by_hand() -> None:
    found = distances(np.array([150, 120, 100]), np.array([80, 100]))
    assert found.tolist() == [(150 - 80) / 100, (120 - 100) / 100]


def test_the_order_of_the_two_matters() -> None:
    a, b = ("ab" * 50 + "cd" * 50).encode(), ("cd" * 50 + "xyz" * 9).encode()
    one, two = pair_sizes("gzip", 9, [b])(a), pair_sizes("gzip", 9, [a])(b)
    assert one[0] != two[0]


@pytest.mark.skipif(not classic_zlib(), reason="this zlib is not the classic one")
def test_few_others_are_compressed_anew_to_the_same_sizes() -> None:
    others = [text.encode() for text in POOL + TARGET]
    few, many = pair_sizes("gzip", 9, others[:2]), pair_sizes("gzip", 9, others)
    assert is_primed("gzip", 9, len(others))
    assert not is_primed("gzip", 9, 2)
    text = TARGET[1].encode()
    assert few(text)[:2].tolist() == many(text)[:2].tolist()
