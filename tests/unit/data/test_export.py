"""Export: the user's own rows in order, whatever the container, and nothing else."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

import didact
from didact.core.errors import ConfigError, DataError, PoolMismatchError
from didact.core.pool import Pool
from didact.core.protocols import Progress
from didact.core.scores import TrainingOrder
from didact.data.export.data_set import ExportSettings, write_data_set
from didact.execution.executors import Workers
from didact.testing import make_pool

ROWS = [
    b'{"text": "a", "n": NaN}',
    b'{"text":"b","meta":{"k":[1,2]}}',
    b'{ "text" : "c" , "u" : "\\u00e9" } ',
    '{"text": "猫", "big": 123456789012345678901234567890}'.encode(),
]


@pytest.fixture
def pool(tmp_path):
    (tmp_path / "x.jsonl").write_bytes(b"\n".join(ROWS))
    return didact.read(tmp_path / "x.jsonl", cache_dir=tmp_path / "cache")


def ordered(pool, rows, **more):
    return TrainingOrder(np.asarray(rows), pool.fingerprint, "test", **more)


def export(pool, rows, folder, *, epochs=1, batch_size=None, **settings):
    order = ordered(pool, rows, epochs=epochs, batch_size=batch_size)
    return didact.export(pool, order, folder, **settings)


def read_back(path: Path) -> list[bytes]:
    data = path.read_bytes()
    if path.suffix == ".zst":
        data = zstandard.ZstdDecompressor().stream_reader(data).read()
    return data.split(b"\n")[:-1]


@pytest.mark.parametrize("fmt", ["auto", "jsonl", "jsonl.zst"])
def test_rows_byte_for_byte_in_order(pool, tmp_path, fmt):
    (path,) = export(pool, [2, 0, 3], tmp_path / "out", format=fmt)
    assert path.name == ("train.jsonl.zst" if fmt == "jsonl.zst" else "train.jsonl")
    assert read_back(path) == [ROWS[2], ROWS[0], ROWS[3]]
    assert [p.name for p in (tmp_path / "out").glob("[!.]*")] == [path.name]


def test_epochs_are_written_out(pool, tmp_path):
    (path,) = export(pool, [1, 0, 0, 1], tmp_path / "out", epochs=2, name="data.v1")
    assert path.name == "data.v1.jsonl"
    assert read_back(path) == [ROWS[1], ROWS[0], ROWS[0], ROWS[1]]


def test_no_rows(pool, tmp_path):
    for fmt in ("jsonl", "jsonl.zst", "parquet"):
        (path,) = export(pool, [], tmp_path / "out", format=fmt)
        if fmt == "parquet":
            assert pq.read_table(path).num_rows == 0
        else:
            assert read_back(path) == []


@pytest.mark.parametrize("fmt", ["jsonl", "parquet"])
def test_files_are_the_same_whoever_writes_them(tmp_path, monkeypatch, fmt):
    texts = [{"text": f"{i}"} for i in range(10)]
    pool = make_pool(texts, tmp_path / "a", validation=0.2)
    taken = make_pool([*texts, {"text": "b", "order_index": 1}], tmp_path / "b")
    settings = ExportSettings(shards=3, format=fmt, order_index=True)
    steps: list[Progress] = []

    def write(pool: Pool, folder: Path) -> dict[str, bytes]:
        ctx = didact.context(workers=2, cache_dir=tmp_path / "cache", progress=steps.append)
        rows = np.flatnonzero(~pool.in_validation)[::-1]
        files = write_data_set(pool, ordered(pool, rows), folder, settings, ctx)
        return {file.name: file.read_bytes() for file in files}

    expected = write(pool, tmp_path / "here")
    assert len(expected) == 4
    assert (steps[-1].done, steps[-1].total) == (10, 10)
    monkeypatch.setattr("didact.data.export.data_set._WORTH_PROCESSES", 0)
    assert write(pool, tmp_path / "apart") == expected
    with pytest.raises(DataError, match="already has the column 'order_index'"):
        write(taken, tmp_path / "taken")


def test_nobody_writes_on_once_an_export_was_stopped(pool, tmp_path, monkeypatch):
    def stop(_: Progress) -> None:
        raise RuntimeError("stopped")

    monkeypatch.setattr("didact.data.export.data_set._WORTH_PROCESSES", 0)
    monkeypatch.setattr(Workers, "apart", lambda threads: threads)
    ctx = didact.context(workers=2, cache_dir=tmp_path / "cache", progress=stop)
    threads = threading.active_count()
    with pytest.raises(RuntimeError, match="stopped") as stopped:
        write_data_set(pool, ordered(pool, [0, 1]), tmp_path / "out", ExportSettings(shards=2), ctx)
    assert stopped.tb is not None  # it holds what was under way
    assert threading.active_count() == threads


def test_a_pretty_printed_row_becomes_one_line(tmp_path):
    rows = [{"text": "a\nb\r\n", "x": [1, {"y": None}]}, {"text": "c"}]
    (tmp_path / "x.json").write_bytes(json.dumps(rows, indent=2).replace("\n", "\r\n").encode())
    pool = didact.read(tmp_path / "x.json")
    (path,) = export(pool, [1, 0], tmp_path / "out")
    assert [json.loads(r) for r in read_back(path)] == rows[::-1]
    assert b"\r" not in path.read_bytes()


@pytest.mark.parametrize("shards", [1, 2, 3, 4])
@pytest.mark.parametrize("fmt", ["jsonl", "parquet"])
def test_shards_are_the_order_cut_in_pieces(tmp_path, shards, fmt):
    pool = make_pool([{"text": f"{i}"} for i in range(10)], tmp_path)
    order = [7, 3, 9, 0, 5, 1, 2]
    paths = export(pool, order, tmp_path / "out", shards=shards, format=fmt, order_index=True)
    assert [p.name for p in paths] == sorted(p.name for p in paths)
    if shards == 4:
        assert paths[1].name == f"train-00001-of-00004.{fmt}"
    found = []
    for path in paths:
        rows = pq.read_table(path).to_pylist() if fmt == "parquet" else (
            [json.loads(r) for r in read_back(path)]
        )  # fmt: skip
        assert rows
        found += rows
    assert found == [{"text": f"{i}", "order_index": at} for at, i in enumerate(order)]


def test_more_shards_than_rows(pool, tmp_path):
    with pytest.raises(DataError, match="5 files for 4 rows; .*ask for fewer"):
        export(pool, [0, 1, 2, 3], tmp_path / "out", shards=5)
    with pytest.raises(ConfigError):
        export(pool, [0], tmp_path / "out", shards=0)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (b'{"text":"a"}', b'{"text":"a", "order_index": 0}'),
        (b'  {"text": "a" }  ', b'  {"text": "a", "order_index": 0}'),
        (b'{"text":"a","m":{}}', b'{"text":"a","m":{}, "order_index": 0}'),
        (b'{"text":"a}","m":[{"order_index":3}]}', b'{"text":"a}","m":[{"order_index":3}], "order_index": 0}'),
        (b'{"text":"order_index","n":NaN}', b'{"text":"order_index","n":NaN, "order_index": 0}'),
        (b'{"text":"\\u0061"}', b'{"text":"\\u0061", "order_index": 0}'),
    ],
)  # fmt: skip
def test_the_order_index_is_put_behind_the_row(tmp_path, row, expected):
    (tmp_path / "x.jsonl").write_bytes(row)
    pool = didact.read(tmp_path / "x.jsonl")
    (path,) = export(pool, [0], tmp_path / "out", order_index=True)
    assert read_back(path) == [expected]
    assert json.loads(expected)["order_index"] == 0


def test_the_order_index_of_an_empty_object():
    from didact.data.export.row_files import _indexed

    assert _indexed(b"{ }", 5) == b'{"order_index": 5}'


@pytest.mark.parametrize(
    "row", [b'{"text":"a","order_index":7}', b'{"text":"a","order\\u005findex":null}']
)
@pytest.mark.parametrize("fmt", ["jsonl", "parquet"])
def test_a_row_that_has_an_order_index(tmp_path, row, fmt):
    (tmp_path / "x.jsonl").write_bytes(row)
    pool = didact.read(tmp_path / "x.jsonl")
    with pytest.raises(
        DataError, match="already has the column 'order_index'.*without order_index"
    ):
        export(pool, [0], tmp_path / "out", order_index=True, format=fmt)
    assert not list((tmp_path / "out").iterdir())
    export(pool, [0], tmp_path / "out", format=fmt)


# -- validation ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dedup", ["exact", "none"])
@pytest.mark.parametrize("fmt", ["jsonl", "parquet"])
def test_the_validation_split_has_its_own_file(tmp_path, dedup, fmt):
    rows = [{"text": f"{i % 30}", "n": i} for i in range(40)]
    pool = make_pool(rows, tmp_path, validation=8, dedup=dedup)
    free = np.flatnonzero(~pool.in_validation)
    train, validation = export(pool, free, tmp_path / "out", format=fmt)
    assert validation.name == f"validation.{fmt}"

    def texts(path):
        if fmt == "parquet":
            return pq.read_table(path).column("text").to_pylist()
        return [json.loads(r)["text"] for r in read_back(path)]

    held = texts(validation)
    assert not set(held) & set(texts(train))
    assert len(train.read_bytes()) > 0
    if dedup == "exact":
        assert len(held) == len(set(held)) == 8
    else:
        assert len(held) == int(pool.in_validation.sum()) >= 8


def test_a_held_row_never_reaches_the_ordered_file(tmp_path):
    pool = make_pool([{"text": f"{i}"} for i in range(20)], tmp_path, validation=2)
    with pytest.raises(DataError, match="the order holds 2 rows of the validation split"):
        export(pool, range(20), tmp_path / "out")
    free = np.flatnonzero(~pool.in_validation)
    with pytest.raises(DataError, match="'validation' is the name of the validation split's file"):
        export(pool, free, tmp_path / "out", name="validation")


def test_an_order_of_another_pool(pool, tmp_path):
    other = make_pool([{"text": "z"}], tmp_path / "other")
    with pytest.raises(PoolMismatchError):
        didact.export(pool, ordered(other, [0]), tmp_path / "out")
    with pytest.raises(DataError, match=r"rows 0\.\.9 of a pool of 4"):
        export(pool, [0, 9], tmp_path / "out")


@pytest.mark.parametrize("name", ["", "../x", ".x", "a/b", "a b"])
def test_names_that_are_no_file_names(pool, tmp_path, name):
    with pytest.raises(ConfigError):
        export(pool, [0], tmp_path / "out", name=name)


# -- Parquet ---------------------------------------------------------------------------------------


def without_nulls(value):
    """A value without nulls and without objects that hold nothing: Parquet keeps neither apart."""
    if isinstance(value, dict):
        found = {k: without_nulls(v) for k, v in value.items()}
        return {k: v for k, v in found.items() if v is not None} or None
    if isinstance(value, list):
        return [without_nulls(v) for v in value]
    return value


@pytest.mark.parametrize("shards", [1, 2])
def test_rows_with_different_keys_become_one_schema(tmp_path, shards):
    rows = [
        {"text": "a", "meta": {"site": "x", "date": "2024-01-01T00:00:00"}},
        {"text": "b", "meta": {"grade": 1, "deep": {"list": [{"k": 1}]}}},
        {"text": "c", "meta": {"grade": 2.5, "deep": {"list": [{"l": "2024-01-01"}, {}]}}},
        {"text": "d", "meta": {}, "flag": True, "none": None, "empty": []},
        {"text": "e", "meta": None, "tags": ["x"], "empty": ["filled"], "big": 2**62},
        {"text": "f", "nothing": {}, "also": [{}], "keys": {"a.b": 1, "": 2}},
    ]
    pool = make_pool(rows, tmp_path)
    paths = export(pool, [5, 3, 1, 0, 2, 4], tmp_path / "out", format="parquet", shards=shards)
    back = [r for path in paths for r in pq.read_table(path).to_pylist()]
    expected = [without_nulls(rows[i]) for i in (5, 3, 1, 0, 2, 4)]
    expected[0].pop("also", None)
    assert [without_nulls(r) for r in back] == expected


def test_parts_with_different_keys_become_one_schema(tmp_path, monkeypatch):
    monkeypatch.setattr("didact.data.export.row_files._AT_ONCE", 2)
    rows = [{"text": f"{i}", "meta": {f"k{i}": [{f"l{i}": i}]}, "n": i if i % 2 else i + 0.5}
            for i in range(7)]  # fmt: skip
    pool = make_pool(rows, tmp_path)
    (path,) = export(pool, range(7), tmp_path / "out", format="parquet", order_index=True)
    back = pq.read_table(path).to_pylist()
    assert [without_nulls(r) for r in back] == [
        {**row, "order_index": i} for i, row in enumerate(rows)
    ]


@pytest.mark.parametrize(
    "rows",
    [
        [{"text": "a", "x": 1}, {"text": "b", "x": "one"}],
        [{"text": "a", "x": {"y": 1}}, {"text": "b", "x": [1]}],
        [{"text": "a", "x": True}, {"text": "b", "x": 1}],
        [{"text": "a", "x": 2**70}],
        [{"text": "a", "x": 2**53 + 1}, {"text": "b", "x": 0.5}],
    ],
)
@pytest.mark.parametrize("part", [1, 4096])
def test_rows_without_a_common_schema(tmp_path, monkeypatch, rows, part):
    monkeypatch.setattr("didact.data.export.row_files._AT_ONCE", part)
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    pool = didact.read(tmp_path / "x.jsonl")
    with pytest.raises(DataError, match="no common Parquet schema .*export as jsonl"):
        export(pool, range(len(rows)), tmp_path / "out", format="parquet")
    assert not list((tmp_path / "out").iterdir())
    (path,) = export(pool, range(len(rows)), tmp_path / "out", format="jsonl")
    assert [json.loads(r) for r in read_back(path)] == rows


@pytest.mark.parametrize("levels", [5, 38, 39, 40, 60, 300, 500])
def test_deep_rows_go_into_parquet_or_are_refused(tmp_path, levels):
    deep: object = 1
    for i in range(levels):
        deep = {"k": deep} if i % 2 else [deep]
    (tmp_path / "x.jsonl").write_text(json.dumps({"text": "a", "deep": deep}))
    pool = didact.read(tmp_path / "x.jsonl")
    if levels < 40:
        (path,) = export(pool, [0], tmp_path / "out", format="parquet")
        assert pq.read_table(path).to_pylist() == [{"text": "a", "deep": deep}]
    else:
        with pytest.raises(DataError, match="nested more than 40 deep; .*export as jsonl"):
            export(pool, [0], tmp_path / "out", format="parquet")


def test_a_table_keeps_its_schema(tmp_path):
    n = 30
    rows = pa.table(
        {
            "text": pa.array([f"{i}" for i in range(n)], pa.large_string()),
            "when": pa.array(range(n), pa.timestamp("ns", tz="UTC")),
            "kind": pa.array([f"k{i % 3}" for i in range(n)]).dictionary_encode(),
            "f16": pa.array(np.arange(n, dtype=np.float16)),
            "nested": [[{"a": i, "b": [None]}] for i in range(n)],
        },
        metadata={"huggingface": '{"info": {}}'},
    )
    pq.write_table(rows, tmp_path / "x.parquet", row_group_size=4)
    pool = didact.read(tmp_path / "x.parquet", batch_rows=4)
    order = np.random.default_rng(0).permutation(n)
    (path,) = export(pool, order, tmp_path / "out")
    assert path.name == "train.parquet"
    back = pq.read_table(path)
    before = pq.read_table(tmp_path / "x.parquet")
    at = before.column_names.index("when")  # as values of Python, nanoseconds need pandas
    plain = [
        table.set_column(at, "when", table["when"].cast(pa.int64())).to_pylist()
        for table in (back, before.take(order))
    ]
    assert plain[0] == plain[1]
    assert back.schema.equals(before.schema, check_metadata=True)
    (path,) = export(pool, order, tmp_path / "indexed", order_index=True)
    back = pq.read_table(path)
    assert back.column("order_index").to_pylist() == list(range(n))
    (path,) = export(pool, order, tmp_path / "json", format="jsonl")
    found = [json.loads(r) for r in read_back(path)]
    assert [r["text"] for r in found] == [str(i) for i in order]
    assert found[0]["when"] == "1970-01-01T00:00:00+00:00"
    assert found[0]["nested"] == [{"a": int(order[0]), "b": [None]}]


@pytest.mark.parametrize("limit", ["rows", "bytes"])
def test_rows_that_are_read_in_parts_keep_their_order(tmp_path, monkeypatch, limit):
    rows = [{"text": f"row {i} {'x' * (i % 5)}"} for i in range(60)]
    order = np.random.default_rng(0).permutation(60)
    monkeypatch.setattr("didact.data.export.row_files._AT_ONCE", 4)
    monkeypatch.setattr("didact.data.export.row_files._READ_ROWS", 8 if limit == "rows" else 64)
    monkeypatch.setattr(
        "didact.data.export.row_files._READ_BYTES", 10**6 if limit == "rows" else 90
    )
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    for pool in (make_pool(rows, tmp_path, batch_rows=7), didact.read(tmp_path / "x.parquet")):
        for kind in ("jsonl", "parquet"):
            (path,) = export(pool, order, tmp_path / "out", format=kind, order_index=True)
            found = (
                pq.read_table(path).to_pylist() if kind == "parquet"
                else [json.loads(row) for row in read_back(path)]
            )  # fmt: skip
            assert found == [{**rows[r], "order_index": i} for i, r in enumerate(order)]


def test_chunks_go_out_as_units(tmp_path):
    text = "One sentence here. " * 9
    rows = [{"id": "a", "text": text, "lang": "en"}]
    pool = make_pool(rows, tmp_path, unit="chunk", chunk={"max_tokens": 10})
    order = list(range(len(pool)))[::-1]
    (path,) = export(pool, order, tmp_path / "out")
    found = [json.loads(r) for r in read_back(path)]
    assert "".join(r["text"] for r in found[::-1]) == text
    (path,) = export(pool, order, tmp_path / "out", format="parquet")
    assert pq.read_table(path).to_pylist() == found


def test_the_real_small_pool_goes_into_parquet_and_nothing_is_lost(real_data, tmp_path):
    pool = didact.read(real_data / "instruct_small.jsonl.zst")
    order = np.random.default_rng(0).permutation(len(pool))
    (path,) = export(pool, order, tmp_path / "out", format="parquet")
    rows = [orjson.loads(r) for r in pool.records(order)]
    keys = {k for r in rows for k in r.get("meta") or {}}
    assert len(keys) > 3
    back = pq.read_table(path)
    assert {f.name for f in back.schema.field("meta").type} == keys
    assert [without_nulls(r) for r in back.to_pylist()] == [without_nulls(r) for r in rows]


# -- what goes wrong -------------------------------------------------------------------------------


def test_a_failure_leaves_the_earlier_file_and_no_other(pool, tmp_path, monkeypatch):
    (path,) = export(pool, [0], tmp_path / "out")
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("didact.data.export.row_files._one_line", full)
    with pytest.raises(DataError, match=r"out: no space left on the disk .*free some"):
        export(pool, [1, 2], tmp_path / "out")
    assert path.read_bytes() == before
    assert [p.name for p in (tmp_path / "out").glob("[!.]*")] == ["train.jsonl"]


def test_a_folder_that_is_a_file(pool, tmp_path):
    (tmp_path / "out").write_text("here")
    with pytest.raises(DataError, match=r"cannot be written: .*choose another folder"):
        export(pool, [0], tmp_path / "out")


def test_workers_write_without_the_index_of_the_pool(tmp_path):
    rows = [{"text": f"some words {i}. And more of them.", "n": i} for i in range(40)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    (tmp_path / "x.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)))
    chunk = {"unit": "chunk", "chunk": {"max_tokens": 8}}
    for name, settings in (("x.jsonl", {}), ("x.parquet", {}), ("x.jsonl", chunk)):
        pool = didact.read(tmp_path / name, cache_dir=tmp_path / "cache", **settings)
        wanted = np.array([7, 3, 7, 30])
        opened = Pool(pool.path, pool.fingerprint)
        handle = opened.knowing(pool.known(wanted))
        assert list(handle.records(wanted)) == list(pool.records(wanted))
        assert handle.n_bytes[wanted].tolist() == pool.n_bytes[wanted].tolist()
        assert "index.arrow" not in handle._files
        assert opened.knowing(pool.known(wanted[:1]))._files is handle._files  # verified once
