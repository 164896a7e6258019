"""Bad input: a clear error with file, row, value, expectation and remedy; nothing lost by `skip`.

Each case is read three ways: raising, through the command line as a user would (exit 1, no
traceback), and with `on_bad_row: skip`, where every good row is still there and every bad one is in
rejected.jsonl.
"""

from __future__ import annotations

import errno
import gzip
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

import didact
from didact.core.errors import DataError
from didact.core.scores import TrainingOrder
from didact.data.store import shard_writer as shard
from didact.data.store import writer as store

MEMORY = 700 * 2**20


@pytest.fixture
def inspect(warm_didact):
    """`didact inspect` in a process of its own."""

    def call(path: Path, cache: Path, *options: str, limit: int | None = None):
        words = ["inspect", str(path), "--json", "--cache-dir", str(cache), *options]

        def limited() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        start = warm_didact if limit is None else [sys.executable, "-m", "didact.cli"]
        return subprocess.run(
            [*start, *words], capture_output=True, text=True, check=False,
            preexec_fn=None if limit is None else limited,
            env={**os.environ, "PYTHONUTF8": "1"},
        )  # fmt: skip

    return call


@pytest.fixture
def refused(inspect, tmp_path):
    """What the command line says: exit code 1, all the parts, no traceback."""

    def call(path: Path, *parts: str, options: tuple[str, ...] = ()) -> str:
        done = inspect(path, tmp_path / "cli-cache", *options)
        assert done.returncode == 1, done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
        for part in parts:
            assert part in done.stderr, done.stderr
        assert len(done.stderr) < 3000
        left = tmp_path / "cli-cache" / "tmp"
        assert not left.exists() or not list(left.iterdir())
        return done.stderr

    return call


@dataclass
class Case:
    """A file with bad rows.

    Attributes:
        data: The file's bytes.
        bad: Row number → parts of the reason.
        good: The rows that are left, as bytes, in order.
        name: The file's name.
        settings: How it is read.
        raw: Row number → what rejected.jsonl keeps, where it is not the line.
    """

    data: bytes
    bad: dict[int, tuple[str, ...]]
    good: list[bytes]
    name: str = "pool.jsonl"
    settings: dict[str, Any] = field(default_factory=dict)
    raw: dict[int, bytes] | None = None


OK = [b'{"text": "a"}', b'{"text": "b"}', b'{"text": "c"}']
CHAT = b'{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}'
DEEP = b'{"text": "d", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"


def lines(*rows: bytes) -> bytes:
    return b"\n".join(rows) + b"\n"


