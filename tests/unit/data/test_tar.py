"""Tar files of JSON: members in order, what is passed over, what is refused."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile

import pytest

import didact
from didact.core.errors import DataError


def row(i) -> bytes:
    return json.dumps({"text": f"hello {i}"}).encode()


def write(path, members, mode="w", **given):
    with tarfile.open(path, mode, **given) as tar:
        for name, data in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def texts(pool):
    return [json.loads(r)["text"] for r in pool.records(range(len(pool)))]


MEMBERS = [
    ("../x.json", row(0)),
    ("/etc/y.json", b"\xef\xbb\xbf" + row(1)),
    ("d/lines.jsonl", row(2) + b"\n\n" + row(3) + b"\n"),
    ("array.json", b"[" + row(4) + b",\n" + row(5) + b"]"),
    ("pretty.json", json.dumps({"text": "hello 6"}, indent=2).encode()),
    ("lines.json", row(7) + b"\n" + row(8)),
    ("empty.json", b""),
]


@pytest.mark.parametrize(
    ("name", "mode"), [("x.tar", "w"), ("x.tar.gz", "w:gz"), ("x.tgz", "w:gz")]
)
def test_members_are_read_in_order_and_their_paths_are_only_names(tmp_path, name, mode):
    pool = didact.read(write(tmp_path / name, MEMBERS, mode))
    assert texts(pool) == [f"hello {i}" for i in range(9)]
    assert pool.source_names == ("x",)
    assert not (tmp_path.parent / "x.json").exists()


def test_other_members_are_counted(tmp_path):
    link = tarfile.TarInfo("l.json")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    folder = tarfile.TarInfo("d")
    folder.type = tarfile.DIRTYPE
    members = [(f"{i}.{e}", row(i) if e == "json" else b"\x89PNG" * 9000) for i in range(3) for e in ("json", "png")]  # fmt: skip
    pool = didact.read(write(tmp_path / "x.tar", [(folder, b""), *members, (link, b"")]))
    assert texts(pool) == ["hello 0", "hello 1", "hello 2"]
    (said,) = (f for f in pool.findings if f.kind == "tar_members")
    assert said.count == 4
    assert said.first == "x.tar '0.png'"
    assert said.text == "4 members of tar files are no JSON and not read (.png 3, no plain file 1)"
    write(tmp_path / "y.tar", [("0.json", row(0)), ("0.png", b"\x89PNG")])
    (said,) = (f for f in didact.read(tmp_path).findings if f.kind == "tar_members")
    assert (said.count, said.first) == (5, "x.tar '0.png'")
    assert said.text == "5 members of tar files are no JSON and not read (.png 4, no plain file 1)"


def test_rows_in_a_list_of_each_member(tmp_path):
    each = [b'{"data": [%s], "more": [{}]}' % row(0), b'{"data": [%s]}\n{"data": []}' % row(1)]
    path = write(tmp_path / "x.tar", [("a.json", each[0]), ("b.jsonl", each[1])])
    with pytest.raises(DataError, match="read them with --data columns.rows=data "):
        didact.read(path)
    pool = didact.read(path, columns={"rows": "data"})
    assert texts(pool) == ["hello 0", "hello 1"]
    assert [(f.kind, f.count, f.first) for f in pool.findings] == [
        ("lists_skipped", 1, "x.tar 'more'")
    ]


def test_members_without_the_list_are_named_and_counted(tmp_path):
    rows = ("a.json", b'{"data": [%s]}' % row(0))
    others = [("meta.json", b'{"version": [{}]}'), ("b.jsonl", row(1)), ("c.json", b"")]
    pool = didact.read(write(tmp_path / "x.tar", [*others, rows]), columns={"rows": "data"})
    assert texts(pool) == ["hello 0"]
    (said,) = (f for f in pool.findings if f.kind == "tar_members_without_rows")
    assert (said.count, said.first) == (3, "x.tar 'meta.json'")
    assert said.text.endswith("and are not read (.json 2, .jsonl 1)")
    with pytest.raises(DataError, match="y.tar: 'meta.json': has no list of rows at 'data'"):
        didact.read(write(tmp_path / "y.tar", others), columns={"rows": "data"})
    half = [rows, ("d.jsonl", rows[1] + b"\n" + row(1))]
    with pytest.raises(DataError, match="z.tar: 'd.jsonl': has an object with no list of rows"):
        didact.read(write(tmp_path / "z.tar", half), columns={"rows": "data"})


@pytest.mark.parametrize(
    ("names", "counts"),
    [
        (["train/0.json", "train/1.json", "test/0.json", "dev/0.json"], (2, "dev 1, test 1")),
        (["x.json", "a_eval.jsonl"], (1, "eval 1")),
        (["test/0.json", "test/1.json"], None),
        (["contest.json", "latest.json"], None),
        (["dev-tools.json", "x.json"], None),
    ],
)
def test_splits_among_the_members(tmp_path, names, counts):
    pool = didact.read(write(tmp_path / "x.tar", [(n, row(i)) for i, n in enumerate(names)]))
    said = [f for f in pool.findings if f.kind == "splits_mixed"]
    assert [f.count for f in said] == ([counts[0]] if counts else [])
    if counts:
        assert "of another split (" in said[0].text
        assert all(part in said[0].text for part in counts[1].split(", "))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("x.json", row(1)), ("y.json", b"{oops")], "x.tar: row 2: .*not JSON"),
        ([("x.json", row("z" * 5000))], "x.tar: row 1: in 'x.json': longer than 2048 bytes"),
        ([("x.jsonl", row("z" * 5000))], "x.tar: row 1: in 'x.jsonl': longer than 2048 bytes"),
        ([("x.txt", b"a"), ("y.txt", b"b")], "holds no member that is .json or .jsonl, but .txt 2"),
        ([], "holds no member that is .json or .jsonl; expected"),
    ],
)
def test_the_member_at_fault(tmp_path, members, message):
    with pytest.raises(DataError, match=message):
        didact.read(write(tmp_path / "x.tar", members), max_row_bytes=2048)


def test_damaged_and_hostile_files(tmp_path):
    whole = write(tmp_path / "x.tar", [("x.json", row(1)), ("y.png", b"a" * 9000)]).read_bytes()
    for data in (whole[:3000], b"hello, no tar" * 100, b""):
        (tmp_path / "y.tar").write_bytes(data)
        with pytest.raises(DataError, match=r"y.tar: corrupt or truncated tar file"):
            didact.read(tmp_path / "y.tar")
    info = tarfile.TarInfo("x.json")
    info.pax_headers = {"comment": "c" * 2_000_000}
    write(tmp_path / "z.tar", [(info, row(1))], format=tarfile.PAX_FORMAT)
    with pytest.raises(DataError, match="whose name and attributes take more than"):
        didact.read(tmp_path / "z.tar")


def test_a_sparse_member_is_not_unrolled(tmp_path):
    """A terabyte of zeros, of which the archive holds ten kilobytes."""
    if shutil.which("tar") is None:
        pytest.skip("no tar on this machine")
    with (tmp_path / "s.jsonl").open("wb") as file:
        file.truncate(2**40)
    (tmp_path / "x.json").write_bytes(row(1))
    done = subprocess.run(
        ["tar", "--sparse", "-cf", "x.tar", "s.jsonl", "x.json"], cwd=tmp_path, check=False
    )
    if done.returncode:
        pytest.skip("this tar knows no sparse files")
    assert texts(didact.read(tmp_path / "x.tar")) == ["hello 1"]
