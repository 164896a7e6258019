"""Files of anybody: names, links and depths that are refused or read, and never a traceback."""

import os
import sys
from collections import Counter
from time import process_time

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import didact
from didact.core.errors import ConfigError, DataError
from didact.data import tables
from didact.data.reading.discovery import describe
from didact.data.reading.files import legible
from didact.data.reading.json_rows import json_row
from didact.data.reading.patterns import matches
from didact.data.reading.tables import table_batches
from didact.data.reading.wrapped import rows_in, wrapped_rows
from didact.data.rows.columns import RowError
from didact.data.settings_text import check_plain
from didact.data.store import left_out

linux = pytest.mark.skipif(sys.platform != "linux", reason="names that other systems refuse")
ROW = b'{"text": "a row of some words"}\n'


@pytest.fixture
def read(tmp_path):
    return lambda path, **settings: didact.read(path, cache_dir=tmp_path / "cache", **settings)


def nested(depth: int, opening: str, closing: str) -> bytes:
    """An object with `depth` levels in all."""
    return (f'{{"text": "a", "x": {opening * (depth - 1)}1{closing * (depth - 1)}}}').encode()


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a": ', "}")])
def test_depth_of_rows(opening, closing):
    row, *_ = json_row(nested(512, opening, closing))
    assert row["text"] == "a"
    for depth in (513, 600, 999, 1010, 1024):  # what one parser or the other can still read
        with pytest.raises(RowError, match="nested more than 512 deep"):
            json_row(nested(depth, opening, closing))
    for depth in (1025, 100_000):
        with pytest.raises(RowError, match="nested too deep"):
            json_row(nested(depth, opening, closing))
    with pytest.raises(RowError, match="nested more than 512 deep"):  # NaN: Python's own parser
        json_row(nested(600, opening, closing).replace(b"1", b"NaN"))


def test_brackets_in_text_are_no_depth():
    row, *_ = json_row(orjson.dumps({"text": "[{" * 5000, "of": [{"a": i} for i in range(500)]}))
    assert len(row["of"]) == 500


