"""The rule at each of its edges."""

from __future__ import annotations

from dataclasses import replace

import pytest

from didact.analysis.entropy.correlation import Correlation
from didact.analysis.entropy.verdict import EXIT_CODES, Evidence, decide

FORETOLD = Correlation(-0.6, -0.8, -0.1)
OPPOSITE = Correlation(0.6, 0.1, 0.8)
UNCLEAR = Correlation(-0.2, -0.6, 0.3)
GOOD = Evidence(
    sets=8, families=3, partial=FORETOLD, error=0.9, constant=1.0, length=1.0,
    known=True, snr=2.0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, "holds"),
        ({"snr": None}, "holds"),  # the rule asks for it only where the constant is lowest
        ({"snr": 0.5}, "holds"),
        ({"sets": 7}, "cannot_tell"),
        ({"families": 2}, "cannot_tell"),
        ({"error": 1.0}, "cannot_tell"),  # not below
        ({"length": 0.8}, "cannot_tell"),  # a rival knows more
        ({"constant": 0.9}, "cannot_tell"),
        ({"error": 1 - 1e-15}, "cannot_tell"),  # a flat fit is the constant, but for rounding
        ({"partial": UNCLEAR, "error": 1 + 1e-15, "length": 1.2}, "cannot_tell"),
        ({"length": None}, "cannot_tell"),
        ({"error": None}, "cannot_tell"),
        ({"partial": UNCLEAR}, "cannot_tell"),
        ({"partial": Correlation(-0.6, -0.8, 0.0)}, "cannot_tell"),
        ({"partial": Correlation(-0.6)}, "cannot_tell"),
        ({"partial": Correlation()}, "cannot_tell"),
        ({"partial": OPPOSITE}, "fails"),
        ({"partial": OPPOSITE, "snr": None}, "fails"),
        ({"partial": OPPOSITE, "sets": 7}, "cannot_tell"),
        ({"partial": UNCLEAR, "error": 1.1, "length": 1.2}, "fails"),
        ({"partial": FORETOLD, "error": 1.1, "length": 1.2}, "fails"),
        ({"partial": UNCLEAR, "error": 1.1, "length": 1.2, "snr": 1.99}, "cannot_tell"),
        ({"partial": UNCLEAR, "error": 1.1, "length": 1.2, "snr": None}, "cannot_tell"),
        ({"partial": UNCLEAR, "error": 1.1, "length": 0.9}, "cannot_tell"),
        ({"partial": UNCLEAR, "error": 1.1, "length": None}, "cannot_tell"),
    ],
)
def test_the_rule(change, verdict):
    found, reasons = decide(replace(GOOD, **change))
    assert found == verdict
    assert reasons
    assert all(reason.endswith(".") for reason in reasons)


def test_what_was_not_met_is_said():
    _, reasons = decide(replace(GOOD, length=0.8, snr=None))
    assert "as foretold" in reasons[0]
    assert "of length and similarity 0.8: not below both" in reasons[1]
    assert "Signal to noise is not known" in reasons[2]
    _, reasons = decide(replace(GOOD, length=None))
    assert "too few sets are left without one family" in reasons[1]
    _, reasons = decide(replace(GOOD, length=None, known=False))
    assert "add the columns mean_length and similarity" in reasons[1]
    _, reasons = decide(replace(GOOD, sets=1, families=1))
    assert reasons[0].startswith("1 natural set of 1 family:")


def test_exit_codes():
    assert EXIT_CODES == {"holds": 0, "fails": 4, "cannot_tell": 5}
