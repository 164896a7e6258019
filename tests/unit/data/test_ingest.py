"""Files → pool: ids, sources, tasks, the user's own rows, the cache, and the real format files."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import os
import shutil
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

import didact
from didact.core.errors import ConfigError, DataError
from didact.data.reading.ingest import open_cached, read_pool
from didact.data.reading.settings import DataSettings
from didact.text import overlap
from didact.verbs import context, read_with_inputs

CHAT = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]


@pytest.fixture
def read(tmp_path):
    """Read files through the public door, into a cache of the test's own."""

    def reader(paths, **settings):
        return didact.read(paths, cache_dir=tmp_path / "cache", **settings)

    return reader


@pytest.fixture
def ctx(tmp_path):
    return context(cache_dir=tmp_path / "cache")


def jsonl(path: Path, rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


def columns(pool, *names):
    return pool.read(range(len(pool)), names).to_pylist()


def ids(pool):
    return pool.ids.to_pylist()


# -- ids, sources, tasks ---------------------------------------------------------------------------


def test_given_ids_are_kept_and_numbers_become_text(read, tmp_path):
    path = jsonl(tmp_path / "x.jsonl", [{"text": "a", "id": "α"}, {"text": "b", "id": 7}])
    assert ids(read(path)) == ["α", "7"]


def test_content_ids_of_copies_are_numbered_over_batches_and_files(read, tmp_path):
    rows = [{"text": t} for t in "abaab"]
    first = jsonl(tmp_path / "1.jsonl", rows)
    second = jsonl(tmp_path / "2.jsonl", rows)
    pool = read([first, second], batch_rows=2)
    a, b = ids(pool)[:2]
    assert ids(pool) == [
        a, b, f"{a}~2", f"{a}~3", f"{b}~2", f"{a}~4", f"{b}~3", f"{a}~5", f"{a}~6", f"{b}~4",
    ]  # fmt: skip
    assert len(set(pool.id_hash.tolist())) == 10
    assert len(set(pool.content_hash.tolist())) == 2
    assert pool.meta["counts"]["duplicates"] == 8


def test_some_rows_have_ids(read, tmp_path):
    path = jsonl(tmp_path / "x.jsonl", [{"text": "a"}, {"text": "a", "id": "x"}, {"text": "a"}])
    first, second, third = ids(read(path))
    assert second == "x"
    assert third == f"{first}~3"  # it is the third copy of its content


def test_the_same_content_in_other_formats_is_a_duplicate(read, tmp_path):
    files = [
        jsonl(tmp_path / "a.jsonl", [{"messages": CHAT}]),
        jsonl(tmp_path / "b.jsonl", [{"conversations": [
            {"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]}]),
        jsonl(tmp_path / "c.jsonl", [{"instruction": "hi", "output": "hello"}]),
        jsonl(tmp_path / "d.jsonl", [{"prompt": "hi", "completion": "hello"}]),
    ]  # fmt: skip
    pool = read(files)
    assert len(set(pool.content_hash.tolist())) == 1
    assert pool.meta["formats"] == ["messages", "sharegpt", "alpaca", "prompt_completion"]


def test_what_makes_content_differ(read, tmp_path):
    def chat(*turns):
        return {"messages": [{"role": r, "content": c} for r, c in turns]}

    rows = [
        chat(("user", "ab"), ("assistant", "c")),
        chat(("user", "a"), ("assistant", "bc")),
        chat(("assistant", "ab"), ("user", "c")),
        chat(("user", "ab"), ("assistant", "c"), ("user", "")),
        chat(("assistant", "c"), ("user", "ab")),
        chat(("user", "abc")),
        {"messages": [{"role": "user", "content": "ab"},
                      {"role": "assistant", "content": "c", "weight": 0.5}]},
    ]  # fmt: skip
    pool = read(jsonl(tmp_path / "x.jsonl", rows))
    assert len(set(pool.content_hash.tolist())) == len(rows)


def test_a_label_is_content(read, tmp_path):
    rows = [{"prompt": "a", "completion": "b", "label": label} for label in (True, False, True)]
    assert read(jsonl(tmp_path / "x.jsonl", rows)).copy_number.tolist() == [1, 1, 2]


def test_sources_and_tasks(read, tmp_path):
    web = jsonl(
        tmp_path / "web.v1.jsonl",
        [{"text": "a"}, {"text": "b", "source": "s", "task": 3}, {"text": "c", "source": ""}],
    )
    books = jsonl(tmp_path / "books.jsonl", [{"text": "d", "source": None, "task": "t"}])
    pool = read([web, books])
    assert columns(pool, "source", "task") == [
        {"source": "web.v1", "task": "web.v1"},
        {"source": "s", "task": "3"},
        {"source": "web.v1", "task": "web.v1"},
        {"source": "books", "task": "t"},
    ]
    assert pool.source_names == ("web.v1", "s", "books")
    mapped = read([web, books], columns={"source": "task", "task": "-"})
    assert mapped.source_names == ("web.v1", "3", "t")
    assert mapped.task_names == mapped.source_names


def test_names_of_rows_that_are_not_kept_are_not_there(read, tmp_path):
    rows = [{"text": "a", "id": 1, "source": "x"}, {"text": "b", "id": 1, "source": "y"}]
    pool = read(jsonl(tmp_path / "x.jsonl", rows), on_bad_row="skip")
    assert pool.source_names == ("x",)


def test_a_source_a_row_is_refused(read, tmp_path):
    rows = [{"text": "a", "source": f"https://example.org/{i}"} for i in range(65_537)]
    path = jsonl(tmp_path / "x.jsonl", rows)
    with pytest.raises(DataError, match=r"'source' has more than 65,536 .*columns.source=- for"):
        read(path)
    assert read(path, columns={"source": "-"}).source_names == ("x",)


# -- the user's own rows ---------------------------------------------------------------------------

RAW = [
    b'{"text": "a",   "meta": {"n": NaN, "i": -Infinity}}',
    b'{"text":"b","big":123456789012345678901234567890,"e":1e400}',
    b'{"text": "c", "text": "d", "u": "\\u00e9\\ud83d\\ude00"}',
    '{"text": "猫\u2028😀", "\\u006b": "\\/"}'.encode(),
    b'{"text": "e", "half": "\\ud800"}',
    b'{ "text" : "f" , "deep" : ' + b"[" * 300 + b"]" * 300 + b" }",
]
CONTAINERS = {
    "x.jsonl": lambda rows: b"\n".join(rows) + b"\n",
    "unfinished.jsonl": lambda rows: b"\n".join(rows),
    "crlf.jsonl": lambda rows: b"\r\n".join(rows) + b"\r\n",
    "bom.jsonl": lambda rows: b"\xef\xbb\xbf" + b"\n\n".join(rows),
    "x.jsonl.gz": lambda rows: gzip.compress(b"\n".join(rows)),
    "x.jsonl.zst": lambda rows: zstandard.compress(b"\n".join(rows)),
    "array.json": lambda rows: b"[" + b",".join(rows) + b"]",
    "spaced.json.gz": lambda rows: gzip.compress(b" [\r\n " + b" ,\n\t".join(rows) + b"\n]\n"),
    "lines.json": lambda rows: b"\n".join(rows),
    "array.jsonl": lambda rows: b"[" + b",\n".join(rows) + b"]",
    "no_suffix": lambda rows: b"\n".join(rows),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_json_rows_come_back_byte_for_byte(read, tmp_path, name):
    (tmp_path / name).write_bytes(CONTAINERS[name](RAW))
    pool = read(tmp_path / name, batch_rows=2)
    assert list(pool.records(range(len(pool)))) == RAW
    assert list(pool.records([5, 0, 0, 3])) == [RAW[5], RAW[0], RAW[0], RAW[3]]
    assert [r["text"] for r in columns(pool, "text")] == ["a", "b", "d", "猫\u2028😀", "e", "f"]


def test_a_pretty_printed_array(read, tmp_path):
    rows = [{"text": f"{i}", "meta": {"list": [i, {"x": "a\nb"}]}} for i in range(5)]
    (tmp_path / "x.json").write_text(json.dumps(rows, indent=2))
    pool = read(tmp_path / "x.json")
    own = list(pool.records(range(5)))
    assert [json.loads(r) for r in own] == rows
    assert b"\n    " in own[0]


def test_the_store_does_not_depend_on_the_container(tmp_path):
    prints = set()
    for name, make in CONTAINERS.items():
        folder = tmp_path / f"of-{name}"
        folder.mkdir()
        (folder / name).write_bytes(make(RAW))
        pool = didact.read(folder / name, cache_dir=folder / "cache", columns={"source": "text"})
        prints.add((pool.fingerprint, (pool.path / "records-00000.bin").read_bytes()))
    assert len(prints) == 1


def table() -> pa.Table:
    """Types that Python's or JSON's own do not have."""
    n = 40
    when = pa.array([10**18 + i for i in range(n)], pa.timestamp("ns"))
    messages = [[{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": f"a{i}"}]
                for i in range(n)]  # fmt: skip
    return pa.table(
        {
            "id": pa.array([f"r{i}" for i in range(n)], pa.large_string()),
            "messages": messages,
            "when": when,
            "day": pa.array([dt.date(2024, 1, 1 + i % 28) for i in range(n)]),
            "price": pa.array([Decimal("1.25") + i for i in range(n)]),
            "blob": [b"\xff%d" % i for i in range(n)],
            "small": pa.array(range(n), pa.int8()),
            "kind": pa.array([f"k{i % 3}" for i in range(n)]).dictionary_encode(),
            "vector": pa.array([[0.5 * i, None] for i in range(n)], pa.list_(pa.float32(), 2)),
            "none": pa.nulls(n),
            "sparse": pa.array([None if i % 2 else {"x": i} for i in range(n)]),
            "map": pa.array([[("k", i)] for i in range(n)], pa.map_(pa.string(), pa.int64())),
        },
        metadata={"huggingface": "{}"},
    )


def write_table(path: Path, rows: pa.Table) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(rows, path, row_group_size=7)
    else:
        make = pa.ipc.new_stream if path.suffix == ".stream" else pa.ipc.new_file
        with make(str(path), rows.schema) as out:
            out.write_table(rows.unify_dictionaries(), max_chunksize=9)
    return path


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow", "x.stream"])
@pytest.mark.parametrize("batch_rows", [4096, 6])
def test_table_rows_come_back_equal(read, tmp_path, name, batch_rows):
    rows = table()
    pool = read(write_table(tmp_path / name, rows), batch_rows=batch_rows)
    assert pool.record_format == "arrow"
    back = pool.record_table(range(len(pool)))
    assert back.schema.names == rows.schema.names
    assert back.schema.metadata == rows.schema.metadata
    for field in rows.schema:
        expected = rows.column(field.name)
        if field.name == "kind":  # room for the categories of all files
            assert back.schema.field("kind").type == pa.dictionary(pa.int32(), pa.string())
            assert back.column("kind").to_pylist() == expected.to_pylist()
        elif field.name == "none":
            assert back.column("none").null_count == 40
        else:
            assert back.column(field.name).equals(expected), field.name
    places = [39, 0, 17, 17]
    assert pool.record_table(places).column("id").to_pylist() == ["r39", "r0", "r17", "r17"]
    (as_json,) = (json.loads(r) for r in pool.records([3]))
    assert as_json["when"] == "2001-09-09T01:46:40"
    assert as_json["day"] == "2024-01-04"
    assert as_json["price"] == "4.25"
    assert as_json["kind"] == "k0"
    assert as_json["messages"] == rows.column("messages")[3].as_py()
    assert ids(pool)[:2] == ["r0", "r1"]
    assert columns(pool, "text")[5]["text"] == "q5\na5"


def test_tables_with_other_columns_become_one(read, tmp_path):
    a = pa.table({"text": ["a", "b"], "n": pa.array([1, 2], pa.int32()), "m": pa.nulls(2)})
    b = pa.table({"extra": ["x"], "n": [2**40], "text": ["c"], "m": [{"k": 1.5}]})
    pq.write_table(a, tmp_path / "1.parquet")
    pq.write_table(b, tmp_path / "2.parquet")
    pool = read(tmp_path)
    back = pool.record_table(range(3))
    assert back.to_pylist() == [
        {"text": "a", "n": 1, "m": None, "extra": None},
        {"text": "b", "n": 2, "m": None, "extra": None},
        {"text": "c", "n": 2**40, "m": {"k": 1.5}, "extra": "x"},
    ]
    c = pa.table({"text": ["d"], "n": ["one"]})
    pq.write_table(c, tmp_path / "3.parquet")
    with pytest.raises(DataError, match=r"3.parquet: its columns do not fit those of .*1.parquet"):
        read(tmp_path)


def test_categories_beyond_a_byte_over_row_groups(read, tmp_path):
    names = [f"category {i}" for i in range(300)]
    with pq.ParquetWriter(
        tmp_path / "x.parquet",
        pa.schema([("text", pa.string()), ("kind", pa.dictionary(pa.int8(), pa.string()))]),
    ) as out:
        for at in range(0, 300, 100):
            kinds = pa.array(names[at : at + 100]).dictionary_encode().cast(
                pa.dictionary(pa.int8(), pa.string())
            )  # fmt: skip
            out.write_table(
                pa.table({"text": [f"t{i}" for i in range(at, at + 100)], "kind": kinds})
            )
    pool = read(tmp_path / "x.parquet")
    assert pool.record_table(range(300)).column("kind").to_pylist() == names


def test_a_table_with_a_column_twice(read, tmp_path):
    rows = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    with pa.ipc.new_file(str(tmp_path / "x.arrow"), rows.schema) as out:
        out.write_table(rows)
    with pytest.raises(DataError, match="has the column 'text' twice"):
        read(tmp_path / "x.arrow")


def test_large_rows_of_a_table_are_read_in_small_batches(read, tmp_path):
    rows = pa.table({"text": [f"{i} " + "x" * 2**18 for i in range(64)]})
    pq.write_table(rows, tmp_path / "x.parquet")
    pool = read(tmp_path / "x.parquet")
    assert max(len(b) for b in pool.batches()) <= 24
    assert len(pool) == 64


# -- plain text ------------------------------------------------------------------------------------

TEXT = "first line\nsecond, 猫\n\nnew paragraph\n\n\nlast"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("line", ["first line", "second, 猫", "new paragraph", "last"]),
        ("paragraph", ["first line\nsecond, 猫", "new paragraph", "last"]),
        ("file", [TEXT]),
    ],
)
def test_plain_text(read, tmp_path, lines, expected):
    (tmp_path / "notes.txt").write_text(TEXT)
    pool = read(tmp_path / "notes.txt", lines=lines)
    assert [r["text"] for r in columns(pool, "text")] == expected
    assert [json.loads(r) for r in pool.records(range(len(pool)))] == [
        {"text": t} for t in expected
    ]
    assert pool.source_names == ("notes",)
    assert pool.kind == "text"


def test_a_batch_holds_many_small_files(read, tmp_path):
    for i in range(50):
        (tmp_path / f"{i:02d}.txt").write_text(f"text {i}")
    pool = read(tmp_path, lines="file")
    assert [len(b) for b in pool.batches()] == [50]
    assert pool.source_names[:2] == ("00", "01")


# -- chunks ----------------------------------------------------------------------------------------


def test_chunks_have_parents_places_and_unique_ids(read, tmp_path):
    text = "One sentence. Another, longer sentence here! 猫が好き。 The end?\nNext line. " * 30
    rows = [
        {"text": text},
        {"text": text},
        {"id": "doc", "text": text, "lang": "xx"},
        {"text": text},
    ]
    pool = read(jsonl(tmp_path / "x.jsonl", rows), unit="chunk", chunk={"max_tokens": 16})
    found = columns(pool, "id", "text", "parent", "start", "end", "n_tokens")
    parents = list(dict.fromkeys(r["parent"] for r in found))
    assert len(parents) == 4
    assert parents[1:] == [f"{parents[0]}~2", "doc", f"{parents[0]}~3"]
    assert len({r["id"] for r in found}) == len(found)
    assert len(set(pool.id_hash.tolist())) == len(found)
    for parent in parents:
        units = [r for r in found if r["parent"] == parent]
        assert "".join(u["text"] for u in units) == text
        assert all(text[u["start"] : u["end"]] == u["text"] for u in units)
        assert all(u["id"] == f"{parent}#{u['start']}" for u in units)
        assert all(u["n_tokens"] <= 16 for u in units)
    own = [json.loads(r) for r in pool.records(range(len(pool)))]
    assert [r["text"] for r in own] == [u["text"] for u in found]
    assert all(
        r["lang"] == "xx" and r["id"].startswith("doc#") for r in own if r["parent"] == "doc"
    )


def test_chunks_of_a_table_and_of_a_nested_column(read, tmp_path):
    text = "A short sentence. " * 20
    pq.write_table(pa.table({"key": [5], "body": [text]}), tmp_path / "x.parquet")
    settings = {"unit": "chunk", "chunk": {"max_tokens": 8}, "columns": {"text": "body", "id": "-"}}
    pool = read(tmp_path / "x.parquet", **settings)
    back = pool.record_table(range(len(pool)))
    assert "".join(back.column("body").to_pylist()) == text
    assert back.column_names == ["key", "body", "id", "parent", "start", "end"]
    path = jsonl(tmp_path / "y.jsonl", [{"page": {"body": text, "n": 1}}])
    pool = read(path, **{**settings, "columns": {"text": "page.body"}})
    own = [json.loads(r) for r in pool.records(range(len(pool)))]
    assert "".join(r["page"]["body"] for r in own) == text
    assert {r["page"]["n"] for r in own} == {1}


def test_chunks_need_raw_text_and_room(read, tmp_path):
    chat = jsonl(tmp_path / "c.jsonl", [{"messages": CHAT}])
    with pytest.raises(DataError, match="unit=chunk cuts raw text, these rows are chat"):
        read(chat, unit="chunk")
    taken = jsonl(tmp_path / "t.jsonl", [{"text": "a", "start": 3}])
    with pytest.raises(DataError, match="row 1: the row has the column 'start' .3., which"):
        read(taken, unit="chunk")


def test_chunks_are_written_in_bounded_batches(read, tmp_path):
    path = jsonl(tmp_path / "x.jsonl", [{"text": "Words and words. " * 4000} for _ in range(3)])
    pool = read(path, unit="chunk", chunk={"max_tokens": 8}, batch_rows=100, batch_bytes=1024)
    sizes = [int(pool.n_bytes[b.start : b.stop].sum()) for b in pool.batches()]
    assert max(sizes) <= 2 * 1024
    assert sum(len(b) for b in pool.batches()) == len(pool)


# -- validation and exclusion ----------------------------------------------------------------------


def test_validation_is_drawn_by_content_and_never_selectable(read, tmp_path):
    rows = [{"id": i, "text": f"text {i % 80}"} for i in range(100)]
    pool = read(jsonl(tmp_path / "x.jsonl", rows), validation=10)
    held = {i for i, h in zip(ids(pool), pool.in_validation, strict=True) if h}
    contents = Counter(int(i) % 80 for i in held)
    assert len(contents) == 10
    free = set(pool.content_hash[~pool.in_validation].tolist())
    assert not free & set(pool.content_hash[pool.in_validation].tolist())
    moved = read(jsonl(tmp_path / "y.jsonl", rows[::-1]), validation=10)
    assert {i for i, h in zip(ids(moved), moved.in_validation, strict=True) if h} == held
    other = didact.read(tmp_path / "x.jsonl", cache_dir=tmp_path / "cache", validation=10, seed=1)
    assert {i for i, h in zip(ids(other), other.in_validation, strict=True) if h} != held


def test_exclusion_is_counted_and_listed(read, tmp_path):
    words = " ".join(f"word{i}" for i in range(20))
    rows = [{"id": "a", "text": "x"}, {"id": "b", "text": f"so {words} it goes"}, {"text": words}]
    held_out = jsonl(tmp_path / "held.jsonl", [{"text": words}])
    pool = read(jsonl(tmp_path / "x.jsonl", rows), exclude=[str(held_out)])
    assert ids(pool) == ["a"]
    counts = pool.meta["counts"]
    assert (counts["read"], counts["excluded"], counts["kept"]) == (3, 2, 1)
    listed = [json.loads(x) for x in (pool.path / "excluded.jsonl").read_bytes().splitlines()]
    assert [(x["file"], x["row"]) for x in listed] == [("x.jsonl", 2), ("x.jsonl", 3)]
    assert listed[0]["id"] == "b"
    assert listed[1]["id"] == f"{int.from_bytes(bytes.fromhex(listed[1]['id'])):016x}"
    assert listed[0]["shared"] == " ".join(f"word{i}" for i in range(13))


def test_a_pool_is_read_again_when_the_rule_of_exclusion_has_changed(tmp_path, ctx, monkeypatch):
    held_out = jsonl(tmp_path / "held.jsonl", [{"text": "ก" * 60}])
    path = jsonl(tmp_path / "x.jsonl", [{"text": f"{'ก' * 51} a"}, {"text": "ก" * 52}])
    settings = DataSettings(exclude=[str(held_out)])
    first = read_with_inputs(path, settings, ctx)
    assert len(first.pool) == 1
    assert read_with_inputs(path, settings, ctx).reused
    monkeypatch.setattr(overlap, "RULE", overlap.RULE + 1)
    assert not read_with_inputs(path, settings, ctx).reused


# -- the cache -------------------------------------------------------------------------------------


def test_reading_again_finds_the_store(tmp_path, ctx):
    path = jsonl(tmp_path / "x.jsonl", [{"text": "a"}])
    settings = DataSettings()
    first = read_pool([path], settings, ctx)
    again = read_pool([path], settings, ctx)
    assert (first.reused, again.reused) == (False, True)
    assert again.pool == first.pool
    assert again.inputs == first.inputs
    assert open_cached(first.pool.fingerprint, tmp_path / "cache") == first.pool


def test_inputs_are_those_of_this_call_whatever_the_cache_knows(tmp_path, ctx, monkeypatch):
    path = jsonl(tmp_path / "d" / "x.jsonl", [{"text": "a"}])
    monkeypatch.chdir(tmp_path / "d")
    relative = read_pool(["x.jsonl"], DataSettings(), ctx)
    monkeypatch.chdir(tmp_path)
    absolute = read_pool([path], DataSettings(), ctx)
    assert absolute.reused
    assert relative.inputs[0]["path"] == "x.jsonl"
    assert absolute.inputs[0]["path"] == str(path)
    assert absolute.inputs[0]["blake2b"] == relative.inputs[0]["blake2b"]


def test_a_changed_file_is_read_again(read, tmp_path):
    path = jsonl(tmp_path / "x.jsonl", [{"text": "a"}])
    assert len(read(path)) == 1
    jsonl(path, [{"text": "a"}, {"text": "b"}])
    assert len(read(path)) == 2


def test_a_damaged_cache_entry_is_written_again(read, tmp_path):
    path = jsonl(tmp_path / "x.jsonl", [{"text": "a"}])
    first = read(path)
    (entry,) = (tmp_path / "cache" / "reads").iterdir()
    for name in ("entry.json", "read.json"):
        (entry / name).write_text('{"finger')
        assert read(path) == first
        assert (entry / "entry.json").exists()
    (first.path / "entry.json").write_text("{")
    assert read(path) == first
    assert len(read(path)) == 1
    shutil.rmtree(first.path)
    with pytest.raises(DataError, match="not in the cache"):
        len(didact.Pool(first.path, first.fingerprint))
    assert len(read(path)) == 1


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_bad_rows_do_not_leak_between_files_with_equal_good_rows(tmp_path):
    good = b'{"text": "a"}\n{"text": "b"}\n'
    stores = []
    for name, data in {"one": good, "two": good + b"bad\n"}.items():
        path = tmp_path / name / "x.jsonl"
        path.parent.mkdir()
        path.write_bytes(data)
        stores.append(didact.read(path, cache_dir=tmp_path / "cache", on_bad_row="skip"))
    assert [s.meta["counts"]["rejected"] for s in stores] == [0, 1]
    assert [(s.path / "rejected.jsonl").exists() for s in stores] == [False, True]


def test_the_store_is_the_same_anywhere(tmp_path):
    rows = [{"text": f"{i}", "id": i % 7} for i in range(9)]
    stores = []
    for place in ("one", "two/deeper"):
        path = jsonl(tmp_path / place / "d" / "x.jsonl", rows)
        jsonl(tmp_path / place / "d" / "y.jsonl", [{"text": "other"}])
        cache = tmp_path / place / "cache"
        if place != "one":  # another cache state
            didact.read(path, cache_dir=cache, on_bad_row="skip")
        pool = didact.read(path.parent, cache_dir=cache, on_bad_row="skip")
        stores.append((pool.fingerprint, files_of(pool.path)))
    assert stores[0] == stores[1]
    assert "rejected.jsonl" in stores[0][1]


def test_a_file_that_changes_while_it_is_read(tmp_path, ctx):
    path = jsonl(tmp_path / "x.jsonl", [{"text": f"{i}"} for i in range(10)])

    def touch(_):
        os.utime(path, ns=(1, 1))

    with pytest.raises(DataError, match="was changed while it was read"):
        read_pool([path], DataSettings(), replace(ctx, progress=touch))
    assert not list((tmp_path / "cache" / "tmp").iterdir())
    assert not (tmp_path / "cache" / "pools").exists()
    assert not (tmp_path / "cache" / "reads").exists()


def test_what_killed_readers_left_goes_after_a_day(tmp_path, ctx):
    path = jsonl(tmp_path / "x.jsonl", [{"text": "a"}])
    old, new = (tmp_path / "cache" / "tmp" / f".{name}.tmp" for name in ("old", "new"))
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "pool.arrow").write_bytes(b"")
    for place in (old / "pool.arrow", old):
        os.utime(place, (1, 1))
    read_pool([path], DataSettings(), ctx)
    assert not old.exists()
    assert new.exists()


def test_progress_counts_the_bytes_of_the_files(tmp_path, ctx):
    paths = [
        jsonl(tmp_path / f"{i}.jsonl", [{"text": f"{i} {j}"} for j in range(9)]) for i in (1, 2)
    ]
    seen = []
    read_pool(paths, DataSettings(), replace(ctx, progress=seen.append))
    total = sum(p.stat().st_size for p in paths)
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert (seen[-1].done, {p.total for p in seen}) == (total, {total})


def test_settings_that_cannot_be(read, tmp_path):
    path = jsonl(tmp_path / "x.jsonl", [{"text": "a"}, {"text": "b"}])
    for settings in (
        {"validation": -1}, {"validation": float("inf")}, {"validation": 1.5}, {"batch_rows": 0},
        {"max_row_bytes": 2**40}, {"format": "csv"}, {"columns": {"txt": "a"}}, {"nonsense": 1},
    ):  # fmt: skip
        with pytest.raises(ConfigError):
            read(path, **settings)
    with pytest.raises(DataError, match="ask for fewer"):
        read(path, validation=2)


# -- real files ------------------------------------------------------------------------------------


def plain(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes())


def turn_text(turn) -> str:
    content = turn.get("content", turn.get("value"))
    if isinstance(content, list):
        content = "\n".join(part["value"] for part in content)
    calls = turn.get("tool_calls")
    return content if not calls else "\n".join([content or "", json.dumps(calls)])


def dialogue(*keys):
    return lambda row: [turn_text(t) for key in keys for t in row[key]]


def with_tools(row):
    tools = [row["tools"]] if row.get("tools") not in (None, "", "[]") else []
    return tools + dialogue("conversations")(row)


# name → (independent reading of the rows, independent texts of a row)
REAL = {
    "alpaca_en_demo.json.gz": (json.loads, lambda r: [
        "\n".join(filter(None, [r["instruction"], r["input"]])), r["output"]]),
    "alpaca_zh_demo.json.gz": (json.loads, lambda r: [
        "\n".join(filter(None, [r["instruction"], r["input"]])), r["output"]]),
    "identity.json.gz": (json.loads, lambda r: [r["instruction"], r["output"]]),
    "c4_demo.jsonl.gz": (None, lambda r: [r["text"]]),
    "dpo_en_demo.json.gz": (json.loads, lambda r: [
        *dialogue("conversations")(r), r["chosen"]["value"], r["rejected"]["value"]]),
    "glaive_toolcall_en_demo.json.gz": (json.loads, with_tools),
    "kto_en_demo.json.gz": (json.loads, dialogue("messages")),
    "sharegpt_taskmaster_500.json.gz": (json.loads, dialogue("conversations")),
    "v1_sft_demo.jsonl.gz": (None, dialogue("messages")),
    "v1_dpo_demo.jsonl.gz": (None, lambda r: [
        *map(turn_text, r["chosen_messages"]), turn_text(r["rejected_messages"][-1])]),
}  # fmt: skip


@pytest.mark.parametrize("name", REAL)
def test_real_format_files(read, real_data, name):
    path = real_data / "formats" / name
    parse, texts = REAL[name]
    data = plain(path)
    rows = parse(data) if parse else [json.loads(x) for x in data.splitlines() if x.strip()]
    pool = read(path)
    assert len(pool) == len(rows) == pool.meta["counts"]["read"]
    assert [json.loads(r) for r in pool.records(range(len(pool)))] == rows
    assert [r["text"] for r in columns(pool, "text")] == ["\n".join(texts(r)) for r in rows]
    assert (pool.n_bytes == [len("\n".join(texts(r)).encode()) for r in rows]).all()


def test_real_tool_use(read, real_data):
    path = real_data / "formats" / "reason_tool_use_demo_50.jsonl.gz"
    rows = [json.loads(x) for x in plain(path).splitlines() if x.strip()]
    pool = read(path)
    assert len(pool) == len(rows)
    for row, found in zip(rows, columns(pool, "text"), strict=True):
        for message in row["messages"]:
            for part in message["content"]:
                assert part["value"] in found["text"]


def test_real_plain_text(read, real_data):
    path = real_data / "formats" / "wiki_demo.txt.gz"
    data = plain(path).decode()
    pool = read(path)
    assert [r["text"] for r in columns(pool, "text")] == [x for x in data.split("\n") if x.strip()]
    assert columns(read(path, lines="file"), "text") == [{"text": data}]


@pytest.mark.parametrize("name", ["instruct_small.parquet", "instruct_small.arrow"])
def test_real_tables_hold_the_same_chats_as_the_json(read, real_data, name):
    lines = zstandard.ZstdDecompressor().stream_reader(
        (real_data / "instruct_small.jsonl.zst").read_bytes()
    ).read().splitlines()  # fmt: skip
    rows = {r["id"]: r for r in map(orjson.loads, lines)}
    pool = read(real_data / "formats" / name)
    own = pool.record_table(range(len(pool))).to_pylist()
    assert len(own) == len(pool)
    for row, got in zip(own, columns(pool, "id", "source", "messages"), strict=True):
        expected = rows[row["id"]]
        assert got["id"] == row["id"]
        assert got["source"] == expected["source"]
        assert [(m["role"], m["content"]) for m in got["messages"]] == [
            (m["role"], m["content"]) for m in expected["messages"]
        ]


def test_the_real_pool_of_text(read, real_data):
    path = real_data / "text_pool.jsonl.zst"
    lines = zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read().splitlines()
    pool = read(path)
    assert len(pool) == len(lines) == 9634
    step = slice(0, len(lines), 97)
    places = np.arange(len(lines))[step]
    assert list(pool.records(places)) == lines[step]
    assert pool.read(places, ["text"]).column(0).to_pylist() == [
        orjson.loads(x)["text"] for x in lines[step]
    ]
