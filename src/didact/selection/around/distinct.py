"""A pool without its duplicates, exact and near, and nothing else chosen: which row stays of which.

A cluster is a row that stays with those that it stands for: its exact copies, rows nearly it, and
the exact copies of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from xxhash import xxh3_64_intdigest

from didact.core.array_folders import read_arrays, write_arrays
from didact.core.arrays import frozen
from didact.core.protocols import Progress
from didact.core.scores import Scores, Selection, check_pool
from didact.core.statistics import best_first
from didact.core.value_tables import described
from didact.selection.around.near_duplicates import Refusal

if TYPE_CHECKING:
    from didact.core.arrays import Bool1D, Float1D, Int1D
    from didact.core.pool import Pool
    from didact.core.protocols import Context
    from didact.selection.around.near_duplicates import NearDuplicates

Keep = Literal["first", "longest"]

EXCERPT: Final = 240  # characters of a text in a table
_BEFORE: Final = 30  # of them, before the place where it differs
_AT_ONCE: Final = 512  # rows read together
_TOLD: Final = 1024  # rows between two words of progress
KEPT, EXACT, NEAR = "kept", "exact", "near"


@dataclass(frozen=True, slots=True, kw_only=True)
class Distinct:
    """Which row of a pool stands for which.

    Attributes:
        stands: int64 `(n,)`: the row that stays for each row, itself for one that stays; -1 for
            rows of the validation split, which are neither compared nor removed.
        copy: bool `(n,)`: rows whose content another row has, and which are removed for it.
        similarity: float64 `(n,)`: estimated Jaccard similarity of each row's word runs to those of
            the row that stays for it; 1 for rows that stay and their exact copies.
        pool_fingerprint: The pool the rows belong to.
        settings: What was asked for, JSON values.
    """

    stands: Int1D
    copy: Bool1D
    similarity: Float1D
    pool_fingerprint: str
    settings: Mapping[str, Any]

    def __post_init__(self) -> None:
        for name, kind in (("stands", np.int64), ("copy", np.bool_), ("similarity", np.float64)):
            object.__setattr__(self, name, frozen(getattr(self, name), kind))

    @property
    def kept(self) -> Selection:
        """The rows that stay, in the order of the files."""
        rows = np.flatnonzero(self.stands == np.arange(len(self.stands)))
        return Selection(rows, self.pool_fingerprint, "dedup", settings=self.settings)

    @property
    def removed(self) -> Int1D:
        """The rows that are removed, ascending."""
        others = self.stands != np.arange(len(self.stands))
        return np.flatnonzero(others & (self.stands >= 0))

    @property
    def near(self) -> Int1D:
        """Those of the removed rows that are no exact copy of any row, ascending."""
        removed = self.removed
        return removed[~self.copy[removed]]

    def clusters(self) -> tuple[Int1D, Int1D]:
        """Clusters of two rows or more, the largest first, of equal ones the lowest kept row first.

        Returns:
            Their rows, cluster after cluster, of each the kept one first and the others ascending;
            and where each begins among them, `(c + 1,)`.
        """
        removed = self.removed
        size = np.bincount(self.stands[removed], minlength=len(self.stands))
        heads = np.flatnonzero(size)
        heads = heads[np.argsort(-size[heads], kind="stable")]
        place = np.empty(len(size), np.int64)
        place[heads] = np.arange(len(heads))
        rows = np.concatenate([heads, removed])
        of = np.concatenate([place[heads], place[self.stands[removed]]])
        begins = np.concatenate([[0], np.cumsum(size[heads] + 1)])
        return rows[np.argsort(of, kind="stable")], begins

    def check(self, pool: Pool) -> None:
        """Raise PoolMismatchError unless this belongs to `pool`."""
        check_pool(
            "the rows", self.pool_fingerprint, pool.fingerprint,
            "pass the pool that was deduplicated",
        )  # fmt: skip

    def to_table(self, pool: Pool) -> pa.Table:
        """A row a sample of a cluster: `cluster, row, id, source, what, similarity, excerpt`.

        Clusters are numbered from 0, the largest first; `what` is kept, exact or near, and
        `similarity` that to the kept one. Metadata say what was asked for.

        Raises:
            PoolMismatchError: This belongs to another pool.

        **Cost:** a pass over the batches of the store that hold such rows; memory some 300 bytes a
        row of a cluster.
        """
        self.check(pool)
        rows, begins = self.clusters()
        what = np.where(self.copy[rows], 1, 2)
        what[begins[:-1]] = 0
        by_row = np.argsort(rows)
        found = [
            pc.utf8_slice_codeunits(texts, 0, EXCERPT).cast(pa.string())
            for _, texts in pool.texts(rows[by_row])
        ]
        excerpts = pa.concat_arrays(found) if found else pa.array([], pa.string())
        table = pa.table(
            {
                "cluster": np.repeat(np.arange(len(begins) - 1), np.diff(begins)),
                "row": rows,
                "id": pool.read(rows, ["id"]).column("id"),
                "source": pool.read(rows, ["source"]).column("source"),
                "what": pa.array((KEPT, EXACT, NEAR)).take(pa.array(what)),
                "similarity": self.similarity[rows],
                "excerpt": excerpts.take(pa.array(np.argsort(by_row))),
            }
        )
        facts = {"pool_fingerprint": self.pool_fingerprint, "settings": dict(self.settings)}
        return table.replace_schema_metadata(described("clusters", facts))

    def other_answers(self, pool: Pool) -> int:
        """How many near copies have another completion than the row that stays for them.

        **Cost:** reads the completions of all near copies and of the rows that stay for them.
        """
        near = self.near
        rows = np.union1d(near, self.stands[near])
        said = np.empty(len(rows), np.uint64)
        for part in pool.parts(rows):
            for at in range(part.start, part.stop, _AT_ONCE):
                here = slice(at, min(at + _AT_ONCE, part.stop))
                found = pool.read(rows[here], ["completion"]).column("completion").to_pylist()
                said[here] = [xxh3_64_intdigest(text.strip().encode()) for text in found]
        place = np.searchsorted(rows, near), np.searchsorted(rows, self.stands[near])
        return int((said[place[0]] != said[place[1]]).sum())

    def describe(self, pool: Pool) -> dict[str, Any]:
        """The `counts`; of all but raw text also how many near copies answer otherwise.

        Otherwise than the row that stays, of pairs by what they prefer: a question may be another
        one although most of its words are the same.

        **Cost:** as `other_answers`.
        """
        counts = self.counts(pool)
        if pool.kind != "text":
            counts["near_copies_that_answer_otherwise"] = self.other_answers(pool)
        return counts

    def counts(self, pool: Pool) -> dict[str, Any]:
        """Rows in, exact and near copies, rows kept, clusters, and what is saved; no text is read.

        Raises:
            PoolMismatchError: This belongs to another pool.
        """
        self.check(pool)
        removed, near = self.removed, self.near
        tokens = int(pool.n_tokens[removed].sum())
        held = int((self.stands < 0).sum())
        return {
            "rows": len(pool),
            "exact_copies": len(removed) - len(near),
            "near_copies": len(near),
            "rows_kept": len(pool) - held - len(removed),
            **({"validation_rows": held} if held else {}),
            "clusters": len(self.clusters()[1]) - 1,
            "bytes_saved": int(pool.n_bytes[removed].sum()),
            "tokens_saved": tokens,
            "share_of_tokens_saved": tokens / max(int(pool.n_tokens.sum()), 1),
        }

    def largest(self, pool: Pool, most: int = 10, rows: int = 2) -> list[dict[str, Any]]:
        """The largest clusters, as JSON values: counts, sources, samples.

        The first sample is the one that stays, by its beginning; then those least like it, each
        from where its text parts from that one's.

        Args:
            pool: The pool this belongs to.
            most: How many clusters.
            rows: How many samples of each, at least 1.
        """
        self.check(pool)
        every, begins = self.clusters()
        out = []
        for first, last in pairwise(begins[: most + 1]):
            head, others = every[first], every[first + 1 : last]
            copies = int(self.copy[others].sum())
            sources = np.bincount(pool.source_codes[every[first:last]])
            by_size = np.argsort(-sources, kind="stable")[: np.count_nonzero(sources)]
            farthest = others[np.argsort(self.similarity[others], kind="stable")[: rows - 1]]
            out.append(
                {
                    "rows": int(last - first), "exact": copies, "near": len(others) - copies,
                    "sources": {pool.source_names[i]: int(sources[i]) for i in by_size},
                    "samples": self._told(pool, np.append(head, farthest)),
                }
            )  # fmt: skip
        return out

    def _told(self, pool: Pool, rows: Int1D) -> list[dict[str, Any]]:
        found = pool.read(rows, ["id", "source", "text"]).to_pylist()
        what = [KEPT, *np.where(self.copy[rows[1:]], EXACT, NEAR).tolist()]
        return [
            {
                "row": int(row), "id": sample["id"], "source": sample["source"], "what": kind,
                "similarity": round(float(self.similarity[row]), 4),
                "excerpt": sample["text"][:EXCERPT] if kind == KEPT
                else parted(sample["text"], found[0]["text"]),
            }
            for row, sample, kind in zip(rows, found, what, strict=True)
        ]  # fmt: skip


def parted(text: str, other: str) -> str:
    """A text from a little before where it parts from another; from its beginning if it does not.

    Returns:
        At most `EXCERPT` characters, behind '…' where some are left out before them.
    """
    pairs = enumerate(zip(text, other, strict=False))
    shorter = min(len(text), len(other))
    same = 0 if text == other else next((i for i, (a, b) in pairs if a != b), shorter)
    first = max(same - _BEFORE, 0)
    return f"{'…' if first else ''}{text[first : first + EXCERPT]}"


def find_distinct(
    pool: Pool, how: NearDuplicates, ctx: Context, *, keep: Keep | Scores = "first"
) -> Distinct:
    """Go down a ranking, and of rows that are equal or nearly equal keep the first.

    Args:
        pool: The samples; its validation split is left as it is.
        how: What is near.
        ctx: Its executor reads the texts.
        keep: Which row of a cluster stays: the `first` in the order of the files, the `longest`, or
            the one of the best score; ties go to the first.

    **Cost:** as `near_duplicates.Refusal`, and 0.4 µs a row.
    """
    n = len(pool)
    ranking = _ranking(pool, keep)
    ranking = ranking[~pool.in_validation[ranking]]
    _, first, group = np.unique(pool.content_hash[ranking], return_index=True, return_inverse=True)
    stands, similarity = np.full(n, -1), np.ones(n)
    stands[ranking] = ranking[first[group]]
    copy = (stands >= 0) & (stands != np.arange(n))
    rows = ranking[np.sort(first)]
    head, share = _near(pool, rows, how, ctx)
    stands_for = np.arange(n)
    stands_for[rows], similarity[rows] = rows[head], share
    similarity[ranking] = similarity[stands[ranking]]  # copies are as near as what they copy
    stands[ranking] = stands_for[stands[ranking]]
    settings = {
        "keep": keep if isinstance(keep, str)
        else {"method": keep.method, "settings": dict(keep.settings)},
        "similarity": how.similarity, "ngram": how.ngram, "permutations": how.permutations,
    }  # fmt: skip
    return Distinct(
        stands=stands, copy=copy, similarity=similarity, pool_fingerprint=pool.fingerprint,
        settings=settings,
    )  # fmt: skip


def _ranking(pool: Pool, keep: Keep | Scores) -> Int1D:
    """All rows, those first that stay for others."""
    if isinstance(keep, Scores):
        keep.check(pool)
        return best_first(keep.utility)
    return (
        best_first(pool.n_bytes.astype(np.float64)) if keep == "longest" else np.arange(len(pool))
    )


def _near(pool: Pool, rows: Int1D, how: NearDuplicates, ctx: Context) -> tuple[Int1D, Float1D]:
    """Which position stays for each, and the similarity to it; the first positions come first."""
    refusal = Refusal(pool, rows, how, ctx)
    head, share = np.arange(len(rows)), np.ones(len(rows))
    for position in range(len(rows)):
        if head[position] == position:
            near, similarity = refusal.near(position)
            head[near], share[near] = position, similarity
        if position % _TOLD == 0:
            ctx.progress(Progress("duplicates", position, len(rows)))
    ctx.progress(Progress("duplicates", len(rows), len(rows)))
    return head, share


def save_distinct(found: Distinct, folder: Path) -> None:
    """Write it into an empty folder."""
    arrays = {"stands": found.stands, "copy": found.copy, "similarity": found.similarity}
    about = {"pool_fingerprint": found.pool_fingerprint, "settings": dict(found.settings)}
    write_arrays(folder, arrays, about)


def load_distinct(folder: Path) -> Distinct:
    """What `save_distinct` wrote."""
    arrays, about = read_arrays(folder)
    return Distinct(
        stands=arrays["stands"], copy=arrays["copy"], similarity=arrays["similarity"], **about
    )
