from __future__ import annotations

import orjson

from didact.config import load
from didact.demo import TARGET_MODULES, demo_config, passages, write_demo_data

SOURCE = b'''"""A module's own words, long enough to keep."""
# A block of comments
# of two lines.
x = 1  # beside code: no block

TEXT = """
# inside a string: no comment at all, however long
"""


class A:
    """What a class is for, in one sentence."""

    def f(self):
        # An indented comment of its own.
        return "not a docstring, however long it may be"
'''


def test_passages_are_docstrings_and_comment_blocks():
    assert list(passages(SOURCE)) == [
        (1, "A module's own words, long enough to keep."),
        (2, "A block of comments\nof two lines."),
        (12, "What a class is for, in one sentence."),
        (15, "An indented comment of its own."),
    ]


def test_what_is_not_python_has_none():
    assert list(passages(b"def (")) == []
    assert list(passages(b"x = 1\0")) == []


def test_the_demo_is_deterministic_and_about_fifteen_thousand_samples(tmp_path):
    pool, target = write_demo_data(tmp_path / "a")
    again, _ = write_demo_data(tmp_path / "b")
    assert pool.read_bytes() == again.read_bytes()
    rows = [orjson.loads(line) for line in pool.read_bytes().splitlines()]
    aims = [orjson.loads(line) for line in target.read_bytes().splitlines()]
    assert 10_000 < len(rows) < 25_000
    assert {r["source"] for r in aims} == set(TARGET_MODULES)
    assert not {r["source"] for r in rows} & set(TARGET_MODULES)
    assert len({r["id"] for r in rows}) == len(rows)
    assert len({r["text"] for r in aims}) == len(aims)
    config = load(demo_config(pool, target, tmp_path / "run.yaml"))
    assert config.data.path == pool.as_posix()
