"""Rank correlations against scipy's, and a partial one through its inverse correlation matrix."""

from __future__ import annotations

import numpy as np
import pytest

from didact.analysis.entropy.correlation import partial_ranks
from didact.core.statistics import spearman

stats = pytest.importorskip("scipy.stats")


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ties", [False, True])
def test_spearman_and_partial_are_as_scipy_has_them(seed, ties):
    rng = np.random.default_rng(seed)
    columns = rng.normal(size=(20, 4)) @ rng.normal(size=(4, 4))
    columns = np.round(columns) if ties else columns
    y, x, given = columns[:, 0], columns[:, 1], columns[:, 2:]
    one = np.zeros(20, np.int64)
    plain = stats.spearmanr(y, x).statistic
    assert spearman(y, x) == pytest.approx(plain)
    assert partial_ranks(y, x, given[:, :0], one) == pytest.approx(plain)
    # the partial correlation of two columns given all others is an entry of the inverse
    inverse = np.linalg.inv(stats.spearmanr(columns).statistic)
    expected = -inverse[0, 1] / np.sqrt(inverse[0, 0] * inverse[1, 1])
    assert partial_ranks(y, x, given, one) == pytest.approx(expected)
