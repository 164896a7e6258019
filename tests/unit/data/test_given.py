"""Rows that lie in no file: dicts, tables of other libraries, what is piped in."""

from __future__ import annotations

import datetime as dt
import io
import json
import sys

import numpy as np
import pyarrow as pa
import pytest

import didact
from didact.core.errors import ConfigError, DataError, NoSampleError
from didact.data.reading.settings import DataSettings
from didact.verbs import context, read_target

ROWS = [
    {"id": f"r{i}", "messages": [{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": "a" * (i + 1)}], "n": i}
    for i in range(4)
]  # fmt: skip


NAN = float("nan")
DEEP = [
    {"x": [1.0, NAN]},
    [{"y": np.float32("inf")}],
    (np.array([[1.0, NAN]]),),
    {"x": [1.0, 2], "y": None},
]


def rows_of(pool):
    return [json.loads(row) for row in pool.records(range(len(pool)))]


def tables():
    yield "list", lambda: ROWS
    yield "generator", lambda: (row for row in ROWS)
    yield "table", lambda: pa.Table.from_pylist(ROWS)
    yield "batch", lambda: pa.RecordBatch.from_pylist(ROWS)
    yield "reader", lambda: pa.Table.from_pylist(ROWS).to_reader(max_chunksize=3)
    yield "pandas", lambda: pytest.importorskip("pandas").DataFrame(ROWS)
    yield "polars", lambda: pytest.importorskip("polars").DataFrame(ROWS)
    yield "lazy", lambda: pytest.importorskip("polars").DataFrame(ROWS).lazy()
    yield "datasets", lambda: pytest.importorskip("datasets").Dataset.from_list(ROWS)


@pytest.mark.parametrize(("name", "make"), list(tables()), ids=[name for name, _ in tables()])
def test_whatever_holds_rows_is_read_as_the_rows(name, make):
    pool = didact.read(make())
    assert rows_of(pool) == ROWS
    assert pool.meta["formats"] == ["messages"]
    assert pool.source_names == ("rows",)
    assert pool.ids.to_pylist() == ["r0", "r1", "r2", "r3"]
    assert didact.read(make()).fingerprint == pool.fingerprint


def test_equal_rows_are_read_once(tmp_path):
    progress = []
    didact.read(ROWS, cache_dir=tmp_path)
    didact.read([dict(row) for row in ROWS], cache_dir=tmp_path, progress=progress.append)
    assert not progress
    didact.read(ROWS[:3], cache_dir=tmp_path, progress=progress.append)
    assert progress
    assert list((tmp_path / "tmp").iterdir()) == []  # nothing of the rows is left beside the pool


def test_settings_mean_the_same_of_rows(tmp_path):
    given = [{"dialogue": row["messages"], "site": "pets"} for row in ROWS]
    pool = didact.read(given, columns={"messages": "dialogue", "source": "site"})
    assert pool.source_names == ("pets",)
    held = tmp_path / "held_out.jsonl"
    held.write_text(json.dumps({"text": "one two three four"}))
    found = didact.read(
        [{"text": "zero one two three four five"}, {"text": "six"}], exclude=[str(held)], exclude_ngram=4
    )  # fmt: skip
    assert rows_of(found) == [{"text": "six"}]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([{"text": "a"}, 3], r"^rows: row 2: is 3 \(int\); expected a dict"),
        ([{"text": "a"}, {"text": b"x"}], r"^rows: row 2: cannot be written as JSON \(b'x' is of type bytes"),
        ([{"text": "a"}, {"text": 7}], r"^rows: row 2: text is 7 \(int\); expected text"),
        ({"train": ROWS, "test": ROWS}, "^rows: is a dict of 'train', 'test'; expected rows"),
        (7, r"^7 \(int\) is no data"),
        ([], "no file was given"),
        (iter([{}]), "^rows: row 1: no known format"),
        (pa.table({"text": pa.array([], pa.string())}), "^rows: no sample to use"),
        (pa.table({"txet": ["a"]}), "^rows: row 1: no known format has the columns"),
        (pa.array(["a"]), "^rows: is a StringArray and no table that Arrow has"),
    ],
)  # fmt: skip
def test_what_is_no_rows(given, message):
    with pytest.raises(DataError, match=message):
        didact.read(given)


def test_values_that_json_has_not():
    row = {
        "text": "a", "big": 2**70, "half": float("nan"), "day": dt.date(2026, 1, 2),
        "array": np.arange(2), "number": np.float32(0.5), 7: (1, None),
    }  # fmt: skip
    pool = didact.read([{"text": "b"}, row])
    expected = {
        "text": "a", "big": 2**70, "day": "2026-01-02", "array": [0, 1], "number": 0.5,
        "7": [1, None],
    }  # fmt: skip
    found = rows_of(pool)[1]
    assert found.pop("half") is None
    assert found == expected
    (said,) = (f for f in pool.findings if f.kind == "nan")
    assert (said.count, said.first) == (1, "rows row 2")
    assert said.text == "1 row has NaN or infinity, read as missing"
    again = didact.read([{"text": "b"}, row])  # the finding is not of the first time only
    assert [f.kind for f in again.findings] == [f.kind for f in pool.findings]


def test_nan_inside_of_values_is_said_too():
    for whole in (1, 2**70):  # the second is beyond what the fast writer has
        rows = [{"text": "a"}, *({"text": "b", "n": whole, "deep": deep} for deep in DEEP)]
        pool = didact.read(rows)
        (said,) = (f for f in pool.findings if f.kind == "nan")
        assert (said.count, said.first) == (3, "rows row 2")
        assert b"NaN" not in b"".join(pool.records(range(len(pool))))
        assert rows_of(pool)[1]["deep"] == {"x": [1.0, None]}


def test_errors_name_the_rows_and_stay_what_they_are():
    with pytest.raises(
        ConfigError, match=r"^data.columns.rows: no file is one JSON object, rows is"
    ):
        didact.read(pa.table({"text": ["a"]}), columns={"rows": "items"})
    with pytest.raises(NoSampleError, match="^rows: no sample to use"):
        didact.read(pa.table({"text": pa.array([], pa.string())}))


def test_pandas_says_what_is_missing_in_many_ways():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(
        {"text": ["a", "b", "c"], "n": [1, None, 3], "when": [pd.Timestamp("2026-01-02"), pd.NaT, None], "tag": ["x", pd.NA, np.nan]}
    )  # fmt: skip
    found = rows_of(didact.read(frame))
    assert [row["tag"] for row in found] == ["x", None, None]
    assert [row["n"] for row in found] == [1.0, None, 3.0]
    assert [row["when"] for row in found] == ["2026-01-02T00:00:00", None, None]
    assert rows_of(didact.read(frame.to_dict("records")))[1] == {
        "text": "b",
        "n": None,
        "when": None,
        "tag": None,
    }
    with pytest.raises(DataError, match="^rows: row 2: .*null"):
        didact.read(pd.DataFrame({"text": ["a", None]}))


def test_the_index_of_pandas_counts_if_it_has_a_name():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"text": ["a", "b", "c"]})
    assert rows_of(didact.read(frame[frame["text"] > "a"])) == [{"text": "b"}, {"text": "c"}]
    named = frame.set_index(pd.Index(["x", "y", "z"], name="id"))
    assert didact.read(named).ids.to_pylist() == ["x", "y", "z"]


