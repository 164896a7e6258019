"""ZIP against naive versions written from its description: everything is compressed anew each time.

Source of the description: Yin et al. 2024 (arXiv:2407.06645) and what its released code is known to
do. torch's own top-k decides ties in the oracle of the released mode.
"""

from __future__ import annotations

import json
import zlib
from fractions import Fraction

import numpy as np
import pytest
import zstandard

from didact.core.budget import Budget
from didact.pipeline import context
from didact.selection.around.choose import choose
from didact.selection.zip.zip import zip_
from didact.testing import make_pool
from didact.text.deflate.sizes import classic_zlib

pytestmark = pytest.mark.skipif(not classic_zlib(), reason="this zlib is not the classic one")

TAKEN = 1e6
STAGES = [(60, 30, 10), (50, 20, 20), (40, 40, 7), (300, 12, 1), (300, 300, 300)]


def ratio(data):
    return Fraction(len(data), len(zlib.compress(data, 9)))


def exact(texts, k1, k2, k3, wanted):
    """The exact mode in fractions."""
    state = {i: ratio(text) for i, text in enumerate(texts)}
    chosen, everything = [], b""
    free = set(state)
    while len(chosen) < wanted and free:
        current = sorted(free, key=lambda i: (state[i], i))[:k1]
        for i in current:
            state[i] = ratio(everything + texts[i])
        near = sorted(current, key=lambda i: (state[i], i))[:k2]
        fresh = b""
        for _ in range(min(k3, len(near), wanted - len(chosen))):
            best = min(near, key=lambda i: (ratio(fresh + texts[i]), i))
            near.remove(best)
            free.remove(best)
            chosen.append(best)
            fresh += texts[best]
        everything += fresh
    return chosen


def released(rows, k1, k2, k3, wanted):
    """The released mode: lists of Python objects, float32 tensors, real top-k."""
    torch = pytest.importorskip("torch")

    def ratios(lists):
        out = []
        for of in lists:
            data = str(of).encode()
            out.append(len(data) / len(zlib.compress(data, 9)))
        return torch.tensor(out)

    state = ratios([[row] for row in rows])
    chosen = []
    while len(chosen) < wanted:
        current = torch.topk(state, k1, largest=False).indices
        found = ratios([[rows[j] for j in chosen] + [rows[i]] for i in current.tolist()])
        state[current] = found
        near = current[torch.topk(found, k2, largest=False).indices]
        state[near] = TAKEN
        fresh = []
        for _ in range(k3):
            found = ratios([[rows[j] for j in fresh] + [rows[i]] for i in near.tolist()])
            for at, i in enumerate(near.tolist()):
                if i in fresh:
                    found[at] = TAKEN
            fresh.append(int(near[torch.argmin(found)]))
        chosen += fresh
    return chosen


def synthetic(n, seed=0):
    """Rows of two fields that repeat each other's words: short ones, copies, other scripts."""
    rng = np.random.default_rng(seed)
    words = ["apple", "breäd", "cloud", "dune", "猫", "ember's", 'fro"st', "glade\n", "\\iron"]
    rows = []
    for i in range(n):
        length = int(rng.integers(0, 30)) if i % 3 else 2
        text = " ".join(words[j] for j in rng.integers(0, len(words), length))
        rows.append({"id": f"r{i}", "text": text or "x", "meta": {"n": i % 5, "none": None}})
    return rows


def real(folder, n):
    with (folder / "instruct_small.jsonl.zst").open("rb") as file:
        data = zstandard.ZstdDecompressor().stream_reader(file).read()
    return [json.loads(line) for line in data.splitlines()[:n]]


def picks(pool, ctx, budget, stages, **settings):
    k1, k2, k3 = stages
    chosen = choose(zip_, pool, None, budget, ctx, k1=k1, k2=k2, k3=k3, **settings)
    return chosen.best_first().tolist()


@pytest.fixture
def ctx(tmp_path):
    return context(seed=0, workers=1, cache_dir=tmp_path / "cache")


def lines(pool):
    return [t.encode() + b"\n" for t in pool.read(range(len(pool)), ["text"])["text"].to_pylist()]


