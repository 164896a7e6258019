"""The verdict of a plan in words: select, random, all of it, or nobody can know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from didact.planning.comparison import RANDOM
from didact.planning.pilot import MOST_SEEDS, TRIED, Pilot, pilot
from didact.planning.rows import Row, Terms

Code = Literal["select", "random", "all", "unknown"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do.

    Attributes:
        code: `select` by the recommended method, `random` samples, `all` of the pool, or `unknown`:
            nobody can know.
        text: Why, in sentences.
    """

    code: Code
    text: str


def judged(
    terms: Terms,
    rows: Sequence[Row],
    first: Row | None,
    second: Row | None,
    train_params: float,
) -> tuple[Verdict, Pilot | None]:
    """The verdict, and the pilot that would settle what is open.

    Args:
        terms: What the rows have in common.
        rows: All of them.
        first: The row to take.
        second: The runner-up.
        train_params: Parameters of the model that will be trained.

    Returns:
        No pilot where nothing is open or where finding out costs more than it can gain; the text
        says so then.
    """
    if terms.beta >= 1:
        return Verdict("all", _all(terms)), None
    if first is None:
        return _unknown(terms, rows, train_params)
    settle = pilot(terms, first, second, train_params) if second is not None else None
    if first.method != RANDOM:
        pays = settle is not None and settle.pays(terms.budget * terms.tasks)
        then = _runner_up(second, settle, terms.budget * terms.tasks, pays=pays)
        text = f"Select by {first.name}: {_worth(first)}. {then}"
        return Verdict("select", text.strip()), settle if pays else None
    if second is None or second.utility is None or second.utility <= 0:
        return _none_beats(rows), None
    doubt = (
        f"Random samples for the whole budget are the safe choice. {second.name} may be better: "
        f"{_worth(second)}."
    )
    if settle is None or not settle.pays(terms.budget * terms.tasks):
        return Verdict("random", f"{doubt} {_too_dear(settle, terms.budget * terms.tasks)}"), None
    return Verdict("unknown", f"{doubt} Nobody can know beforehand; {_would_tell(settle)}"), settle


def _all(terms: Terms) -> str:
    text = (
        f"All of it: one pass over the whole pool takes {_share(1 / terms.beta)} of the budget, "
        "and at a full pass every ranking is the same set, so that scoring can only cost."
    )
    if terms.beta > 1.1:
        text += (
            " Read all of the data first, then repeat it, or train a larger model: filters lose "
            "where there is compute enough for everything (arXiv:2605.19407), and what is good "
            "wears out when repeated (arXiv:2404.07177)."
        )
    return text


def _share(part: float) -> str:
    """A share in per cent, of three digits where it is small."""
    return f"{part:.1%}" if part >= 0.01 else f"{100 * part:.3g}%"


def _worth(row: Row) -> str:
    assert row.utility is not None  # noqa: S101 - of rows that are known
    assert row.utility_low is not None  # noqa: S101
    assert row.utility_high is not None  # noqa: S101
    text = (
        f"after paying for its scoring it is worth {row.utility:+.1%} of the gap between the base "
        f"model and a full pass more than random samples (on average {row.utility_low:+.1%} to "
        f"{row.utility_high:+.1%})"
    )
    if row.p_beats_random is not None:
        text += f"; the chance that it is better on your task is {row.p_beats_random:.0%}"
    return text


def _runner_up(second: Row | None, settle: Pilot | None, budget: float, *, pays: bool) -> str:
    if second is None:
        return ""
    text = f"Next comes {second.name}"
    if settle is not None and pays:
        return f"{text}; {_would_tell(settle)}"
    return f"{text}; {_too_dear(settle, budget, opening='telling the two apart')}"


def _would_tell(settle: Pilot) -> str:
    return (
        f"a pilot of {settle.flops:.2g} FLOPs ({settle.hours:.3g} h, {settle.seeds} seeds an arm) "
        f"would tell, and up to {settle.gains:.2g} FLOPs hang on it."
    )


def _too_dear(settle: Pilot | None, budget: float, opening: str = "Finding out") -> str:
    if settle is None:
        return (
            f"{opening} takes more than {MOST_SEEDS} seeds an arm, or scoring that a smaller model "
            "cannot pay for."
        )
    return (
        f"{opening} costs more than it can gain: {settle.flops:.2g} FLOPs, and at most "
        f"{min(settle.gains, budget):.2g} hang on it."
    )


def _none_beats(rows: Sequence[Row]) -> Verdict:
    """No method is known to be better than random samples."""
    known = {row.name for row in rows if row.predicted is not None and row.method != RANDOM}
    if not known:
        others = sorted({row.method for row in rows} - {RANDOM})
        if others:
            return Verdict(
                "unknown",
                f"Nobody can know: no run that was measured tells what {', '.join(others)} is "
                "worth. Random samples for the whole budget are the safe choice.",
            )
    text = "Random samples for the whole budget: no method is expected to earn back its scoring."
    dear = {row.name for row in rows if row.method != RANDOM and not row.feasible}
    dear -= {row.name for row in rows if row.feasible}
    if dear:
        text += f" Scoring alone is over the budget with {', '.join(sorted(dear))}."
    return Verdict("random", text)


def _unknown(
    terms: Terms, rows: Sequence[Row], train_params: float
) -> tuple[Verdict, Pilot | None]:
    """Nothing is known: a pilot would try one of the cheap methods."""
    text = f"Nobody can know: {terms.prior.why}, so there is no prediction."
    tried = [row for row in rows if row.method in TRIED and row.feasible]
    by_random = [row for row in rows if row.method == RANDOM and row.feasible]
    if not tried:
        return Verdict("unknown", text), None
    first = max(tried, key=lambda row: (row.fraction, row.method))
    settle = pilot(terms, first, max(by_random, key=lambda row: row.fraction), train_params)
    if settle is None or not settle.pays(terms.budget * terms.tasks):
        return Verdict("unknown", f"{text} {_too_dear(settle, terms.budget * terms.tasks)}"), None
    would = _would_tell(settle)
    return Verdict("unknown", f"{text} {would[0].upper()}{would[1:]}"), settle
