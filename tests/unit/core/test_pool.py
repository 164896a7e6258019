"""Pool: reading any rows in any order, names of rows without ids, damaged stores."""

from __future__ import annotations

import importlib.util
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest

from didact.core.errors import (
    DamagedError,
    DataError,
    MissingDependencyError,
    PoolMismatchError,
)
from didact.core.hashing import hexadecimal
from didact.core.pool import Pool, PoolStats
from didact.core.scores import Selection, TrainingOrder
from didact.testing import make_pool

N = 50
COLUMNS = ("id", "source", "task", "n_bytes", "n_tokens", "id_hash", "content_hash", "text", "prompt",
           "first_message", "completion", "chosen", "rejected", "messages", "record")  # fmt: skip


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    rows = [
        {
            **({"id": f"id-{i}"} if i % 3 else {}),
            "messages": [{"role": "user", "content": f"q{i % 40}"},
                         {"role": "assistant", "content": f"a{i % 40} 猫"}],
            "source": f"s{i % 4}",
            "task": f"t{i % 5}",
        }
        for i in range(N)
    ]  # fmt: skip
    return make_pool(rows, tmp_path_factory.mktemp("pool"), batch_rows=7)


@pytest.fixture(scope="module")
def everything(pool):
    return pool.read(range(N), COLUMNS).to_pylist()


@pytest.mark.parametrize(
    "rows",
    [
        range(N), range(7), range(3, 5), range(5, 30), range(48, 50), range(0), range(20, 20),
        range(0, N, 3), range(N - 1, -1, -1), range(40, 10, -7),
        [], [0], [49, 0, 7, 7, 7, 13, 14], list(range(N))[::-1], np.arange(N, dtype=np.int32),
        np.array([3, 2], dtype=np.uint16),
    ],
    ids=str,
)  # fmt: skip
def test_any_rows_in_the_order_asked_for(pool, everything, rows):
    found = pool.read(rows, COLUMNS)
    assert found.schema.names == list(COLUMNS)
    assert found.to_pylist() == [everything[i] for i in rows]
    for column in COLUMNS:
        assert pool.read(rows, [column]).column(0).equals(found.column(column)), column


def test_the_columns(pool, everything):
    row = everything[41]
    assert row["id"] == "id-41"
    assert (row["source"], row["task"]) == ("s1", "t1")
    assert (row["text"], row["prompt"], row["completion"]) == ("q1\na1 猫", "q1", "a1 猫")
    assert row["n_bytes"] == len("q1\na1 猫".encode())
    assert row["n_tokens"] == -(-row["n_bytes"] // 4)
    assert row["messages"][1] == {"role": "assistant", "content": "a1 猫", "weight": 1.0}
    assert row["record"].startswith(b'{"id":"id-41"')
    assert (row["chosen"], row["rejected"]) == ("", "")


SYSTEM = {"role": "system", "content": "s"}
HI, HELLO = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}


@pytest.mark.parametrize(
    ("row", "template", "first"),
    [
        ({"messages": [HI, HELLO, {"role": "user", "content": "q"}, HELLO]}, "plain", "hi"),
        ({"messages": [HI, HELLO, HI]}, "roles", "user: hi"),
        ({"messages": [HELLO, HI]}, "plain", "hello"),
        ({"messages": [SYSTEM, HI, HELLO]}, "plain", "s"),
        ({"messages": [HI, HELLO], "system": "s"}, "chatml", "<|im_start|>system\ns<|im_end|>"),
        ({"instruction": "do", "input": "this", "output": "done"}, "plain", "do\nthis"),
        ({"prompt": "q", "completion": "a"}, "plain", "q"),
        ({"prompt": [SYSTEM, HI], "completion": [HELLO]}, "plain", "s"),
        ({"prompt": "q", "completion": "a", "label": False}, "plain", "q"),
        ({"prompt": "q", "chosen": "good", "rejected": "bad"}, "plain", "q"),
        ({"chosen": [HI, HELLO], "rejected": [HI, SYSTEM]}, "plain", "hi"),
        ({"chosen": [HELLO], "rejected": [HI]}, "plain", ""),  # no prompt that both share
    ],
    ids=str,
)
def test_the_first_message_of_every_kind_of_row(tmp_path, row, template, first):
    pool = make_pool([row, row], tmp_path, template=template)
    found = pool.read(range(2), ["first_message"]).column(0)
    assert found.to_pylist() == [first, first]


