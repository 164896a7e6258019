"""How deep values lie in values."""

import pytest

from didact.core.nesting import deeper_than, parse_json


@pytest.mark.parametrize(
    ("value", "levels"),
    [(1, 0), ("[[", 0), ([], 1), ({}, 1), ([1, [2]], 2), ({"a": [{"b": 1}], "c": 2}, 3)],
)
def test_levels_by_hand(value, levels):
    assert not deeper_than(value, levels)
    assert levels == 0 or deeper_than(value, levels - 1)


def test_json_that_nobody_can_walk():
    assert parse_json('{"a": [1]}', levels=2) == {"a": [1]}
    with pytest.raises(ValueError, match="nested more than 1 deep"):
        parse_json(b'{"a": [1]}', levels=1)
    with pytest.raises(ValueError, match="nested more than 512 deep"):
        parse_json("[" * 600 + "]" * 600)
    with pytest.raises(ValueError, match="nested too deep"):
        parse_json("[" * 100_000 + "]" * 100_000)
    with pytest.raises(ValueError, match="Expecting value"):
        parse_json("")
