"""Which rows the noise filter takes for noise: few of a language among others, noise, whole pools.

python benchmarks/noise.py DATA --label after      # DATA: the folder of real data

Rows of a language that a pool hardly has, and code, are put among chats, books and code; noise of
every kind is planted there; and the whole pool of chats is judged. Results go to
benchmarks/results/noise.json under the label, so that two checkouts stand side by side: run it with
PYTHONPATH set to the other one's `src`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import zstandard

import didact
import instruments
from didact.selection.around.budget import candidates
from main_job import machine

try:
    from didact.text.noise.noise import noisy
except ImportError:  # where it is one module
    from didact.text.noise import noisy

RESULTS = Path(__file__).resolve().parent / "results" / "noise.json"
STRICTNESS = 0.3  # the default
BASE, FOREIGN = 2000, 1500  # rows of a pool; rows that noise takes its letters from
NUMBERS, LIMITS = (10, 30, 100), (0, 1, 2)  # rows of a language, and how many may be flagged
DRAWS, PLANTINGS = 5, 20  # of pools with guests, and with noise
PLANTED = 0.05  # of a pool's rows
CLEAN = 0.001  # of rows without a broken mark, at most so many are noise
SHOWN = 50

_TAIL = "\x80-\xbf" + "".join(
    bytes([byte]).decode("cp1252", "ignore") for byte in range(0x80, 0xA0)
)
# A character of UTF-8 in Latin-1 or Windows-1252, whole or without its last byte, or what takes
# the place of one that could not be read.
_BROKEN = re.compile(
    f"[\xc2-\xdf][{_TAIL}]|[\xe0-\xef][{_TAIL}]{{2}}|[\xf0-\xf4][{_TAIL}]{{3}}|\xe2\u20ac|\ufffd"
)


class Texts:
    """What `noisy` reads of a pool, in memory."""

    def __init__(self, texts: list[str]) -> None:
        self._texts = pa.array(texts, pa.large_string())
        data = [text.encode() for text in texts]
        digests = b"".join(hashlib.blake2b(row, digest_size=8).digest() for row in data)
        self.content_hash = np.frombuffer(digests, np.uint64)
        self.n_bytes = np.array([len(row) for row in data], np.int64)

    def parts(self, rows: np.ndarray) -> list[slice]:
        """Where the rows of each batch stand among `rows`."""
        return [slice(at, min(at + 1000, len(rows))) for at in range(0, len(rows), 1000)]

    def texts_of(self, rows: np.ndarray) -> pa.LargeStringArray:
        """Texts of some rows."""
        return self._texts.take(pa.array(rows))


def flagged(texts: list[str]) -> np.ndarray:
    """Which of these texts are noise among each other, bool `(len(texts),)`."""
    ctx = didact.context(workers=1)
    return np.asarray(noisy(Texts(texts), np.arange(len(texts)), STRICTNESS, ctx))


def rows_of(file: Path) -> list[tuple[str, str]]:
    """Source and text of every row."""
    with zstandard.open(file, "rt", encoding="utf-8") as lines:
        rows = [orjson.loads(line) for line in lines]
    return [
        (row["source"], row["text"] if "text" in row
         else "\n".join(turn["content"] for turn in row["messages"]))
        for row in rows
    ]  # fmt: skip


def pools_and_guests(
    data: Path, chats: list[tuple[str, str]]
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Texts of three kinds to draw pools from, and texts by language to put among them."""
    pools = {
        "chats": [text for _, text in chats],
        "books": [
            text[:2000] for name, text in rows_of(data / "text_pool.jsonl.zst") if name == "books"
        ],
        "code": [text for name, text in chats if name == "gpteacher/codegen"],
    }
    guests: dict[str, list[str]] = {"code": []}
    for name, text in rows_of(data / "multilingual_paragraphs.jsonl.zst"):
        if name != "en":
            guests.setdefault(name, []).append(text)
    for file in ("target_mbpp_train", "target_humaneval"):
        guests["code"] += [text for _, text in rows_of(data / f"{file}.jsonl.zst")]
    return pools, guests


def flagged_guests(
    pool: list[str], guests: dict[str, list[str]], judge: Callable[[list[str]], np.ndarray]
) -> dict[str, dict[str, Any]]:
    """Rows flagged of so many of a language among `BASE` others, worst and mean of all draws."""
    out: dict[str, dict[str, Any]] = {}
    for name, texts in guests.items():
        out[name] = {"worst": [], "mean": []}
        for n in NUMBERS:
            found = []
            for seed in range(DRAWS):
                rng = np.random.default_rng([seed, n])
                base = [pool[i] for i in rng.permutation(len(pool))[:BASE]]
                few = [texts[i] for i in rng.permutation(len(texts))[:n]]
                found.append(int(judge(base + few)[len(base) :].sum()))
            out[name]["worst"].append(max(found))
            out[name]["mean"].append(round(float(np.mean(found)), 2))
    return out


