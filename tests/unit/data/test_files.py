"""Containers: which files are meant, and the bytes of each row."""

from __future__ import annotations

import gzip
import json
import os
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from didact.core.errors import DataError
from didact.data.reading import files
from didact.data.reading.discovery import default_source, describe, expand
from didact.data.reading.files import File
from didact.data.reading.json_arrays import array_elements
from didact.data.reading.lines import lines
from didact.data.reading.plain_text import paragraphs, whole

MOST = 2**20


def file(path: Path, data: bytes, container="jsonl") -> File:
    path.write_bytes(data)
    return File(path, container, describe(path).codec)


def compressed(data: bytes) -> dict[str, bytes]:
    zstd = zstandard.ZstdCompressor()
    skippable = b"\x50\x2a\x4d\x18\x04\x00\x00\x00skip"
    half = len(data) // 2
    return {
        "x": data,
        "x.gz": gzip.compress(data),
        "x.two-members.gz": gzip.compress(data[:half]) + gzip.compress(data[half:]),
        "x.zst": zstd.compress(data),
        "x.frames.zst": zstd.compress(data[:half])
        + zstd.compress(b"")
        + zstd.compress(data[half:]),
        "x.skippable.zst": zstd.compress(data[:half]) + skippable + zstd.compress(data[half:]),
        "x.stream.zst": _streamed(data),
    }


def _streamed(data: bytes) -> bytes:
    """A frame that does not say how long it is."""
    compressor = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    return b"".join([compressor.compress(data[:100]), compressor.compress(data[100:]),
                     compressor.flush()])  # fmt: skip


@pytest.mark.parametrize("size", [0, 1, 5000, 3 * 2**20])
def test_codecs(tmp_path, size):
    data = os.urandom(size // 2) + b"a" * (size - size // 2)
    for name, stored in compressed(data).items():
        path = tmp_path / f"{name}.txt" if "." not in name else tmp_path / name
        path.write_bytes(stored)
        codec = "gz" if name.endswith("gz") else "zst" if name.endswith("zst") else ""
        assert b"".join(files.chunks(File(path, "text", codec))) == data, name


DAMAGE = ("cut", "one byte short", "garbage behind")


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *((n, d) for n in ("x.zst", "x.stream.zst", "x.frames.zst", "x.gz") for d in DAMAGE),
        ("x.gz", "bit"),  # frames of zstd carry no checksum by default
    ],
)
def test_damaged_codecs(tmp_path, name, damage):
    data = compressed(b"".join(b"%d some words\n" % i for i in range(50_000)))[name]
    changed = bytearray(data)
    changed[len(data) // 2] ^= 0x10
    damaged = {
        "cut": data[: len(data) // 2],
        "one byte short": data[:-1],
        "garbage behind": data + b"garbage",
        "bit": bytes(changed),
    }[damage]
    path = tmp_path / name
    path.write_bytes(damaged)
    with pytest.raises(DataError, match=rf"{name}: corrupt or truncated .*copy or download"):
        list(files.chunks(File(path, "text", "gz" if name.endswith("gz") else "zst")))


def test_a_small_file_that_grows_huge_is_read_in_pieces(tmp_path):
    path = tmp_path / "zeros.zst"
    with path.open("wb") as raw, zstandard.ZstdCompressor().stream_writer(raw) as out:
        for _ in range(400):
            out.write(bytes(2**20))
    assert path.stat().st_size < 60_000
    tracemalloc.start()
    total = sum(len(piece) for piece in files.chunks(File(path, "text", "zst")))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 400 * 2**20
    assert peak < 100 * 2**20


# -- lines -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"\n\n", []),
        (b"a", [(1, b"a", "")]),
        (b"a\nb\n", [(1, b"a", ""), (2, b"b", "")]),
        (b"a\r\nb\r\n", [(1, b"a", ""), (2, b"b", "")]),
        (b"\xef\xbb\xbfa\n", [(1, b"a", "")]),
        (b"\xef\xbb\xbf", []),
        (b"a\n\n \t\nb", [(1, b"a", ""), (4, b"b", "")]),
        (b" a \n", [(1, b" a ", "")]),
        (b"a\rb\n", [(1, b"a\rb", "")]),
        (b"a\xe2\x80\xa8b\n", [(1, b"a\xe2\x80\xa8b", "")]),  # U+2028 ends no line of JSON
    ],
)
def test_lines(tmp_path, data, expected):
    assert list(lines(file(tmp_path / "x.jsonl", data), max_row_bytes=MOST)) == expected


