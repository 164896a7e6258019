"""Laws of the data door: what is put in comes out, in any container, batch and place."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import didact
from didact.core.pool import Pool
from didact.core.scores import TrainingOrder
from didact.data.store.chunks import cut
from didact.data.store.token_counts import token_counter

SETTINGS = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])

TEXT = st.text(max_size=30)  # any Unicode but halves of surrogate pairs
SOME_TEXT = st.text(min_size=1, max_size=30)
ROLE = st.sampled_from(["system", "user", "assistant", "tool"]) | st.text(min_size=1, max_size=5)
# Names that didact reads, or that a message may carry, are not free to hold anything.
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
MESSAGE = st.fixed_dictionaries(
    {"role": ROLE, "content": TEXT},
    optional={"weight": st.sampled_from([0, 1, 0.5, True, None])},
)
CHAT = st.lists(MESSAGE, min_size=1, max_size=4).filter(lambda ms: any(m["content"] for m in ms))
CHAT_ROW = st.fixed_dictionaries(
    {"messages": CHAT}, optional={"source": st.sampled_from(["a", "b", ""]), "meta": JSON}
)
TEXT_ROW = st.fixed_dictionaries({"text": SOME_TEXT}, optional={"meta": JSON, "source": TEXT})


@contextmanager
def folder() -> Iterator[Path]:
    """A folder of this example's own; pytest's lasts as long as all examples."""
    place = Path(tempfile.mkdtemp(prefix="didact-"))
    try:
        yield place
    finally:
        shutil.rmtree(place)


def dumps(row: object, *, ascii_: bool = True) -> bytes:
    return json.dumps(row, ensure_ascii=ascii_).encode()


def read(place: Path, data: bytes, name: str = "x.jsonl", **settings: object) -> Pool:
    path = place / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return didact.read(path, cache_dir=place / "cache", **settings)


def weight(message: dict[str, object]) -> float:
    given = message.get("weight")
    if given is not None:
        return float(given)  # type: ignore[arg-type]
    return 1.0 if canonical(str(message["role"])) == "assistant" else 0.0


def canonical(role: str) -> str:
    names = {
        "human": "user", "gpt": "assistant", "model": "assistant", "bot": "assistant",
        "ipython": "tool", "function": "tool",
    }  # fmt: skip
    lower = role.lower()
    known = {"system", "user", "assistant", "tool"}
    return names.get(lower, lower if lower in known else role)


@SETTINGS
@given(st.lists(CHAT_ROW, min_size=1, max_size=8), st.booleans(), st.integers(1, 5))
def test_messages_come_back(rows, ascii_, batch_rows):
    with folder() as place:
        data = [dumps(row, ascii_=ascii_) for row in rows]
        pool = read(place, b"\n".join(data), batch_rows=batch_rows)
        found = pool.read(range(len(pool)), ["messages", "source", "text"]).to_pylist()
        assert [
            [(m["role"], m["content"], m["weight"]) for m in row["messages"]] for row in found
        ] == [
            [(canonical(m["role"]), m["content"], weight(m)) for m in r["messages"]] for r in rows
        ]
        assert [row["source"] for row in found] == [row.get("source") or "x" for row in rows]
        assert [row["text"] for row in found] == [
            "\n".join(m["content"] for m in row["messages"]) for row in rows
        ]
        assert list(pool.records(range(len(pool)))) == data


@SETTINGS
@given(st.lists(TEXT_ROW, min_size=1, max_size=8), st.sampled_from(["\n", "\r\n", ",", " ,\r\n"]))
def test_rows_survive_reading_and_export(rows, between):
    with folder() as place:
        data = [dumps(row) for row in rows]
        array = "," in between
        joined = between.encode().join(data)
        pool = read(place, b"[" + joined + b"]" if array else joined)
        assert list(pool.records(range(len(pool)))) == data
        texts = pool.read(range(len(pool)), ["text"]).column(0).to_pylist()
        assert texts == [row["text"] for row in rows]
        order = TrainingOrder(np.arange(len(rows))[::-1], pool.fingerprint, "test")
        (path,) = didact.export(pool, order, place / "out")
        assert path.read_bytes() == b"".join(row + b"\n" for row in data[::-1])


@SETTINGS
@given(st.lists(SOME_TEXT, min_size=1, max_size=12))
def test_text_survives_a_table(texts):
    with folder() as place:
        pq.write_table(pa.table({"text": texts}), place / "x.parquet")
        pool = didact.read(place / "x.parquet", cache_dir=place / "cache")
        assert pool.read(range(len(pool)), ["text"]).column(0).to_pylist() == texts
        assert pool.record_table(range(len(pool))).column("text").to_pylist() == texts
        assert pool.n_bytes.tolist() == [len(t.encode()) for t in texts]


COLUMNS = ("id", "source", "n_bytes", "n_tokens", "id_hash", "content_hash", "text", "prompt",
           "first_message", "completion", "messages", "record")  # fmt: skip


@SETTINGS
@given(st.data(), st.lists(CHAT_ROW, min_size=1, max_size=12), st.integers(1, 5))
def test_any_rows_are_those_read_one_by_one(data, rows, batch_rows):
    with folder() as place:
        pool = read(place, b"\n".join(map(dumps, rows)), batch_rows=batch_rows)
        wanted = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=20))
        one_by_one = [pool.read([row], COLUMNS).to_pylist()[0] for row in wanted]
        assert str(pool.read(wanted, COLUMNS).to_pylist()) == str(one_by_one)
        start = data.draw(st.integers(0, len(rows)))
        stop = data.draw(st.integers(start, len(rows)))
        some = pool.read(range(start, stop), COLUMNS)
        assert str(some.to_pylist()) == str(
            pool.read(list(range(start, stop)), COLUMNS).to_pylist()
        )


def stored(pool: Pool) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in pool.path.iterdir()}


@SETTINGS
@given(st.lists(st.integers(0, 5), min_size=1, max_size=10), st.integers(1, 4), st.booleans())
def test_a_store_depends_neither_on_path_nor_on_cache(numbers, batch_rows, bad):
    rows = [dumps({"text": f"t{n}", "id": i if n % 2 else None}) for i, n in enumerate(numbers)]
    data = b"\n".join(rows + [b"bad"] * bad)
    with folder() as place:
        more = {"batch_rows": batch_rows, "on_bad_row": "skip"}
        first = read(place / "here", data, **more)
        other = place / "there" / "deep"
        read(other, rows[0], "other.jsonl")
        second = read(other, data, **more)
        assert first.fingerprint == second.fingerprint
        assert stored(first) == stored(second)


INDEX = (
    "n_bytes",
    "n_tokens",
    "id_hash",
    "content_hash",
    "source_codes",
    "task_codes",
    "copy_number",
    "in_validation",
)


@SETTINGS
@given(st.lists(st.integers(0, 8), min_size=4, max_size=30), st.integers(1, 9), st.integers(1, 3))
def test_batches_change_nothing_but_themselves(numbers, batch_rows, files):
    rows = [
        b"bad" if n == 8 else dumps({"text": f"t{n}", "source": f"s{n % 3}"}) for n in numbers
    ] + [dumps({"text": f"different {i}"}) for i in range(3)]  # fmt: skip
    with folder() as place:
        for i in range(files):
            (place / f"{i}.jsonl").write_bytes(b"\n".join(rows[i::files]))
        paths = [place / f"{i}.jsonl" for i in range(files)]
        pools = [
            didact.read(paths, cache_dir=place / "cache", on_bad_row="skip", validation=1, **more)
            for more in (
                {},
                {"batch_rows": batch_rows},
                {"batch_bytes": 1024},
                {"shard_bytes": 1024},
            )
        ]
        first = pools[0]
        for pool in pools[1:]:
            for name in INDEX:
                assert np.array_equal(getattr(pool, name), getattr(first, name)), name
            assert pool.source_names == first.source_names
            assert pool.meta["counts"] == first.meta["counts"]
            everything = range(len(first))
            assert pool.read(everything, COLUMNS).equals(first.read(everything, COLUMNS))
            for name in ("rejected.jsonl", "records-*.bin"):
                assert joined(pool.path, name) == joined(first.path, name)


def joined(folder: Path, name: str) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.glob(name)))


ESTIMATE = token_counter(None)


@settings(max_examples=200, deadline=None)
@given(
    st.text(alphabet="ab .!?\n猫。é😀", max_size=200) | st.text(max_size=100), st.integers(1, 20),
    st.booleans(),
)  # fmt: skip
def test_chunks_join_to_the_text_and_are_short(text, max_tokens, at_sentences):
    spans = cut(
        text, ESTIMATE.ends(text), ESTIMATE.count_one, max_tokens=max_tokens,
        at_sentences=at_sentences,
    )  # fmt: skip
    assert "".join(text[a:b] for a, b in spans) == text
    assert all(a < b for a, b in spans)
    assert all(a == b for (_, a), (b, _) in pairwise(spans))
    for a, b in spans:
        assert ESTIMATE.count_one(text[a:b]) <= max_tokens or b == a + 1


@SETTINGS
@given(st.lists(SOME_TEXT.filter(str.strip), min_size=1, max_size=5), st.integers(8, 12))
def test_a_chunked_pool_holds_the_texts(texts, max_tokens):
    texts = [t * 10 for t in texts]
    with folder() as place:
        data = b"\n".join(dumps({"text": t}) for t in texts)
        pool = read(place, data, unit="chunk", chunk={"max_tokens": max_tokens}, dedup="none")
        rows = pool.read(range(len(pool)), ["id", "text", "parent", "start", "end"]).to_pylist()
        joined: dict[str, str] = {}
        for row in rows:
            joined[row["parent"]] = joined.get(row["parent"], "") + row["text"]
        assert list(joined.values()) == texts
        assert len({row["id"] for row in rows}) == len(rows) == len(set(pool.id_hash.tolist()))
        assert pool.n_tokens.max() <= max_tokens