def planted_recall(
    pool: list[str], foreign: list[str], judge: Callable[[list[str]], np.ndarray]
) -> dict[str, Any]:
    """Share found of each kind of noise, mean and worst of all draws, and rows of the pool taken.

    Every kind has as many rows, each the length of a row of the pool.
    """
    found: dict[str, list[float]] = {}
    taken = []
    for seed in range(PLANTINGS):
        rng = np.random.default_rng(seed)
        base = [pool[i] for i in rng.permutation(len(pool))[:BASE]]
        makers = instruments.kinds(" ".join(base).split(), foreign)
        each = round(PLANTED * len(base) / len(makers))
        texts = list(base)
        for make in makers.values():
            for _ in range(each):
                n = len(base[rng.integers(len(base))].encode())
                texts.append(instruments.cut(make(n, rng), n))
        noise = judge(texts)
        taken.append(int(noise[: len(base)].sum()))
        for at, kind in enumerate(makers):
            first = len(base) + at * each
            found.setdefault(kind, []).append(float(noise[first : first + each].mean()))
    recall = {
        kind: {"mean": round(float(np.mean(shares)), 3), "worst": round(min(shares), 3)}
        for kind, shares in found.items()
    }
    return {
        "recall": recall,
        "genuine rows flagged, mean": float(np.mean(taken)),
        "worst": max(taken),
        "of": min(BASE, len(pool)),
    }


def whole_pool(file: Path) -> tuple[dict[str, Any], list[str]]:
    """What is flagged of a whole pool, by source; and some of it that holds no broken mark."""
    pool = didact.read(file)
    rows = candidates(pool, None)
    ctx = didact.context(workers=1)
    noisy(pool, rows[:100], STRICTNESS, ctx)  # compiles
    began = time.process_time()
    noise = noisy(pool, rows, STRICTNESS, ctx)
    seconds = time.process_time() - began
    texts = [text for _, part in pool.texts(rows) for text in part.to_pylist()]
    clean = np.array([_BROKEN.search(text) is None for text in texts])
    names = np.array(pool.source_names)[pool.source_codes[rows]]
    about = {
        "rows": len(rows),
        "flagged": int(noise.sum()),
        "flagged with a broken mark": int((noise & ~clean).sum()),
        "rows with a broken mark": int((~clean).sum()),
        "flagged without": int((noise & clean).sum()),
        "share of the clean flagged": round(float((noise & clean).sum() / clean.sum()), 6),
        "flagged without, by source": dict(Counter(names[noise & clean].tolist()).most_common()),
        "flagged with, by source": dict(Counter(names[noise & ~clean].tolist()).most_common()),
        "CPU ns a byte": round(seconds / int(pool.n_bytes[rows].sum()) * 1e9, 1),
    }
    some = np.random.default_rng(0).permutation(np.flatnonzero(noise & clean))[:SHOWN]
    return about, [f"{names[i]} {len(texts[i])} {texts[i][:150]!r}" for i in some.tolist()]


def violations(guests: dict[str, dict[str, Any]]) -> list[str]:
    """Where more rows are flagged than may be."""
    return [
        f"{base}: {worst} of {n} {name}"
        for base, of_base in guests.items()
        for name, found in of_base.items()
        for n, limit, worst in zip(NUMBERS, LIMITS, found["worst"], strict=True)
        if worst > limit
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--label", required=True)
    options = parser.parse_args()
    file = options.data / "instruct_pool.jsonl.zst"
    chats = rows_of(file)
    order = np.random.default_rng(0).permutation(len(chats))
    foreign = [chats[i][1] for i in order[:FOREIGN]]
    pools, guests = pools_and_guests(options.data, [chats[i] for i in order[FOREIGN:]])
    result: dict[str, Any] = {"machine": machine(), "strictness": STRICTNESS}
    result |= {"draws": DRAWS, "plantings": PLANTINGS}
    result |= {"rows of a pool": BASE, "rows of a guest": NUMBERS}
    result["guests"] = {
        base: flagged_guests(texts, guests, flagged) for base, texts in pools.items()
    }
    result["more flagged than may be"] = violations(result["guests"])
    result["planted"] = {
        base: planted_recall(texts, foreign, flagged) for base, texts in pools.items()
    }
    result["whole pool"], shown = whole_pool(file)
    result["few enough of the clean"] = result["whole pool"]["share of the clean flagged"] <= CLEAN
    print("\n".join(shown))
    print(json.dumps(result, indent=1))
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    lines = json.dumps({**kept, options.label: result}, indent=1)
    RESULTS.write_text(re.sub(r"(?<=[\[\d,])\s+(?=[\d\]])", " ", lines) + "\n")


if __name__ == "__main__":
    main()
