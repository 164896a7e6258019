"""Growing a selection sample by sample: what every greedy selector shares.

A greedy selector is a `Growth`: it names its next picks. The rest is here: who may be chosen, when
the budget is reached, near-duplicates refused on the way, progress, going on after a kill.
"""

from __future__ import annotations

import hashlib
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import numpy as np

from didact._version import __version__
from didact.core.atomic import replacing
from didact.core.manifest import fingerprint
from didact.core.protocols import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from didact.core.pool import Pool
    from didact.core.protocols import Context
    from didact.core.scores import Int1D
    from didact.selection.near_duplicates import Refusal

_SAVE_SECONDS: Final = 5.0


class Growth(Protocol):
    """A greedy rule over candidates 0..n-1.

    Attributes:
        chunk: How many picks are worth asking for at a time.
    """

    chunk: int

    def pick(self, most: int) -> Int1D:
        """The next picks in order: `most` of them, or fewer when the candidates run out.

        Asking for one at a time gives the same sequence as asking for many.
        """
        ...

    def block(self, positions: Int1D) -> None:
        """Candidates that may no longer be picked; some may have been picked already."""
        ...

    def replay(self, positions: Int1D) -> None:
        """Take these as picked, in this order, before the first `pick`."""
        ...


def grow(
    growth: Growth,
    sizes: Int1D,
    goal: int,
    ctx: Context,
    *,
    unit: Literal["samples", "tokens"] = "samples",
    refusal: Refusal | None = None,
    journal: Journal | None = None,
) -> Int1D:
    """Pick until the goal is reached or nobody is left.

    Args:
        growth: The rule.
        sizes: Each candidate's size in `unit`, `(n,)`; ones for samples.
        goal: How much; in tokens the pick that crosses the goal is the last.
        ctx: Its progress is told.
        unit: Of `sizes` and `goal`.
        refusal: Told of every pick; the near-duplicates it names are blocked.
        journal: Keeps the picks on disk while this works; a later start goes on after them.

    Returns:
        Positions in the order they were picked.
    """
    picks = journal.load() if journal is not None else np.empty(0, np.int64)
    if len(picks):
        growth.replay(picks)
        if refusal is not None:
            for position in picks.tolist():
                growth.block(refusal.after(position))
    chosen, spent, saved = [picks], int(sizes[picks].sum()), time.monotonic()
    ctx.progress(Progress("select", min(spent, goal), goal, unit))
    while spent < goal:
        most = growth.chunk if unit == "tokens" else min(growth.chunk, goal - spent)
        new = growth.pick(1 if refusal is not None else most)
        if not len(new):
            break
        if refusal is not None:
            growth.block(refusal.after(int(new[0])))
        chosen.append(new)
        spent += int(sizes[new].sum())
        if len(new) > 1 or len(chosen) % growth.chunk == 0:
            ctx.progress(Progress("select", min(spent, goal), goal, unit))
            if journal is not None and time.monotonic() - saved > _SAVE_SECONDS:
                journal.save(np.concatenate(chosen))
                saved = time.monotonic()
    ctx.progress(Progress("select", goal, goal, unit))
    return np.concatenate(chosen)


@dataclass(frozen=True, slots=True)
class Journal:
    """Picks of a selection under way, in one file that is replaced whole.

    Attributes:
        path: The file.
        key: What the picks depend on; a file with another key is not read.
    """

    path: Path
    key: str

    def load(self) -> Int1D:
        """Picks an interrupted run left; none where there is no file, or a damaged one."""
        try:
            with self.path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                if file["key"].tobytes() == self.key.encode():
                    return np.asarray(file["picks"], np.int64)
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
            pass
        return np.empty(0, np.int64)

    def save(self, picks: Int1D) -> None:
        """Write the picks so far."""
        key: Any = np.frombuffer(self.key.encode(), np.uint8)
        with replacing(self.path) as temporary, temporary.open("wb") as file:
            np.savez(file, picks=picks, key=key)


def selection_key(pool: Pool, rows: Int1D, method: str, settings: Mapping[str, Any]) -> str:
    """Identity of a selection under way: pool, candidates, method, settings, version."""
    return fingerprint(
        {
            "didact": __version__,
            "pool": pool.fingerprint,
            "rows": hashlib.blake2b(rows.tobytes(), digest_size=16).hexdigest(),
            "method": method,
            "settings": dict(settings),
        }
    )


def journal_for(
    ctx: Context, pool: Pool, rows: Int1D, method: str, settings: Mapping[str, Any]
) -> Journal | None:
    """The journal of a selection, where the context has a place for it."""
    if ctx.scratch is None:
        return None
    return Journal(ctx.scratch / "picks.npz", selection_key(pool, rows, method, settings))
