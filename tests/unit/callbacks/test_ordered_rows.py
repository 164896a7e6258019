"""What was exported is read back as the order, whatever its files are."""

from __future__ import annotations

import json

import numpy as np
import pytest

import didact
from didact.callbacks.ordered_rows import open_order
from didact.core.errors import ConfigError, DataError
from didact.core.scores import TrainingOrder
from didact.data import tables
from didact.testing import make_pool

ROWS = [
    {"messages": [{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": f"a{i}"}]}
    for i in range(9)
]
MIXED = [
    *ROWS[:4],
    *({"instruction": f"q{i}", "input": "", "output": f"a{i}"} for i in range(4, 9)),
]


def exported(tmp_path, rows=ROWS, **more):
    if rows is MIXED:  # a file has rows of one format
        files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
        for file, part in zip(files, (MIXED[:4], MIXED[4:]), strict=True):
            file.write_text("".join(json.dumps(r) + "\n" for r in part))
        pool = didact.read(files, cache_dir=tmp_path / "cache", validation=2)
    else:
        read = {name: more.pop(name) for name in ("columns", "reasoning") if name in more}
        pool = make_pool(rows, tmp_path, validation=2, **read)
    free = np.flatnonzero(~pool.in_validation)
    order = TrainingOrder(free[::-1].copy(), pool.fingerprint, "test", batch_size=3)
    didact.export(pool, order, tmp_path / "out", **more)
    return order, pool


def contents(found):
    return [turns[0][2] for turns in found.turns()]


@pytest.mark.parametrize(
    "more",
    [{}, {"format": "jsonl.zst"}, {"format": "parquet"}, {"shards": 3}, {"order_index": True}, {"name": "mine", "trainer": "trl"}],
)  # fmt: skip
@pytest.mark.parametrize("rows", [ROWS, MIXED], ids=["chat", "mixed"])
def test_rows_come_in_order(tmp_path, more, rows):
    if rows is MIXED and more.get("trainer"):
        more = {"name": "mine"}
    order, _ = exported(tmp_path, rows, **more)
    found = open_order(tmp_path / "out")
    assert contents(found) == [f"q{i}" for i in order.rows]
    assert found.batch_size is None


def test_the_table_of_the_order_says_the_steps(tmp_path):
    order, pool = exported(tmp_path)
    ids = pool.read(order.rows, ["id"]).column("id")
    tables.write_order(order, ids, tmp_path / "out" / "order.parquet")
    assert open_order(tmp_path / "out").batch_size == 3
    assert open_order(tmp_path / "out" / "train.jsonl", batch_size=3).batch_size == 3
    with pytest.raises(ConfigError, match="batch_size=4: the order was made for steps of 3"):
        open_order(tmp_path / "out", batch_size=4)
    path = tmp_path / "out" / "train.jsonl"
    path.write_text(path.read_text().split("\n", 1)[1])
    with pytest.raises(DataError, match=r"6 rows where order\.parquet has 7"):
        list(open_order(tmp_path / "out").turns())


def test_columns_are_those_of_the_script(tmp_path):
    rows = [{"dialogue": row["messages"]} for row in ROWS]
    order, _ = exported(tmp_path, rows, columns={"messages": "dialogue"}, trainer="trl")
    assert contents(open_order(tmp_path / "out")) == [f"q{i}" for i in order.rows]
    bare = tmp_path / "out" / "train.jsonl"
    with pytest.raises(DataError, match=r"train\.jsonl:1: no known format"):
        list(open_order(bare).turns())
    assert len(contents(open_order(bare, columns={"messages": "dialogue"}))) == len(order)


def test_columns_are_those_of_the_script_of_an_older_folder(tmp_path):
    rows = [{"dialogue": row["messages"]} for row in ROWS]
    order, _ = exported(tmp_path, rows, columns={"messages": "dialogue"}, trainer="trl")
    (tmp_path / "out" / "settings").rename(tmp_path / "out" / "trainer")
    assert contents(open_order(tmp_path / "out")) == [f"q{i}" for i in order.rows]


def test_a_run_folder(tmp_path):
    from didact import pipeline

    source = tmp_path / "pool.jsonl"
    source.write_text("".join(json.dumps(r) + "\n" for r in ROWS))
    config = {"data": {"path": str(source)}, "score": {"method": "length"},
              "select": {"method": "top_k", "budget": {"samples": 6}},
              "order": {"method": "sort", "batch_size": 2}, "export": {"for": "trl"}}  # fmt: skip
    pipeline.run(config, tmp_path / "run", cache_dir=tmp_path / "cache")
    found = open_order(tmp_path / "run" / "manifest.json")
    assert (found.batch_size, len(contents(found))) == (2, 6)
    path = tmp_path / "run" / "train.jsonl"
    path.write_text(path.read_text() + "\n")
    with pytest.raises(DataError, match="was changed or removed since the run"):
        open_order(tmp_path / "run")


def test_what_is_no_export(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        open_order(tmp_path / "nothing")
    with pytest.raises(DataError, match="no exported rows"):
        open_order(tmp_path)
    (tmp_path / "a.jsonl").write_text("{}\n")
    (tmp_path / "b.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match="holds a.jsonl, b.jsonl; expected the rows of one export"):
        open_order(tmp_path)


def test_a_shard_is_missing(tmp_path):
    exported(tmp_path, shards=3)
    (tmp_path / "out" / "train-00001-of-00003.jsonl").unlink()
    with pytest.raises(DataError, match="holds 2 files of 3"):
        open_order(tmp_path / "out")


def test_a_row_that_cannot_be_read(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text('{"text": "a"}\n{"text": 3}\n')
    with pytest.raises(DataError, match=r"train\.jsonl:2: "):
        list(open_order(path).turns())
    path.write_text('{"text": "a"}\n{"text"\n')
    with pytest.raises(DataError, match=r"train\.jsonl:2: "):
        list(open_order(path).turns())


@pytest.mark.parametrize("where", ["out", "run"])
def test_reasoning_that_was_left_out_is_left_out(tmp_path, where):
    rows = [
        {"messages": [row["messages"][0], row["messages"][1] | {"reasoning": "r"}]} for row in ROWS
    ]
    if where == "out":
        exported(tmp_path, rows, reasoning="drop", trainer="trl")
    else:
        (tmp_path / "pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        data = {"path": str(tmp_path / "pool.jsonl"), "reasoning": "drop"}
        didact.run({"data": data, "score": {"method": "length"}}, tmp_path / "run")
    told = list(open_order(tmp_path / where).turns())
    assert {turn[1] for turns in told for turn in turns} == {"user", "assistant"}


@pytest.mark.parametrize(
    "columns", ['{"messages": ' + "[" * 100_000 + "}", "{broken}", '{"messages": 1}']
)
def test_a_script_of_somebody_else_says_nothing(tmp_path, columns):
    order, _ = exported(tmp_path, name="mine", trainer="trl")
    (script,) = (tmp_path / "out" / "settings").glob("train_*.py")
    script.write_bytes(f"COLUMNS = {columns}  # by their names\n\xff".encode("latin-1"))
    assert contents(open_order(tmp_path / "out")) == [f"q{i}" for i in order.rows]
