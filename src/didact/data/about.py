"""What should be known of files that are read beside the pool's: target sets, held-out files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from didact.core.findings import Finding, counted, were
from didact.core.pool import Pool

SKIPPED_TARGET_ROWS: Final = "data.on_bad_row: raise stops there"  # what keeps them from being so


def about_held_out(pool: Pool, held_out: Pool) -> Iterator[Finding]:
    """What should be known of held-out files: those whose text is nowhere, rows that were skipped.

    Args:
        pool: The pool their text was looked for in.
        held_out: The files, as a pool.
    """
    if not pool.meta["counts"]["excluded"]:
        yield Finding(
            kind="nothing_matched",
            count=0,
            first="",
            text="data.exclude met nothing: 0 rows share text with the held-out files",
            remedy="data.exclude_ngram: a smaller one compares shorter runs of words",
        )
    yield from rejected_rows(
        [held_out],
        "held-out files",
        "rejected_held_out.jsonl; text that is only there is not looked for",
        "data.held_out_on_bad_row: raise stops at the first",
    )


def rejected_rows(pools: Sequence[Pool], of: str, listed_in: str, remedy: str) -> Iterator[Finding]:
    """Bad rows of files that are not the pool's, skipped on request.

    Args:
        pools: What was read of the files.
        of: What the files are called.
        listed_in: The file that lists the rows.
        remedy: The setting that changes it.
    """
    having = [pool for pool in pools if pool.meta["counts"]["rejected"]]
    n = sum(int(pool.meta["counts"]["rejected"]) for pool in having)
    if n:
        yield Finding(
            kind="rejected_" + of.split(maxsplit=1)[0].replace("-", "_"),
            count=n,
            first=having[0].meta["first_listed"]["rejected"],
            text=f"{counted(n, 'bad row')} of {of} {were(n)} skipped, listed in {listed_in}",
            remedy=remedy,
        )
