from __future__ import annotations

import numpy as np
import pytest

from didact import Scores
from didact.stages.score import rank_correlation


def scores(values, *, higher=True, missing=()):
    filled = np.array(values, dtype=float)
    filled[list(missing)] = np.nan
    return Scores(
        filled,
        higher_is_better=higher,
        method="m",
        pool_fingerprint="p",
        missing=dict.fromkeys(missing, "none"),
    )


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (scores([1, 2, 3]), scores([10, 20, 900]), 1.0),
        (scores([1, 2, 3]), scores([1, 2, 3], higher=False), -1.0),
        # by hand: ranks 1 2 3 4 and 2 1 4 3: 1 - 6 * 4 / (4 * 15) = 0.6
        (scores([1, 2, 3, 4]), scores([2, 1, 4, 3]), 0.6),
        # by hand, ties get the mean rank: 1.5 1.5 3 and 1 2 3: covariance 1.5, variances 1.5 and 2
        (scores([5, 5, 9]), scores([1, 2, 3]), 1.5 / np.sqrt(1.5 * 2)),
        (scores([1, 2, 99, 3], missing=[2]), scores([1, 2, 0, 3]), 1.0),
        (scores([1, 1]), scores([1, 2]), None),
        (scores([1]), scores([1]), None),
    ],
)
def test_rank_correlation(a, b, expected):
    found = rank_correlation(a, b)
    assert found == (None if expected is None else pytest.approx(expected, abs=1e-12))
