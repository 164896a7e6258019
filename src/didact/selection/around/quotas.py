"""Quotas: how much of a selection each source may, must or should have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from didact.core.errors import BudgetError, ConfigError, did_you_mean

if TYPE_CHECKING:
    from didact.core.arrays import Int1D
    from didact.selection.around.amounts import Counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """How much of a selection each source may, must or should have.

    A number up to 1 is a share of the budget, floored in decimal (1 is the whole budget); a number
    above 1 is absolute, in the budget's unit. One number instead of a mapping holds for every
    source. Without a budget, shares are of the rows that the method lets pass.

    Attributes:
        at_most: Ceiling: the source's best rows that fit. Sources not named have none.
        at_least: Floor, reached with the source's best rows before anything else is chosen. In
            tokens the row that reaches the floor is taken whole.
        proportional: Keep the sources' shares among the candidates; excludes the other two.

    Raises:
        ConfigError: A number is out of range, or `proportional` stands beside the others.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by pydantic when bound

    at_most: Mapping[str | int, float] | float | None = None
    at_least: Mapping[str | int, float] | float | None = None
    proportional: bool = False

    def __post_init__(self) -> None:
        for what, given in (("at_most", self.at_most), ("at_least", self.at_least)):
            place = f"quotas.{what}"
            if isinstance(given, Mapping):
                each = {str(n): _checked(number, f"{place}.{n}") for n, number in given.items()}
                object.__setattr__(self, what, each)
            elif given is not None:
                object.__setattr__(self, what, _checked(given, place))
        if self.proportional and (self.at_most is not None or self.at_least is not None):
            raise ConfigError(
                "quotas: proportional sets every source's amount; leave it out, or leave out "
                "at_most and at_least"
            )

    def __bool__(self) -> bool:
        return self.proportional or self.at_most is not None or self.at_least is not None


def _checked(number: float, place: str) -> float:
    if isinstance(number, int | float | np.integer | np.floating) and not isinstance(number, bool):
        value = float(number)
        if 0 <= value <= 1 or (value > 1 and value.is_integer()):
            return value
    raise ConfigError(
        f"{place}: got {number!r}; expected a share of the budget from 0 to 1, or a whole number "
        "above 1 in the budget's unit"
    )


@dataclass(frozen=True, slots=True)
class Candidates:
    """What quotas look at: rows that may be chosen, best first.

    Attributes:
        sources: Names of the pool's sources.
        codes: Each row's index into `sources`, `(m,)`.
        sizes: Each row's size as the budget counts it, `(m,)`.
        count: What the budget counts.
    """

    sources: tuple[str, ...]
    codes: npt.NDArray[np.integer]
    sizes: Int1D
    count: Counted

    def totals(self) -> Int1D:
        """Each source's amount, `(len(sources),)`."""
        sums = np.bincount(self.codes, weights=self.sizes, minlength=len(self.sources))
        return sums.astype(np.int64)  # exact: float64 holds integers up to 2^53

    def before(self) -> Int1D:
        """The amount of a row's own source that is ranked before it, `(m,)`."""
        small = len(self.sources) <= np.iinfo(np.uint16).max  # numpy sorts 16-bit keys by radix
        codes = self.codes.astype(np.uint16 if small else np.int64)
        grouped = np.argsort(codes, kind="stable")
        running = np.cumsum(self.sizes[grouped]) - self.sizes[grouped]
        starts = np.concatenate([[0], np.cumsum(self.totals())[:-1]])
        out = np.empty(len(codes), np.int64)
        out[grouped] = running - starts[codes[grouped]]
        return out

    def amounts(self, amounts: npt.ArrayLike) -> str:
        """'web 5, books 3' for messages, the first ten sources."""
        pairs = list(zip(self.sources, np.asarray(amounts).tolist(), strict=True))
        named = ", ".join(f"{name} {self.count.number(amount)}" for name, amount in pairs[:10])
        return named + f" and {len(pairs) - 10:,} more sources" * (len(pairs) > 10)


@dataclass(frozen=True, slots=True)
class Cut:
    """Positions of the rows chosen, in the order of choice.

    Attributes:
        secured: Rows that a minimum or a share secured.
        rest: Rows that came in by rank.
        notes: Decisions worth telling.
    """

    secured: Int1D
    rest: Int1D
    notes: tuple[str, ...] = ()


def fitting(sizes: Int1D, limit: int) -> int:
    """How many leading rows fit into `limit`."""
    return int(np.searchsorted(np.cumsum(sizes), limit, side="right"))


def bounded(rows: Candidates, quotas: Quotas, limit: int, *, must_fill: bool) -> Cut:
    """Minimums first, then by rank under the maximums.

    Args:
        rows: Who may be chosen, best first.
        quotas: `at_most` and `at_least`.
        limit: The budget in its unit.
        must_fill: The budget is an exact number of samples, so falling short is an error.

    Raises:
        BudgetError: A minimum cannot be filled, the minimums are over the budget, or the maximums
            keep the budget from being filled.
        ConfigError: A source is unknown, or has a minimum above its maximum.
    """
    most = _limits(rows, "at_most", quotas.at_most, limit, unnamed=limit)
    least = _limits(rows, "at_least", quotas.at_least, limit, unnamed=0)
    totals, before = rows.totals(), rows.before()
    _refuse_contradictions(rows, most, least, totals, limit)
    allowed = (before + rows.sizes <= most[rows.codes]) & (most[rows.codes] > 0)
    secured = before < least[rows.codes]
    if np.any(secured & ~allowed):
        name = rows.sources[int(rows.codes[np.flatnonzero(secured & ~allowed)[0]])]
        raise BudgetError(
            f"quotas: no whole number of the best rows of {name!r} is within its at_least and "
            f"at_most; set them further apart, by one row's {rows.count.unit}"
        )
    spent = int(rows.sizes[secured].sum())
    if spent > limit:
        raise BudgetError(
            f"quotas.at_least needs {rows.count.told(spent)} in whole rows and the budget is "
            f"{rows.count.number(limit)}; lower the minimums or raise the budget"
        )
    rest = np.flatnonzero(allowed & ~secured)
    rest = rest[: fitting(rows.sizes[rest], limit - spent)]
    reached = spent + int(rows.sizes[rest].sum())
    notes: tuple[str, ...] = ()
    if reached < limit and len(rest) + secured.sum() == allowed.sum() < len(allowed):
        open_to = np.bincount(
            rows.codes[allowed], weights=rows.sizes[allowed], minlength=len(rows.sources)
        ).astype(np.int64)
        if must_fill:
            raise _unfilled(rows, open_to, limit)
        notes = (
            f"quotas.at_most left {rows.count.number(limit - reached)} of "
            f"{rows.count.told(limit)} unused: " + rows.amounts(open_to),
        )
    return Cut(np.flatnonzero(secured), rest, notes)


