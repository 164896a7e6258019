"""Rows are recognized in sequences by text of their own, whatever stands around it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from didact.callbacks.judgement import Judge
from didact.callbacks.recognition import recognize
from didact.callbacks.row_index import KEPT, SHARED_BY, build_index
from didact.callbacks.units import CHARACTERS, WINDOW_TOKENS, Units
from didact.callbacks.windows import piece_windows, run_hashes

UNITS = Units(CHARACTERS.encode, CHARACTERS.decode, WINDOW_TOKENS)
FIRST = 0x4E00  # what the tests number stands for a character each
TEMPLATE = FIRST + 5000  # units from here on are in no row


def text(numbers) -> str:
    return "".join(chr(FIRST + n) for n in numbers)


def turns(*contents: list[int]) -> list[tuple[int, str, str, float]]:
    """Turns of numbered characters, the last of which is learnt."""
    last = len(contents) - 1
    return [(0, "user", text(c), float(i == last)) for i, c in enumerate(contents)]


def ids(numbers) -> np.ndarray:
    return np.array([FIRST + n if n < 5000 else n for n in numbers], np.uint32)


def written(row, rng: np.random.Generator) -> np.ndarray:
    """A row as a template writes it."""
    out = list(range(TEMPLATE, TEMPLATE + 3))
    for _, _, content, _ in row:
        out += [*map(ord, content), TEMPLATE + int(rng.integers(9))]
    return np.array(out, np.uint32)


def brute_windows(row) -> set[str]:
    return {c[k : k + 12] for _, _, c, _ in row for k in range(len(c) - 11)}


few = st.lists(st.integers(0, 3), min_size=1, max_size=40)
some_rows = st.lists(st.lists(few, min_size=1, max_size=3), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(some_rows, st.integers(0, 99))
def test_windows_of_its_own_are_found_and_no_others(contents, seed):
    rng = np.random.default_rng(seed)
    rows = [turns(*c) for c in contents]
    index = build_index(rows, UNITS)
    distinct = [rows[i] for i in index.first.tolist()]
    own = [brute_windows(row) for row in distinct]
    times = Counter(w for windows in own for w in windows)
    found = recognize(index, [written(row, rng) for row in distinct]).found
    for row, (windows, one) in enumerate(zip(own, found, strict=True)):
        alone = any(times[w] == 1 for w in windows)
        assert set(one.rows) <= {row}
        if not alone:
            assert not one.rows
        assert one.recognized
        assert row in one.rows or row in one.among


@settings(max_examples=80, deadline=None)
@given(some_rows, st.integers(0, 999), st.integers(1, 5), st.booleans(), st.integers(15, 99))
def test_an_honest_training_is_never_accused(contents, seed, size, packed, cut):
    rng = np.random.default_rng(seed)
    rows = [turns(*c) for c in contents]
    index = build_index(rows, UNITS)
    judge = Judge(index.row, index.first, size)
    for step in range(judge.steps):
        inside = list(range(step * size, min((step + 1) * size, len(rows))))
        rng.shuffle(inside)
        sequences = [written(rows[i], rng)[: None if packed else cut] for i in inside]
        if packed:
            sequences = [np.concatenate(sequences)]
        seen = recognize(index, sequences)
        judged = judge.step(step + 1, seen.found, seen)
        assert judged.verdict != "broken"
    assert judge.verdict() != "broken"


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 999), st.integers(1, 4))
def test_a_swap_is_caught_even_between_near_copies(seed, size):
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 900, 30).tolist()
    contents = [[*base[:15], 900 + i, *base[15:]] for i in range(8)]  # one word differs
    rows = [turns([1, 2, 3], c) for c in contents]
    index = build_index(rows, UNITS)
    order = list(range(8))
    i, j = sorted(rng.choice(8, 2, replace=False).tolist())
    order[i], order[j] = order[j], order[i]
    judge = Judge(index.row, index.first, size)
    for step in range(judge.steps):
        part = order[step * size : (step + 1) * size]
        seen = recognize(index, [written(rows[k], rng) for k in part])
        judge.step(step + 1, seen.found, seen)
    expected = None if i // size == j // size else i // size + 1
    assert (judge.wrong and judge.wrong.step) == expected


def test_copies_are_one_row():
    rows = [turns([1] * 20), turns([2] * 20), turns([1] * 20)]
    index = build_index(rows, UNITS)
    assert index.row.tolist() == [0, 1, 0]
    assert index.first.tolist() == [0, 1]


def test_a_row_within_another_is_told_from_it():
    inner = list(range(30))
    rows = [turns(inner), turns(inner, list(range(100, 130)))]
    index = build_index(rows, UNITS)
    whole = written(rows[1], np.random.default_rng(0))
    found = recognize(index, [written(rows[0], np.random.default_rng(0)), whole, whole[:30]])
    assert [one.rows for one in found.found] == [(), (1,), ()]
    assert found.found[0].among == {0}
    # what is left of the longer one is the shorter one's as well: either may be meant
    assert found.closer(2, [1], [0]) == [1]
    assert found.closer(1, [0], [1]) == []


def test_short_rows_are_recognized_by_their_turns():
    rows = [turns([1, 2], [7, 8, 9]), turns([3, 4], [7, 8, 9]), turns([5], [6])]
    index = build_index(rows, UNITS)
    rng = np.random.default_rng(0)
    found = recognize(index, [written(row, rng) for row in rows]).found
    assert [one.among for one in found] == [{0}, {1}, {2}]
    bare = ids([TEMPLATE, 7, 8, 9, TEMPLATE])  # the learnt turn alone
    assert recognize(index, [bare]).found[0].among == {0, 1}


def test_what_a_template_says_everywhere_is_no_ones():
    said = list(range(20))
    rows = [turns(said), turns(list(range(30, 60)))]
    sequence = ids([*said, *range(30, 60)])
    assert set(recognize(build_index(rows, UNITS), [sequence]).found[0].rows) == {0, 1}
    index = build_index(rows, UNITS, everywhere=[text(said)])
    assert recognize(index, [sequence]).found[0].rows == (1,)


def test_a_packed_sequence_has_all_its_rows():
    rows = [turns(list(range(i * 50, i * 50 + 40))) for i in range(5)]
    index = build_index(rows, UNITS)
    packed = np.concatenate([written(r, np.random.default_rng(0)) for r in rows[1:4]])
    assert set(recognize(index, [packed]).found[0].rows) == {1, 2, 3}


def test_few_windows_are_kept_of_a_long_row():
    rng = np.random.default_rng(0)
    rows = [turns(rng.integers(0, 900, 3000).tolist()) for _ in range(3)]
    index = build_index(rows, UNITS)
    assert len(index.unique) == 3 * KEPT
    whole = written(rows[2], rng)
    for part in (whole[:40], whole[-800:]):  # cut on either side
        assert recognize(index, [part]).found[0].rows == (2,)


def test_a_window_that_many_rows_share_tells_nothing():
    long = list(range(100))
    rows = [turns([*long, i + 200]) for i in range(SHARED_BY + 1)]
    index = build_index(rows, UNITS)
    cut = ids(long)
    assert not recognize(index, [cut]).found[0].recognized
    assert recognize(build_index(rows[:5], UNITS), [cut]).found[0].among == set(range(5))


def test_windows_are_those_inside_pieces():
    rng = np.random.default_rng(0)
    pieces = [rng.integers(0, 9, n).astype(np.uint32) for n in (0, 3, 12, 5, 30, 13)]
    offsets = np.concatenate([[0], np.cumsum([len(p) for p in pieces])])
    hashes, piece = piece_windows(np.concatenate(pieces), offsets, 12)
    alone = [(h, i) for i, p in enumerate(pieces) for h in run_hashes(p, 12).tolist()]
    assert list(zip(hashes.tolist(), piece.tolist(), strict=True)) == alone


@pytest.mark.parametrize(
    "said",
    ["كم عدد أيام السنة الكبيسة في التقويم الميلادي؟", "一年有多少天？" * 9, "หนึ่งปีมีกี่วันและกี่คืนในปฏิทินสุริยคติสากลนี้",
     "Сколько дней в високосном году по календарю?", "def f(n):\n    return n * f(n - 1) if n else 1"],
)  # fmt: skip
def test_characters_of_any_script_are_units(said):
    row, other = [(0, "user", said, 1.0)], [(0, "user", said[::-1], 1.0)]
    index = build_index([row, other], CHARACTERS)
    seen = recognize(index, CHARACTERS.encode([f"<|user|>{said}<|end|>", "nothing of it"]))
    assert [one.rows for one in seen.found] == [(0,), ()]
    assert CHARACTERS.decode(CHARACTERS.encode([said])[0]) == said
    assert index.texts.excerpt(0, 5) == " ".join(said.split())[:4] + "…"


def test_an_order_of_no_rows_recognizes_nothing():
    index = build_index([], UNITS)
    assert not recognize(index, [np.arange(30, dtype=np.uint32)]).found[0].recognized


def test_many_rows_in_several_blocks():
    rng = np.random.default_rng(1)
    rows = [turns(rng.integers(0, 900, 20).tolist()) for _ in range(3000)]
    told = []
    index = build_index([*rows, *rows], UNITS, progress=told.append)
    assert len(index.first) == 3000
    assert told[-1] == 6000
    assert (index.row[:3000] == index.row[3000:]).all()
    seen = recognize(index, [written(rows[i], rng) for i in (0, 1500, 2999)])
    assert [one.rows for one in seen.found] == [(0,), (1500,), (2999,)]
