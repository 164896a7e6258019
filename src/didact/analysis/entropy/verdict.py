"""Whether the law holds: a rule that was written down before any run, and why it says what it says.

For R the foretold sign is minus: of natural sets the more redundant do worse. For L it is minus
too: of sets with equal R the one with the higher first-epoch loss does worse.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from didact.analysis.entropy.correlation import Correlation

Verdict = Literal["holds", "fails", "cannot_tell"]
EXIT_CODES: Final[Mapping[Verdict, int]] = {"holds": 0, "fails": 4, "cannot_tell": 5}
LEAST_SETS: Final = 8
LEAST_FAMILIES: Final = 3
LEAST_SNR: Final = 2.0
_LESS: Final = 1 - 1e-9  # of an error, to be below it: what rounding tells apart is equal
RULE: Final = (
    f"On natural sets alone, {LEAST_SETS} of them and {LEAST_FAMILIES} families at least, seeds of "
    "one set counted once. holds: the interval of the partial correlation is clear of 0 in the "
    "foretold sign, and the error on families left out (the lowest of the fits on R; for L, of "
    "those on L and on both) is below both rivals'. fails: the interval is clear of 0 in the "
    "opposite sign, or the constant's error is below that one and the other rival's and the signal "
    f"to noise is {LEAST_SNR:g} or more. All else: cannot_tell."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the rule looks at.

    Attributes:
        sets: Number of natural sets.
        families: Number of their families.
        partial: Partial correlation with performance; the foretold sign is minus.
        error: The lowest error on families left out of the fits by which it is judged; None where
            there is none.
        constant: Error of the rival that expects the same of all sets.
        length: Lowest error of the rival that knows length and similarity; None where there is
            none.
        known: Whether length and similarity are known of all sets.
        snr: Signal to noise; None where sets have no seeds.
    """

    sets: int
    families: int
    partial: Correlation
    error: float | None
    constant: float | None
    length: float | None
    known: bool
    snr: float | None


def decide(found: Evidence) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict by `RULE`, and what was met and not met, in sentences."""
    if found.sets < LEAST_SETS or found.families < LEAST_FAMILIES:
        few = (
            f"{_n(found.sets, 'natural set')} of {_n(found.families, 'family')}: the rule wants "
            f"{LEAST_SETS} of {LEAST_FAMILIES} at least; train more sets, of other methods."
        )
        return "cannot_tell", (few,)
    below, lowest = _below(found), _constant_is_lowest(found)
    noisy = found.snr is None or found.snr < LEAST_SNR
    said = [_of_interval(found.partial), _of_error(found)]
    low, high = found.partial.low, found.partial.high
    if high is not None and high < 0 and below:
        return "holds", tuple(said)
    if low is not None and low > 0:
        return "fails", tuple(said)
    if lowest:
        said.append("The constant's error is the lowest of these.")
        if not noisy:
            return "fails", (*said, f"Signal to noise is {found.snr:.3g}.")
    if found.snr is None:
        said.append(
            "Signal to noise is not known, for no set has two runs that differ: that part of the "
            "rule is not met."
        )
    elif noisy:
        said.append(f"Signal to noise is {found.snr:.3g}, below {LEAST_SNR:g}: that part of the "
                    "rule is not met.")  # fmt: skip
    return "cannot_tell", tuple(said)


def _below(found: Evidence) -> bool:
    if found.error is None or found.constant is None or found.length is None:
        return False
    return found.error < _LESS * min(found.constant, found.length)


def _constant_is_lowest(found: Evidence) -> bool:
    if found.error is None or found.constant is None or found.length is None:
        return False
    return found.constant < _LESS * min(found.error, found.length)


def _of_interval(partial: Correlation) -> str:
    if partial.value is None:
        return "The partial correlation is not defined: too few sets, or something does not vary."
    if partial.low is None or partial.high is None:
        return f"Partial correlation {partial.value:+.2f}, of too few sets for an interval."
    clear = (
        "clear of 0, as foretold" if partial.high < 0
        else "clear of 0, against what is foretold" if partial.low > 0
        else "not clear of 0"
    )  # fmt: skip
    apart = " (as if sets of a family were independent: too few are left without one family)"
    return (
        f"Partial correlation {partial.value:+.2f}, 95 % {partial.low:+.2f} to "
        f"{partial.high:+.2f}{apart if partial.apart else ''}: {clear}."
    )


def _of_error(found: Evidence) -> str:
    if found.constant is None or found.error is None:
        return "The error on families left out is not known: too few sets."
    parts = f"{found.error:.4g}, of a constant {found.constant:.4g}"
    if found.length is None:
        why = (
            "too few sets are left without one family for the rival that knows length and "
            "similarity, so it cannot be beaten: add sets of other families"
            if found.known
            else "length and similarity are not known of all sets, so that rival cannot be beaten: "
            "add the columns mean_length and similarity"
        )
        return f"Error on families left out: {parts}; {why}."
    how = "below both" if _below(found) else "not below both"
    return (
        f"Error on families left out: {parts}, of length and similarity {found.length:.4g}: {how}."
    )


def _n(count: int, what: str) -> str:
    plural = {"natural set": "natural sets", "family": "families"}[what]
    return f"{count} {what if count == 1 else plural}"
