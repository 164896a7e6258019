"""Growing a selection: goals, refusals, progress, and going on after an interruption."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

import didact
from didact.core.budget import Budget
from didact.core.errors import BudgetError, ConfigError
from didact.core.pieces import Pieces
from didact.selection.around import grow as growing
from didact.selection.around.budget import candidates, goal
from didact.selection.around.grow import grow
from didact.selection.around.quotas import Quotas
from didact.selection.greedy.finished_picks import load_piece, save_piece
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
    picks = grow(Falling(WORTH), ONES, 40, ctx, refuse=Next(40).after).tolist()
    assert len(picks) < 40
    for i, pick in enumerate(picks):
        assert pick - 1 not in picks[:i]
    few = grow(Falling(WORTH), ONES, 5, ctx, refuse=Next(40).after).tolist()
    assert few == picks[:5]


@pytest.mark.parametrize("refusing", [False, True])
def test_an_interrupted_selection_goes_on_after_its_picks(refusing, ctx, tmp_path, monkeypatch):
    monkeypatch.setattr(growing, "_SAVE_SECONDS", -1.0)
    refuse = Next(40).after if refusing else None
    whole = grow(Falling(WORTH), ONES, 18, ctx, refuse=refuse).tolist()
    ctx = replace(ctx, pieces=Pieces(tmp_path / "pieces"))

    class Killed(Falling):
        def pick(self, most):
            if len(self.left) < 30:
                raise KeyboardInterrupt
            return super().pick(most)

    with pytest.raises(KeyboardInterrupt):
        grow(Killed(WORTH), ONES, 18, ctx, refuse=refuse)
    (name,) = ctx.pieces.names()
    left = load_piece(ctx.pieces, name)["picks"]
    assert 0 < len(left) < 18
    asked = []

    class Told(Falling):
        def replay(self, positions):
            asked.extend(positions.tolist())
            super().replay(positions)

    again = grow(Told(WORTH), ONES, 18, ctx, refuse=refuse)
    assert asked == left.tolist()
    assert again.tolist() == whole


@pytest.mark.parametrize("refusing", [False, True])
def test_picks_left_by_a_larger_budget_are_cut(refusing, ctx, tmp_path):
    refuse = Next(40).after if refusing else None
    whole = grow(Falling(WORTH), ONES, 9, ctx, refuse=refuse)
    ctx = replace(ctx, pieces=Pieces(tmp_path / "pieces"))
    save_piece(ctx.pieces, "picks-9", picks=whole)
    asked = []

    class Told(Next):
        def after(self, position):
            asked.append(position)
            return super().after(position)

    few = grow(Falling(WORTH), ONES, 4, ctx, refuse=Told(40).after)
    assert few.tolist() == asked == whole[:4].tolist()
    sizes = np.full(40, 3)
    some = grow(Falling(WORTH), sizes, 10, ctx, unit="tokens", refuse=refuse)
    assert some.tolist() == whole[:4].tolist()


def test_the_last_picks_that_are_whole_are_gone_on_after(ctx, tmp_path):
    whole = grow(Falling(WORTH), ONES, 9, ctx)
    ctx = replace(ctx, pieces=Pieces(tmp_path))
    for n in (3, 5, 8):
        save_piece(ctx.pieces, f"picks-{n:012d}", picks=whole[:n])
    flipped(tmp_path / f"picks-{8:012d}" / "arrays.npz")
    asked = []

    class Told(Falling):
        def replay(self, positions):
            asked.extend(positions.tolist())
            super().replay(positions)

    assert grow(Told(WORTH), ONES, 9, ctx).tolist() == whole.tolist()
    assert asked == whole[:5].tolist()


def test_a_rule_that_resumes_by_itself_is_given_no_picks(ctx, tmp_path):
    whole = grow(Falling(WORTH), ONES, 9, ctx)
    ctx = replace(ctx, pieces=Pieces(tmp_path))
    save_piece(ctx.pieces, "picks-9", picks=whole[::-1])
    assert grow(Falling(WORTH), ONES, 9, ctx, resumable=False).tolist() == whole.tolist()


def flipped(path):
    """Flip one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_damaged_piece_is_not_read(tmp_path):
    pieces = Pieces(tmp_path)
    assert load_piece(pieces, "picks") is None
    picks = np.array([0, 300, 70_000])

    def keep_it():
        save_piece(pieces, "picks", picks=picks)
        assert load_piece(pieces, "picks")["picks"].tolist() == picks.tolist()

    keep_it()
    for name in sorted(p.name for p in (tmp_path / "picks").iterdir()):
        path = tmp_path / "picks" / name
        data = path.read_bytes()
        for damaged in (data[: len(data) // 2], b"", data[:-1] + b"!", data[1:]):
            path.write_bytes(damaged)
            assert load_piece(pieces, "picks") is None
            assert pieces.names() == []
            keep_it()
        path.unlink()
        assert load_piece(pieces, "picks") is None
        keep_it()
    nowhere = Pieces()
    save_piece(nowhere, "picks", picks=np.arange(3))
    assert load_piece(nowhere, "picks") is None


def test_a_selection_is_kept_by_pool_scores_budget_settings_and_seed(ctx, tmp_path):
    pool = make_pool([{"text": "a"}, {"text": "b b"}, {"text": "c"}], tmp_path)
    other = make_pool([{"text": "a"}, {"text": "b b"}], tmp_path, name="other")
    scores = didact.score(pool, "length", ctx=ctx)
    one = {"budget": Budget(samples=1)}
    chosen = [
        (pool, scores, "top_k", ctx, one),
        (pool, scores, "top_k", ctx, one),
        (other, didact.score(other, "length", ctx=ctx), "top_k", ctx, one),
        (pool, replace(scores, values=-scores.values), "top_k", ctx, one),
        (pool, replace(scores, higher_is_better=not scores.higher_is_better), "top_k", ctx, one),
        (pool, scores, "middle", ctx, one),
        (pool, scores, "top_k", ctx, {"budget": Budget(samples=2)}),
        (pool, scores, "top_k", ctx, {**one, "quotas": {"at_least": 0.1}}),
        (pool, scores, "top_k", replace(ctx, seed=1), one),
    ]
    for p, s, method, where, more in chosen:
        didact.select(p, s, method, ctx=where, **more)
    entries = list((ctx.cache_dir / "selections").iterdir())
    assert len(entries) == len(chosen) - 1
    assert list((ctx.cache_dir / "unfinished").iterdir()) == []


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


@pytest.mark.parametrize(
    ("quotas", "error", "message"),
    [
        ({"at_least": {"nope": 1}}, ConfigError, "unknown source 'nope'"),
        ({"at_most": {"web": 1 / 3}}, BudgetError, "leaves 1 of 3 samples reachable"),
        ({"at_least": {"web": 2}, "at_most": {"web": 0.1}}, ConfigError, "above its at_most"),
        ({"at_least": {"books": 3}}, BudgetError, "should give 3 samples and has 1"),
    ],
)
def test_quotas_are_refused_before_any_work(quotas, error, message, tmp_path):
    rows = [{"text": f"row {i}", "source": s} for i, s in enumerate(("web", "web", "web", "books"))]
    pool = make_pool(rows, tmp_path)
    with pytest.raises(error, match=message):
        goal(pool, np.arange(4), Budget(samples=3), Quotas(**quotas), method="m")
    assert goal(pool, np.arange(4), Budget(samples=3), Quotas(at_least=0.34), method="m")[1] == 4


def test_progress_reaches_the_goal(ctx):
    seen = []
    grow(Falling(WORTH), ONES, 9, replace(ctx, progress=seen.append))
    assert [s.done for s in seen] == sorted(s.done for s in seen)
    assert seen[-1].done == seen[-1].total == 9
    assert {s.stage for s in seen} == {"select"}


def test_the_entry_behind_the_top_of_a_heap_is_found():
    heap = pytest.importorskip("didact.selection.greedy.heap")
    rng = np.random.default_rng(0)
    assert heap.second(np.empty(0), np.empty(0, np.int32), 0) == 0
    for n in [1, 2, 3, *rng.integers(4, 40, 50)]:
        gains, rows = rng.integers(0, 6, n).astype(float), rng.permutation(n).astype(np.int32)
        heap.heapify(gains, rows, n)
        order = np.lexsort((rows, -gains))
        at = heap.second(gains, rows, n)
        assert at == 0 if n == 1 else rows[at] == rows[order[1]]