CASES = {
    "truncated JSONL": Case(
        lines(*OK) + b'{"text": "d", "meta": {"k": [1, 2',
        {4: ("is not JSON", "expected one whole object")},
        OK,
    ),
    "no JSON": Case(lines(OK[0], b"hello", OK[1]), {2: ("'hello' is not JSON",)}, OK[:2]),
    "an object over several lines": Case(
        b'{\n"text": "a"\n}\n',
        {1: ("belongs into an array",), 2: ("is not JSON",), 3: ("is not JSON",)},
        [],
    ),
    "no objects": Case(
        lines(OK[0], b"[1, 2]", b'"x"', b"7", b"null", OK[1]),
        {
            2: ("[1, 2] is an array; expected a JSON object",),
            3: ("'x' is a text; expected a JSON object",),
            4: ("7 is a number",),
            5: ("None is null",),
        },
        OK[:2],
    ),
    "invalid UTF-8": Case(
        lines(OK[0], b'{"text": "caf\xe9"}', OK[1]),
        {2: (r"caf\xe9", "at byte 13 of the row is not UTF-8", "iconv -f latin1 -t utf-8")},
        OK[:2],
    ),
    "invalid UTF-8 in an array": Case(
        b"[" + OK[0] + b', {"text": "\xff"},' + OK[1] + b"]",
        {2: ("is not UTF-8",)},
        OK[:2],
        name="pool.json",
        raw={2: b'{"text": "\xff"}'},
    ),
    "NUL in JSONL": Case(lines(OK[0], b'{"text": "a\0b"}'), {2: ("is not JSON",)}, OK[:1]),
    "NUL in text": Case(
        b"good line\nbin\0ary\nother\n",
        {2: ("has a NUL byte; expected text",)},
        [b'{"text":"good line"}', b'{"text":"other"}'],
        name="notes.txt",
    ),
    "invalid UTF-8 in text": Case(
        b"caf\xe9\ngood\n", {1: ("is not UTF-8",)}, [b'{"text":"good"}'], name="notes.txt"
    ),
    "half surrogate pairs": Case(
        lines(
            OK[0],
            b'{"text": "\\ud83d"}',
            b'{"text": "x", "id": "\\udc00"}',
            b'{"text": "y", "source": "\\ud800"}',
            b'{"text": "kept", "meta": "\\ud800"}',
        ),
        {
            2: ("half of a surrogate pair", "expected valid Unicode"),
            3: ("half of",),
            4: ("half of",),
        },
        [OK[0], b'{"text": "kept", "meta": "\\ud800"}'],
    ),
    "deep nesting": Case(lines(OK[0], DEEP, OK[1]), {2: ("nested too deep",)}, OK[:2]),
    "wrong types": Case(
        lines(
            OK[0],
            b'{"text": 5}',
            b'{"text": ["x"]}',
            b'{"text": {"x": 1}}',
            b'{"text": true}',
            b'{"text": "x", "id": [1]}',
            b'{"text": "x", "id": 1.5}',
            b'{"text": "x", "id": false}',
            b'{"text": "x", "source": {"a": 1}}',
            b'{"text": "x", "task": ["a"]}',
            b'{"text": "x", "id": 1234567890123456789012345}',
        ),
        {
            2: ("text is 5 (int); expected text",),
            3: ("text is ['x'] (list)",),
            4: ("text is {'x': 1} (dict)",),
            5: ("text is True (bool)",),
            6: ("id is [1] (list); expected text or a whole number", "columns.id=-"),
            7: ("id is 1.5 (float)",),
            8: ("id is False (bool)",),
            9: ("source is {'a': 1} (dict)", "columns.source=-"),
            10: ("task is ['a'] (list)",),
            11: ("id is 1.23",),
        },
        OK[:1],
    ),
    "messages that are none": Case(
        lines(
            CHAT,
            b'{"messages": []}',
            b'{"messages": "hi"}',
            b'{"messages": null}',
            b'{"messages": [null]}',
            b'{"messages": [{"role": "user"}]}',
            b'{"messages": [{"content": "x"}]}',
            b'{"messages": [{"role": 3, "content": "x"}]}',
            b'{"messages": [{"role": "user", "content": 3}]}',
            b'{"messages": [{"role": "user", "content": ""}]}',
            b'{"messages": [{"role": "user", "content": "x", "weight": "y"}]}',
            b'{"text": "another schema"}',
            CHAT,
        ),
        {
            2: ("messages is empty; expected at least one message",),
            3: ("messages is 'hi' (str); expected a list",),
            4: ("column 'messages' is null",),
            5: ("messages[0] is None; expected an object",),
            6: ("messages[0] has the keys ['role']; expected 'content'",),
            7: ("expected 'role'", "columns.role=YOUR_KEY"),
            8: ("has role 3",),
            9: ("messages[0].content is 3 (int); expected text",),
            10: ("no text at all",),
            11: ("weight is 'y'; expected a number",),
            12: (
                "column 'messages' is missing; the row has ['text']",
                "the row before has one; give it one, or leave such rows out",
            ),
        },
        [CHAT, CHAT],
    ),
    "repeated ids": Case(
        lines(
            b'{"id": "x", "text": "a"}',
            b'{"id": 7, "text": "b"}',
            b'{"id": "x", "text": "c"}',
            b"bad",
            b'{"id": "7", "text": "d"}',
            b'{"id": "y", "text": "a"}',
        ),
        {
            3: ("the id 'x' was already given to an earlier row", "rename one", "columns.id=-"),
            4: ("is not JSON",),
            5: ("the id '7' was already given",),
        },
        [b'{"id": "x", "text": "a"}', b'{"id": 7, "text": "b"}', b'{"id": "y", "text": "a"}'],
    ),
    "a missing column": Case(
        lines(b'{"body": "a"}', b'{"text": "b"}', b'{"body": "c"}'),
        {2: ("column 'body' is missing; the row has ['text']: only this row lacks it",)},
        [b'{"body": "a"}', b'{"body": "c"}'],
        settings={"format": "text", "columns": {"text": "body"}},
    ),
    "the first row is bad": Case(
        lines(b'{"input_ids": [1, 2]}', b'{"x": 1}', CHAT),
        {1: ("already tokenized (input_ids)", "before tokenization"), 2: ("no known format",)},
        [CHAT],
    ),
    "a long line": Case(
        lines(OK[0], b'{"text": "' + b"x" * 5000 + b'"}', OK[1]),
        {2: ("longer than 4096 bytes, it begins", "data.max_row_bytes")},
        OK[:2],
        settings={"max_row_bytes": 4096},
    ),
    "a truncated array": Case(
        b"[" + b",\n ".join(OK) + b',\n {"text": "d", "m": [1',
        {4: ("the file ends inside the array", "truncated")},
        OK,
        name="pool.json",
        raw={4: b'{"text": "d", "m": [1'},
    ),
    "broken elements of an array": Case(
        b"[" + OK[0] + b', {"text" "x"}, 5, ' + OK[1] + b", ]",
        {2: ("is not JSON",), 3: ("5 is a number",), 5: ("is not JSON",)},
        OK[:2],
        name="pool.json",
        raw={2: b'{"text" "x"}', 3: b"5", 5: b""},
    ),
    "text behind an array": Case(
        b"[" + OK[0] + b"]\n" + OK[1],
        {2: ("stands after the array's end",)},
        OK[:1],
        name="pool.json",
        raw={2: OK[1]},
    ),
}


