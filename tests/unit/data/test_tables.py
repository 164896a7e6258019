"""Tables: every way Arrow lays out a value, and the nulls that it fills in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

import didact
from didact.core.errors import DataError
from didact.data.reading.plain_types import plain, plain_type

VIEW = pa.string_view()
MESSAGE = pa.struct([("role", VIEW), ("content", VIEW), ("tags", pa.list_view(VIEW))])
CHATS = [
    [{"role": "user", "content": "猫?", "tags": ["a", None]}, {"role": "assistant", "content": "نعم"}],
    None,
    [],
    [{"role": "assistant", "content": "b", "tags": []}, {"role": None, "content": "c"}, None],
]  # fmt: skip
RUNS = pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), pa.array(["s", None]))
CODES = pa.DictionaryArray.from_arrays(pa.array([1, None, 0]), pa.array(["a", "b"]).cast(VIEW))
LAYOUTS = {
    "text": pa.array(["猫", None, "a long text, longer than the twelve bytes of a view"], VIEW),
    "bytes": pa.array([b"\xff", None, b"x" * 20], pa.binary_view()),
    "list view": pa.array(CHATS, pa.list_view(MESSAGE)),
    "large list view": pa.array(CHATS, pa.large_list_view(MESSAGE)),
    "list": pa.array(CHATS, pa.list_(MESSAGE)),
    "large list": pa.array(CHATS, pa.large_list(MESSAGE)),
    "fixed list": pa.array([["a", "b"], None], pa.list_(VIEW, 2)),
    "map": pa.array([[("k", "v")], None, []], pa.map_(VIEW, VIEW)),
    "struct": pa.array([{"a": "x", "b": ["y"]}, None], pa.struct([("a", VIEW), ("b", pa.list_(VIEW))])),
    "runs": RUNS,
    "codes": CODES,
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("cut", [slice(None), slice(1, None), slice(0, 0)])
def test_values_stay_and_views_go(name, cut):
    array = LAYOUTS[name][cut]
    found = plain(array)
    found.validate(full=True)
    assert found.type == plain_type(array.type)
    assert found.to_pylist() == array.to_pylist()
    assert not any(word in str(found.type) for word in ("view", "run_end"))


def test_plain_arrays_are_not_copied():
    for array in (pa.array(["a"]), pa.array([[1]]), pa.array([{"a": 1}]), pa.array([1.5])):
        assert plain(array) is array


def arrow_file(path: Path, table: pa.Table) -> Path:
    with pa.ipc.new_file(str(path), table.schema) as file:
        file.write_table(table)
    return path


def texts(path: Path, **settings: Any) -> list[str]:
    pool = didact.read(path, **settings)
    return pool.read(range(len(pool)), ["text"]).column("text").to_pylist()  # type: ignore[no-any-return]


def test_a_table_of_views_is_read_and_given_back(tmp_path):
    table = pa.table({"messages": pa.array([CHATS[0]] * 3, pa.list_view(MESSAGE)), "source": RUNS})
    pool = didact.read(arrow_file(tmp_path / "x.arrow", table))
    assert pool.read([2], ["text"]).column("text").to_pylist() == ["猫?\nنعم"]
    assert pool.source_names == ("s", "x")
    assert pool.record_table([1, 0]).to_pylist() == table.to_pylist()[1::-1]


def test_text_of_polars_is_read(tmp_path):
    table = pa.table({"text": pa.array(["猫", "a text longer than a view holds"], VIEW)})
    arrow = arrow_file(tmp_path / "y.arrow", table)
    assert texts(arrow) == table.column("text").to_pylist()
    try:
        pq.write_table(table, tmp_path / "x.parquet")
    except pa.ArrowNotImplementedError:
        pytest.skip("this pyarrow writes no views into Parquet")
    assert pq.read_schema(tmp_path / "x.parquet").field("text").type == VIEW
    assert texts(tmp_path / "x.parquet") == texts(arrow)


def test_text_that_is_not_utf8_is_a_bad_row_in_a_view_too(tmp_path):
    bad = pa.array([b"good", b"\xff\xfe", b"fine"], pa.binary_view())
    table = pa.table({"text": pa.Array.from_buffers(VIEW, 3, bad.buffers())})
    pool = didact.read(arrow_file(tmp_path / "x.arrow", table), on_bad_row="skip")
    assert len(pool) == 2


# Keys by the alphabet, as pyarrow before 24 sorts them.
CALLS = [
    [{"role": "user", "content": "w?"}, {"role": "assistant", "content": None, "tool_calls": [call]}]
    for call in (
        {"function": {"arguments": {"at": {"lat": 1.5}, "city": "روما"}, "name": "w"}, "id": "1"},
        {"function": {"arguments": {"zip": [{"a": 1}, {"b": 2}]}, "name": "s"}, "id": "2"},
    )
]  # fmt: skip
TOOLS = [
    [{"name": "w", "parameters": {"city": {"type": "string"}}}],
    [{"name": "s", "parameters": {"zip": {"items": "int", "type": "array"}}}],
]


@pytest.mark.parametrize("kind", ["arrow", "parquet"])
def test_nulls_that_a_table_fills_into_tools_are_not_read(kind, tmp_path):
    table = pa.table({"messages": CALLS, "tools": TOOLS})
    path = tmp_path / f"x.{kind}"
    arrow_file(path, table) if kind == "arrow" else pq.write_table(table, path)
    first, second = texts(path)
    assert first == (
        '[{"name":"w","parameters":{"city":{"type":"string"}}}]\nw?\n[{"function":'
        '{"arguments":{"at":{"lat":1.5},"city":"روما"},"name":"w"},"id":"1"}]'
    )
    assert second == (
        '[{"name":"s","parameters":{"zip":{"items":"int","type":"array"}}}]\nw?\n'
        '[{"function":{"arguments":{"zip":[{"a":1},{"b":2}]},"name":"s"},"id":"2"}]'
    )
    pool = didact.read(path)
    assert pool.record_table([0, 1]).to_pylist() == table.to_pylist()


def test_nulls_of_calls_that_are_not_there_are_no_calls(tmp_path):
    call = {"arguments": "{}", "name": "f"}
    rows = [
        [{"role": "assistant", "content": None, "function_call": call}],
        [{"role": "assistant", "content": "b", "function_call": dict.fromkeys(call)}],
    ]
    path = arrow_file(tmp_path / "x.arrow", pa.table({"chat": [{"turns": row} for row in rows]}))
    columns = {"messages": "chat.turns"}
    assert texts(path, columns=columns) == ['{"arguments":"{}","name":"f"}', "b"]


def test_nulls_that_somebody_wrote_into_json_are_read(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(
        '{"messages": [{"role": "assistant", "tool_calls": [{"arguments": {"zip": null}}]}]}'
    )
    assert texts(path) == ['[{"arguments":{"zip":null}}]']


@pytest.mark.parametrize("name", ["meta", "k"])
def test_the_name_of_a_column_that_is_no_utf8_is_named_with_its_file(tmp_path, name):
    path = tmp_path / "a.arrow"
    table = pa.table({"text": ["a b c"], "meta": [{"k": 1}]})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write(table)
    old = f"{name}\0\0\0".encode() if name == "k" else name.encode()
    path.write_bytes(path.read_bytes().replace(old, b"\xff" + old[1:]))
    with pytest.raises(DataError, match=r"a\.arrow: the name of a column is no UTF-8"):
        didact.read(path)
