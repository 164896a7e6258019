"""Do cheap scorers find what is like a target? Planted rows among a pool, and what that cost.

python benchmarks/cheap_scorers.py DATA --work DIR --static FOLDER               # six targets
python benchmarks/cheap_scorers.py DATA --work DIR --static FOLDER --languages
python benchmarks/cheap_scorers.py DATA --work DIR --static FOLDER --rates

A target's held-out rows are planted among rows of the pool, from which the sources that are the
target's own are left out; a scorer is given the target set alone. With R rows planted, R-precision
is the share of them among the R best. The variant of a method is the one that does best, over all
targets, with one half of each target set as target and the other half planted; what is reported is
that variant, with the whole target set and rows of `_test` planted, over draws of the pool.

`--languages`: the same 240 paragraphs in six languages, five to an article; two of an article are
the target, the other three are to be found among those of the language. Settings are the defaults,
and those chosen above where they are others.

`--rates`: processor seconds a million tokens (of four bytes) of the whole instruction pool, fitting
included, beside one pass over the bytes.

What is in DIR is not computed again, so a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import zstandard

import didact
from didact.core.arrays import Float1D
from didact.core.pool import Pool

RESULTS = Path(__file__).parent / "results"
ROWS, PLANTED, DRAWS = 8_000, 400, 3
Row = dict[str, Any]
# target → files of the target set, file of what is planted, the target's own sources in the pool
TARGETS: Mapping[str, tuple[tuple[str, ...], str | None, tuple[str, ...]]] = {
    "gsm8k": (("target_gsm8k_val",), "target_gsm8k_test", ("gsm8k",)),
    "bbh": (("target_bbh_val",), "target_bbh_test", ()),
    "csqa": (("target_csqa_val",), "target_csqa_test", ("t0/commonsense_qa", "flan_cot/ecqa")),
    "clinc150": (("target_clinc150_val",), "target_clinc150_test", ("clinc150",)),
    "humaneval, mbpp": (("target_humaneval", "target_mbpp_val"), "target_mbpp_test", ()),
    "wikitext": (("text_target_wikitext2_valid",), None, ()),
}
TEXT = {"wikitext"}
# method → variants to choose from
VARIANTS: Mapping[str, Sequence[tuple[str, Mapping[str, Any]]]] = {
    "random": [("random", {})],
    "length": [("length", {"prefer": "longest"}), ("length", {"prefer": "shortest"})],
    "compression": [("compression", {})],
    "bm25": [("bm25", {}), ("bm25", {"variant": "okapi"})],
    "static_embedding": [("static_embedding", {}), ("static_embedding", {"within": "max"})],
    "dsir": [
        ("dsir", {"per": "sample", "buckets": 10_000, "smoothing": 1e-8}),
        ("dsir", {"buckets": 10_000, "smoothing": 1e-8}),
        ("dsir", {}),
    ],
    "ngram_perplexity": [
        ("ngram_perplexity", {"order": 2}),
        ("ngram_perplexity", {"order": 5}),
        ("ngram_perplexity", {"unit": "characters", "order": 5}),
    ],
    "zip_fit": [
        ("zip_fit", {"max_targets": 16}),
        ("zip_fit", {"max_targets": 16, "codec": "zstd"}),
        ("zip_fit", {"max_targets": 16, "codec": "lz4"}),
    ],
    "classifier": [("classifier", {}), ("classifier", {"features": "static_embedding"})],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--static", help="a model2vec folder, for what embeds")
    parser.add_argument("--languages", action="store_true")
    parser.add_argument("--rates", action="store_true")
    parser.add_argument("--methods", nargs="+", default=list(VARIANTS))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.languages:
        by_language(options)
    elif options.rates:
        rates(options)
    else:
        by_target(options)


def by_target(options: argparse.Namespace) -> None:
    chosen = {}
    for method in options.methods:
        tried = {}
        for name, way in VARIANTS[method]:
            label = json.dumps(way, sort_keys=True)
            found = [kept(options, "val", target, 0, name, way) for target in TARGETS]
            tried[label] = statistics.mean(f["r_precision"] for f in found)
            print(f"{method:18} {label:40} {tried[label]:.3f}", flush=True)
        best = max(tried, key=lambda label: tried[label])
        chosen[method] = {"settings": json.loads(best), "tried": tried}
    table: dict[str, Any] = {}
    for method in options.methods:
        name, way = VARIANTS[method][0][0], chosen[method]["settings"]
        row: dict[str, Any] = {"settings": way, "tried_on_val": chosen[method]["tried"]}
        for target in TARGETS:
            found = [kept(options, "test", target, draw, name, way) for draw in range(DRAWS)]
            row[target] = {
                key: [round(f[key], 4) for f in found]
                for key in ("r_precision", "top_5", "auc", "cpu_s_per_million_tokens")
            }
        table[method] = row
        print(method, {t: statistics.mean(row[t]["r_precision"]) for t in TARGETS}, flush=True)
    result = {
        "rows": ROWS,
        "planted": PLANTED,
        "draws": DRAWS,
        "methods": table,
    }
    write("cheap_scorers.json", result)


def kept(
    options: argparse.Namespace,
    part: str,
    target: str,
    draw: int,
    name: str,
    way: Mapping[str, Any],
) -> dict[str, float]:
    """What a scorer found of what was planted, from the work folder where it is there."""
    label = json.dumps([part, target, draw, name, way], sort_keys=True)
    path = options.work / f"{zlib.crc32(label.encode()):08x}.json"
    if not path.exists():
        rows, wanted = task(options.data, target, part, draw)
        measured = measure(options, rows, wanted, name, way)
        path.write_text(json.dumps({"what": label, **measured}))
    found: dict[str, float] = json.loads(path.read_text())
    return found


def measure(
    options: argparse.Namespace,
    rows: Sequence[Row],
    wanted: Sequence[Row],
    name: str,
    way: Mapping[str, Any],
) -> dict[str, float]:
    pool, utility, seconds = scored(options, rows, wanted, name, way)
    return {**hits(pool, utility), "cpu_s_per_million_tokens": seconds / pool.n_tokens.sum() * 1e6}


def scored(
    options: argparse.Namespace,
    rows: Sequence[Row],
    wanted: Sequence[Row],
    name: str,
    way: Mapping[str, Any],
) -> tuple[Pool, Float1D, float]:
    """Pool, utilities, -inf without a score, and the processor seconds of scoring."""
    settings = dict(way)
    if name == "static_embedding" or settings.get("features") == "static_embedding":
        settings["model"] = options.static
    ctx = didact.context(cache_dir=options.work / "cache", workers=1)
    pool, target = (didact.read(list(part), cache_dir=ctx.cache_dir) for part in (rows, wanted))
    began = time.process_time()
    scores = didact.score(pool, name, target=target, ctx=ctx, **settings)
    seconds = time.process_time() - began
    return pool, np.where(np.isnan(scores.utility), -np.inf, scores.utility), seconds


def hits(pool: Pool, utility: Float1D) -> dict[str, float]:
    """R-precision, share of the planted in the top 5 % over their share, AUC (ties count half)."""
    planted = pool.source_codes == pool.source_names.index("planted")
    order = np.argsort(-utility, kind="stable")
    r, n = int(planted.sum()), len(planted)
    top = n // 20
    ranks = np.unique(utility, return_inverse=True, return_counts=True)
    below = np.cumsum(ranks[2]) - (ranks[2] - 1) / 2
    mean = below[ranks[1]][planted].mean()
    return {
        "r_precision": float(planted[order[:r]].mean()),
        "top_5": float(planted[order[:top]].mean() / planted.mean()),
        "auc": float((mean - (r + 1) / 2) / (n - r)),
    }


def rates(options: argparse.Namespace) -> None:
    """Every method on the whole pool, the settings those chosen; a small pool first, to compile."""
    chosen = json.loads((RESULTS / "cheap_scorers.json").read_text())["methods"]
    small, target = task(options.data, "gsm8k", "val", 0)
    rows = load(options.data / "instruct_pool.jsonl.zst")
    table = {}
    for method in options.methods:
        name, way = VARIANTS[method][0][0], chosen[method]["settings"]
        scored(options, small[:500], target, name, way)
        pool, _, seconds = scored(options, rows, target, name, way)
        found = seconds / pool.n_tokens.sum() * 1e6
        table[method] = {"settings": way, "cpu_s_per_million_tokens": round(found, 4)}
        print(method, table[method], flush=True)
    write("cheap_scorers_rates.json", {"floor": floor(rows), "methods": table})


def floor(rows: Sequence[Row]) -> float:
    """Processor seconds that a pass over the bytes of a million tokens takes: their CRC-32."""
    data = b"".join(orjson.dumps(row) for row in rows)
    times = []
    for _ in range(5):
        began = time.process_time()
        zlib.crc32(data)
        times.append(time.process_time() - began)
    return round(statistics.median(times) / len(data) * 4e6, 5)


# -- data ------------------------------------------------------------------------------------------


def task(data: Path, target: str, part: str, draw: int) -> tuple[list[Row], list[Row]]:
    """Rows of the pool, planted ones among them, and rows of the target set."""
    files, held_out, own = TARGETS[target]
    drawn = np.random.default_rng([draw, part == "val", *target.encode()])
    wanted = [row for file in files for row in load(data / f"{file}.jsonl.zst")]
    if part == "val" or held_out is None:
        drawn.shuffle(wanted)  # type: ignore[arg-type]
        if held_out is None:  # one file for both: a third each to choose, and a third to tell
            third = len(wanted) // 3
            fixed = load(data / f"{files[0]}.jsonl.zst")
            tell, rest = fixed[:third], fixed[third:]
            wanted, planted = (
                (rest[: len(rest) // 2], rest[len(rest) // 2 :]) if part == "val" else (rest, tell)
            )
        else:
            wanted, planted = wanted[: len(wanted) // 2], wanted[len(wanted) // 2 :]
    else:
        planted = load(data / f"{held_out}.jsonl.zst")
    pool = load(data / ("text_pool.jsonl.zst" if target in TEXT else "instruct_pool.jsonl.zst"))
    others = [row for row in pool if row["source"] not in own]
    # what is chosen by and what is told of are other rows
    halves = others[::2] if part == "val" else others[1::2]
    taken = [halves[i] for i in drawn.permutation(len(halves))[:ROWS]]
    planted = [planted[i] for i in drawn.permutation(len(planted))[:PLANTED]]
    rows = [*taken, *({**row, "source": "planted"} for row in planted)]
    order = drawn.permutation(len(rows))
    return [bare(rows[i], i) for i in order], [bare(row, i) for i, row in enumerate(wanted)]


def bare(row: Row, number: int) -> Row:
    content = "messages" if "messages" in row else "text"
    return {"id": str(number), "source": row["source"], content: row[content]}


_LOADED: dict[Path, list[Row]] = {}


def load(path: Path) -> list[Row]:
    if path not in _LOADED:
        with zstandard.open(path, "rb") as file:
            rows = [orjson.loads(line) for line in file.read().splitlines()]
        _LOADED[path] = [row for row in rows if row.get("text", "…").strip()]
    return list(_LOADED[path])


# -- languages -------------------------------------------------------------------------------------


def by_language(options: argparse.Namespace) -> None:
    chosen = json.loads((RESULTS / "cheap_scorers.json").read_text())["methods"]
    rows = load(options.data / "multilingual_paragraphs.jsonl.zst")
    languages = sorted({row["source"] for row in rows})
    table = []
    for method in options.methods:
        name = VARIANTS[method][0][0]
        for way in ({}, chosen[method]["settings"]) if chosen[method]["settings"] else ({},):
            label = json.dumps(["languages", name, way], sort_keys=True)
            path = options.work / f"{zlib.crc32(label.encode()):08x}.json"
            if not path.exists():
                found = {
                    language: statistics.mean(articles(options, rows, language, name, way))
                    for language in languages
                }
                path.write_text(json.dumps(found))
            found = {k: round(v, 3) for k, v in json.loads(path.read_text()).items()}
            table.append({"method": method, "settings": way, "r_precision": found})
            print(table[-1], flush=True)
    write("cheap_scorers_languages.json", {"chance": round(3 / 238, 3), "found": table})


def articles(
    options: argparse.Namespace,
    rows: Sequence[Row],
    language: str,
    name: str,
    way: Mapping[str, Any],
) -> Iterator[float]:
    own = [row for row in rows if row["source"] == language]
    for article in sorted({row["meta"]["article"] for row in own}):
        about = [row for row in own if row["meta"]["article"] == article]
        wanted, planted = about[:2], about[2:]
        others = [row for row in own if row["meta"]["article"] != article]
        pool = [*others, *({**row, "source": "planted"} for row in planted)]
        found = measure(
            options,
            [bare(row, i) for i, row in enumerate(pool)],
            [bare(row, i) for i, row in enumerate(wanted)],
            name,
            way,
        )
        yield found["r_precision"]


def write(name: str, result: Mapping[str, Any]) -> None:
    path = RESULTS / name
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
