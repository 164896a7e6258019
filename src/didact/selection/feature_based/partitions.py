"""`feature_based` in two rounds: partitions pick, and then the rule among their picks.

What goes to a worker is the number of a partition. What comes back are numbers: which of its rows
it picked, which look like noise, the script of each, and sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from didact.core.cost import Metered
from didact.core.keep import Piece, kept_pieces, only
from didact.core.protocols import Context, Growing, Narrowing, Progress
from didact.execution.executors import serial
from didact.selection.around.grow import grow
from didact.selection.feature_based.dealing import OVERSAMPLED, deal, refuse_share
from didact.selection.feature_based.rule import Rule, Whole, lazy_greedy
from didact.selection.greedy.finished_picks import read_arrays, write_arrays
from didact.selection.greedy.noise_last import ranked, suspects_of
from didact.selection.greedy.shares import scripts_of, tokens_by_script
from didact.text.scripts import SCRIPTS

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt
    import pyarrow as pa

    from didact.core.arrays import Bool1D, Int1D, Int32s, UInt8s, UInt64s
    from didact.core.pool import Pool
    from didact.core.protocols import Grown
    from didact.selection.greedy.finished_picks import Arrays

_ROWS, _BYTES = 4096, 2**23  # of the text that is read at a time


def two_rounds(
    pool: Pool, rows: Int1D, rule: Rule, ctx: Context, *, partitions: int, samples: bool
) -> Narrowing:
    """The rule over what partitions of the candidates picked by the same rule.

    Args:
        pool: The samples.
        rows: The candidates, ascending.
        rule: The settings.
        ctx: Its workers take a partition each; its pieces keep what finished partitions picked.
        partitions: How many.
        samples: Whether the budget counts samples, else tokens or what goes with them.
    """

    def narrow(share: float) -> Growing:
        refuse_share(share, partitions)
        # A gram of min_df samples of the pool is in so many of a partition as come to it.
        local = replace(rule, min_df=-(-rule.min_df // partitions))
        work = _Work(
            pool=pool, of=deal(pool, rows, partitions, ctx), rule=local,
            share=OVERSAMPLED * share, samples=samples,
        )  # fmt: skip
        first = _first_round(work, rows, partitions, ctx)
        picked = np.flatnonzero(first.picked)

        @contextmanager
        def growth() -> Iterator[Grown]:
            growing = lazy_greedy(
                pool, rows[picked], rule, ctx,
                scripts=first.scripts[picked], suspects=first.suspects[picked], whole=first.whole,
            )  # fmt: skip
            ranking = ranked(
                "feature_based", pool, rows, first.scripts, first.suspects,
                strictness=rule.noise, script_factor=rule.script_factor,
            )  # fmt: skip
            yield growing, lambda picks: replace(ranking(picked[picks]), partial=True)

        return Growing(rows=rows[picked], open=growth)

    return Narrowing(rows=rows, narrow=narrow)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Round:
    """What partitions say: of each candidate, `(n,)`, and of all."""

    picked: Bool1D
    suspects: Bool1D
    scripts: UInt8s
    whole: Whole


def _first_round(work: _Work, rows: Int1D, partitions: int, ctx: Context) -> _Round:
    picked, suspects = (np.zeros(len(rows), np.bool_) for _ in range(2))
    scripts = np.zeros(len(rows), np.uint8)
    script_tokens = np.zeros(len(SCRIPTS))
    source_bytes = np.zeros(len(work.pool.source_names))
    done = 0
    ctx.progress(Progress("partitions", 0, len(rows)))
    found = kept_pieces(
        ctx,
        [Piece(f"partition-{number:04d}", (number,)) for number in range(partitions)],
        shared=work,
        open=_opened,
        join=only,
        save=write_arrays,
        load=read_arrays,
    )
    of = work.of[rows]
    for number, its in enumerate(found):
        at = np.flatnonzero(of == number)
        picked[at[its["picks"]]] = True
        suspects[at[its["suspects"]]] = True
        scripts[at] = its["scripts"]
        script_tokens += its["script_tokens"]
        source_bytes += its["source_bytes"]
        done += len(at)
        ctx.progress(Progress("partitions", done, len(rows)))
    whole = Whole(scripts=script_tokens, sources=source_bytes)
    return _Round(picked=picked, suspects=suspects, scripts=scripts, whole=whole)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What every worker is given once.

    Attributes:
        pool: The samples.
        of: The partition of every row.
        rule: The settings.
        share: Which share of its own samples, or tokens, a partition picks.
        samples: Whether it is one of the samples.
    """

    pool: Pool
    of: npt.NDArray[np.uint16]
    rule: Rule
    share: float
    samples: bool


