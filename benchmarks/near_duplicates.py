"""Near-duplicates beside datasketch and rensa: the same shingles, threshold and permutations.

    python benchmarks/near_duplicates.py POOL --rivals PYTHON [--sample 20000] [-o RESULT]

PYTHON is an interpreter that has datasketch, rensa and numpy. Exact copies are left out, then all
go down the rows in the order of the file and remove a row when it is near one that stays. Each runs
in a process of its own, one thread, after one that compiles and imports; its CPU seconds begin
where the shingles are in memory, those of `didact.dedup` where the pool is in the cache, so that it
reads and cuts the texts as well. On the first rows of the pool the Jaccard similarity of all pairs
that reach the threshold is counted, and removed rows are compared with those.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).resolve().parent / "results" / "near_duplicates.json"
SIMILARITY, NGRAM, PERMUTATIONS = 0.8, 5, 128


# -- those that are compared -----------------------------------------------------------------------


def rows_of(place: Path, rows: int) -> Iterator[list[bytes]]:
    """Each row's distinct shingles, eight bytes each."""
    with np.load(place / "shingles.npz") as file:
        hashes, offsets = file["hashes"], file["offsets"]
    for first, last in pairwise(offsets[: rows + 1]):
        raw = hashes[first:last].tobytes()
        yield [raw[at : at + 8] for at in range(0, len(raw), 8)]


def of_datasketch(place: Path, rows: int) -> Callable[[], list[int]]:
    """As its documentation has it: a MinHash a row, asked for and put into an LSH index."""
    from datasketch import MinHash, MinHashLSH

    sets = list(rows_of(place, rows))

    def removed() -> list[int]:
        index, out = MinHashLSH(threshold=SIMILARITY, num_perm=PERMUTATIONS), []
        for row, shingles in enumerate(sets):
            signed = MinHash(num_perm=PERMUTATIONS)
            signed.update_batch(shingles)
            if shingles and index.query(signed):
                out.append(row)
            else:
                index.insert(row, signed)
        return out

    return removed


def of_rensa(place: Path, rows: int) -> Callable[[], list[int]]:
    """As its documentation has it: an RMinHash a row, added to its own deduplicator."""
    from rensa import RMinHash, RMinHashDeduplicator

    sets = list(rows_of(place, rows))

    def removed() -> list[int]:
        index = RMinHashDeduplicator(threshold=SIMILARITY, num_perm=PERMUTATIONS, use_lsh=True)
        out = []
        for row, shingles in enumerate(sets):
            signed = RMinHash(num_perm=PERMUTATIONS, seed=42)
            signed.update(shingles)
            if not index.add(str(row), signed) and shingles:
                out.append(row)
        return out

    return removed


def of_didact(place: Path, rows: int) -> Callable[[], list[int]]:
    """`didact.dedup` with nothing in the cache but the pool."""
    import didact

    pool = didact.read(place / f"{rows}.jsonl", cache_dir=place / "cache")
    ctx = didact.context(workers=1, cache_dir=tempfile.mkdtemp(dir=place))

    def removed() -> list[int]:
        how = {"similarity": SIMILARITY, "ngram": NGRAM, "permutations": PERMUTATIONS}
        return didact.dedup(pool, ctx=ctx, **how).removed.tolist()

    return removed


CONTENDERS = {"didact": of_didact, "datasketch": of_datasketch, "rensa": of_rensa}


def measure(name: str, place: Path, rows: int) -> dict[str, Any]:
    """Rows removed, CPU seconds, and memory before and at most; in a process of its own."""
    removed = CONTENDERS[name](place, rows)
    before = _peak_mib()
    cpu = time.process_time()
    found = removed()
    seconds = time.process_time() - cpu
    return {
        "removed": found, "cpu_seconds": round(seconds, 2), "peak_mib_before": before,
        "peak_mib": _peak_mib(),
    }  # fmt: skip


def _peak_mib() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


# -- the comparison --------------------------------------------------------------------------------


