"""Laws of the orderings: permutations, layers, ties, windows, spreading."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from didact.ordering.around.interleave import interleaved
from didact.ordering.around.jitter import jittered
from didact.ordering.fold import folded
from didact.ordering.saw import sawed
from didact.ordering.segment import segmented
from didact.ordering.shuffle import released_shuffle
from didact.ordering.sort import sorted_by_utility
from didact.ordering.stair import staired
from didact.ordering.zigzag import zigzagged

SMALL = st.integers(-3, 3).map(float)  # many ties
UTILITY = st.lists(SMALL | st.floats(-1e6, 1e6), max_size=60).map(np.array)
DISTINCT = st.lists(st.floats(-1e6, 1e6), max_size=60, unique=True).map(np.array)
LAYERS = st.integers(1, 70)
SECTIONS = st.integers(1, 9)
RATIO = st.floats(0, 1)
SEED = st.integers(0, 2**32)

ORDERS = {
    "sort": sorted_by_utility,
    "descending": lambda u: sorted_by_utility(u, descending=True),
    "fold": lambda u: folded(u, layers=3),
    "fold -1": lambda u: folded(u, layers=3, phase=-1),
    "zigzag": lambda u: zigzagged(u, layers=3),
    "stair": lambda u: staired(u, sections=2, ratio=0.225, layers=3),
    "saw": lambda u: sawed(u, sections=3, ratio=0.075, layers=2),
    "segment": lambda u: segmented(
        u, np.random.default_rng(3), low=0.1, high=0.1, lowest_first=True
    ),
}


def is_permutation(order, n):
    return order.dtype == np.int64 and np.array_equal(np.sort(order), np.arange(n))


@given(UTILITY, LAYERS, st.integers(-80, 80), SECTIONS, RATIO)
def test_every_order_is_a_permutation(utility, layers, phase, sections, ratio):
    n = len(utility)
    for order in (
        sorted_by_utility(utility),
        sorted_by_utility(utility, descending=True),
        folded(utility, layers=layers, phase=phase),
        zigzagged(utility, layers=layers),
        staired(utility, sections=sections, ratio=ratio, layers=layers),
        sawed(utility, sections=sections, ratio=ratio, layers=layers),
    ):
        assert is_permutation(order, n)


@given(UTILITY, LAYERS, st.integers(-80, 80))
def test_fold_is_every_layers_th_row_of_the_sorted_rows(utility, layers, phase):
    ascending = sorted_by_utility(utility)
    slices = [ascending[(phase + i) % layers :: layers] for i in range(layers)]
    got = folded(utility, layers=layers, phase=phase)
    assert got.tolist() == np.concatenate(slices).tolist()


@given(UTILITY, LAYERS)
def test_zigzag_turns_every_second_layer_of_the_fold(utility, layers):
    ascending = sorted_by_utility(utility)
    slices = [ascending[i::layers][:: -1 if i % 2 else 1] for i in range(layers)]
    assert zigzagged(utility, layers=layers).tolist() == np.concatenate(slices).tolist()


@given(UTILITY, SECTIONS, RATIO, st.integers(1, 9))
def test_stair_and_saw_walk_from_window_to_window(utility, sections, ratio, layers):
    """Against a walk along the sorted rows with a cursor, as the released code goes."""
    ascending = sorted_by_utility(utility).tolist()
    n = len(ascending)
    stair: list[int] = []
    saw: list[int] = []
    cursor = 0
    for k in range(1, sections):
        middle, radius = round(n * k / sections), round(n * ratio)
        begin, end = max(cursor, middle - radius), min(n, middle + radius)
        window = ascending[begin:end]
        stair += ascending[cursor:begin]
        saw += ascending[cursor:begin]
        for i in range(layers):
            layer = window[i::layers]
            stair += layer
            saw += layer[::-1] if i % 2 else layer
        cursor = end
    settings = {"sections": sections, "ratio": ratio, "layers": layers}
    assert staired(utility, **settings).tolist() == stair + ascending[cursor:]
    assert sawed(utility, **settings).tolist() == saw + ascending[cursor:]


@given(UTILITY, LAYERS)
def test_stair_and_saw_without_windows_are_sort(utility, layers):
    ascending = sorted_by_utility(utility).tolist()
    for order in (staired, sawed):
        assert order(utility, sections=1, ratio=0.5, layers=layers).tolist() == ascending
        assert order(utility, sections=4, ratio=0.0, layers=layers).tolist() == ascending


@given(UTILITY, LAYERS, st.integers(-80, 80))
def test_ties_come_in_input_order_within_a_layer(utility, layers, phase):
    order = folded(utility, layers=layers, phase=phase)
    place = np.argsort(sorted_by_utility(utility))  # each row's place among the sorted rows
    same_layer = np.diff(place[order]) > 0
    tied = np.diff(utility[order]) == 0
    assert (np.diff(order)[same_layer & tied] > 0).all()
    descending = sorted_by_utility(utility, descending=True)
    assert (np.diff(descending)[np.diff(utility[descending]) == 0] > 0).all()


@pytest.mark.parametrize("name", ORDERS)
@given(utility=DISTINCT, seed=SEED)
def test_without_ties_the_order_follows_the_rows_wherever_they_stand(name, utility, seed):
    moved = np.random.default_rng(seed).permutation(len(utility))
    order = ORDERS[name](utility)
    assert moved[ORDERS[name](utility[moved])].tolist() == order.tolist()


@pytest.mark.parametrize("name", ORDERS)
@given(utility=st.lists(SMALL, max_size=60).map(np.array))
def test_only_the_ranks_of_utilities_matter(name, utility):
    assert ORDERS[name](np.exp(utility)).tolist() == ORDERS[name](utility).tolist()


@given(UTILITY, SEED, st.integers(0, 50), st.integers(0, 50), st.booleans())
def test_segment_keeps_the_lowest_and_highest_at_the_ends(utility, seed, low, high, lowest_first):
    n, rng = len(utility), np.random.default_rng(seed)
    order = segmented(utility, rng, low=low / 100, high=high / 100, lowest_first=lowest_first)
    assert is_permutation(order, n)
    order = order if lowest_first else order[::-1]
    n_low, n_high = n * low // 100, n * high // 100
    ascending = sorted_by_utility(utility)
    assert set(order[:n_low]) == set(ascending[:n_low])
    assert set(order[n - n_high :]) == set(ascending[n - n_high :])


@given(st.integers(0, 80), st.integers(1, 90), SEED)
def test_jitter_moves_no_row_as_far_as_its_window(n, window, seed):
    order = np.random.default_rng(1).permutation(n)
    got = jittered(order, window, np.random.default_rng(seed))
    for begin in range(0, n, window):
        assert set(got[begin : begin + window]) == set(order[begin : begin + window])
    place = np.argsort(order, kind="stable")
    assert (np.abs(np.argsort(got, kind="stable") - place) < window).all()


@given(st.integers(0, 80), st.integers(1, 90), SEED)
def test_jitter_equals_shuffling_window_after_window(n, window, seed):
    rng, expected = np.random.default_rng(seed), np.arange(n)
    for begin in range(0, n, window):
        rng.shuffle(expected[begin : begin + window])
    got = jittered(np.arange(n), window, np.random.default_rng(seed))
    assert got.tolist() == expected.tolist()


@given(st.lists(st.integers(0, 4), max_size=80), SEED)
def test_interleave_keeps_each_source_in_order_and_spreads_it(sources, seed):
    source = np.array(sources, np.int32)
    order = np.random.default_rng(seed).permutation(len(source))
    got = order[interleaved(source[order])]
    assert is_permutation(got, len(source))
    for code in np.unique(source):
        assert got[source[got] == code].tolist() == order[source[order] == code].tolist()
        # Mid-points: a source is at most half a row off its even share, the length of the prefix
        # half a row per source, and a tie of aims one row more.
        share = (source == code).mean()
        seen = np.cumsum(source[got] == code)
        even = share * np.arange(1, len(source) + 1)
        assert (np.abs(seen - even) <= 1.5 + len(np.unique(source)) / 2).all()


@given(st.integers(0, 200), SEED)
def test_released_shuffles_are_permutations(n, seed):
    for release in ("delt", "data-efficacy"):
        assert is_permutation(released_shuffle(n, release=release, seed=seed), n)