def check_reachable(rows: Candidates, quotas: Quotas, limit: int, *, must_fill: bool) -> None:
    """Raise what `bounded` would raise of any ranking of these rows, before there is one.

    Args:
        rows: Who may be chosen, in any order.
        quotas: `at_most` and `at_least`.
        limit: The budget in its unit.
        must_fill: The budget is an exact number of samples.

    Raises:
        BudgetError: A minimum cannot be filled, the minimums are over the budget, or the maximums
            keep the budget from being filled.
        ConfigError: A source is unknown, or has a minimum above its maximum.
    """
    most = _limits(rows, "at_most", quotas.at_most, limit, unnamed=limit)
    least = _limits(rows, "at_least", quotas.at_least, limit, unnamed=0)
    totals = rows.totals()
    _refuse_contradictions(rows, most, least, totals, limit)
    open_to = np.minimum(most, totals)
    if must_fill and open_to.sum() < limit:
        raise _unfilled(rows, open_to, limit)


def _unfilled(rows: Candidates, open_to: Int1D, limit: int) -> BudgetError:
    return BudgetError(
        f"quotas.at_most leaves {open_to.sum():,} of {rows.count.told(limit)} reachable "
        f"({rows.amounts(open_to)}); raise the maximums or lower the budget"
    )


def proportional(rows: Candidates, limit: int) -> Cut:
    """Every source its share of the budget; what whole rows leave over goes by rank.

    Shares follow the sources' amounts among the candidates by the method of the largest remainder,
    ties to the earlier source. A larger budget may give a source less (the Alabama paradox).
    """
    share = largest_remainder(rows.totals(), limit)
    inside = (rows.before() + rows.sizes <= share[rows.codes]) & (share[rows.codes] > 0)
    left = limit - int(rows.sizes[inside].sum())
    rest = np.flatnonzero(~inside)
    return Cut(np.flatnonzero(inside), rest[: fitting(rows.sizes[rest], left)])


def largest_remainder(weights: Int1D, seats: int) -> Int1D:
    """Whole seats in proportion to weights, adding up to `seats`; ties to the lower index.

    All weights 0 gives no seats. Hamilton's method, in exact integers.
    """
    total = int(weights.sum())
    if total == 0:
        return np.zeros(len(weights), np.int64)
    exact = [divmod(seats * int(w), total) for w in weights]
    seated = np.array([whole for whole, _ in exact], np.int64)
    by_remainder = sorted(range(len(exact)), key=lambda i: -exact[i][1])
    seated[by_remainder[: seats - int(seated.sum())]] += 1
    return seated


def _limits(
    rows: Candidates,
    what: str,
    given: Mapping[str | int, float] | float | None,
    limit: int,
    *,
    unnamed: int,
) -> Int1D:
    """One quota for every source, in the budget's unit."""
    if not isinstance(given, Mapping):
        every = unnamed if given is None else _absolute(given, limit, rows.count.scale)
        return np.full(len(rows.sources), every, np.int64)
    out = np.full(len(rows.sources), unnamed, np.int64)
    place = {name: i for i, name in enumerate(rows.sources)}
    for source, number in given.items():
        if str(source) not in place:
            raise ConfigError(
                f"quotas.{what}: unknown source {source!r}{did_you_mean(str(source), rows.sources)}"
            )
        out[place[str(source)]] = _absolute(number, limit, rows.count.scale)
    return out


def _absolute(number: float, limit: int, scale: int) -> int:
    """A share of the budget, floored in decimal as ratios are; or the absolute number in counts."""
    if number > 1:
        return min(int(number) // scale, np.iinfo(np.int64).max)
    return int((Decimal(repr(number)) * limit).to_integral_value(rounding=ROUND_FLOOR))


def _refuse_contradictions(
    rows: Candidates, most: Int1D, least: Int1D, totals: Int1D, limit: int
) -> None:
    for i in np.flatnonzero(least > most):
        raise ConfigError(
            f"quotas: {rows.sources[i]!r} has at_least {rows.count.number(least[i])} above its "
            f"at_most {rows.count.told(most[i])}; lower the one or raise the other"
        )
    for i in np.flatnonzero(least > totals):
        raise BudgetError(
            f"quotas.at_least: {rows.sources[i]!r} should give {rows.count.told(least[i])} and has "
            f"{rows.count.number(totals[i])} that may be chosen; lower its minimum"
        )
    if least.sum() > limit:
        raise BudgetError(
            f"quotas.at_least adds up to {rows.count.told(least.sum())} and the budget is "
            f"{rows.count.number(limit)}; lower the minimums or raise the budget"
        )