@pytest.mark.parametrize("n", [MOST - 1, MOST, MOST + 1, 5 * MOST])
def test_a_long_line(tmp_path, n):
    data = b"first\n" + b"x" * n + b"\nlast\n"
    for name, end in (("a.jsonl", b"\nlast\n"), ("b.jsonl", b"")):
        path = file(tmp_path / name, data.removesuffix(b"\nlast\n") + end)
        first, long, *rest = lines(path, max_row_bytes=MOST)
        assert first == (1, b"first", "")
        assert rest == ([(3, b"last", "")] if end else [])
        if n <= MOST:
            assert long == (2, b"x" * n, "")
        else:
            number, kept, fault = long
            assert number == 2
            assert kept == b"x" * (MOST + 1)
            assert "longer than 1048576 bytes, it begins b'xxxx" in fault
            assert "data.max_row_bytes" in fault


def test_a_file_without_line_ends_does_not_fill_the_memory(tmp_path):
    path = tmp_path / "x.jsonl.zst"
    with path.open("wb") as raw, zstandard.ZstdCompressor().stream_writer(raw) as out:
        for _ in range(300):
            out.write(b"x" * 2**20)
    for read in (lines, whole, paragraphs):
        tracemalloc.start()
        (row,) = read(File(path, "jsonl", "zst"), max_row_bytes=MOST)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert row[2]
        assert peak < 80 * 2**20, read


def test_paragraphs(tmp_path):
    text = b"\xef\xbb\xbfa\nb\r\n\r\n\n c \nd\n\ne"
    found = list(paragraphs(file(tmp_path / "x.txt", text, "text"), max_row_bytes=MOST))
    assert found == [(1, b"a\nb", ""), (5, b" c \nd", ""), (8, b"e", "")]


def test_a_long_paragraph_is_refused_and_the_next_is_not(tmp_path):
    text = b"".join(b"%1000d\n" % i for i in range(5000)) + b"\nshort\n"
    long, short = paragraphs(file(tmp_path / "x.txt", text, "text"), max_row_bytes=MOST)
    assert long[0] == 1
    assert "longer than" in long[2]
    assert short == (5002, b"short", "")


def test_whole(tmp_path):
    assert list(whole(file(tmp_path / "a.txt", b"\xef\xbb\xbf a\n b\n"), max_row_bytes=MOST)) == [
        (1, b" a\n b\n", "")
    ]
    assert list(whole(file(tmp_path / "b.txt", b" \n"), max_row_bytes=MOST)) == []


# -- arrays ----------------------------------------------------------------------------------------

VALUES = [
    {},
    {"a": 'quote " and \\ and ] } , [ {'},
    {"a": "ends in a backslash \\"},
    {"b": [1, [2, {"c": "]"}]], "d": {"e": None}},
    {"text": "猫\u2028\ud7ff😀"},
    [1, 2],
    "text",
    3.5,
    None,
]


@pytest.mark.parametrize("indent", [None, 1, "\t"])
@pytest.mark.parametrize("ascii_", [True, False])
@pytest.mark.parametrize("piece", [1, 2, 3, 7, 64, 10**6])
def test_array_elements(tmp_path, monkeypatch, indent, ascii_, piece):
    text = json.dumps(VALUES * 3, indent=indent, ensure_ascii=ascii_)
    data = text.encode()
    monkeypatch.setattr(
        "didact.data.reading.lines.chunks",
        lambda _: iter([data[i : i + piece] for i in range(0, len(data), piece)]),
    )
    found = list(array_elements(File(tmp_path, "json", ""), max_row_bytes=MOST))
    assert [number for number, _, _ in found] == list(range(1, len(VALUES) * 3 + 1))
    assert [json.loads(element) for _, element, _ in found] == VALUES * 3
    # each is the file's own bytes, in order, and nothing but separators stands between
    place = 0
    for _, element, _ in found:
        at = data.index(element, place)
        assert data[place:at].strip(b"[ ,\r\n\t") == b""
        place = at + len(element)
    assert data[place:].strip() == b"]"


@pytest.mark.parametrize("data", [b"", b" \n", b"[]", b"\xef\xbb\xbf [ \n ]\n"])
def test_empty_arrays(tmp_path, data):
    assert list(array_elements(file(tmp_path / "x.json", data, "json"), max_row_bytes=MOST)) == []


def test_a_broken_element_is_one_bad_row(tmp_path):
    elements = [b'{"a": 1}', b'{"b": nul}', b'{"c" 3}', b'{"d": [}}', b'{"e": "\xff"}', b"", b"x"]
    data = b"[" + b" , ".join(elements) + b"]"
    found = list(array_elements(file(tmp_path / "x.json", data, "json"), max_row_bytes=MOST))
    faults = dict.fromkeys(range(len(elements)), "")
    faults[5] = "'' is not JSON: a comma stands where an element should: remove it"
    assert found == [(i + 1, element, faults[i]) for i, element in enumerate(elements)]