def as_options(settings: dict[str, Any]) -> tuple[str, ...]:
    out = []
    for name, value in settings.items():
        pairs = (
            {f"{name}.{k}": v for k, v in value.items()}
            if isinstance(value, dict)
            else {name: value}
        )
        out += [x for k, v in pairs.items() for x in ("--data", f"{k}={v}")]
    return tuple(out)


@pytest.mark.parametrize("name", CASES)
def test_bad_rows(name, tmp_path):
    case = CASES[name]
    path = tmp_path / case.name
    path.write_bytes(case.data)
    first = min(case.bad)
    with pytest.raises(DataError) as raised:
        didact.read(path, **case.settings)
    message = str(raised.value)
    for part in (f"{path}: row {first}: ", *case.bad[first], "on_bad_row=skip"):
        assert part in message
    assert len(message) < 2500

    if not case.good:
        with pytest.raises(DataError, match=r"no sample to use \(3 rows read, 3 rejected"):
            didact.read(path, on_bad_row="skip", **case.settings)
        return
    for batch_rows in (4096, 1, 2):
        pool = didact.read(path, on_bad_row="skip", batch_rows=batch_rows, **case.settings)
        assert list(pool.records(range(len(pool)))) == case.good
        counts = pool.meta["counts"]
        assert (counts["rejected"], counts["kept"]) == (len(case.bad), len(case.good))
        assert counts["read"] == len(case.bad) + len(case.good)
        listed = (pool.path / "rejected.jsonl").read_bytes().splitlines()
        entries = {e["row"]: e for e in map(json.loads, listed)}
        assert list(entries) == sorted(case.bad)
        assert len(entries) == len(listed)
        for row, parts in case.bad.items():
            entry = entries[row]
            assert entry["file"] == case.name
            for part in parts:
                assert part in entry["reason"]
            whole = case.data.split(b"\n")
            expected = case.raw[row] if case.raw is not None else whole[row - 1]
            if "begins" in entry:
                assert expected.decode().startswith(entry["begins"])
                assert len(entry["begins"]) == 1000
            elif "raw" in entry:
                assert entry["raw"] == expected.decode()
            else:
                assert entry["raw_latin1"].encode("latin-1") == expected


