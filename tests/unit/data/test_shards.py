"""Reading on workers: the same bytes whoever reads which part of the input."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import zstandard

from didact.core.errors import DataError
from didact.data.reading.ingest import read_pool
from didact.data.reading.parts import lines_between
from didact.data.reading.settings import DataSettings
from didact.verbs import context


def rows(n: int = 400) -> list[bytes]:
    """Rows with repeats of ids and texts across shards, bad rows, blank lines, columns left out."""
    out = []
    for i in range(n):
        row = {
            "id": f"r{i % 350}",
            "text": f"text {i % 300} " + "w" * (i % 40),
            "task": f"t{i % 3}",
        }
        if i % 61 == 5:
            out.append(b"not json")
        if i % 67 == 9:
            del row["text"]
        if i % 71 == 3:
            out.append(b"")
        if i % 5 == 0:
            del row["id"]
        out.append(json.dumps(row).encode())
    return out


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.name != "entry.json"}


def read(path: Path, cache: Path, **settings):
    ctx = context(workers=1, cache_dir=cache)
    return read_pool([path], DataSettings(**settings), ctx).pool


def test_parts_have_every_line_once():
    rng = random.Random(1)
    for _ in range(60):
        lines = [bytes(rng.choices(b"ab", k=rng.choice([0, 1, 2, 9]))) for _ in range(12)]
        data = b"\n".join(lines) + rng.choice([b"", b"\n"])
        size = rng.randint(1, 12)
        cuts = [*range(0, len(data), size), None]
        parts = [
            b"".join(lines_between(io.BytesIO(data), start, stop, lambda _: None))
            for start, stop in pairwise(cuts)
        ]
        assert b"".join(parts) == data
        assert all(part == b"" or data[:at].endswith(b"\n") or at == 0 for part, at in zip(
            parts, np.cumsum([0, *map(len, parts)]), strict=False
        ))  # fmt: skip


@pytest.mark.parametrize("ending", ["", ".zst"])
def test_shards_are_what_one_shard_is(tmp_path, ending):
    data = b"\n".join(rows())
    path = tmp_path / "in"
    path.mkdir()
    for name, text in (("x", data), ("y", data.replace(b'"r', b'"s'))):
        text = zstandard.compress(text) if ending else text  # noqa: PLW2901 - as it is written
        (path / f"{name}.jsonl{ending}").write_bytes(text)
    more = {"on_bad_row": "skip", "validation": 9}
    one = read(path, tmp_path / "a", **more)
    many = read(path, tmp_path / "b", shard_bytes=1024, **more)
    assert len(one.meta["shard_rows"]) == 1
    assert len(many.meta["shard_rows"]) > 5
    everything = range(len(one))
    columns = ["id", "text", "source", "task", "n_tokens", "id_hash", "content_hash", "record"]
    assert many.read(everything, columns).equals(one.read(everything, columns))
    scattered = np.random.default_rng(0).integers(0, len(one), 99)
    assert many.read(scattered, columns).equals(one.read(scattered, columns))
    for name in ("copy_number", "in_validation"):
        assert np.array_equal(getattr(many, name), getattr(one, name)), name
    for name in ("findings", "counts", "task_names", "first_listed", "learned_bytes"):
        assert many.meta[name] == one.meta[name], name
    listed = "rejected.jsonl"
    assert (many.path / listed).read_bytes() == (one.path / listed).read_bytes()


def test_the_first_bad_row_is_named_whichever_part_it_is_in(tmp_path):
    good = [json.dumps({"id": str(i), "text": f"row {i}"}).encode() for i in range(200)]
    cases = {
        b'{"id": "7", "text": "x"}': "row 151: the id '7' was already given",
        b'{"id": "x"}': "row 151: column 'text' is missing.*only this row lacks it, 150 rows before",
        b"{": "row 151: '{' is not JSON",
    }
    for row, message in cases.items():
        path = tmp_path / "x.jsonl"
        path.write_bytes(b"\n".join([*good[:150], row, *good[150:180], b"[]", *good[180:]]))
        for shard_bytes in (1024, 2**20):
            with pytest.raises(DataError, match=message):
                read(path, tmp_path / "cache", shard_bytes=shard_bytes)
    assert not list((tmp_path / "cache" / "tmp").iterdir())


_CHAT = b'{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}'
_PAIR = b'{"prompt": "q", "chosen": "a", "rejected": "b"}'
_TEXT = b'{"text": "a text"}'


@pytest.mark.parametrize(
    ("a", "b", "c", "message"),
    [
        ([_CHAT], [_CHAT], [_TEXT], "c.jsonl: holds text .text. rows, .*a.jsonl holds chat rows"),
        ([_CHAT], [_TEXT], [_PAIR], "b.jsonl: holds text .text. rows, .*a.jsonl holds chat rows"),
        ([_CHAT], [_TEXT], [b"{"], "b.jsonl: holds text .text. rows, .*a.jsonl holds chat rows"),
        ([_CHAT], [_TEXT, b"{"], [_CHAT], "b.jsonl: holds text .text. rows, .*a.jsonl holds chat"),
        ([_CHAT], [_CHAT, b"{"], [_TEXT], "b.jsonl: row 2: .* is not JSON"),
        ([_CHAT], [b"{", _TEXT], [_TEXT], "b.jsonl: row 1: .* is not JSON"),
        ([_CHAT, b"{"], [_TEXT], [_CHAT], "a.jsonl: row 2: .* is not JSON"),
        ([_CHAT, b"]"], [b"{\n" + _CHAT], [_CHAT], "a.jsonl: row 2: .* is not JSON"),
    ],
)
def test_the_first_file_of_another_kind_is_named_whatever_is_read_together(
    tmp_path, a, b, c, message
):
    for name, some in {"a": a, "b": b, "c": c}.items():
        lines = b"\n".join(some)
        (tmp_path / f"{name}.jsonl").write_bytes(lines + b" " * (500 - len(lines)))
    for shard_bytes in (2**20, 1024, 1400):  # all, two by two but the last, and so on
        with pytest.raises(DataError, match=message):
            read(tmp_path / "*.jsonl", tmp_path / "cache", shard_bytes=shard_bytes)
    (tmp_path / "a.jsonl").write_bytes(a[0] + b" " * 900)  # then the other two are of one task
    with pytest.raises(DataError, match=message) if len(a) == 1 else pytest.raises(DataError):
        read(tmp_path / "*.jsonl", tmp_path / "cache", shard_bytes=1024)


def test_a_bad_row_that_other_shards_tell_goes_before_a_file_of_another_kind(tmp_path):
    named = b'{"id": "x", ' + _CHAT[1:]
    (tmp_path / "a.jsonl").write_bytes(named + b" " * 900)
    (tmp_path / "b.jsonl").write_bytes(named)
    (tmp_path / "c.jsonl").write_bytes(_TEXT)
    for shard_bytes in (2**20, 1024):
        with pytest.raises(DataError, match=r"b.jsonl: row 1: the id 'x' was already given"):
            read(tmp_path / "*.jsonl", tmp_path / "x", shard_bytes=shard_bytes)


def test_texts_alone_are_cut_whatever_is_read_together(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(_TEXT + b" " * 900)
    (tmp_path / "b.jsonl").write_bytes(_CHAT + b" " * 900)
    for shard_bytes in (2**20, 1024):
        with pytest.raises(DataError, match=r"b.jsonl: unit=chunk cuts raw text, these .* chat"):
            read(tmp_path / "*.jsonl", tmp_path / "x", unit="chunk", shard_bytes=shard_bytes)


@pytest.mark.parametrize("ending", ["", ".zst"])
def test_rows_before_the_first_of_a_format_are_refused_alike(tmp_path, ending):
    texts = [random.Random(i).randbytes(40).hex() for i in range(60)]
    data = b"\n".join([b'{"id": "q"}', *(json.dumps({"text": text}).encode() for text in texts)])
    path = tmp_path / f"x.jsonl{ending}"
    path.write_bytes(zstandard.compress(data) if ending else data)
    sizes = {"one": 2**20, "many": 1024}
    found = [
        read(path, tmp_path / name, on_bad_row="skip", shard_bytes=size)
        for name, size in sizes.items()
    ]
    one, many = ((pool.path / "rejected.jsonl").read_bytes() for pool in found)
    assert one == many
    assert b"no known format" in one
    assert len(found[1].meta["shard_rows"]) > 2


def test_documents_that_are_cut_are_named_over_shards(tmp_path):
    texts = [{"text": f"document {i % 30}. It has two sentences, or three."} for i in range(90)]
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\n".join(json.dumps(t).encode() for t in texts))
    more = {"unit": "chunk", "chunk": {"max_tokens": 8}}
    one = read(path, tmp_path / "a", **more)
    many = read(path, tmp_path / "b", shard_bytes=1024, **more)
    columns = ["id", "text", "parent", "start", "end", "id_hash"]
    assert many.read(range(len(one)), columns).equals(one.read(range(len(one)), columns))
    assert len(many.meta["shard_rows"]) > 1


def test_processes_write_the_same_bytes_also_for_a_script_without_a_main_guard(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\n".join(rows(1200)))
    here = read(path, tmp_path / "here", on_bad_row="skip", shard_bytes=20_000)
    script = tmp_path / "script.py"
    script.write_text(
        "print('begun', flush=True)\n"
        "from didact.data.reading import gathering\n"
        "from didact.data.reading.ingest import read_pool\n"
        "from didact.data.reading.settings import DataSettings\n"
        "from didact.verbs import context\n"
        "gathering._WORTH_PROCESSES = 0\n"
        f"ctx = context(workers=2, cache_dir={str(tmp_path / 'there')!r})\n"
        "settings = DataSettings(on_bad_row='skip', shard_bytes=20_000)\n"
        f"print(read_pool([{str(path)!r}], settings, ctx).pool.path)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    begun, there = done.stdout.split()
    assert (begun, done.stderr) == ("begun", "")
    assert files(Path(there)) == files(here.path)
    assert len(here.meta["shard_rows"]) > 2