@pytest.mark.parametrize(
    ("data", "whole_rows", "fault"),
    [
        (b'[{"a": 1}, {"b": 2', [b'{"a": 1}'], "the file ends inside the array"),
        (b'[{"a": 1}, {"b": "x', [b'{"a": 1}'], "the file ends inside the array"),
        (b'[{"a": 1}, {"b": 2}', [b'{"a": 1}', b'{"b": 2}'], "the file ends inside the array"),
        (b'[{"a": 1},', [b'{"a": 1}'], "the file ends inside the array"),
        (b"[", [], "the file ends inside the array"),
        (b'[{"a": 1}] {"b": 2}', [b'{"a": 1}'], "stands after the array's end"),
        (b'[{"a": 1}][{"b": 2}]', [b'{"a": 1}'], "stands after the array's end"),
    ],
)
def test_truncated_arrays_keep_their_whole_rows(tmp_path, data, whole_rows, fault):
    found = list(array_elements(file(tmp_path / "x.json", data, "json"), max_row_bytes=MOST))
    assert [row for _, row, why in found if not why] == whole_rows
    ((number, _, why),) = [row for row in found if row[2]]
    assert number == len(whole_rows) + 1
    assert fault in why


@pytest.mark.parametrize("data", [b"5", b'"text"', b"nul", b", []", b"] []"])
def test_no_array(tmp_path, data):
    path = file(tmp_path / "x.json", data, "json")
    with pytest.raises(DataError, match=r"x.json: begins with .*; expected a JSON array"):
        list(array_elements(path, max_row_bytes=MOST))


def test_a_long_element(tmp_path):
    long = b'{"a": "' + b"x" * (3 * MOST) + b'"}'
    data = b'[{"a": 1}, ' + long + b', {"b": 2}]'
    path = file(tmp_path / "x.json", data, "json")
    first, middle, last = array_elements(path, max_row_bytes=MOST)
    assert (first[1], last[1]) == (b'{"a": 1}', b'{"b": 2}')
    assert middle[1] == long[: MOST + 1]
    assert "longer than" in middle[2]
    assert [r[2] for r in array_elements(path, max_row_bytes=4 * MOST)] == ["", "", ""]


# -- which files -----------------------------------------------------------------------------------


def test_kind_by_content_before_name(tmp_path):
    table = pa.table({"text": ["a"]})
    pq.write_table(table, tmp_path / "p.json")
    with pa.ipc.new_file(str(tmp_path / "f"), table.schema) as out:
        out.write_table(table)
    with pa.ipc.new_stream(str(tmp_path / "s.bin"), table.schema) as out:
        out.write_table(table)
    cases = {
        "lines.json": (b'{"a": 1}\n{"a": 2}\n', "jsonl"),
        "array.jsonl": (b'[{"a": 1}]', "json"),
        "array": (b' \n[{"a": 1}]', "json"),
        "lines": (b'\xef\xbb\xbf{"a": 1}', "jsonl"),
        "notes.txt": (b'{"a": 1}', "text"),
        "README.MD": (b"hello", "text"),
        "empty.json": (b"", "json"),
        "empty.jsonl": (b"", "jsonl"),
        "compressed": (gzip.compress(b'{"a": 1}'), "jsonl"),
        "big.json.gz": (gzip.compress(b"\n" * 3000 + b"[1]"), "json"),
        "blank.json": (b" " * (3 * 2**20) + b"[1]", "json"),
    }
    for name, (data, expected) in cases.items():
        (tmp_path / name).write_bytes(data)
        assert describe(tmp_path / name).container == expected, name
    for name, expected in {"p.json": "parquet", "f": "arrow", "s.bin": "arrow"}.items():
        assert describe(tmp_path / name).container == expected, name


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x.csv", b"a,b\n1,2\n", r"unknown kind of file, it starts with b'a,b.*CSV is not read"),
        ("x", b"plain", "unknown kind of file"),
        ("x", b"", "unknown kind of file"),
        ("x.parquet", b"PAR", "named .parquet but starts with b'PAR'"),
        ("x.arrow", b"", "named .arrow but starts with b''"),
        ("x.jsonl.gz", b"", "named .gz but starts with b''"),
        ("x.jsonl.zst", b'{"a": 1}', "named .zst but starts with"),
        ("x.jsonl", '{"a": 1}'.encode("utf-16"), "the mark of UTF-16; expected UTF-8"),
        ("x.txt", "words".encode("utf-16"), "the mark of UTF-16; expected UTF-8"),
    ],
)
def test_what_is_no_data(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message):
        describe(tmp_path / name)