@pytest.mark.parametrize(
    "name",
    ["truncated JSONL", "invalid UTF-8", "half surrogate pairs", "deep nesting", "repeated ids",
     "a long line", "the first row is bad", "NUL in text"],
)  # fmt: skip
def test_bad_rows_on_the_command_line(name, tmp_path, inspect, refused):
    case = CASES[name]
    path = tmp_path / case.name
    path.write_bytes(case.data)
    first = min(case.bad)
    options = as_options(case.settings)
    refused(path, f"{path}: row {first}: ", *case.bad[first], options=options)
    done = inspect(path, tmp_path / "cache", *options, "--data", "on_bad_row=skip")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["rejected"], found["samples"]) == (len(case.bad), len(case.good))


def test_repeated_ids_over_batches_and_files(tmp_path):
    for name, ids in {"1": "abc", "2": "dbe"}.items():
        (tmp_path / f"{name}.jsonl").write_bytes(
            lines(*(orjson.dumps({"id": i, "text": i + name}) for i in ids))
        )
    files = [tmp_path / "1.jsonl", tmp_path / "2.jsonl"]
    with pytest.raises(DataError, match=r"2.jsonl: row 2: the id 'b' was already given"):
        didact.read(files, batch_rows=2)
    pool = didact.read(files, batch_rows=2, on_bad_row="skip")
    assert pool.ids.to_pylist() == ["a", "b", "c", "d", "e"]
    (entry,) = map(json.loads, (pool.path / "rejected.jsonl").read_bytes().splitlines())
    assert (entry["file"], entry["row"]) == ("2.jsonl", 2)
    assert len(didact.read(files, columns={"id": "-"})) == 6


def test_the_first_bad_row_is_named_whatever_the_batches(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(lines(*OK, b'{"id": 1, "text": "a"}', b'{"id": 1, "text": "b"}', b"bad"))
    for batch_rows in (1, 2, 5, 4096):
        with pytest.raises(DataError, match="row 5: the id '1' was already given"):
            didact.read(path, batch_rows=batch_rows)


# -- what is no bad row ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("bom.jsonl", b"\xef\xbb\xbf" + lines(*OK)),
        ("crlf.jsonl", b"\r\n".join(OK) + b"\r\n"),
        ("bom.json", b"\xef\xbb\xbf[" + b",".join(OK) + b"]"),
        ("blank.jsonl", b"\n\n \t \n" + b"\n\r\n".join(OK)),
        ("nan.jsonl", lines(*OK)),
    ],
)
def test_harmless_oddities(name, data, tmp_path):
    (tmp_path / name).write_bytes(data)
    pool = didact.read(tmp_path / name)
    assert list(pool.records(range(len(pool)))) == OK


def test_odd_values_are_kept_as_they_came(tmp_path, inspect):
    rows = [
        b'{"text": "a", "n": NaN, "i": [Infinity, -Infinity]}',
        b'{"text": "b", "big": 123456789012345678901234567890, "huge": 1e999}',
        b'{"text": "first", "text": "c"}',
        b'{"text": "d", "deep": ' + b"[" * 500 + b"]" * 500 + b"}",
        b'{"text": "e\\u0000f", "key\\ud800": 1}',
    ]
    (tmp_path / "x.jsonl").write_bytes(lines(*rows))
    pool = didact.read(tmp_path / "x.jsonl")
    assert list(pool.records(range(5))) == rows
    texts = pool.read(range(5), ["text"]).column(0).to_pylist()
    assert texts == ["a", "b", "c", "d", "e\0f"]
    done = inspect(tmp_path / "x.jsonl", tmp_path / "cache")
    assert done.returncode == 0, done.stderr