def test_rows_without_ids_are_named_by_content(pool, everything):
    names = [row["id"] for row in everything]
    assert len(set(names)) == N
    assert names[0] == f"{everything[0]['content_hash']:016x}"
    # row 42 has row 2's content, which has an id of its own, so it is the second copy
    assert everything[42]["content_hash"] == everything[2]["content_hash"]
    assert names[42] == f"{everything[42]['content_hash']:016x}~2"
    assert pool.ids.to_pylist() == names


@pytest.mark.parametrize("rows", [[-1], [N], [0, 10**12], range(40, 60), range(-2, 3)])
def test_rows_outside(pool, rows):
    for read in (lambda: pool.read(rows, ["n_bytes"]), lambda: list(pool.records(rows))):
        with pytest.raises(DataError, match=f"of a pool of {N}"):
            read()


@pytest.mark.parametrize("rows", [[0.5], [[1, 2]], np.ones(N, dtype=bool), ["a"]])
def test_what_is_no_row_index(pool, rows):
    with pytest.raises(DataError, match="expected a range or one-dimensional row indices"):
        pool.read(rows, ["id"])


def test_unknown_columns(pool):
    with pytest.raises(DataError, match="a pool has no column 'txt'"):
        pool.read(range(3), ["txt"])
    with pytest.raises(DataError, match="no column 'parent'; it holds no chunks"):
        pool.read(range(3), ["parent"])


def test_batches_cover_the_rows(pool):
    assert [i for rows in pool.batches() for i in rows] == list(range(N))
    assert {len(rows) for rows in pool.batches()} == {7, 1}


def test_a_pool_pickles_as_path_and_fingerprint(pool, everything):
    pool.read(range(1), ["text"])  # opens what cannot be pickled
    data = pickle.dumps(pool)
    assert len(data) < 1000
    again = pickle.loads(data)  # noqa: S301 - our own bytes
    assert again == pool
    assert hash(again) == hash(pool)
    assert again.read(range(N), COLUMNS).to_pylist() == everything


def test_threads_share_a_pool(pool, everything):
    def texts(start):
        return pool.read(range(start, start + 5), ["text"]).column(0).to_pylist()

    with ThreadPoolExecutor(4) as workers:
        for start, found in zip(range(45), workers.map(texts, range(45)), strict=True):
            assert found == [r["text"] for r in everything[start : start + 5]]


def test_columns_in_memory_are_read_only(pool):
    for column in (
        pool.n_bytes,
        pool.n_tokens,
        pool.content_hash,
        pool.copy_number,
        pool.in_validation,
        pool.id_hash,
    ):
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 1


def test_stats(pool):
    stats = pool.stats
    assert isinstance(stats, PoolStats)
    assert (stats.n, stats.n_bytes) == (N, int(pool.n_bytes.sum()))
    assert sum(stats.token_lengths) == N
    assert len(stats.token_lengths) == 64
    assert stats.kind == "chat"
    # 3 tokens: 2^(4/3) = 2.52 ≤ 3 < 2^(5/3) = 3.17
    assert stats.token_lengths[4] == int((pool.n_tokens == 3).sum()) > 0


def test_the_source_of_each_row(pool, everything):
    names = [pool.source_names[code] for code in pool.source_codes]
    assert names == [row["source"] for row in everything]


def test_hexadecimal():
    values = np.array([0, 1, 2**64 - 1, 0xABC], dtype=np.uint64)
    assert hexadecimal(values).to_pylist() == [f"{v:016x}" for v in values.tolist()]
    assert hexadecimal(values[:0]).to_pylist() == []
    assert hexadecimal(values).type == pa.string()


def test_a_store_that_is_gone_or_another(tmp_path):
    pool = make_pool([{"text": "a"}], tmp_path)
    other = make_pool([{"text": "b"}], tmp_path, name="other")
    with pytest.raises(DataError, match="holds another pool; delete it"):
        len(Pool(other.path, pool.fingerprint))
    (other.path / "meta.json").write_text("{")
    with pytest.raises(DamagedError, match=r"meta.json: is damaged .* run the same command again"):
        len(Pool(other.path, other.fingerprint))
    shutil.rmtree(pool.path)
    for use in (len, lambda p: p.n_bytes, lambda p: p.read(range(1), ["text"])):
        with pytest.raises(DataError, match="is not in the cache"):
            use(Pool(pool.path, pool.fingerprint))


