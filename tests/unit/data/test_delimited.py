"""CSV and TSV: what a cell is, and which row is at fault."""

from __future__ import annotations

import csv
import gzip
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import didact
from didact.core.errors import DataError
from didact.data.export import script_rows
from didact.data.reading.delimited import CONTAINER
from didact.data.reading.discovery import describe
from didact.data.reading.settings import DataSettings


def records(path, **given):
    return [json.loads(row) for _, row, fault in rows(path, **given) if not fault]


def rows(path, **given):
    return list(CONTAINER.rows(describe(path), DataSettings(**given)))


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("x.csv", b"text,n\na,01\n", [{"text": "a", "n": "01"}]),
        ("x.CSV", b"text\na\n", [{"text": "a"}]),
        ("x.tsv", b"text\tn\na,b\t1.0\n", [{"text": "a,b", "n": "1.0"}]),
        ("x.csv", b"\xef\xbb\xbftext;n\r\na,b;c\r\n", [{"text": "a,b", "n": "c"}]),
        ("x.csv", b"text|n\na|b\n", [{"text": "a", "n": "b"}]),
        ("x.csv", b"sep=;\ntext;a,b,c\n1;2\n", [{"text": "1", "a,b,c": "2"}]),
        ("x.csv", b'"a;b;c",n\n1,2\n', [{"a;b;c": "1", "n": "2"}]),
        (
            "x.csv",
            b'text,n\n"a ""q"", b\r\nc\n",1\n\n\nd,\n',
            [{"text": 'a "q", b\r\nc\n', "n": "1"}, {"text": "d", "n": ""}],
        ),
        ("x.csv", b"text,n\ra,b\rc,d", [{"text": "a", "n": "b"}, {"text": "c", "n": "d"}]),
        ("x.csv", b",text\n0,a\n", [{"": "0", "text": "a"}]),
        ("x.csv", "text\n猫\n".encode(), [{"text": "猫"}]),
        ("x.csv", b"text,n\n", []),
        ("x.csv", b"", []),
    ],
)
def test_cells(tmp_path, name, data, expected):
    (tmp_path / name).write_bytes(data)
    assert records(tmp_path / name) == expected
    packed = tmp_path / f"{name}.gz"
    packed.write_bytes(gzip.compress(data))
    assert records(packed) == expected


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(cells, cells), max_size=5), st.sampled_from(",;\t|"))
def test_what_csv_writers_write_comes_back(tmp_path_factory, table, delimiter):
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerows([("one", "two"), *table])
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    path.write_bytes(out.getvalue().encode())
    assert [tuple(row.values()) for row in records(path)] == table


@pytest.mark.parametrize(
    ("line", "number", "message"),
    [
        (b"a,b,c\n", 2, "has 3 cells (line 3 of the file), the header has 2"),
        (b"a\n", 2, "has 1 cells (line 3 of the file), the header has 2"),
        (b'"a"b,c\n', 2, "is no CSV: ',' expected after '\"' (line 3 of the file)"),
        (b'"a,b\n\n\n', 2, "unexpected end of data (lines 3 to 5 of the file)"),
        (b"caf\xe9,b\n", 2, r"b'caf\xe9\tb' at byte 3 of the row is not UTF-8"),
        (b"a\0,b\n", 2, "has a NUL byte; expected text"),
        (b'"' + b"a,b\n" * 2000 + b'",b\n', 2, "longer than 2048 bytes"),
        (b"a" * 9000 + b",b\n", 2, "(line 3 of the file)"),
    ],
)
def test_the_row_at_fault_is_named_and_the_others_are_read(tmp_path, line, number, message):
    path = tmp_path / "x.csv"
    path.write_bytes(
        b"text,n\ngood,1\n" + line + (b"" if line.startswith(b'"a,b\n\n') else b"last,3\n")
    )
    with pytest.raises(DataError) as error:
        didact.read(path, max_row_bytes=2048)
    assert f"x.csv: row {number}: " in str(error.value)
    assert message in str(error.value)
    pool = didact.read(path, max_row_bytes=2048, on_bad_row="skip")
    texts = [json.loads(row)["text"] for row in pool.records(range(len(pool)))]
    assert texts == ["good", "last"][: 1 if line.startswith(b'"a,b\n\n') else 2]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"text,text\n", "the column 'text' twice"),
        (b"text,caf\xe9\n", "not UTF-8"),
        (b"text,\0\n", "has a NUL byte"),
        (b'"text,n\n\n', r"unexpected end of data \(lines 1 to 2 of the file\)"),
        (b"x" * 3000, "longer than"),
    ],
)
def test_headers_that_cannot_be_used(tmp_path, header, message):
    (tmp_path / "x.csv").write_bytes(header + b"a,b\n" * (header[0] != ord('"')))
    with pytest.raises(DataError, match=message):
        didact.read(tmp_path / "x.csv", max_row_bytes=2048)


