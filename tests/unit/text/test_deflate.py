"""Sizes are those of zlib.compress, to the byte, for whatever bytes.

`DIDACT_DEFLATE_CASES=100000` compares that many instead of 5,000.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import random
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zstandard

from didact.core.errors import ConfigError, DataError
from didact.text.deflate import sizes as deflate
from didact.text.deflate.sizes import Backend, DeflateSizes, Texts, classic_zlib

CASES = int(os.environ.get("DIDACT_DEFLATE_CASES", "5000"))
PER_PREFIX = 40
BACKENDS: list[Backend] = ["numba", "zlib"]

pytest.importorskip("numba")
pytestmark = pytest.mark.skipif(
    not classic_zlib(), reason=f"zlib is {zlib.ZLIB_RUNTIME_VERSION}, whose sizes are others"
)


def texts_of(rows: list[bytes]) -> Texts:
    data = np.frombuffer(b"".join(rows), np.uint8)
    return Texts(data, np.cumsum([0, *map(len, rows)]))


def array(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8)


def all_sizes(sizes: DeflateSizes, n: int) -> list[int]:
    return sizes.sizes(np.arange(n)).tolist()


def expected(prefix: bytes, rows: list[bytes]) -> list[int]:
    return [len(zlib.compress(prefix + row, 9)) for row in rows]


def zipf(rng: random.Random, n: int) -> bytes:
    """Letters so uneven that codes reach their longest lengths."""
    alphabet = rng.sample(range(256), 40)
    return bytes(rng.choices(alphabet, [1.6**-i for i in range(40)], k=n))


def words(rng: random.Random, n: int) -> bytes:
    vocabulary = ["".join(rng.choices("etaoinshrdlu", k=rng.randint(1, 9))) for _ in range(300)]
    return " ".join(rng.choices(vocabulary, k=n // 4 + 1)).encode()[:n]


def non_latin(rng: random.Random, n: int) -> bytes:
    signs = [
        chr(rng.choice([0x4E00, 0x3042, 0x430, 0x1F600]) + rng.randrange(60)) for _ in range(50)
    ]
    return "".join(rng.choices(signs, k=n // 3 + 1)).encode()[:n]


def periodic(rng: random.Random, n: int) -> bytes:
    unit = rng.randbytes(rng.choice([1, 2, 3, 5, 100, 257, 258, 259, 4095, 4096, 4097]))
    return (unit * (n // len(unit) + 1))[:n]


def mixed(rng: random.Random, n: int) -> bytes:
    """Random and compressible by turns: stored, dynamic and fixed blocks."""
    kinds = itertools.cycle([random.Random.randbytes, words, periodic])
    parts = [kind(rng, n // 6 + 1) for _, kind in zip(range(6), kinds, strict=False)]
    return b"".join(parts)[:n]


KINDS: list[Callable[[random.Random, int], bytes]] = [
    lambda rng, n: bytes([rng.randrange(256)]) * n,
    random.Random.randbytes,
    lambda rng, n: bytes(rng.choices(b"ab", k=n)),
    zipf,
    words,
    non_latin,
    periodic,
    mixed,
]


def window_edge(rng: random.Random, prefix: bytes) -> bytes:
    """What lies about the largest distance back."""
    distance = rng.choice([32505, 32506, 32507, 32508, 32768, 4095, 4096, 4097])
    at = max(0, len(prefix) - distance)
    return prefix[at : at + rng.choice([3, 4, 10, 258, 300])]


def cases(seed: int) -> tuple[list[bytes], list[bytes]]:
    """Pieces of a prefix, and candidates."""
    rng = random.Random(seed)
    pieces: list[bytes] = []
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        length = rng.choice([1, 2, 10, 100, 300, 1000, 3000, 3000, 10_000, 33_000])
        pieces.append(rng.choice(KINDS)(rng, length))
        if rng.random() < 0.3:
            pieces.append(window_edge(rng, b"".join(pieces)))
    prefix = b"".join(pieces)
    rows = [
        rng.choice(KINDS)(rng, rng.choice([0, 1, 2, 3, 4, 10, 50, 258, 261, 262, 263, 800]))
        for _ in range(PER_PREFIX - 6)
    ]
    rows += [rng.choice(KINDS)(rng, rng.choice([16382, 16383, 16384]))]  # symbols of a block
    rows += [window_edge(rng, prefix) + rng.randbytes(rng.choice([0, 1, 300])) for _ in range(5)]
    return pieces, rows


def test_equal_to_zlib() -> None:
    for seed in range(CASES // PER_PREFIX):
        pieces, rows = cases(seed)
        with DeflateSizes(texts_of(rows), backend="numba") as sizes:
            for piece in pieces:
                sizes.feed(array(piece))
            found = all_sizes(sizes, len(rows))
        assert found == expected(b"".join(pieces), rows), seed


def test_the_kernel_stays_inside_its_memory() -> None:
    """The same source compiled for arrays raises IndexError where it would leave them."""
    from didact.text.deflate import kernel

    for seed in range(1000, 1012):
        pieces, rows = cases(seed)
        prefix, texts = b"".join(pieces), texts_of(rows)
        text = np.zeros(len(prefix) + max(map(len, rows)) + 8, np.uint8)
        tables, state = kernel.tables(), kernel.state()
        known = 0
        for piece in pieces:
            text[known : known + len(piece)] = array(piece)
            known += len(piece)
            kernel.feed(text, tables, state, known)
        before = tables[: kernel._PREVIOUS3].copy(), state.copy()
        out = np.zeros(len(rows), np.int64)
        data = texts.data.copy(), texts.offsets, np.arange(len(rows))
        kernel.count(text, tables, state, *data, len(rows), out)
        assert out.tolist() == expected(prefix, rows), seed
        np.testing.assert_array_equal(tables[: kernel._PREVIOUS3], before[0])
        np.testing.assert_array_equal(state, before[1])
        with pytest.raises(IndexError):
            kernel.count(text[:known], tables, state, *data, len(rows), out)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_windows_edge(backend: Backend) -> None:
    """Just before zlib's window slides, a match at the largest distance depends on what follows."""
    rng = random.Random(1)
    for turns, shift, tail in itertools.product([0, 1], [-1, 0, 1], [3, 100, 261, 262, 300]):
        slide = 65274 + 32768 * turns
        full = rng.randbytes(slide + shift)
        at = len(full) - 32506
        full += full[at : at + tail]
        for cut in {len(full) - tail, len(full) - 1, min(slide + 261, len(full))}:
            with DeflateSizes(texts_of([full[cut:]]), backend=backend) as sizes:
                sizes.feed(array(full[: cut - 150]))
                sizes.feed(array(full[cut - 150 : cut]))
                assert all_sizes(sizes, 1) == expected(full, [b""]), (turns, shift, tail, cut)