def test_columns_of_pandas_that_have_no_one_type():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"text": ["a", "b"], "n": [1, "q"]})
    with pytest.raises(DataError, match=r"one type a column: .*to_dict"):
        didact.read(frame)
    assert rows_of(didact.read(frame.to_dict("records"))) == [
        {"text": "a", "n": 1},
        {"text": "b", "n": "q"},
    ]


def test_a_data_set_is_read_in_its_own_order_and_comes_back_with_its_features():
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"text": datasets.Value("string"), "kind": datasets.ClassLabel(names=["no", "yes"])}
    )
    given = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "kind": [0, 1, 1]}, features)
    pool = didact.read(given.select([2, 0]))
    assert [row["text"] for row in rows_of(pool)] == ["c", "a"]
    back = pool.to_dataset([1])
    assert back.features == features
    assert back[0] == {"text": "a", "kind": 0}
    with pytest.raises(DataError, match="is a DatasetDict of 'train'"):
        didact.read(datasets.DatasetDict(train=given))


def test_objects_in_a_data_set_keep_their_own_keys():
    datasets = pytest.importorskip("datasets")
    rows = [
        {"messages": [{"role": "assistant", "tool_calls": [{"arguments": {"k0": 1}}]}]},
        {"messages": [{"role": "assistant", "content": "a"}], "n": 1},
        {"messages": [{"role": "assistant", "content": "b"}], "n": "one"},
    ]
    back = didact.read(rows).to_dataset()
    assert isinstance(back, datasets.Dataset)
    assert list(back) == [{"n": None, **row} for row in rows]
    assert len(didact.read(rows).to_dataset([])) == 0


def test_what_a_data_set_has_no_type_for():
    pytest.importorskip("datasets")
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"text": ["a"], "month": pd.PeriodIndex(["2026-01"], freq="M")})
    pool = didact.read(frame)
    with pytest.raises(DataError, match=r"cannot hold these rows.*pool\.records"):
        pool.to_dataset()


@pytest.fixture
def piped(monkeypatch):
    def pipe(data: bytes):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return pipe


def test_what_is_piped_in(piped):
    lines = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)
    piped(lines)
    pool = didact.read("-")
    assert rows_of(pool) == ROWS
    assert pool.source_names == ("stdin",)
    piped(json.dumps(ROWS).encode())
    assert rows_of(didact.read("-")) == ROWS
    piped(b'{"text": "a"}\n{"text": 7}\n')
    with pytest.raises(DataError, match="^stdin: row 2: text is 7"):
        didact.read("-")
    piped(b"text,n\na,1\n")
    with pytest.raises(
        DataError, match="^stdin: unknown kind of file.*save CSV or plain text in a file"
    ):
        didact.read("-")
    piped(b"")
    with pytest.raises(DataError, match="^stdin: holds nothing"):
        didact.read("-")
    with pytest.raises(DataError, match="is given beside files"):
        didact.read(["-", "x.jsonl"])


def test_a_target_set_may_be_piped_in(piped):
    piped(b'{"text": "a"}\n')
    found = read_target("-", DataSettings(), context())
    assert found.inputs[0]["path"] == "stdin"
    assert len(found.pool) == 1


def test_a_terminal_is_no_pipe(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    with pytest.raises(DataError, match="reads rows that are piped in, and nothing is"):
        didact.read("-")


def test_objects_in_a_column_of_polars_are_refused():
    pl = pytest.importorskip("polars")
    with pytest.raises(DataError, match="column 'o' holds Python objects"):
        didact.read(pl.DataFrame({"text": ["a"], "o": [object()]}))
    with pytest.raises(DataError, match="no rows|no sample"):
        didact.read(pl.DataFrame({"text": []}, schema={"text": pl.String}))