def test_an_empty_cell_is_a_missing_value_and_stays_empty_in_the_row(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("messages,text,source,id\n,hello,,\n")
    pool = didact.read(path)
    assert pool.meta["formats"] == ["text"]
    assert pool.source_names == ("x",)
    assert list(pool.records([0])) == [b'{"messages":"","text":"hello","source":"","id":""}']


def test_blank_lines_are_counted_where_they_may_be_values(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("text\na\n\nb\n\n\n")
    pool = didact.read(path)
    (found,) = (f for f in pool.findings if f.kind == "blank_records")
    assert (len(pool), found.count, found.first) == (2, 3, "x.csv line 3")
    path.write_text("text,n\na,1\n\nb,2\n")
    assert didact.read(path).findings == ()


def test_csv_and_json_lines_stand_in_one_pool(tmp_path):
    (tmp_path / "a.csv").write_text("prompt,completion\nq,a\n")
    (tmp_path / "b.jsonl").write_text('{"prompt": "q", "completion": "b"}\n')
    pool = didact.read(tmp_path)
    assert pool.read([0, 1], ["completion"]).column("completion").to_pylist() == ["a", "b"]


MESSAGES = [{"role": "assistant", "content": "a"}]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (json.dumps(MESSAGES), "a"),
        (json.dumps(MESSAGES[0], indent=1), "a"),
        ('[{"from": "gpt", "value": "a"}]', "a"),
        ('[{"role": "assistant", "tool_calls": [{"name": "f"}]}]', '[{"name":"f"}]'),
        ('{"answer": 42}', '{"answer": 42}'),
        ('[{"role": "assistant"}]', '[{"role": "assistant"}]'),
        ('[{"role": "x", "content": "a"}, 1]', '[{"role": "x", "content": "a"}, 1]'),
        ("[]", "[]"),
        ("[a", "[a"),
    ],
)
def test_answers_that_are_messages_as_json_text(tmp_path, text, expected):
    """As tables without lists have them; a script that trains on them reads them alike."""
    row = {"prompt": "q", "completion": text, "chosen": text, "rejected": "b", "label": "1"}
    for names in (("completion",), ("chosen", "rejected"), ("completion", "label")):
        path = tmp_path / f"{'-'.join(names)}.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["prompt", *names])
            writer.writeheader()
            writer.writerow({name: row[name] for name in ("prompt", *names)})
        pool = didact.read(path)
        assert pool.read([0], ["completion"]).column(0).to_pylist() == [expected]
        said = [finding.kind for finding in pool.findings]
        assert ("json_text" in said) == (expected != text)
    found = script_rows.spoken({"completion": text}, "completion")
    assert isinstance(found, str) == (expected == text)


def test_history_as_json_text(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text('instruction,output,history\nq,a,"[[""p"",""r""]]"\nq,a,\n')
    pool = didact.read(path)
    assert pool.read([0, 1], ["prompt"]).column(0).to_pylist() == ["p\nq", "q"]