def test_large_records_are_read_apart(tmp_path):
    rows = [{"text": f"{i}" + "x" * 3_000_000} for i in range(5)] + [{"text": "small"}] * 3
    pool = make_pool(rows, tmp_path)
    assert [len(r) for r in pool.records(range(8))] == [3_000_001 + len('{"text":""}')] * 5 + [
        16
    ] * 3
    assert list(pool.records([7, 5])) == [b'{"text":"small"}'] * 2


def test_the_share_that_is_learned_leaves_prompts_out(tmp_path):
    from didact.testing import chat, make_pool

    rows = [chat("a", "12345", "123"), chat("b", "1234567", "12345")]
    assert make_pool(rows, tmp_path).stats.learned == pytest.approx(8 / 22)  # two line breaks
    text = make_pool([{"id": "t", "text": "all of it"}], tmp_path, name="text")
    assert text.stats.learned == 1.0


def test_rows_as_a_table(tmp_path):
    pool = make_pool(
        [{"text": "a", "n": 1}, {"text": "b", "late": [True]}, {"text": "c"}], tmp_path
    )
    table = pool.select([1, 0, 1])
    assert table.to_pylist() == [
        {"text": "b", "n": None, "late": [True]},
        {"text": "a", "n": 1, "late": None},
        {"text": "b", "n": None, "late": [True]},
    ]
    assert pool.select(range(2, 3)).to_pylist() == [{"text": "c"}]
    assert len(pool.select([])) == 0
    chosen = Selection(rows=np.array([0, 2]), pool_fingerprint=pool.fingerprint, method="mine")
    assert pool.select(chosen).column("text").to_pylist() == ["a", "c"]
    order = TrainingOrder(rows=np.array([2, 0]), pool_fingerprint=pool.fingerprint, method="mine")
    assert pool.select(order).column("text").to_pylist() == ["c", "a"]
    other = Selection(rows=np.array([0]), pool_fingerprint="f" * 32, method="mine")
    with pytest.raises(PoolMismatchError, match="the rows belong to pool ffff"):
        pool.select(other)
    with pytest.raises(DataError, match="rows 0..3 of a pool of 3"):
        pool.select([0, 3])


def test_rows_without_a_common_type_are_no_table(tmp_path):
    pool = make_pool([{"text": "a", "n": 1}, {"text": "b", "n": "x"}], tmp_path)
    with pytest.raises(DataError, match=r"no common type a column .* pool.records\(rows\)"):
        pool.select([0, 1])
    assert pool.select([1]).to_pylist() == [{"text": "b", "n": "x"}]


def test_a_data_set_without_its_library(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'didact\[hf\]'"):
        make_pool([{"text": "a"}], tmp_path).to_dataset()


@pytest.mark.parametrize("rows", [[], [0], [48, 49], [1, 3, 6, 7, 20, 34], list(range(N))])
def test_texts_of_ascending_rows_come_batch_by_batch(pool, everything, rows):
    rows = np.array(rows, np.int64)
    parts = pool.parts(rows)
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(len(rows)))
    assert all(len(set(rows[part] // 7)) == 1 for part in parts)  # batches of seven rows
    found = [text for part in parts for text in pool.texts_of(rows[part]).to_pylist()]
    assert found == [everything[row]["text"] for row in rows]
    assert [(part, texts.to_pylist()) for part, texts in pool.texts(rows)] == [
        (part, pool.texts_of(rows[part]).to_pylist()) for part in parts
    ]


def test_stats_are_counted_in_parts(pool, monkeypatch):
    rows = np.array([40, 3, 3, 17, 0])
    whole, some = pool.stats_of(range(len(pool))), pool.stats_of(rows)
    monkeypatch.setattr("didact.core.pool._COUNTED", 2)
    assert pool.stats_of(range(len(pool))) == whole == pool.stats
    assert pool.stats_of(rows) == some
    assert some.n_tokens == int(pool.n_tokens[rows].sum())
