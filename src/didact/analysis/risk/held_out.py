"""Held-out text in a version: whole samples, of which none should be there, and runs of words."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import pyarrow as pa

from didact.analysis.risk.before import Found, judged, rows_of
from didact.analysis.risk.copies import RUN
from didact.analysis.risk.flags import MOST_ROWS
from didact.analysis.risk.odds import from_counts, from_means
from didact.analysis.risk.texts import Version
from didact.core.pool import Pool
from didact.text.minhash import shingles
from didact.text.overlap import Overlap, overlap_with

LONG: Final = 9  # runs of five in 13 words: a shorter sample may stand anywhere by chance


@dataclass(frozen=True)
class HeldOut:
    """Held-out samples, and what finds them.

    Attributes:
        pool: The samples.
        overlap: What finds rows that share 13 words in a row with them.
        runs: Runs of five words of each sample; empty where it is too short.
        by_rarest: The run of a sample that fewest samples have → such samples.
    """

    pool: Pool
    overlap: Overlap
    runs: Sequence[frozenset[int]]
    by_rarest: dict[int, list[int]]


def held_out_of(pool: Pool) -> HeldOut:
    """What finds the samples of a pool.

    **Cost:** about 100 ns a byte, and 100 bytes of memory a word.
    """
    texts = [text for _, text in pool.texts(np.arange(len(pool)))]
    runs = [found if len(found) >= LONG else frozenset() for found in _runs(texts)]
    often: dict[int, int] = defaultdict(int)
    for each in runs:
        for run in each:
            often[run] += 1
    by_rarest: dict[int, list[int]] = defaultdict(list)
    for sample, each in enumerate(runs):
        if each:
            by_rarest[min(each, key=lambda run: (often[run], run))].append(sample)
    return HeldOut(pool, overlap_with(texts), runs, dict(by_rarest))


def judge_held_out(
    versions: Sequence[Version], held_out: HeldOut
) -> list[tuple[list[Found], list[str]]]:
    """Held-out text in every version.

    A sample that stands whole in a row is flagged in any version: none is expected. Rows that share
    some words with held-out text are usual where both were written to one pattern, so their share
    is compared with the previous version's, and told where it is not flagged.

    Args:
        versions: In order.
        held_out: What finds held-out text.

    **Cost:** a pass over the text, 10 ns a byte, and 100 ns a byte of the rows that share words.
    """
    out: list[tuple[list[Found], list[str]]] = []
    before: tuple[int, int] | None = None
    for version in versions:
        n = max(len(version.rows), 1)
        sharing = [
            (where.start + row, words)
            for where, texts in version.pool.texts(version.rows)
            for row, words in held_out.overlap(texts)
        ]
        found = [_whole(version, held_out, [place for place, _ in sharing], n)]
        cannot = []
        if before is not None:
            odds = from_counts(len(sharing), n, *before)
            one = judged("held_out", len(sharing) / n, odds)
            why = [f"shares “{words}”" for _, words in sharing[:MOST_ROWS]]
            places = np.array([place for place, _ in sharing], np.int64)
            found.append((one, rows_of(version, places, why)))
        if sharing and not any(one.flagged for one, _ in found):
            cannot.append(
                f"held_out: {len(sharing):,} of {n:,} rows share 13 words in a row with held-out "
                f"text, such as “{sharing[0][1]}”; whether they give it away is not known"
            )
        before = len(sharing), n
        out.append((found, cannot))
    return out


def _whole(version: Version, held_out: HeldOut, places: Sequence[int], n: int) -> Found:
    """Rows in which every run of words of a held-out sample stands; `places` may be such rows."""
    at = np.array(places, np.int64)
    texts = [text for _, text in version.pool.texts(version.rows[at])] if len(at) else []
    hits, samples = [], []
    for place, here in zip(places, _runs(texts), strict=True):
        near = (sample for run in here for sample in held_out.by_rarest.get(run, ()))
        sample = next((s for s in near if held_out.runs[s] <= here), None)
        if sample is not None:
            hits.append(place)
            samples.append(sample)
    one = judged("held_out", len(hits) / n, from_means(len(hits) / n, 0.0, 0.0, math.inf))
    ids = held_out.pool.read(np.array(samples[:MOST_ROWS], np.int64), ["id"]) if samples else None
    why = [] if ids is None else [f"holds {name}" for name in ids.column("id").to_pylist()]
    return one, rows_of(version, np.array(hits, np.int64), why)


def _runs(texts: Sequence[pa.LargeStringArray]) -> Iterator[frozenset[int]]:
    """Runs of five words of every text."""
    for batch in texts:
        hashes, offsets = shingles(batch, RUN)
        for a, b in pairwise(offsets.tolist()):
            yield frozenset(hashes[a:b].tolist())