@pytest.mark.parametrize("backend", BACKENDS)
def test_candidates_leave_no_trace_and_threads_agree(backend: Backend) -> None:
    pieces, rows = cases(5)
    rows.append(mixed(random.Random(0), 120_000))  # longer than the kernel can undo
    rows.append(words(random.Random(0), 33_000))
    with (
        DeflateSizes(texts_of(rows), backend=backend) as one,
        DeflateSizes(texts_of(rows), backend=backend, workers=3) as three,
    ):
        for piece in pieces:
            one.feed(array(piece))
            three.feed(array(piece))
        order = np.random.default_rng(0).permutation(len(rows))
        first = np.array(expected(b"".join(pieces), rows))
        for sizes in (one, three):
            np.testing.assert_array_equal(sizes.sizes(order), first[order])
            np.testing.assert_array_equal(sizes.sizes(np.arange(len(rows))), first)
            assert sizes.sizes(order[:0]).shape == (0,)
            np.testing.assert_array_equal(sizes.sizes(order[:1]), first[order[:1]])
            np.testing.assert_array_equal(
                sizes.sizes(np.repeat(order[:2], 3)), first[order[:2]].repeat(3)
            )
        for sizes in (one, three):
            sizes.reset()
            assert all_sizes(sizes, len(rows)) == expected(b"", rows)
            sizes.feed(array(b"again"))
            assert all_sizes(sizes, len(rows)) == expected(b"again", rows)