# -- whole files -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("empty.jsonl", b""),
        ("empty.json", b""),
        ("empty.txt", b""),
        ("blank.jsonl", b"\n \n\r\n"),
        ("blank.txt", b"\n\n"),
        ("array.json", b"[]"),
        ("empty.jsonl.gz", gzip.compress(b"", mtime=0)),
        ("empty.jsonl.zst", zstandard.compress(b"")),
    ],
)
@pytest.mark.parametrize("on_bad_row", ["raise", "skip"])
def test_files_without_rows(name, data, on_bad_row, tmp_path):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=rf"{name}: no sample to use \(0 rows read"):
        didact.read(tmp_path / name, on_bad_row=on_bad_row)


def test_an_empty_file_on_the_command_line(tmp_path, refused):
    (tmp_path / "x.jsonl").write_bytes(b"")
    refused(tmp_path / "x.jsonl", "no sample to use", "expected at least one")


def corrupted(tmp_path: Path) -> dict[str, tuple[bytes, str]]:
    """name → (bytes, what the message says)."""
    plain = b"".join(b'{"text": "row %d"}\n' % i for i in range(20_000))
    table = pa.table({"text": [f"row {i}" for i in range(20_000)]})
    pq.write_table(table, tmp_path / "good.parquet")
    parquet = (tmp_path / "good.parquet").read_bytes()
    with pa.ipc.new_file(str(tmp_path / "good.arrow"), table.schema) as out:
        out.write_table(table, max_chunksize=1000)
    arrow = (tmp_path / "good.arrow").read_bytes()
    with pa.ipc.new_stream(str(tmp_path / "good.stream"), table.schema) as out:
        out.write_table(table, max_chunksize=1000)
    stream = (tmp_path / "good.stream").read_bytes()
    packed, frames = gzip.compress(plain), zstandard.compress(plain)
    middle = len(packed) // 2
    return {
        "cut.jsonl.gz": (packed[:middle], "corrupt or truncated gzip"),
        "flipped.jsonl.gz": (packed[:middle] + b"\0\0\0\0" + packed[middle + 4 :], "corrupt"),
        "no_checksum.jsonl.gz": (packed[:-8], "corrupt or truncated gzip"),
        "empty.jsonl.gz": (b"", "named .gz but starts with b''"),
        "plain.jsonl.gz": (plain, "named .gz but starts with"),
        "cut.jsonl.zst": (frames[: len(frames) // 2], "corrupt or truncated zstd"),
        "tail.jsonl.zst": (frames[:-1], "corrupt or truncated zstd"),
        "garbage.jsonl.zst": (frames + b"garbage", "corrupt or truncated zstd"),
        "empty.jsonl.zst": (b"", "named .zst but starts with b''"),
        "cut.parquet": (parquet[: len(parquet) // 2], "not a readable Parquet"),
        "footer.parquet": (parquet[:-12] + b"\xff" * 8 + parquet[-4:], "not a readable Parquet"),
        "pages.parquet": (parquet[:4] + bytes(2000) + parquet[2004:], "may be damaged"),
        "head.parquet": (b"PAR1", "not a readable Parquet"),
        "no.parquet": (b"", "named .parquet but starts with b''"),
        "cut.arrow": (arrow[: len(arrow) // 2], "not a readable Parquet or Arrow file"),
        "head.arrow": (b"ARROW1\0\0", "not a readable Parquet or Arrow file"),
        "cut.stream": (stream[: len(stream) // 2], "may be damaged"),
        "head.stream": (stream[:6], "not a readable Parquet or Arrow file"),
    }


def test_corrupt_and_truncated_files(tmp_path):
    for name, (data, message) in corrupted(tmp_path).items():
        path = tmp_path / name
        path.write_bytes(data)
        for on_bad_row in ("raise", "skip"):
            with pytest.raises(DataError) as raised:
                didact.read(path, cache_dir=tmp_path / "cache", on_bad_row=on_bad_row)
            assert str(path) in str(raised.value), name
            assert message in str(raised.value), name
        left = tmp_path / "cache" / "tmp"
        assert not left.exists() or not list(left.iterdir())
    assert not (tmp_path / "cache" / "pools").exists()


@pytest.mark.parametrize("name", ["cut.jsonl.gz", "tail.jsonl.zst", "cut.parquet", "cut.arrow"])
def test_corrupt_files_on_the_command_line(name, tmp_path, refused):
    data, message = corrupted(tmp_path)[name]
    (tmp_path / name).write_bytes(data)
    refused(tmp_path / name, name, message, "expected a whole")


def test_a_table_with_bad_rows(tmp_path):
    rows = pa.table(
        {
            "id": ["a", "b", "a", "d", "e"],
            "text": ["one", None, "three", "", "five"],
            "when": pa.array([10**18] * 5, pa.timestamp("ns")),
        }
    )
    pq.write_table(rows, tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"x.parquet: row 2: column 'text' is null; the row has"):
        didact.read(tmp_path / "x.parquet")
    for batch_rows in (1, 2, 4096):
        pool = didact.read(tmp_path / "x.parquet", on_bad_row="skip", batch_rows=batch_rows)
        assert pool.record_table(range(2)).column("id").to_pylist() == ["a", "e"]
        entries = [json.loads(x) for x in (pool.path / "rejected.jsonl").read_bytes().splitlines()]
        assert [e["row"] for e in entries] == [2, 3, 4]
        assert json.loads(entries[1]["raw"])["text"] == "three"
        assert "the id 'a' was already given" in entries[1]["reason"]
        assert "no text at all" in entries[2]["reason"]


def test_a_table_with_invalid_utf8(tmp_path):
    bad = pa.array([b"good", b"\xff\xfe", b"fine"]).view(pa.string())
    table = pa.table({"text": bad})
    with pa.ipc.new_file(str(tmp_path / "x.arrow"), table.schema) as out:
        out.write_table(table)
    with pytest.raises(DataError, match="row 2: a value of the row cannot be read .*valid UTF-8"):
        didact.read(tmp_path / "x.arrow")
    pool = didact.read(tmp_path / "x.arrow", on_bad_row="skip")
    assert pool.read(range(2), ["text"]).column(0).to_pylist() == ["good", "fine"]
    assert pool.meta["counts"]["rejected"] == 1


def test_a_table_that_is_tokenized(tmp_path, refused):
    pq.write_table(pa.table({"input_ids": [[1, 2]], "labels": [[1, 2]]}), tmp_path / "x.parquet")
    refused(tmp_path / "x.parquet", "row 1", "already tokenized", "before tokenization")


# -- several files ---------------------------------------------------------------------------------


def test_mixed_schemas(tmp_path, refused):
    chat, text = tmp_path / "chat.jsonl", tmp_path / "text.jsonl"
    chat.write_bytes(lines(CHAT))
    text.write_bytes(lines(*OK))
    with pytest.raises(
        DataError, match=r"text.jsonl: holds text \(text\) rows, .*chat.jsonl holds"
    ):
        didact.read([chat, text])
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "t.parquet")
    with pytest.raises(
        DataError, match=r"t.parquet is parquet and .*text.jsonl is jsonl; expected"
    ):
        didact.read([text, tmp_path / "t.parquet"])
    one = tmp_path / "mixed.jsonl"
    one.write_bytes(lines(CHAT, OK[0]))
    refused(one, "row 2", "column 'messages' is missing")


def test_what_is_not_there_or_unknown(tmp_path, refused):
    refused(tmp_path / "none.jsonl", "none.jsonl: no such file")
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    refused(tmp_path / "x.csv", "row 1: no known format has the columns ['a', 'b']")
    (tmp_path / "x.xlsx").write_bytes(b"PK\x03\x04 and so on")
    refused(tmp_path / "x.xlsx", "unknown kind of file")
    (tmp_path / "x.jsonl").write_bytes("{}".encode("utf-16"))
    refused(tmp_path / "x.jsonl", "UTF-16", "iconv -f utf-16 -t utf-8")


def test_tokenizers_that_are_none(tmp_path, refused):
    path = tmp_path / "x.jsonl"
    path.write_bytes(lines(*OK))
    (tmp_path / "tokenizer.json").write_text("{}")
    options = ("--data", f"tokenizer={tmp_path / 'tokenizer.json'}")
    refused(path, "is not a tokenizer.json", options=options)
    options = ("--data", f"tokenizer={tmp_path / 'none.json'}")
    refused(path, "none.json: no such file", options=options)


# -- long rows -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_line(tmp_path_factory) -> Path:
    """A good row, a row of 50 MB, a good row."""
    path = tmp_path_factory.mktemp("long") / "x.jsonl"
    with path.open("wb") as file:
        file.write(OK[0] + b'\n{"text": "')
        for _ in range(50):
            file.write(b"word " * 200_000)
        file.write(b'"}\n' + OK[1] + b"\n")
    return path


MEASURED = """
import sys, didact
pool = didact.read(sys.argv[1], cache_dir=sys.argv[2], **eval(sys.argv[3]))
# Not ru_maxrss, which begins with what the process that started this one held.
status = dict(line.split(":") for line in open("/proc/self/status"))
peak = int(status["VmHWM"].split()[0]) * 1024
print(len(pool), int(pool.n_bytes.max()), peak)
"""


def measured(path: Path, tmp_path: Path, **settings: Any) -> list[int]:
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(path), str(tmp_path / "cache"), repr(settings)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [int(x) for x in done.stdout.split()]


def test_a_line_of_50_mb(long_line, tmp_path, refused):
    refused(long_line, "row 2: longer than 33554432 bytes", "data.max_row_bytes")
    n, longest, peak = measured(long_line, tmp_path, on_bad_row="skip")
    assert (n, longest) == (2, 1)
    assert peak < MEMORY
    n, longest, peak = measured(long_line, tmp_path, max_row_bytes=2**26)
    assert (n, longest) == (3, 50 * 10**6)
    assert peak < MEMORY


# -- permissions and disks -------------------------------------------------------------------------


def as_nobody(*command: str) -> subprocess.CompletedProcess[str]:
    """Run without the rights of root."""
    prefix = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("running as root, and setpriv is not there to give that up")
        prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
    return subprocess.run(
        [*prefix, *command], capture_output=True, text=True, check=False, env={**os.environ}
    )


@pytest.fixture
def open_folder():
    """A folder that a user without rights can reach.

    It is none of pytest's: each pytest that starts closes the folder of them all to others.
    """
    place = Path(tempfile.mkdtemp())
    place.chmod(0o755)
    try:
        reads = f"import didact, os; os.listdir({str(place)!r})"
        if as_nobody(sys.executable, "-c", reads).returncode:
            pytest.skip("other users cannot read the environment, or the temporary folder")
        yield place
    finally:
        shutil.rmtree(place)


def test_no_permission(open_folder):
    path, cache = open_folder / "x.jsonl", open_folder / "cache"
    path.write_bytes(lines(*OK))
    cache.mkdir(mode=0o777)
    cache.chmod(0o777)
    command = [sys.executable, "-m", "didact.cli", "inspect", str(path), "--cache-dir", str(cache)]
    assert as_nobody(*command).returncode == 0
    path.chmod(0)
    done = as_nobody(*command)
    assert done.returncode == 1, done.stderr
    assert f"{path}: no permission to read it; chmod +r" in done.stderr
    path.chmod(0o644)
    open_folder.chmod(0o700)
    done = as_nobody(*command)
    assert done.returncode == 1, done.stderr
    assert f"{path}: no permission to enter {open_folder}; chmod +x" in done.stderr
    open_folder.chmod(0o755)
    shutil.rmtree(cache / "reads")
    for folder in (cache / "unfinished", cache / "tmp", cache):
        folder.chmod(0o555)
    done = as_nobody(*command)
    assert done.returncode == 1, done.stderr
    assert "cannot be written" in done.stderr
    assert "DIDACT_CACHE" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("limit", [1, 5_000, 200_000, 2_000_000])
def test_a_full_disk_while_reading(tmp_path, limit, inspect):
    # A limit on file sizes fails like a full disk: a write comes back short, with an errno.
    path = tmp_path / "x.jsonl"
    path.write_bytes(
        b"".join(
            b'{"text": "row %d of some length, so that files grow"}\n' % i for i in range(40_000)
        )
    )
    cache = tmp_path / "cache"
    done = inspect(path, cache, limit=limit)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "no space left on the disk" in done.stderr
    assert "--cache-dir or DIDACT_CACHE" in done.stderr
    assert not list((cache / "tmp").iterdir())
    assert not [p for p in cache.rglob("*") if p.is_file()]
    assert inspect(path, cache).returncode == 0


@pytest.mark.parametrize("container", ["jsonl", "parquet"])
@pytest.mark.parametrize("call", range(1, 9))
def test_a_disk_that_fills_up_at_any_write(tmp_path, monkeypatch, container, call):
    path = tmp_path / f"x.{container}"
    if container == "parquet":
        pq.write_table(pa.table({"text": [f"row {i}" for i in range(50)]}), path)
    else:
        path.write_bytes(b"".join(b'{"text": "row %d"}\n' % i for i in range(50)))
    calls = 0

    def failing(original):
        def write(*arguments, **more):
            nonlocal calls
            calls += 1
            if calls == call:
                raise OSError(errno.ENOSPC, "No space left on device")
            return original(*arguments, **more)

        return write

    for writer, name in (
        (shard.ShardWriter, "add"), (shard.ShardWriter, "_append"), (shard.JsonRecords, "write"),
        (shard.ArrowRecords, "write"), (shard.ShardWriter, "finish"), (store.StoreWriter, "add"),
        (store.StoreWriter, "finish"),
    ):  # fmt: skip
        monkeypatch.setattr(writer, name, failing(getattr(writer, name)))
    with pytest.raises(DataError, match="no space left on the disk"):
        didact.read(path, cache_dir=tmp_path / "cache", batch_rows=20)
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    assert not list((tmp_path / "cache" / "tmp").iterdir())
    monkeypatch.undo()
    assert len(didact.read(path, cache_dir=tmp_path / "cache", batch_rows=20)) == 50


def test_a_small_real_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "none", str(disk)], check=False,
        capture_output=True,
    ).returncode == 0  # fmt: skip
    if not mounted:
        pytest.skip("no right to mount a small disk")
    try:
        path = tmp_path / "x.jsonl"
        path.write_bytes(b"".join(b'{"text": "row %d"}\n' % i for i in range(20_000)))
        with pytest.raises(DataError, match="no space left on the disk"):
            didact.read(path, cache_dir=disk / "cache")
        assert not [p for p in (disk / "cache").rglob("*") if p.is_file()]
        pool = didact.read(path)
        order = TrainingOrder(range(len(pool)), pool.fingerprint, "test")
        for fmt in ("jsonl", "jsonl.zst", "parquet"):
            with pytest.raises(DataError, match="no space left on the disk"):
                for i in range(40):  # the compressed ones need several files to fill it
                    didact.export(pool, order, disk / "out", format=fmt, name=f"train{i}")
            assert not [p for p in disk.rglob("*") if p.name.endswith(".tmp")]
            shutil.rmtree(disk / "out")
    finally:
        subprocess.run(["umount", str(disk)], check=True)
