"""An n-gram model beside KenLM's: making it, reading it, asking it; same text, tokens and model.

python benchmarks/ngram_perplexity.py POOL.jsonl.zst --lmplz BIN/lmplz --work DIR
python benchmarks/ngram_perplexity.py POOL.jsonl.zst --targets DIR --work DIR

Needs the package `kenlm`; `lmplz` is built from its sources. A quarter of the pool makes the model,
the next quarter is judged, by words; of characters an eighth of that. `lmplz` and `kenlm` are given
lines of our tokens with a space between them; didact reads the texts and cuts them itself. `kenlm
from text` cuts them too, by a regular expression of words in lower case. One thread each, in a
process of its own that has done the same on a few lines before: processor seconds and the growth of
the process, medians of a few runs, ours and theirs in turn.

With --targets: whether a target set finds its own source in the pool, by unit, order and sentence.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import resource
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import didact
from main_job import machine

RESULTS = Path(__file__).parent / "results" / "ngram_perplexity.json"
RESULTS_FOUND = RESULTS.with_stem("ngram_perplexity_found")
ORDER = 5
SOURCES = {"gsm8k": "gsm8k", "csqa": "t0/commonsense_qa", "clinc150": "clinc150"}
WAYS = [
    *({"unit": unit, "order": n} for unit in ("words", "characters") for n in range(1, 6)),
    *({"unit": unit, "order": 5, "sentence": "text"} for unit in ("words", "characters")),
]
Found = tuple[Any, float, int]  # a value, processor seconds, bytes the process grew by


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pool")
    parser.add_argument("--lmplz")
    parser.add_argument("--targets", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    pool = didact.read(options.pool, cache_dir=options.work / "cache")
    if options.targets:
        RESULTS_FOUND.write_text(json.dumps(found(pool, options), indent=1) + "\n")
        return
    batches = list(pool.batches())
    quarter = len(batches) // 4
    results: dict[str, Any] = {
        "machine": machine(),
        "pool": Path(options.pool).name,
        "order": ORDER,
        "repeats": options.repeats,
    }
    for unit, some in (("words", quarter), ("characters", max(quarter // 8, 1))):
        made = write(pool, batches[:some], unit, options.work / f"{unit}-made.txt")
        judged = write(pool, batches[quarter : quarter + some], unit, options.work / "judged.txt")
        results[unit] = compared(made, judged, unit, options)
        print(unit, json.dumps(results[unit], indent=1), flush=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def found(pool: Any, options: argparse.Namespace) -> dict[str, Any]:
    """R-precision: of the best R rows the share that is of a target's source, which has R."""
    ctx = didact.context(workers=1, cache_dir=options.work / "cache")
    out: dict[str, Any] = {"pool": Path(options.pool).name, "R-precision": {}}
    for name, source in SOURCES.items():
        file = options.targets / f"target_{name}_val.jsonl.zst"
        target = didact.read(file, cache_dir=options.work / "cache")
        wanted = pool.source_codes == pool.source_names.index(source)
        table: dict[str, float] = {}
        for method, way in (("bm25", {}), *(("ngram_perplexity", way) for way in WAYS)):
            utility = didact.score(pool, method, target=target, ctx=ctx, **way).utility
            best = np.argsort(-np.nan_to_num(utility, nan=-np.inf), kind="stable")
            label = " ".join([method, *map(str, way.values())])
            table[label] = round(float(wanted[best[: wanted.sum()]].mean()), 4)
            print(name, label, table[label], flush=True)
        out["R-precision"][f"{name}, {int(wanted.sum())} of {len(pool)} rows"] = table
    return out


def write(pool: Any, batches: list[range], unit: str, file: Path) -> tuple[Path, int]:
    """The sentences of some rows as lines of a file, a row a block; bytes of the rows' texts."""
    from didact.text.ngram_lm.tokens import spelled

    n_bytes = 0
    raw: list[str] = []
    with file.open("w") as out:
        for rows in batches:
            texts = pool.read(rows, ["text"]).column(0)
            raw += texts.to_pylist()
            n_bytes += sum(len(text.encode()) for text in texts.to_pylist())
            for sentences in spelled(texts, unit, "line"):
                out.writelines(f"{sentence}\n" for sentence in sentences)
                out.write("\n")
    file.with_suffix(".json").write_text(json.dumps(raw))
    return file, n_bytes


