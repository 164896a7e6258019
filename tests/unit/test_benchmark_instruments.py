"""What judges selectors is right: pairs as brute force finds them, draws as they should be."""

from __future__ import annotations

import importlib.util
import itertools
import lzma
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "instruments.py"


@pytest.fixture(scope="module")
def instruments():
    spec = importlib.util.spec_from_file_location("instruments", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def families(rng, n):
    """Texts of which many are others with a few letters changed, some exact, some tiny."""
    texts = [
        bytes(rng.integers(97, 105, size=rng.integers(0, 90)).astype(np.uint8)) for _ in "x" * n
    ]
    for i in range(n // 3, n):
        text = bytearray(texts[rng.integers(n // 3)])
        for at in rng.integers(0, max(len(text), 1), size=rng.integers(0, 3)):
            text[at : at + 1] = b"z"
        texts[i] = bytes(text)
    return texts


@pytest.mark.parametrize("similarity", [0.5, 0.8, 1.0])
def test_near_duplicates_are_those_of_brute_force(instruments, similarity):
    texts = families(np.random.default_rng(0), 150)
    sets = []
    for text in texts:
        padded = text.ljust(8, b"\0")
        sets.append({padded[i : i + 8] for i in range(len(padded) - 7)})
    naive = {
        (a, b)
        for a, b in itertools.combinations(range(len(sets)), 2)
        if len(sets[a] & sets[b]) >= similarity * len(sets[a] | sets[b])
    }
    found = instruments.near_duplicates(texts, similarity)
    assert len(naive) > 20
    assert {tuple(pair) for pair in found.tolist()} == naive
    assert len(found) == len(naive)


def test_case_and_white_space_do_not_hide_a_duplicate(instruments):
    pairs = instruments.near_duplicates([b"One  two\nthree", b"one two THREE", b"four five six"])
    assert pairs.tolist() == [[0, 1]]


def test_trigrams_by_hand(instruments):
    # a b c, b c d; the second text repeats a b c; three words in two texts are no run.
    texts = [b"A b c d", b"a, b; c!", b"a b", b"c"]
    assert instruments.trigrams_per_mb(texts) == pytest.approx(2 / 19 * 1e3)


def test_xz_sees_what_is_farther_back_than_its_usual_window(instruments):
    block = np.random.default_rng(0).bytes(100_000)
    between = bytes(9 * 2**20)  # more than the 8 MiB that preset 6 sees
    assert instruments.xz_bytes(block + between + block) < 120_000
    assert len(lzma.compress(block + between + block, preset=6)) > 200_000


def test_entropy_by_hand(instruments):
    assert instruments.entropy_bits(np.array([4, 0, 2, 2])) == pytest.approx(1.5)


def test_matched_rows_have_the_histogram_and_only_rows_that_may_be_drawn(instruments):
    rng = np.random.default_rng(0)
    cells = rng.integers(-1, 6, size=500)
    chosen = rng.permutation(np.flatnonzero(cells >= 0))[:90]
    drawn = instruments.matched(cells, chosen, np.random.default_rng(1))
    assert len(np.unique(drawn)) == len(drawn) == 90
    assert np.array_equal(np.bincount(cells[drawn]), np.bincount(cells[chosen]))
    other = instruments.matched(cells, chosen, np.random.default_rng(2))
    assert set(other.tolist()) != set(drawn.tolist())


@pytest.mark.parametrize("n", [1, 7, 300])
def test_noise_is_as_long_as_asked_and_is_what_it_says(instruments, n):
    rng = np.random.default_rng(n)
    words = ["the", "cat", "sat", "on", "a", "mat"]
    texts = ["plain text of one line " * 5, "déjà vu, naïve façade — “quoted” " * 5]
    made = {kind: make(n, rng) for kind, make in instruments.kinds(words, texts).items()}
    for text in made.values():
        cut = instruments.cut(text, n)
        assert n - 4 < len(cut.encode()) <= n
    assert " " not in made["base64"]
    assert max(map(len, made["base64 spaced"].split())) <= 12
    assert set(made["word salad"].split()) <= set(words)


@pytest.mark.parametrize("seed", range(6))
def test_mojibake_undone_is_the_text(instruments, seed):
    text = "déjà vu, naïve façade – all of it"
    wrong = instruments.mojibake([text])(len(text), np.random.default_rng(seed)).removesuffix("\n")
    codec = "cp1252" if "€" in wrong else "latin-1"
    assert wrong != text
    assert wrong.encode(codec).decode().encode(codec).decode() == text
