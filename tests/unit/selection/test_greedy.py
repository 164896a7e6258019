"""Growing a selection: goals, refusals, progress, and going on after an interruption."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from didact.core.errors import BudgetError
from didact.core.scores import Budget
from didact.selection import greedy
from didact.selection.budget import candidates, goal
from didact.selection.greedy import Journal, grow, journal_for
from didact.testing import make_pool
from didact.verbs import context


@dataclass
class Falling:
    """Picks the largest number left; a pick halves the next three, so the past matters."""

    worth: np.ndarray
    chunk: int = 4
    left: set = field(default_factory=set)

    def __post_init__(self):
        self.worth = self.worth.astype(float)
        self.left = set(range(len(self.worth)))

    def pick(self, most):
        out = []
        while self.left and len(out) < most:
            best = min(self.left, key=lambda i: (-self.worth[i], i))
            self._take(best)
            out.append(best)
        return np.array(out, np.int64)

    def _take(self, i):
        self.left.discard(i)
        self.worth[i + 1 : i + 4] /= 2

    def block(self, positions):
        self.left -= set(positions.tolist())

    def replay(self, positions):
        for i in positions.tolist():
            self._take(i)


class Next:
    """Refuses the candidate after each one chosen."""

    def __init__(self, n):
        self.n = n

    def after(self, position):
        return np.array([position + 1] if position + 1 < self.n else [], np.int64)


WORTH = np.random.default_rng(3).permutation(40)
ONES = np.ones(40, np.int64)


@pytest.fixture
def ctx(tmp_path):
    return context(workers=1, cache_dir=tmp_path)


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_samples_are_met_exactly_whatever_the_chunk(chunk, ctx):
    everything = grow(Falling(WORTH, chunk), ONES, 40, ctx)
    assert sorted(everything) == list(range(40))
    for k in (0, 1, 7, 39):
        assert grow(Falling(WORTH, chunk), ONES, k, ctx).tolist() == everything[:k].tolist()


def test_the_pick_that_crosses_a_token_goal_is_the_last_in_sight(ctx):
    sizes = np.random.default_rng(4).integers(0, 30, 40)
    picks = grow(Falling(WORTH), sizes, 100, ctx, unit="tokens")
    assert picks.tolist() == grow(Falling(WORTH), ONES, 40, ctx).tolist()[: len(picks)]
    assert sizes[picks].sum() >= 100
    assert sizes[picks[: -Falling(WORTH).chunk]].sum() < 100


def test_refused_candidates_are_never_picked(ctx):
    picks = grow(Falling(WORTH), ONES, 40, ctx, refusal=Next(40)).tolist()
    assert len(picks) < 40
    for i, pick in enumerate(picks):
        assert pick - 1 not in picks[:i]
    few = grow(Falling(WORTH), ONES, 5, ctx, refusal=Next(40)).tolist()
    assert few == picks[:5]


@pytest.mark.parametrize("refusing", [False, True])
def test_an_interrupted_selection_goes_on_after_its_picks(refusing, ctx, tmp_path, monkeypatch):
    monkeypatch.setattr(greedy, "_SAVE_SECONDS", -1.0)
    refusal = Next(40) if refusing else None
    whole = grow(Falling(WORTH), ONES, 18, ctx, refusal=refusal).tolist()
    journal = Journal(tmp_path / "picks.npz", "key")

    class Killed(Falling):
        def pick(self, most):
            if len(self.left) < 30:
                raise KeyboardInterrupt
            return super().pick(most)

    with pytest.raises(KeyboardInterrupt):
        grow(Killed(WORTH), ONES, 18, ctx, refusal=refusal, journal=journal)
    kept = journal.load()
    assert 0 < len(kept) < 18
    asked = []

    class Told(Falling):
        def replay(self, positions):
            asked.extend(positions.tolist())
            super().replay(positions)

    again = grow(Told(WORTH), ONES, 18, ctx, refusal=refusal, journal=journal)
    assert asked == kept.tolist()
    assert again.tolist() == whole


def test_a_journal_of_something_else_or_damaged_is_not_read(tmp_path):
    journal = Journal(tmp_path / "picks.npz", "key")
    journal.save(np.arange(5))
    assert journal.load().tolist() == [0, 1, 2, 3, 4]
    assert not len(replace(journal, key="other").load())
    data = journal.path.read_bytes()
    journal.path.write_bytes(data[: len(data) // 2])
    assert not len(journal.load())
    journal.path.write_bytes(b"")
    assert not len(journal.load())


def test_the_key_depends_on_candidates_and_settings(ctx, tmp_path):
    pool = make_pool([{"text": "a"}, {"text": "b"}], tmp_path)
    assert journal_for(ctx, pool, np.arange(2), "m", {}) is None
    ctx = replace(ctx, scratch=tmp_path)
    keys = {
        journal_for(ctx, pool, rows, method, settings).key
        for rows, method, settings in (
            (np.arange(2), "m", {}),
            (np.arange(1), "m", {}),
            (np.arange(2), "n", {}),
            (np.arange(2), "m", {"a": 1}),
        )
    }
    assert len(keys) == 4


def test_a_budget_is_refused_before_any_work(ctx, tmp_path):
    pool = make_pool([{"text": "one two"}, {"text": "three"}, {"text": "one two"}], tmp_path)
    rows = candidates(pool, None)
    assert rows.tolist() == [0, 1]
    with pytest.raises(BudgetError, match="ask for at most 2 samples"):
        goal(pool, rows, Budget(samples=3), method="m")
    with pytest.raises(BudgetError, match="m needs a budget"):
        goal(pool, rows, None, method="m")
    assert goal(pool, rows, Budget(ratio=1.0), method="m")[1] == 2
    sizes, wanted = goal(pool, rows, Budget(tokens=2), method="m")
    assert (sizes.tolist(), wanted) == (pool.n_tokens[:2].tolist(), 2)


def test_progress_reaches_the_goal(ctx):
    seen = []
    grow(Falling(WORTH), ONES, 9, replace(ctx, progress=seen.append))
    assert [s.done for s in seen] == sorted(s.done for s in seen)
    assert seen[-1].done == seen[-1].total == 9
    assert {s.stage for s in seen} == {"select"}