@contextmanager
def _opened(work: _Work, _device: str) -> Iterator[Callable[[int], Metered[Arrays]]]:
    yield partial(_picks_of, work)


def _picks_of(work: _Work, number: int) -> Metered[Arrays]:
    """What a partition picks: positions in its rows, in no other order."""
    held = Held.of(work.pool, np.flatnonzero(work.of == number))
    ctx = Context(executor=serial(), seed=0, cache_dir=Path())
    rows, rule = np.arange(len(held.n_bytes)), work.rule
    scripts = scripts_of(held, rows, ctx)
    suspects = suspects_of(held, rows, rule.noise, ctx)
    sizes = np.ones_like(rows) if work.samples else held.n_tokens
    goal = int(np.ceil(min(work.share, 1.0) * int(sizes.sum())))
    growth = lazy_greedy(held, rows, rule, ctx, scripts=scripts, suspects=suspects)
    picks = grow(growth, sizes, goal, ctx, unit="samples" if work.samples else "tokens")
    reached = int(np.searchsorted(np.cumsum(sizes[picks]), goal)) + 1
    sources = len(work.pool.source_names)
    return Metered(
        {
            "picks": np.sort(picks[:reached]),
            "suspects": np.flatnonzero(suspects),
            "scripts": scripts,
            "script_tokens": tokens_by_script(held.n_tokens, scripts, suspects).astype(np.int64),
            "source_bytes": np.bincount(held.source_codes, held.n_bytes, sources).astype(np.int64),
        }
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Rows of a pool with their texts in memory, numbered from 0; a `didact.core.pool.Texts`.

    Attributes:
        n_bytes: As in `Pool`, as are the next three.
        texts: The texts, part after part.
        starts: Where each part begins, and the number of rows.
    """

    n_bytes: Int1D
    n_tokens: Int1D
    content_hash: UInt64s
    source_codes: Int32s
    texts: tuple[pa.LargeStringArray, ...]
    starts: Int1D

    @classmethod
    def of(cls, pool: Pool, rows: Int1D) -> Held:
        """Reads ascending rows, once; the parts do not depend on who reads them."""
        n_bytes = pool.n_bytes[rows]
        filled = np.cumsum(n_bytes)
        starts = [0]
        while starts[-1] < len(rows):
            at = starts[-1]
            most = int(np.searchsorted(filled, filled[at] - n_bytes[at] + _BYTES, side="right"))
            starts.append(min(max(most, at + 1), at + _ROWS, len(rows)))
        return cls(
            n_bytes=n_bytes,
            n_tokens=pool.n_tokens[rows],
            content_hash=pool.content_hash[rows],
            source_codes=pool.source_codes[rows],
            texts=tuple(pool.read(rows[a:b], ["text"]).column("text") for a, b in pairwise(starts)),
            starts=np.array(starts, np.int64),
        )

    def parts(self, rows: Int1D) -> list[slice]:
        """As in `Pool`."""
        cuts = np.searchsorted(rows, self.starts).tolist()
        return [slice(a, b) for a, b in pairwise(cuts) if a < b]

    def texts_of(self, rows: Int1D) -> pa.LargeStringArray:
        """As in `Pool`."""
        part = int(np.searchsorted(self.starts, rows[0], side="right")) - 1
        texts = self.texts[part]
        return texts if len(rows) == len(texts) else texts.take(rows - self.starts[part])