def test_pipes_and_what_is_not_there(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(DataError, match="is a pipe or device; expected a file"):
        describe(tmp_path / "pipe.jsonl")
    with pytest.raises(DataError, match="no such file"):
        expand([tmp_path / "none.jsonl"])
    with pytest.raises(DataError, match="no file matches"):
        expand([tmp_path / "*.none"])
    with pytest.raises(DataError, match="no data in this folder"):
        expand([tmp_path])
    with pytest.raises(DataError, match="no file was given"):
        expand([])


def put(root: Path, *names: str, data: bytes = b'{"text": "a"}\n') -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


def test_folders_and_globs(tmp_path):
    put(
        tmp_path, "d/b.jsonl", "d/a.jsonl", "d/sub/c.ndjson", "d/.hidden.jsonl", "d/._a.jsonl",
        "d/.cache/x.jsonl", "d/_temporary/y.jsonl", "d/README.md", "d/LICENSE.txt",
        "d/dataset_info.json", "d/state.json", "d/image.png",
    )  # fmt: skip
    found = expand([tmp_path / "d"])
    assert [f.name for f in found] == ["a.jsonl", "b.jsonl", "sub/c.ndjson"]
    assert [default_source(f.path) for f in found] == ["a", "b", "c"]
    assert [f.name for f in expand([str(tmp_path / "d" / "*.jsonl")])] == ["a.jsonl", "b.jsonl"]
    found = expand([str(tmp_path / "**" / "[abc].*json*")])
    assert [f.name for f in found] == ["a.jsonl", "b.jsonl", "sub/c.ndjson"]
    put(tmp_path, "texts/b.txt", "texts/a.md")
    assert [f.name for f in expand([tmp_path / "texts"])] == ["a.md", "b.txt"]
    several = expand([tmp_path / "texts" / "b.txt", tmp_path / "d" / "sub"])
    assert [f.name for f in several] == ["texts/b.txt", "d/sub/c.ndjson"]


def test_the_cache_is_no_data(tmp_path):
    put(tmp_path, "d/a.jsonl", "d/cache/keys/x.json", "d/cache/pools/y/rejected.jsonl")
    assert [f.name for f in expand([tmp_path / "d"], ignored=tmp_path / "d/cache")] == ["a.jsonl"]
    for elsewhere in (tmp_path, tmp_path / "d", tmp_path / "other"):
        assert len(expand([tmp_path / "d"], ignored=elsewhere)) == 3


def test_a_name_with_glob_marks_is_a_name(tmp_path):
    put(tmp_path, "part[1].jsonl")
    assert [f.name for f in expand([tmp_path / "part[1].jsonl"])] == ["part[1].jsonl"]


def test_names_do_not_depend_on_the_place(tmp_path, monkeypatch):
    put(tmp_path, "one/d/a.jsonl", "one/d/e/b.jsonl", "two/d/a.jsonl", "two/d/e/b.jsonl")
    monkeypatch.chdir(tmp_path / "one")
    assert [f.name for f in expand(["d"])] == [f.name for f in expand([tmp_path / "two" / "d"])]


def test_a_file_given_twice(tmp_path):
    put(tmp_path, "a.jsonl")
    (tmp_path / "link.jsonl").symlink_to("a.jsonl")
    for paths in (["a.jsonl", "./a.jsonl"], ["a.jsonl", "link.jsonl"], ["a.jsonl", "."]):
        with pytest.raises(DataError, match="given twice"):
            expand([tmp_path / p for p in paths])


def test_a_folder_of_splits(tmp_path):
    put(tmp_path, "d/dataset_dict.json", "d/train/a.jsonl", "d/test/a.jsonl")
    with pytest.raises(DataError, match=r"holds the splits test, train; expected one"):
        expand([tmp_path / "d"])
    assert len(expand([tmp_path / "d" / "train"])) == 1


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("a.jsonl", "a"), ("a.b.jsonl.zst", "a.b"), ("a.jsonl.jsonl", "a"), ("a.v1.JSON.GZ", "a.v1"),
        (".jsonl", ".jsonl"), ("a", "a"),
    ],
)  # fmt: skip
def test_default_source(name, source):
    assert default_source(Path(name)) == source


def test_missing_files_and_permissions_have_remedies(tmp_path):
    for error, message in (
        (FileNotFoundError(), "no such file; check the path"),
        (PermissionError(13, "denied"), r"no permission to read it; chmod \+r"),
        (IsADirectoryError(21, "a directory"), "is a folder; expected a file"),
        (OSError(5, "Input/output error"), "cannot be read .*Input/output error"),
        (pa.ArrowInvalid("bad footer"), "not a readable Parquet or Arrow file .bad footer"),
    ):
        with pytest.raises(DataError, match=message), files.readable(tmp_path):
            raise error
    with pytest.raises(OSError, match="No space"), files.readable(tmp_path):
        raise OSError(28, "No space left")
