"""Before training: what the data of a version show beside those of earlier versions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import Final

import numpy as np

from didact.analysis.risk.flags import MOST_ROWS, Carrier, Judged, Rows
from didact.analysis.risk.odds import (
    ENOUGH,
    Odds,
    from_counts,
    from_draws,
    from_earlier,
    limit,
)
from didact.analysis.risk.texts import Parts, Version, equal_tokens, known_share, parts_of
from didact.core.arrays import Bool1D, Float1D, Int1D

Found = tuple[Judged, Rows]
ADDED_TO: Final = 0.5  # of the previous version's rows, from which on a version adds to it
TAKEN: Final = 0.95  # of a version's rows, that are the previous one's: it takes from that


def judge_data(versions: Sequence[Version]) -> list[tuple[list[Found], list[str]]]:
    """Every version beside the earlier ones, before anything is trained.

    Each is compared with the mean of the earlier ones from `ENOUGH` of them on, with redraws of the
    previous one before. Redundancy and copies are taken at equal tokens.

    Args:
        versions: In order; the first has nothing to be compared with.

    Returns:
        Of every version what was judged, with the rows that carry it, and what could not be.

    **Cost:** per version 20 compressions of at most 2 million tokens, and two sorts of its runs of
    words.
    """
    if len(versions) < 2:
        return [([], []) for _ in versions]

    @cache
    def parts_made(i: int, tokens: int) -> Parts:
        return parts_of(versions[i], tokens)

    out: list[tuple[list[Found], list[str]]] = [([], [])]
    for i in range(1, len(versions)):
        found = _text(versions[: i + 1], parts_made)
        without = [one.name for one in versions[: i + 1] if not one.sourced]
        if without:
            out.append((found, [f"source: the rows of {', '.join(without)} tell no source"]))
        else:
            out.append(([*found, *_sources(versions[: i + 1])], []))
    for i, (found, cannot) in enumerate(_known(versions), 1):
        out[i][0].extend(found)
        out[i][1].extend(cannot)
    return out


def _text(versions: Sequence[Version], parts_made: Callable[[int, int], Parts]) -> list[Found]:
    """Redundancy and near copies within the last of some versions.

    Parts are as large as this version and the previous one allow, and those earlier ones that are
    half as large; the others do not count.
    """
    this = versions[-1]
    least = min(int(one.tokens.sum()) for one in versions[-2:]) / 2
    chosen = [
        i for i, one in enumerate(versions)
        if one.tokens.sum() >= least or i >= len(versions) - 2
    ]  # fmt: skip
    versions = [versions[i] for i in chosen]
    tokens = equal_tokens(versions)
    parts = [parts_made(i, tokens) for i in chosen]
    repeats = repeating(this)
    out = []
    for kind in ("redundancy", "copies"):
        each = [one.ratios if kind == "redundancy" else one.copies for one in parts]
        odds = _compared(each, versions, parts[-2].drawn, share=kind == "copies")
        seen = float(each[-1].mean())
        unit = odds.expected if kind == "redundancy" else 1.0
        out.append((judged(kind, seen, odds, unit=unit), repeats))
    return out


def _compared(
    each: Sequence[Float1D], versions: Sequence[Version], drawn: int, *, share: bool
) -> Odds:
    """The last of some versions, each told by random parts, against the ones before."""
    before, this = versions[-2].looked_at, versions[-1].looked_at
    odds = from_draws(each[-1], each[-2], drawn=drawn, of=len(before), here=len(this), share=share)
    earlier = [float(one.mean()) for one in each[:-1]]
    if len(earlier) < ENOUGH:
        return odds
    return from_earlier(float(each[-1].mean()), earlier, least_sd=odds.sd / 2**0.5)


def _known(versions: Sequence[Version]) -> list[tuple[list[Found], list[str]]]:
    """What of every version but the first stands in the one before it."""
    out: list[tuple[list[Found], list[str]]] = []
    shares: list[float] = []
    for previous, this in pairwise(versions):
        if adds_to(previous, this):
            said = f"{this.name} is {previous.name} with more or fewer rows"
            out.append(([], [f"known: {said}: its rows are compared among themselves"]))
            continue
        here, expected, places, of = known_share(previous, this)
        half = min(len(previous.looked_at), len(this.looked_at)) // 2
        odds = from_draws(
            here,
            expected,
            drawn=half,
            of=len(previous.looked_at),
            here=len(this.looked_at),
            share=True,
        )
        seen = float(here.mean())
        if len(shares) >= ENOUGH:
            odds = from_earlier(seen, shares, least_sd=odds.sd / 2**0.5)
        shares.append(seen)
        ids = ids_of(previous, previous.looked_at[of[:MOST_ROWS]])
        why = [f"repeats {name} of {previous.name}" for name in ids]
        rows = rows_of(this, this.looked_at[places], why)
        out.append(([(judged("known", seen, odds), rows)], []))
    return out


def adds_to(previous: Version, this: Version) -> bool:
    """Whether a version is the previous one with more or fewer rows, and not it once more."""
    old, new = (v.pool.content_hash[v.rows] for v in (previous, this))
    kept, known = np.isin(old, new), np.isin(new, old)
    again = bool(kept.all() and known.all())
    return not again and (float(kept.mean()) > ADDED_TO or float(known.mean()) > TAKEN)


def _sources(versions: Sequence[Version]) -> list[Found]:
    """Sources whose share grew."""
    counts = [_counts(version) for version in versions]
    names = sorted({name for one in counts[-2:] for name in one})
    this, n = versions[-1], [len(version.rows) for version in versions]
    out = []
    for name in names:
        seen, previous = counts[-1].get(name, 0), counts[-2].get(name, 0)
        odds = from_counts(seen, n[-1], previous, n[-2])
        if len(versions) > ENOUGH:
            shares = [one.get(name, 0) / m for one, m in zip(counts[:-1], n[:-1], strict=True)]
            odds = from_earlier(seen / n[-1], shares, least_sd=odds.sd / 2**0.5)
        one = judged("source", seen / n[-1], odds, comparisons=len(names), source=name)
        out.append((one, rows_of(this, _of_source(this, name)) if one.flagged else Rows()))
    return out


def _counts(version: Version) -> dict[str, int]:
    names = version.pool.source_names
    counts = np.bincount(version.pool.source_codes[version.rows], minlength=len(names))
    return {name: int(count) for name, count in zip(names, counts, strict=True) if count}


def _of_source(version: Version, name: str) -> Int1D:
    code = version.pool.source_names.index(name) if name in version.pool.source_names else -1
    return np.flatnonzero(version.pool.source_codes[version.rows] == code)


def judged(
    kind: str, seen: float, odds: Odds, *, comparisons: int = 1, source: str = "", unit: float = 1.0
) -> Judged:
    """A number beside what was expected of it, of so many of its kind."""
    return Judged(
        kind=kind, seen=seen, expected=odds.expected, sd=odds.sd, z=odds.z,
        limit=limit(comparisons), source=source, unit=unit,
    )  # fmt: skip


def repeating(version: Version, among: Bool1D | None = None, source: str = "") -> Rows:
    """The rows that repeat another one, those that repeat the most repeated row first.

    Args:
        version: The version.
        among: Which of its rows count, `(n,)`; all when None.
        source: The source that they are of; all of them when "".
    """
    of, group = version.copies.of, version.copies.group
    wanted = of >= 0
    if among is not None:
        wanted &= among[version.looked_at]
    if source:
        names = version.pool.source_names
        codes = version.pool.source_codes[version.rows[version.looked_at]]
        wanted &= codes == names.index(source)
    places = np.flatnonzero(wanted)
    sizes = np.bincount(group[places], minlength=1)
    places = places[np.argsort(-sizes[group[places]], kind="stable")]
    ids = ids_of(version, version.looked_at[of[places[:MOST_ROWS]]])
    return rows_of(version, version.looked_at[places], [f"repeats {name}" for name in ids])


def rows_of(version: Version, places: Int1D, why: Sequence[str] = ()) -> Rows:
    """Rows of a version by their places in it, the worst first."""
    worst = places[:MOST_ROWS]
    reasons = [*why, *[""] * len(worst)]
    named = zip(version.rows[worst].tolist(), ids_of(version, worst), reasons, strict=False)
    return Rows(len(places), tuple(Carrier(*one) for one in named))


def ids_of(version: Version, places: Int1D) -> list[str]:
    """Ids of rows by their places in a version."""
    if not len(places):
        return []
    found = version.pool.read(version.rows[places], ["id"]).column("id").to_pylist()
    return [str(name) for name in found]
