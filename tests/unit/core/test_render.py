"""Derived columns, against plain Python over the same turns."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from didact.core.render import CHOSEN, DERIVED, REJECTED, SHARED, TEMPLATES, TURNS, derive

FORMS = {
    "plain": lambda role, text: text,
    "roles": lambda role, text: f"{role}: {text}",
    "chatml": lambda role, text: f"<|im_start|>{role}\n{text}<|im_end|>",
}
PICKS = {
    "text": lambda part, weight: True,
    "prompt": lambda part, weight: part == SHARED and weight == 0,
    "first_message": lambda part, weight: True,
    "completion": lambda part, weight: part != REJECTED and weight > 0,
    "chosen": lambda part, weight: part == CHOSEN,
    "rejected": lambda part, weight: part == REJECTED,
}
TURN = st.tuples(
    st.sampled_from([SHARED, CHOSEN, REJECTED]),
    st.sampled_from(["user", "assistant", "narrator"]),
    st.text(max_size=6),
    st.sampled_from([0.0, 0.5, 1.0]),
)
ROWS = st.lists(st.lists(TURN, max_size=4), max_size=6)


def turns(rows):
    names = ("part", "role", "content", "weight")
    return pa.array([[dict(zip(names, t, strict=True)) for t in row] for row in rows], TURNS)


def expected(rows, column, template, chat):
    if column == "first_message":
        rows = [[turn for turn in row if turn[0] == SHARED][:1] for row in rows]
    if column == "messages":
        return [
            [{"role": r, "content": c, "weight": w} for p, r, c, w in row if p == SHARED]
            for row in rows
        ]
    form = FORMS[template if chat else "plain"]
    return [
        "\n".join(form(r, c) for p, r, c, w in row if PICKS[column](p, w)) for row in rows
    ]  # fmt: skip


@given(ROWS, st.sampled_from(DERIVED), st.sampled_from(TEMPLATES), st.booleans(), st.data())
def test_derived_columns(rows, column, template, chat, data):
    array = turns(rows)
    start = data.draw(st.integers(0, len(rows)))
    stop = data.draw(st.integers(start, len(rows)))
    for some, part in ((rows, array), (rows[start:stop], array.slice(start, stop - start))):
        found = derive(part, column, template, chat=chat)
        assert found.to_pylist() == expected(some, column, template, chat)
        if column != "messages":
            assert found.type == pa.large_string()


@pytest.mark.parametrize("column", DERIVED)
def test_no_rows(column):
    assert len(derive(turns([]), column, "plain", chat=True)) == 0