def compared(
    made: tuple[Path, int], judged: tuple[Path, int], unit: str, options: argparse.Namespace
) -> dict[str, Any]:
    (text, n_made), (asked, n_asked) = made, judged
    arpa = options.work / f"{unit}.arpa"
    parts: dict[str, list[Found]] = {}
    ways: dict[str, Callable[[], Found]] = {
        "make didact": lambda: alone(make_ours, text, unit),
        "make lmplz": lambda: make_theirs(options.lmplz, text, arpa),
        "read ARPA didact": lambda: alone(read_ours, arpa),
        "read ARPA kenlm": lambda: alone(read_theirs, arpa),
        "judge didact": lambda: alone(judge_ours, asked, arpa, unit),
        "judge kenlm": lambda: alone(judge_theirs, asked, arpa, ""),
        "judge kenlm from text": lambda: alone(judge_theirs, asked, arpa, unit),
    }
    for _ in range(options.repeats):
        for name, way in ways.items():
            parts.setdefault(name, []).append(way())
            print(unit, name, parts[name][-1][1:], flush=True)
    ours, theirs = parts["judge didact"][0][0], parts["judge kenlm"][0][0]
    from_counts = parts["make didact"][0][0]
    logs, ngrams = np.array(from_counts["logs"]), sum(from_counts["ngrams"])
    out: dict[str, Any] = {
        "bytes of text, made of": n_made,
        "bytes of text, judged": n_asked,
        "n-grams": from_counts["ngrams"],
        "largest relative difference of a row's log p": {
            "one ARPA file, didact and kenlm": difference(ours, theirs),
            "models by didact and by lmplz": difference(logs, ours[: len(logs)]),
        },
    }
    for name, found in parts.items():
        seconds = statistics.median(s for _, s, _ in found)
        of = n_asked if name.startswith("judge") else n_made
        out[name] = {
            "cpu seconds": round(seconds, 2),
            "of the runs": [round(s, 2) for _, s, _ in found],
            "ns a byte of text": round(seconds / of * 1e9, 1),
            "MB/s": round(of / seconds / 1e6, 2),
        }
        if name in {"make didact", "read ARPA didact", "read ARPA kenlm"}:
            grown = statistics.median(b for *_, b in found)
            out[name]["bytes an n-gram, at the peak"] = round(grown / ngrams, 1)
    for what, other in (
        ("make", "make lmplz"),
        ("read ARPA", "read ARPA kenlm"),
        ("judge", "judge kenlm"),
        ("judge", "judge kenlm from text"),
    ):
        ratio = out[other]["cpu seconds"] / out[f"{what} didact"]["cpu seconds"]
        out[f"{other} over ours"] = round(ratio, 2)
    return out


def difference(a: Any, b: Any) -> float:
    a, b = np.asarray(a), np.asarray(b)
    some = b != 0
    return float(f"{np.abs(a[some] / b[some] - 1).max():.2g}")


def alone(work: Callable[..., Any], *arguments: Any) -> Found:
    """What a function gives in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as one:
        return one.apply(_measured, (work, arguments))


def _measured(work: Callable[..., Any], arguments: tuple[Any, ...]) -> Found:
    ready = work(*arguments)  # compiled code is read, libraries are imported
    before, began = _resident(), time.process_time()
    value = ready()
    return value, time.process_time() - began, _peak() - before


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def arrays(file: Path, size: int = 4096) -> list[pa.LargeStringArray]:
    texts = json.loads(file.with_suffix(".json").read_text())
    return [pa.array(texts[i : i + size], pa.large_string()) for i in range(0, len(texts), size)]


def make_ours(text: Path, unit: Any) -> Callable[[], dict[str, Any]]:
    from didact.text.ngram_lm.counting import Counts
    from didact.text.ngram_lm.tokens import sentences_of

    def make(texts: Any) -> Any:
        counts = Counts(ORDER)
        for batch in texts:
            counts.add(sentences_of(batch, unit, "line"))
        return counts.estimate()

    batches = arrays(text)
    make([batches[0][:50]]).judge(batches[0][:50], unit, "line")
    asked = arrays(text.parent / "judged.txt")[0]

    def work() -> dict[str, Any]:
        model = make(batches)
        logs = model.judge(asked, unit, "line").logs.tolist()
        return {"ngrams": model.about["ngrams"], "logs": logs}

    return work


def make_theirs(lmplz: str, text: Path, arpa: Path) -> Found:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [lmplz, "-o", str(ORDER), "-S", "2G", "-T", str(text.parent), "--text", str(text),
               "--arpa", str(arpa), "--discount_fallback", "--skip_symbols"]  # fmt: skip
    # a blank line, which parts rows here, is no sentence to us, and an empty one to lmplz
    lines = [line for line in text.read_text().split("\n") if line]
    plain = text.with_suffix(".lines")
    plain.write_text("\n".join(lines) + "\n")
    command[command.index(str(text))] = str(plain)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return None, seconds, 0


def read_ours(arpa: Path) -> Callable[[], int]:
    from didact.data.reading.files import File, chunks
    from didact.text.ngram_lm.arpa import read_arpa

    small = (
        "\\data\\\nngram 1=2\nngram 2=1\n\\1-grams:\n-1 <s> -1\n-1 </s>\n\\2-grams:\n-1 <s> </s>\n"
    )
    read_arpa([f"{small}\\end\\\n".encode()], "small")
    return lambda: read_arpa(chunks(File(arpa, "arpa", "")), str(arpa)).order


def read_theirs(arpa: Path) -> Callable[[], int]:
    import kenlm

    return lambda: kenlm.Model(str(arpa)).order


def judge_ours(asked: Path, arpa: Path, unit: Any) -> Callable[[], list[float]]:
    from didact.data.reading.files import File, chunks
    from didact.text.ngram_lm.arpa import read_arpa

    model = read_arpa(chunks(File(arpa, "arpa", "")), str(arpa))
    batches = arrays(asked)
    model.judge(batches[0][:50], unit, "line")
    return lambda: [
        log for batch in batches for log in model.judge(batch, unit, "line").logs.tolist()
    ]


def judge_theirs(asked: Path, arpa: Path, unit: str) -> Callable[[], list[float]]:
    """By lines of tokens, or without a `unit` given by texts that are cut here."""
    import kenlm

    model = kenlm.Model(str(arpa))
    if not unit:
        texts = asked.read_text().removesuffix("\n\n").split("\n\n")
        return lambda: [
            sum(model.score(line) for line in text.split("\n") if line) for text in texts
        ]
    whole = json.loads(asked.with_suffix(".json").read_text())
    word = re.compile(r"\w+")

    def cut(line: str) -> str:
        if unit == "words":
            return " ".join(word.findall(line.lower()))
        return " ".join("\N{LOWER ONE EIGHTH BLOCK}".join(line.split()))

    return lambda: [
        sum(model.score(one) for line in text.split("\n") if (one := cut(line))) for text in whole
    ]


if __name__ == "__main__":
    main()
