"""Steps against an order: what is wrong, what cannot be told, what is any row's."""

from __future__ import annotations

import numpy as np
import pytest

from didact.callbacks.judgement import Judge
from didact.callbacks.recognition import Found


def judge(n: int = 10, size: int = 4, **more) -> Judge:
    return Judge(np.arange(n), np.arange(n), size, **more)


def seen(*rows: int) -> list[Found]:
    return [
        Found((row,), frozenset(), i) if row >= 0 else Found(place=i) for i, row in enumerate(rows)
    ]


def test_steps_in_order_with_a_short_last_one():
    one = judge()
    for number, rows in enumerate(([3, 2, 1, 0], [4, 5, 6, 7], [9, 8]), 1):
        assert one.step(number, seen(*rows)).verdict == "in order"
    assert (one.verdict(), one.judged, one.steps, one.end) == ("in order", 3, 3, 10)


def test_a_row_twice_in_a_step_does_not_take_anothers_place():
    one = judge()
    assert one.step(1, seen(0, 1, 2, 2)).verdict == "broken"
    assert one.wrong.expected == (3,)
    assert one.step(1, seen(*[0, 1, 2, 3] * 2)).verdict == "in order"  # pairs: both branches


def test_copies_need_a_sequence_each():
    row = np.array([0, 0, 1, 2])
    one = Judge(row, np.array([0, 2, 3]), 4)
    assert one.step(1, seen(0, 1, 2, 0)).verdict == "in order"
    one = Judge(row, np.array([0, 2, 3]), 4)
    assert one.step(1, seen(0, 1, 2, 2)).verdict == "broken"


@pytest.mark.parametrize(("unknown", "verdict"), [(1, "in order"), (2, "cannot tell")])
def test_under_95_percent_cannot_be_verified(unknown, verdict):
    one = judge(20, 20)
    rows = [*range(20 - unknown), *[-1] * unknown]
    judged = one.step(1, seen(*rows))
    assert (judged.verdict, judged.unrecognized, one.verdict()) == (verdict, unknown, verdict)


def test_a_step_without_a_pass_cannot_be_told():
    assert judge().step(1, []).verdict == "cannot tell"
    assert judge().verdict() == "cannot tell"


def test_ambiguous_sequences_are_matched_as_well_as_can_be():
    among = [frozenset({0, 1}), frozenset({0}), frozenset({1, 2}), frozenset({2, 3})]
    found = [Found((), rows, i) for i, rows in enumerate(among)]
    one = judge(4)
    assert one.step(1, found).verdict == "in order"  # 1, 0, 2, 3
    assert one.ambiguous == 3
    one = judge(4)
    assert one.step(1, [Found((), frozenset({0, 1}), i) for i in range(4)]).verdict == "broken"
    assert one.wrong.expected == (2, 3)


def test_many_ambiguous_sequences_need_no_deep_recursion():
    n = 1500
    found = [Found((), frozenset({i, (i + 1) % n}), i) for i in range(n)]
    assert judge(n, n).step(1, found).verdict == "in order"


def test_the_first_wrong_step_stays():
    one = judge()
    one.step(1, seen(0, 1, 2, 7))
    one.step(2, seen(8, 5, 6, 7))
    assert (one.wrong.step, one.wrong.expected, one.wrong.seen) == (1, (3,), (7,))


@pytest.mark.parametrize(
    ("number", "rows", "more", "why"),
    [
        (2, [8, 9], {}, "a batch was left out"),
        (2, [0, 1, 2, 3], {"began": 1}, "ignore_data_skip: false"),
        (1, [0, 1, 2], {}, "its other rows did not come"),
        (1, [5, 9, 2, 7], {}, "shuffles"),
        (4, [0, 1, 2, 3], {}, "num_train_epochs must be 1"),
    ],
)
def test_what_happened_is_guessed_from_the_rows(number, rows, more, why):
    one = judge(**more)
    assert one.step(number, seen(*rows)).verdict == "broken"
    assert why in one.wrong.why


def test_several_processes_fill_their_last_step_up_from_the_beginning():
    one = judge()
    assert one.step(3, seen(8, 9, 0, 1)).verdict == "in order"
    assert judge().step(3, seen(8, 9, 5, 6)).verdict == "broken"
    assert judge(8).step(2, seen(4, 5, 6, 7, 0)).verdict == "broken"  # nothing to fill up


def test_rows_missing_at_the_end():
    one = judge()
    one.step(1, seen(0, 1, 2, 3))
    assert one.verdict() == "in order"
    assert one.verdict(missing_at_end=6) == "broken"