def cuts(rng: random.Random, data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        length = rng.choice([1, 3, 261, 262, 263, 5000, 70_000])
        yield data[at : at + length]
        at += length


def test_long_prefixes_in_any_cuts() -> None:
    """Longer than what is kept of a prefix: positions are renumbered on the way."""
    rng = random.Random(2)
    prefix = b"".join(mixed(rng, 300_000) for _ in range(9))
    rows = [b"", b"x", words(rng, 900), prefix[-32506:-32000], mixed(rng, 2000)]
    at_end = expected(prefix, rows)
    for seed in range(2):
        with DeflateSizes(texts_of(rows), backend="numba") as sizes:
            for piece in cuts(random.Random(seed), prefix):
                sizes.feed(array(piece))
            assert all_sizes(sizes, len(rows)) == at_end


def test_megabyte_candidates() -> None:
    rng = random.Random(3)
    rows = [mixed(rng, 1 << 20), rng.randbytes(1 << 20), words(rng, 1 << 20), bytes(1 << 20)]
    with DeflateSizes(texts_of(rows), backend="numba", workers=2) as sizes:
        sizes.feed(array(b"prefix"))
        assert all_sizes(sizes, len(rows)) == expected(b"prefix", rows)


def test_the_backends_agree() -> None:
    for seed in range(2000, 2010):
        pieces, rows = cases(seed)
        found = []
        for backend in BACKENDS:
            with DeflateSizes(texts_of(rows), backend=backend, workers=2) as sizes:
                for piece in pieces:
                    sizes.feed(array(piece))
                found.append(all_sizes(sizes, len(rows)))
        assert found[0] == found[1]


def test_real_text(real_data: Path) -> None:
    path = real_data / "instruct_small.jsonl.zst"
    with path.open("rb") as file, zstandard.open(file, "rb") as plain:
        lines = io.TextIOWrapper(plain, encoding="utf-8")
        rows = [str(json.loads(line)).encode() for line in itertools.islice(lines, 700)]
    candidates, chosen = rows[:200], rows[200:]
    with DeflateSizes(texts_of(candidates), backend="numba") as sizes:
        prefix = b""
        for count in (0, 1, 10, 100, 389):
            for row in chosen[:count]:
                sizes.feed(array(row))
                prefix += row
            chosen = chosen[count:]
            some = candidates[:: 1 + count // 20]
            found = sizes.sizes(np.arange(len(candidates))[:: 1 + count // 20])
            assert found.tolist() == expected(prefix, some)


def test_each_text_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """In any thread, after texts that are too long to be undone, and beyond what is counted."""
    monkeypatch.setattr(deflate, "_LONGEST_COUNTED", 200_000)
    rng = random.Random(3)
    kinds = [words, zipf, lambda r, n: r.randbytes(n), lambda r, n: bytes(n)]
    sizes = [0, 1, 2, 3, 4, 259, 600, 70_000, 5, 199_999, 600, 200_001]
    rows = [kind(rng, n) for n in sizes for kind in kinds]
    wanted = [len(zlib.compress(row, 9)) for row in rows]
    halves = [texts_of(rows[:20]), texts_of(rows[20:])]
    with ThreadPoolExecutor(2) as threads:
        for _ in range(2):
            found = list(threads.map(deflate.sizes_alone, halves))
            assert np.concatenate(found).tolist() == wanted
    assert deflate.sizes_alone(texts_of([])).tolist() == []


def test_rows_that_are_not_there() -> None:
    with DeflateSizes(texts_of([b"a", b"b"]), backend="numba") as sizes:
        for row in (-1, 2):
            with pytest.raises(IndexError, match="2 texts"):
                sizes.sizes(np.array([row]))


def test_no_texts_and_wrong_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    with DeflateSizes(texts_of([]), workers=2) as sizes:
        assert sizes.backend == "numba"
        assert all_sizes(sizes, 0) == []
    with pytest.raises(ConfigError, match="0 workers"):
        DeflateSizes(texts_of([]), workers=0)
    monkeypatch.setattr(deflate, "fast_backend", lambda: False)
    with DeflateSizes(texts_of([b"a"])) as sizes:
        assert sizes.backend == "zlib"
        assert all_sizes(sizes, 1) == expected(b"", [b"a"])
    with pytest.raises(ConfigError, match="little-endian"):
        DeflateSizes(texts_of([]), backend="numba")


def test_the_next_process_does_not_compile_again() -> None:
    code = """
import numpy as np
from didact.text.deflate import sizes as deflate
from didact.text.deflate import kernel as deflate_kernel
sizes = deflate.DeflateSizes(deflate.Texts(np.zeros(3, np.uint8), np.array([0, 3])))
sizes.feed(np.zeros(3, np.uint8))
sizes.sizes(np.array([0]))
for function in (deflate_kernel.feed, deflate_kernel.count):
    print(sum(function.stats.cache_hits.values()), sum(function.stats.cache_misses.values()))
"""
    for _ in range(2):  # the first one may have to compile
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
    assert done.stdout.split() == ["1", "0", "1", "0"]


def test_code_is_compiled_where_no_folder_can_keep_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from didact.text.compiling import compiled

    monkeypatch.setattr("numba.core.caching.FunctionCache._impl_class._locator_classes", [])
    assert compiled(lambda a: a + 1)(1) == 2


def test_memory_is_the_same_by_address_and_by_array() -> None:
    from didact.text import compiling
    from didact.text.deflate import memory

    @compiling.compiled
    def copy(source, target, at, count):
        if count == 1:
            value = memory.byte(source, at)
        else:
            value = memory.bytes4(source, at) if count == 4 else memory.bytes8(source, at)
        for i in range(count):
            memory.set_byte(target, at + i, value >> (8 * i))

    source = np.arange(200, 216, dtype=np.uint8)
    for count in (1, 4, 8):
        by_array, by_address = np.zeros(16, np.uint8), np.zeros(16, np.uint8)
        for at in (0, 3, 16 - count):
            copy(source, by_array, at, count)
            copy(source.ctypes.data, by_address.ctypes.data, at, count)
            assert by_array[at : at + count].tolist() == source[at : at + count].tolist()
        np.testing.assert_array_equal(by_array, by_address)
        for outside in (-1, 17 - count):
            with pytest.raises(IndexError):
                copy(source, by_array, outside, count)


@pytest.mark.parametrize("offsets", [[0, 5, 50], [-1, 5], [0, 6, 3]])
def test_offsets_outside_the_bytes_are_refused(offsets):
    with pytest.raises(DataError, match="expected ascending places"):
        DeflateSizes(Texts(np.zeros(10, np.uint8), np.array(offsets)))


def test_a_prefix_beyond_what_is_counted_is_refused(monkeypatch):
    monkeypatch.setattr(deflate, "_LONGEST_PREFIX", 100)
    with DeflateSizes(Texts(np.zeros(1, np.uint8), np.array([0, 1]))) as sizes:
        sizes.feed(np.zeros(60, np.uint8))
        with pytest.raises(DataError, match="below 2 GiB"):
            sizes.feed(np.zeros(40, np.uint8))
        sizes.reset()
        sizes.feed(np.zeros(60, np.uint8))
