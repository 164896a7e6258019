"""What the text of a version comes to in random parts of equal tokens, and which rows repeat."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final

import numpy as np
import pyarrow as pa

from didact.analysis.risk.copies import Copies, near_copies
from didact.analysis.risk.odds import DRAWS
from didact.core.arrays import Float1D, Int1D
from didact.core.pool import Pool
from didact.core.protocols import Context
from didact.text.buffers import utf8
from didact.text.compression import set_redundancy

STEP: Final = 0.9  # from one size of parts to the next smaller one
PART: Final = 0.8  # of the smallest version, in a part
MOST_TOKENS: Final = 2_000_000  # in a part
LOOKED_AT: Final = 8_000_000  # tokens of a version that are compared at most, drawn at random
MOST_BACK: Final = 27  # log₂ of the farthest distance seen: 128 MiB, the whole of any part
_BYTES: Final = 16  # of a token, and more; so small parts need no large window


@dataclass(frozen=True)
class Version:
    """A version of the data: rows of a pool.

    Attributes:
        name: What it is called.
        pool: Where its samples are.
        rows: int64 `(n,)`: its rows, ascending and distinct.
        ctx: Its seed draws the random parts.
        sourced: Whether its rows tell sources; a single file's name, which stands in for one,
            is none.
    """

    name: str
    pool: Pool
    rows: Int1D
    ctx: Context
    sourced: bool = True

    @cached_property
    def looked_at(self) -> Int1D:
        """Places in `rows` whose text is compared, ascending: all, or a random part."""
        shuffled = self.ctx.rng("risk", "looked at").permutation(len(self.rows))
        total = np.cumsum(self.pool.n_tokens[self.rows[shuffled]])
        return np.sort(shuffled[: int(np.searchsorted(total, LOOKED_AT)) + 1])

    @property
    def tokens(self) -> Int1D:
        """Tokens of each row that is looked at."""
        return self.pool.n_tokens[self.rows[self.looked_at]]

    def texts(self) -> list[pa.LargeStringArray]:
        """Text of the rows that are looked at, in batches."""
        return [text for _, text in self.pool.texts(self.rows[self.looked_at])]

    @cached_property
    def copies(self) -> Copies:
        """Which of the rows that are looked at nearly repeat an earlier one."""
        content = self.pool.content_hash[self.rows[self.looked_at]]
        return near_copies(self.texts(), content)

    def parts(self, tokens: int, *what: str) -> list[Int1D]:
        """`DRAWS` random parts of so many tokens: places in `looked_at`, each in random order."""
        return [part_of(self.tokens, tokens, self.ctx.rng("risk", *what, i)) for i in range(DRAWS)]


def part_of(sizes: Int1D, tokens: int, rng: np.random.Generator) -> Int1D:
    """The fewest places in random order that hold at least so many tokens."""
    shuffled = rng.permutation(len(sizes))
    return shuffled[: int(np.searchsorted(np.cumsum(sizes[shuffled]), tokens)) + 1]


def equal_tokens(versions: Sequence[Version]) -> int:
    """Tokens of a part at which versions are compared.

    One of a few sizes, so that parts that were made serve again: at most `PART` of the smallest
    version, and no less than `STEP` of that.
    """
    most = min(MOST_TOKENS, *(int(PART * version.tokens.sum()) for version in versions))
    steps = math.ceil(math.log(most / MOST_TOKENS) / math.log(STEP) - 1e-9) if most else 0
    return int(MOST_TOKENS * STEP**steps) if most else 0


@dataclass(frozen=True, slots=True)
class Parts:
    """A version in `DRAWS` random parts.

    Attributes:
        ratios: Raw ÷ compressed bytes of each, `(DRAWS,)`.
        copies: Share of the rows of each that nearly repeat another of the part, `(DRAWS,)`.
        drawn: Rows of a part, on average.
    """

    ratios: Float1D
    copies: Float1D
    drawn: int


def parts_of(version: Version, tokens: int) -> Parts:
    """The redundancy of random parts of a version, each in its one shuffle.

    Args:
        version: The version.
        tokens: Tokens of a part.

    **Cost:** `DRAWS` compressions at about 7 ns a byte, and one `near_copies`.
    """
    parts = version.parts(tokens, "part")
    group = version.copies.group
    repeated = [1 - len(np.unique(group[part])) / len(part) for part in parts]
    drawn = round(np.mean([len(part) for part in parts]))
    back = min((_BYTES * tokens).bit_length(), MOST_BACK)
    return Parts(_ratios(version, parts, max(back, 17)), np.array(repeated), drawn)


def _ratios(version: Version, parts: Sequence[Int1D], back: int) -> Float1D:
    pieces: list[memoryview] = []
    for batch in version.texts():
        data, offsets = utf8(batch)
        pieces += [data.data[a:b] for a, b in pairwise(offsets.tolist())]
    found = [set_redundancy((pieces[i] for i in part), window_log=back) for part in parts]
    return np.array(found)


def known_share(previous: Version, version: Version) -> tuple[Float1D, Float1D, Int1D, Int1D]:
    """How much of a version stands in the previous one nearly word for word.

    Returns:
        Shares of the rows of a random half of the version that nearly repeat a row of a random half
        of the previous one, `(DRAWS,)`; the same of the previous version's other half, `(DRAWS,)`;
        places in `version.looked_at` of the rows that repeat; and the places in
        `previous.looked_at` of what they repeat.
    """
    n = len(previous.looked_at)
    content = [v.pool.content_hash[v.rows[v.looked_at]] for v in (previous, version)]
    found = near_copies([*previous.texts(), *version.texts()], np.concatenate(content))
    old, new = found.group[:n], found.group[n:]
    half = min(n, len(new)) // 2
    here, expected = [], []
    for i in range(DRAWS):
        rng = version.ctx.rng("risk", "known", i)
        shuffled = old[rng.permutation(n)]
        first, other = shuffled[:half], shuffled[half : 2 * half]
        here.append(np.isin(new[rng.permutation(len(new))[:half]], first).mean())
        expected.append(np.isin(other, first).mean())
    places = np.flatnonzero(new < n)
    return np.array(here), np.array(expected), places, new[places]