def prepare(pool: Path, place: Path, sizes: list[int | None]) -> list[int]:
    """Rows without exact copies and their shingles as files; how many rows each size is."""
    import didact
    from didact.text.minhash import shingles

    whole = didact.read(pool, cache_dir=place / "cache")
    rows = np.flatnonzero(whole.copy_number == 1)
    found, ends = [], [0]
    for _, texts in whole.texts(rows):
        hashes, offsets = shingles(texts, NGRAM)
        for first, last in pairwise(offsets):
            found.append(np.unique(hashes[first:last]))
            ends.append(ends[-1] + len(found[-1]))
    np.savez(place / "shingles.npz", hashes=np.concatenate(found), offsets=np.array(ends))
    counts = [len(rows) if size is None else min(size, len(rows)) for size in sizes]
    for count in counts:
        with (place / f"{count}.jsonl").open("wb") as file:
            file.writelines(line + b"\n" for line in whole.records(rows[:count]))
        didact.read(place / f"{count}.jsonl", cache_dir=place / "cache")
    return counts


def exact(place: Path, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs at the threshold or above, and the rows that are removed by them."""
    from instruments import pairs_alike

    with np.load(place / "shingles.npz") as file:
        hashes, offsets = file["hashes"], file["offsets"]
    sets = [hashes[a:b] for a, b in pairwise(offsets[: rows + 1])]
    worded = np.array([i for i, s in enumerate(sets) if len(s)])
    pairs = worded[pairs_alike([sets[i] for i in worded], SIMILARITY)]
    gone = np.zeros(rows, np.bool_)
    for a, b in pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))]:
        gone[b] |= not gone[a]
    return pairs, np.flatnonzero(gone)


def judged(removed: list[int], pairs: np.ndarray, gone: np.ndarray) -> dict[str, float]:
    """Shares of the pairs of which one is left, and of removed rows that are in such a pair."""
    out = np.zeros(max(int(pairs.max(initial=0)), *removed, 0) + 1, np.bool_)
    out[removed] = True
    alike = np.unique(pairs)
    return {
        "removed": len(removed),
        "pairs_parted": round(float((out[pairs[:, 0]] | out[pairs[:, 1]]).mean()), 4),
        "rows_of_exact_removed": round(float(out[gone].mean()), 4),
        "removed_that_are_alike": round(float(np.isin(removed, alike).mean()), 4),
    }


def main() -> None:
    if sys.argv[1:2] == ["--measure"]:
        name, place, rows = sys.argv[2:]
        print(json.dumps(measure(name, Path(place), int(rows))))
        return
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("pool", type=Path)
    parser.add_argument("--rivals", required=True, help="a Python that has datasketch and rensa")
    parser.add_argument("--sample", type=int, default=20_000)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    from main_job import machine

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        sample, whole = prepare(options.pool, place, [options.sample, None])
        pairs, gone = exact(place, sample)
        print(f"{len(pairs):,} pairs, {len(gone):,} rows removed by exact similarity", flush=True)
        arms: dict[str, Any] = {}
        for rows in (sample, whole):
            for name in CONTENDERS:
                python = sys.executable if name == "didact" else options.rivals
                command = [python, __file__, "--measure", name, str(place)]
                if rows == sample:  # compiled and imported once
                    subprocess.run([*command, "100" if name != "didact" else str(rows)],
                                   check=True, stdout=subprocess.PIPE)  # fmt: skip
                done = subprocess.run(
                    [*command, str(rows)], check=True, stdout=subprocess.PIPE, text=True
                )
                found = json.loads(done.stdout)
                removed = found.pop("removed")
                told = judged(removed, pairs, gone) if rows == sample else {"removed": len(removed)}
                arms[f"{name} {rows}"] = {"rows": rows, **told, **found}
                print(name, rows, arms[f"{name} {rows}"], flush=True)
    asked = "from importlib.metadata import version; print(*map(version, ['datasketch', 'rensa']))"
    command = [options.rivals, "-c", asked]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    versions = done.stdout.split()
    result = {
        "machine": machine(),
        "setup": {
            "pool": options.pool.name, "similarity": SIMILARITY, "ngram": NGRAM,
            "permutations": PERMUTATIONS, "datasketch": versions[0], "rensa": versions[1],
        },
        "exact": {"rows": sample, "pairs": len(pairs), "removed": len(gone)},
        "arms": arms,
    }  # fmt: skip
    options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
