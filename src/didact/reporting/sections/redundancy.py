"""Redundancy: how much the chosen set repeats itself, beside random sets of equal bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from didact.core.arrays import Int1D
from didact.core.pool import Pool
from didact.core.protocols import Context
from didact.reporting import charts
from didact.reporting.distributions import AT_ONCE
from didact.reporting.formatting import compact, percent
from didact.reporting.sections.header import Header
from didact.reporting.sections.section import Section
from didact.reporting.subject import Subject
from didact.text.buffers import utf8
from didact.text.compression import library, set_redundancy

RANDOM_SETS = 5
CAP_BYTES = 16_000_000
LEVEL = 3
LITTLE_TEXT = 100_000  # bytes of a set; below it a few samples decide its ratio
WINDOW_LOG = 24  # 16 MiB: the whole of a capped set is within sight


@dataclass(frozen=True, slots=True)
class Redundancy:
    """Raw ÷ compressed bytes of sets; higher = more repetition *across* samples.

    Attributes:
        chosen: Redundancy of the chosen set.
        random: Redundancy of each random set.
        bytes: Raw bytes of every set, equal to the byte.
        chosen_bytes: Raw bytes of all chosen samples; more than `bytes` when a random part of
            them stands for the whole.
        codec: What compressed them.
    """

    chosen: float
    random: tuple[float, ...]
    bytes: int
    chosen_bytes: int
    codec: str

    @property
    def sampled(self) -> bool:
        """Whether a random part of the chosen samples stands for the whole."""
        return self.bytes < self.chosen_bytes

    @property
    def mean(self) -> float:
        """Of the random sets."""
        return sum(self.random) / len(self.random)


def redundancy(
    pool: Pool, chosen: Int1D, candidates: Int1D, ctx: Context, *, cap_bytes: int = CAP_BYTES
) -> Redundancy | None:
    """The chosen set against `RANDOM_SETS` random ones; None when there is no text to compare.

    A set's ratio grows with its size, so all sets hold equally many bytes: rows in random order
    until the bytes are reached, compressed in pool order, the last one cut to the byte.

    Args:
        pool: The pool.
        chosen: Rows that were chosen.
        candidates: Rows the random sets are drawn from.
        ctx: Its seed draws the random sets.
        cap_bytes: Most bytes of one set.

    **Cost:** one pass over the pool's store a set; at most `cap_bytes` in memory, a set at a time,
    and compressed at about 150 MB/s, whatever the pool's size.
    """
    chosen_bytes = _sum(pool.n_bytes, chosen)
    size = min(chosen_bytes, _sum(pool.n_bytes, candidates), cap_bytes)
    if not size:
        return None
    sets: list[tuple[Int1D, tuple[str | int, ...]]] = [(chosen, ("chosen",))]
    sets += [(candidates, ("random", i)) for i in range(RANDOM_SETS)]
    ratios = []
    for rows, name in sets:
        some = random_rows(pool.n_bytes, rows, size, ctx.rng("report", "redundancy", *name))
        text = memoryview(read_text(pool, some, size))
        ratios.append(set_redundancy([text], level=LEVEL, window_log=WINDOW_LOG))
    first, *others = ratios
    codec = f"{library('zstd')}, level {LEVEL}, seeing {2 ** (WINDOW_LOG - 20)} MiB back"
    return Redundancy(first, tuple(others), size, chosen_bytes, codec)


def random_rows(n_bytes: Int1D, rows: Int1D, size: int, rng: np.random.Generator) -> Int1D:
    """The fewest rows in random order that hold at least `size` bytes, ascending."""
    shuffled = rng.permutation(rows)
    before = 0
    for at in range(0, len(rows), AT_ONCE):
        filled = before + np.cumsum(n_bytes[shuffled[at : at + AT_ONCE]])
        before = int(filled[-1])
        if before >= size:
            return np.sort(shuffled[: at + int(np.searchsorted(filled, size)) + 1])
    return np.sort(shuffled)


def _sum(values: Int1D, rows: Int1D) -> int:
    return sum(int(values[rows[at : at + AT_ONCE]].sum()) for at in range(0, len(rows), AT_ONCE))


def read_text(pool: Pool, rows: Int1D, size: int) -> bytearray:
    """The text of ascending rows that hold little more than `size` bytes, cut to them."""
    out = bytearray()
    for part in pool.parts(rows):
        data, _ = utf8(pool.read(rows[part], ["text"]).column("text"))
        out.extend(data.data[: size - len(out)])
    return out


def _gather(subject: Subject) -> Redundancy | None:
    candidates = np.flatnonzero(subject.candidates)
    return redundancy(subject.pool, subject.selection.rows, candidates, subject.ctx)


def _template_values(found: Redundancy, _header: Header) -> Mapping[str, Any]:
    says = _comparison(found)
    chart = charts.dots(
        found.chosen, found.random, described=says,
        x_label="raw ÷ compressed bytes, more = repeats more",
        names=("chosen set", f"{len(found.random)} random sets"),
    )  # fmt: skip
    return {"chart": chart, "says": says, "megabytes": _megabytes}


def _megabytes(n_bytes: int) -> str:
    return f"{compact(n_bytes)}B".replace("kB", " kB").replace("MB", " MB")


def _comparison(found: Redundancy) -> str:
    """The comparison in a sentence."""
    n, by = len(found.random), found.chosen / found.mean - 1
    size = percent(abs(by))
    little = found.bytes < LITTLE_TEXT
    rough = "So little text makes this a rough comparison."
    if found.chosen > max(found.random):
        return (
            f"The chosen set repeats itself more than any of {n} random sets of equal bytes: it "
            f"compresses {size} further than their mean. "
        ) + (
            rough if little else "The choice gathers text that repeats, within samples or between "
            "them, so that it holds less that is new per byte than chance would give."
        )  # fmt: skip
    if found.chosen < min(found.random):
        return (
            f"The chosen set repeats itself less than any of {n} random sets of equal bytes: it "
            f"compresses {size} less than their mean. "
        ) + (
            rough if little else "The choice gathers text that differs, within samples and between "
            "them, so that it holds more that is new per byte than chance would give."
        )  # fmt: skip
    return (
        f"The chosen set repeats itself as much as {n} random sets of equal bytes do: it lies "
        "within their range. "
    ) + (rough if little else "By this measure the choice is as varied as chance.")


SECTION = Section(
    name="redundancy", title="Redundancy", gather=_gather, template_values=_template_values
)
