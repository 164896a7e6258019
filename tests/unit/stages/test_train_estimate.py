"""What a training is foretold to read: rows that may be chosen, and as many as the budget takes."""

from __future__ import annotations

import numpy as np
import pytest

from didact.core.budget import Budget
from didact.stages.train import chosen
from didact.testing import make_pool
from didact.verbs import everything


@pytest.fixture
def pool(tmp_path):
    """Sixty rows of which every text is there three times, a fifth held out for validation."""
    rows = [{"id": str(i), "text": "word " * (5 + i % 20)} for i in range(60)]
    return make_pool(rows, tmp_path, validation=0.2)


def test_stats_of_all_rows_are_the_pools(pool):
    assert pool.stats_of(np.arange(len(pool))) == pool.stats


def test_copies_and_validation_are_not_trained_on(pool):
    rows = everything(pool, None).rows
    assert len(rows) <= 20
    assert chosen(pool, None) == len(rows)
    assert pool.stats_of(rows).n_tokens == pool.n_tokens[rows].sum()
    assert sum(pool.stats_of(rows).token_lengths) == len(rows)


def test_a_budget_counts_in_its_unit(pool):
    n = len(everything(pool, None).rows)
    tokens = pool.stats_of(everything(pool, None).rows).n_tokens
    assert chosen(pool, Budget(samples=5)) == 5
    assert chosen(pool, Budget(samples=50)) == n
    assert chosen(pool, Budget(ratio=0.1)) == pytest.approx(6)
    assert chosen(pool, Budget(tokens=tokens // 2)) == pytest.approx(n / 2, rel=0.05)
