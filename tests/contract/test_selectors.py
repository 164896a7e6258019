"""Every registered selector keeps the contract; a new one is covered by its registry line."""

from __future__ import annotations

import numpy as np
import pytest

from didact.core.budget import Budget
from didact.core.errors import BudgetError
from didact.core.protocols import Growing, Ranking
from didact.core.registry import find, known
from didact.core.scores import Selection
from didact.selection.around.budget import candidates
from didact.testing import check_selector
from didact.testing import selector as contract

NEEDED = {"threshold": {"value": -1e9}}  # settings without a default: let every row pass
NAMES = list(known("selectors"))


@pytest.mark.parametrize("name", NAMES)
def test_contract(name, tmp_path):
    check_selector(name, tmp_path, settings=NEEDED.get(name, {}))


def test_contract_of_two_rounds(tmp_path):
    check_selector("feature_based", tmp_path, settings={"partitions": 3})


@pytest.mark.parametrize("name", NAMES)
def test_more_than_all_is_an_error_with_the_way_out(name, tmp_path):
    pool = contract._pool(tmp_path)
    assert pool.in_validation.any()
    assert pool.dedup
    n = len(
        {
            int(pool.content_hash[r])
            for r in range(60)
            if not pool.in_validation[r] and r not in (5, 6)
        }
    )
    run = contract._Run(
        name=name, selector=find("selectors", name),
        settings=NEEDED.get(name, {}), directory=tmp_path,
    )  # fmt: skip
    scores = contract._scores(pool)
    with pytest.raises(BudgetError, match=f"ask for at most {n} samples, or give a ratio"):
        run.choose(pool, scores, Budget(samples=n + 1))
    with pytest.raises(BudgetError, match="more than the pool has"):
        run.choose(pool, scores, Budget(tokens=int(pool.n_tokens.sum()) + 1))
    assert len(run.choose(pool, scores, Budget(ratio=1.0))) == n
    near, similarity = contract._near(tmp_path)
    assert set(np.round(similarity[0], 2)) == {0.0, 0.88, 1.0}
    scores, refused = contract._scores(near), {"near_duplicates": contract._NEAR}
    n = len(run.choose(near, scores, Budget(ratio=1.0), **refused))
    if name == "threshold":  # whose budget is a ceiling
        assert len(run.choose(near, scores, Budget(samples=n + 1), **refused)) == n
        return
    with pytest.raises(BudgetError, match=f"near-duplicates, .* ask for at most {n} samples"):
        run.choose(near, scores, Budget(samples=n + 1), **refused)


COUNTER = iter(range(10**6))


def broken(pool, scores, budget, ctx, /, *, how: str = ""):
    """Breaks one promise at a time.

    **Source:** this file. **Cost:** none.
    """
    rows = candidates(pool, scores)
    if how == "writes":
        (pool.path / "notes").write_text("was here")
    if how == "finished":
        return Selection(rows[: budget.amount(len(pool))], pool.fingerprint, "broken")
    if how == "moody":
        rows = np.roll(rows, next(COUNTER))
    if how == "greedy for more":
        rows = np.roll(rows, budget.amount(len(pool)))
    if how == "workers":
        rows = np.roll(rows, ctx.executor.workers)
    if how == "picky":
        rows = rows[:-1]
    if how == "changes" and scores is not None:
        scores.values.flags.writeable = True
        scores.values[0] = 1e9
    if how == "cannot without":
        rows = rows[np.argsort(-scores.utility[rows], kind="stable")]
    if how == "grows":
        return Growing(rows=rows, open=lambda: None)
    return Ranking(rows=rows)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("changes", "the input was changed"),
        ("cannot without", "say @Composition\\(needs_scores=True\\)"),
        ("finished", "is more than there is, and no error"),
        ("greedy for more", "not a prefix"),
        ("grows", "grows=True"),
        ("moody", "two equal calls"),
        ("picky", "rows chosen of|more than the pool has"),
        ("workers", "number of workers"),
        ("writes", "wrote to the pool's store"),
    ],
)
def test_a_broken_promise_is_found(how, message, tmp_path):
    with pytest.raises((AssertionError, BudgetError), match=message):
        check_selector(broken, tmp_path, settings={"how": how})


def test_one_that_keeps_its_promises_passes(tmp_path):
    assert len(check_selector(broken, tmp_path)) == 9


def test_a_docstring_that_says_nothing_is_found(tmp_path):
    def undescribed(pool, scores, budget, ctx, /):
        return broken(pool, scores, budget, ctx)

    with pytest.raises(AssertionError, match=r"docstring has no \*\*Source"):
        check_selector(undescribed, tmp_path)