@pytest.mark.parametrize("stages", STAGES)
def test_exact_is_the_naive_version(stages, tmp_path, ctx):
    pool = make_pool(synthetic(300), tmp_path, dedup="none")
    expected = exact(lines(pool), *stages, 90)
    assert picks(pool, ctx, Budget(samples=90), stages) == expected


def test_exact_takes_everything_in_the_naive_order(tmp_path, ctx):
    pool = make_pool(synthetic(120, 3), tmp_path, dedup="none")
    expected = exact(lines(pool), 50, 20, 8, 120)
    assert sorted(expected) == list(range(120))
    assert picks(pool, ctx, Budget(samples=120), (50, 20, 8)) == expected


def test_exact_on_real_rows(real_data, tmp_path, ctx):
    pool = make_pool(real(real_data, 700), tmp_path)
    expected = exact(lines(pool), 150, 40, 20, 90)
    assert picks(pool, ctx, Budget(samples=90), (150, 40, 20)) == expected


def test_exact_compresses_all_parts_of_a_pair(tmp_path, ctx):
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    rows = [
        {"id": str(i), "prompt": "Q " + " ".join(words[: i % 7]), "chosen": words[i % 10] * (i % 5 + 1),
         "rejected": " ".join(words[i % 4 :]) + str(i)}
        for i in range(60)
    ]  # fmt: skip
    pool = make_pool(rows, tmp_path)
    assert pool.kind == "pair"
    texts = [f"{r['prompt']}\n{r['chosen']}\n{r['rejected']}\n".encode() for r in rows]
    assert picks(pool, ctx, Budget(samples=30), (30, 12, 6)) == exact(texts, 30, 12, 6, 30)


@pytest.mark.parametrize("stages", [(60, 30, 10), (50, 20, 20), (3, 3, 2), (150, 12, 1)])
def test_released_is_the_naive_version(stages, tmp_path, ctx):
    rows = synthetic(300)
    pool = make_pool(rows, tmp_path)
    wanted = min(50, (300 - stages[0]) // stages[1] * stages[2])
    found = picks(pool, ctx, Budget(samples=wanted), stages, mode="released")
    assert found == released(rows, *stages, wanted)


def test_released_on_real_rows_keeps_whole_rounds(real_data, tmp_path, ctx):
    rows = real(real_data, 900)
    pool = make_pool(rows, tmp_path)
    found = picks(pool, ctx, Budget(samples=90), (300, 50, 25), mode="released")
    assert found == released(rows, 300, 50, 25, 90)
    assert len(found) == 100


def test_released_reads_parquet_rows_as_python_would(real_data, tmp_path, ctx):
    didact = pytest.importorskip("didact")
    table = pytest.importorskip("pyarrow.parquet").read_table(
        real_data / "formats" / "instruct_small.parquet"
    )
    path = tmp_path / "rows.parquet"
    pytest.importorskip("pyarrow.parquet").write_table(table.slice(0, 200), path)
    pool = didact.read(path, cache_dir=tmp_path / "cache")
    rows = table.slice(0, 200).to_pylist()
    found = picks(pool, ctx, Budget(samples=30), (60, 20, 10), mode="released")
    assert found == released(rows, 60, 20, 10, 30)


def test_where_the_modes_part(tmp_path, ctx):
    """Rows alike to the byte in length: exact ratios settle by row, float32 by torch's top-k."""
    rows = [{"text": f"{i:04d}"} for i in range(400)]
    pool = make_pool(rows, tmp_path)
    stages = (100, 20, 10)
    by_mode = {
        m: picks(pool, ctx, Budget(samples=40), stages, mode=m) for m in ("exact", "released")
    }
    assert by_mode["released"] == released(rows, *stages, 40)
    assert by_mode["exact"] == exact(lines(pool), *stages, 40)
    assert by_mode["released"] != by_mode["exact"]
    # Nearly all ratios of the first round are equal: the lowest rows, or what torch left in front.
    first = {mode: sorted(found[:10]) for mode, found in by_mode.items()}
    assert max(first["exact"]) < stages[0]
    assert max(first["released"]) >= stages[0]