def test_a_deep_row_is_a_bad_row(read, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(ROW + nested(1000, "[", "]") + b"\n" + nested(5000, "[", "]") + b"\n")
    pool = read(path, on_bad_row="skip")
    assert (len(pool), pool.meta["counts"]["rejected"]) == (1, 2)


@linux
def test_a_name_that_is_not_utf8_is_read_and_written_as_text(read, tmp_path):
    place = os.fsencode(tmp_path) + b"/caf\xe9.jsonl"
    with open(place, "wb") as file:  # noqa: PTH123 - a name of bytes
        file.write(ROW + b'{"text": 5}\n')
    path = tmp_path / os.fsdecode(b"caf\xe9.jsonl")
    for given in (path, tmp_path):
        pool = read(given, on_bad_row="skip")
        assert pool.source_names == ("caf\\xe9",)
        (left_out,) = (pool.path / "rejected.jsonl").read_bytes().splitlines()
        assert orjson.loads(left_out)["file"] == "caf\\xe9.jsonl"
    assert legible(path).endswith("caf\\xe9.jsonl")
    with pytest.raises(ConfigError, match="is not Unicode; expected UTF-8"):
        check_plain({"data": {"path": str(path)}})


def test_names_without_sense(read):
    with pytest.raises(DataError, match="NUL character"):
        read("a\0b.jsonl")
    with pytest.raises(DataError, match="longer than the name of a file may be"):
        read("a" * 5000 + ".jsonl")


@linux
def test_links_that_lead_in_a_circle(read, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.jsonl").write_bytes(ROW)
    for name in ("one", "two", "three"):  # with one such link `**` had 40 levels, with three 3^40
        (tmp_path / "data" / name).symlink_to(".")
    (tmp_path / "loop.jsonl").symlink_to("loop.jsonl")
    (tmp_path / "gone.jsonl").symlink_to("nowhere")
    assert len(read(tmp_path / "data")) == 1
    assert len(read(tmp_path / "**" / "*.jsonl")) == 1
    with pytest.raises(DataError, match="is a link that leads in a circle"):
        read(tmp_path / "loop.jsonl")
    with pytest.raises(DataError, match="is a link to nowhere, which is not there"):
        read(tmp_path / "gone.jsonl")


def test_a_file_in_a_folder_s_place(read, tmp_path):
    (tmp_path / "a").write_bytes(ROW)
    with pytest.raises(DataError, match="no such file|a part of this path is a file"):
        read(tmp_path / "a" / "b.jsonl")


def test_patterns_match_what_shells_match(tmp_path):
    for name in ("a.jsonl", "b/c.jsonl", "b/d/e.jsonl", ".h/f.jsonl", "b/.g.jsonl", "b/x.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(ROW)

    def found(pattern):
        return [p.relative_to(tmp_path).as_posix() for p in matches(f"{tmp_path}/{pattern}")]

    assert found("*.jsonl") == ["a.jsonl"]
    assert found("**/*.jsonl") == ["a.jsonl", "b/c.jsonl", "b/d/e.jsonl"]
    assert found("b/**") == ["b/c.jsonl", "b/d/e.jsonl", "b/x.txt"]
    assert found("b**/[cd].jsonl") == found("?/c.jsonl") == ["b/c.jsonl"]
    assert found(".h/*") == [".h/f.jsonl"]
    assert found("b/.*") == ["b/.g.jsonl"]
    assert found("*/nothing*") == []


def test_the_list_of_bad_rows_is_never_many_times_the_file(read, tmp_path, monkeypatch):
    monkeypatch.setattr(left_out, "_ROOM", 4000)
    path = tmp_path / "a.jsonl"
    path.write_bytes(ROW + b"1\n" * 5000 + ROW * 2 + b"1\n" * 9 + b"[" + b"x" * 600 + b"\n")
    pool = read(path, on_bad_row="skip", dedup="none")
    assert pool.meta["counts"]["rejected"] == 5010
    entries = [orjson.loads(e) for e in (pool.path / "rejected.jsonl").read_bytes().splitlines()]
    assert entries[0] == {
        "file": "a.jsonl", "row": 2, "reason": "1 is a number; expected a JSON object", "raw": "1",
    }  # fmt: skip
    named = [[e["row"]] * 2 for e in entries if "row" in e]
    runs = [run for e in entries for run in e.get("rows", [])]
    numbers = [n for a, b in named + runs for n in range(a, b + 1)]
    assert sorted(numbers) == [*range(2, 5002), *range(5004, 5014)]
    assert entries[-1]["row"] == 5013  # one with many bytes keeps them
    assert len(entries) < 150


@pytest.mark.parametrize("stream", [False, True])
def test_a_table_that_is_cut_short_while_it_is_read(tmp_path, stream):
    table = pa.table({"text": [f"row {i} " * 200 for i in range(4000)]})
    path = tmp_path / "a.arrow"
    with pa.OSFile(str(path), "wb") as sink:
        opened = pa.ipc.new_stream if stream else pa.ipc.new_file
        with opened(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=100)
    batches = table_batches(describe(path), table.schema, batch_rows=100, batch_bytes=2**20)
    assert next(batches).num_rows == 100
    os.truncate(path, path.stat().st_size // 2)  # a mapped file would end the process here
    with pytest.raises(DataError, match=r"a\.arrow: cannot be read .*download it again"):
        list(batches)


SCORES = {
    "table": "scores", "pool_fingerprint": "0" * 32, "method": "length", "settings": {},
    "higher_is_better": True, "tasks": [], "facts": {}, "spent": None,
}  # fmt: skip
SELECTION = {**SCORES, "table": "selection", "reasons": ["x"], "notes": []}
ORDER = {**SCORES, "table": "order", "epochs": 1, "batch_size": None}


def written(path, meta):
    columns = {"row": [0, 1], "id": ["a", "b"], "score": [0.5, 1.0], "why": ["x", "x"]}
    table = pa.table({**columns, "rank": [0, 1], "position": [0, 1]})
    pq.write_table(table.replace_schema_metadata({"didact": orjson.dumps(meta)}), path)
    return path


@pytest.mark.parametrize(
    ("read_table", "right", "wrong"),
    [
        (tables.read_scores, SCORES, [("tasks", 5), ("tasks", ["a"]), ("higher_is_better", None),
                                      ("facts", []), ("settings", "x"), ("method", None)]),
        (tables.read_selection, SELECTION, [("reasons", [1]), ("reasons", []), ("notes", None)]),
        (tables.read_order, ORDER, [("epochs", "1"), ("epochs", 0), ("batch_size", 1.5)]),
    ],
)  # fmt: skip
def test_tables_with_the_metadata_of_anybody(tmp_path, read_table, right, wrong):
    read_table(written(tmp_path / "t.parquet", right))
    for key, value in wrong:
        with pytest.raises(DataError, match=r"t\.parquet|epochs"):
            read_table(written(tmp_path / "t.parquet", {**right, key: value}))
    for key in right.keys() - {"table", "spent", "tasks", "facts", "higher_is_better"}:
        less = {k: v for k, v in right.items() if k != key}
        with pytest.raises(DataError, match=r"t\.parquet: is no .* table as didact writes it"):
            read_table(written(tmp_path / "t.parquet", less))


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":\n' + b" " * 200_000,
        b'{"a":\n' + b'"\\' * 100_000,
        b'{"k": {"x": "' + b"y" * 2**22 + b'"},\n"data": [{"text": "a"}]}',
    ],
)
def test_an_object_that_may_hold_the_rows_is_looked_at_in_linear_time(tmp_path, data):
    path = tmp_path / "a.json"
    path.write_bytes(data)
    found = []
    try:
        found = list(wrapped_rows(describe(path), "data", max_row_bytes=2**25))
    except DataError as error:
        assert "has no list of rows at 'data'" in str(error)  # noqa: PT017 - some have, some not
    assert [row for _, row, _ in found] == ([b'{"text": "a"}'] if b"data" in data else [])


def test_many_short_lists_are_read_in_linear_time():
    def feed(n):
        piece = b'{"data": [{"text": "a"}]}\n' * n
        began = process_time()
        found = rows_in([piece], "x", "data", max_row_bytes=2**25, others=Counter())
        assert sum(1 for _ in found) == n
        return process_time() - began

    few, many = (min(feed(n) for _ in range(3)) for n in (2_000, 20_000))
    assert many < 25 * few  # 10 times as many; 100 times as much work when it was quadratic
