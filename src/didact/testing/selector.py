"""The contract of a selector."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from didact.config import bound
from didact.core.budget import Budget
from didact.core.errors import BudgetError, ConfigError, PoolMismatchError
from didact.core.pool import Pool
from didact.core.protocols import Growing, Narrowing
from didact.core.scores import Scores, Selection
from didact.selection.around.amounts import TrainingFlops
from didact.selection.around.choose import Around, choose, composition, estimate
from didact.selection.around.near_duplicates import NearDuplicates
from didact.selection.around.quotas import Quotas
from didact.testing.pools import make_pool
from didact.testing.promises import check_cost, check_description, check_settings, digest, promise
from didact.verbs import context

_MISSING = (5, 6)  # rows without a score
_NEAR = NearDuplicates(similarity=0.7)  # clusters are at 0.88


def check_selector(
    method: str | Callable[..., Any],
    directory: Path,
    *,
    settings: Mapping[str, Any] | None = None,
) -> Selection:
    """The contract of a selector: everything that didact promises of every method.

    Settings are JSON and bind again · the docstring has Source and Cost, `@method` the registered
    name · the estimate is a cost · `@Composition` says whether it grows and needs scores · nothing
    asked is nothing chosen, and all is every row that may be chosen, once: no validation
    row, no row without a score, no second copy · more than all is an error · equal calls give equal
    answers, on any number of workers, also where scores are tied · a smaller budget is a prefix by
    rank, in samples, in tokens and in FLOPs, of which a budget takes as many as fit · every row has
    a reason · quotas hold · no two rows chosen are near-duplicates, where `rensa` is installed ·
    scores of another pool are refused · pool and scores stay as they were. Of one that gives a
    `Narrowing`, whose budget is a part of the pool and no prefix of a larger one, neither all rows
    are asked for nor prefixes, FLOPs and near-duplicates; and quotas are refused.

    Args:
        method: A registered name, or the function.
        directory: A folder for pools and caches, such as pytest's `tmp_path`.
        settings: The method's settings, as they would stand in a config. They should let every row
            pass.

    Returns:
        The selection of nine rows of the pool of the checks.

    Raises:
        AssertionError: A promise is broken; the message says which.
        ConfigError: Nothing has this name, or a setting is wrong.

    **Cost:** a few dozen selections of sixty to ninety short rows.
    """
    name, selector, checked, as_json = bound("selectors", method, settings or {}, "select")
    run = _Run(name=name, selector=selector, settings=checked, directory=directory)
    check_description(name, selector, registered=isinstance(method, str))
    check_settings(name, selector, as_json)
    pool = _pool(directory)
    before = digest(pool)
    _check_composition(run, pool)
    chosen = _check_amounts(run, pool)
    _check_ties(run, pool)
    if run.narrows(pool):
        _check_no_quotas(run, pool)
    else:
        _check_prefixes(run, pool)
        _check_flops(run, pool)
        _check_quotas(run, pool)
        if importlib.util.find_spec("rensa") is not None:
            _check_near_duplicates(run)
    _check_refusals(run, pool)
    promise(digest(pool) == before, f"{name} wrote to the pool's store")
    return chosen


@dataclass(frozen=True, kw_only=True)
class _Run:
    """A selector with what it takes to run it."""

    name: str
    selector: Any
    settings: Mapping[str, Any]
    directory: Path

    def choose(
        self,
        pool: Pool,
        scores: Scores | None,
        budget: Budget,
        *,
        workers: int = 1,
        training: TrainingFlops | None = None,
        **around: Any,
    ) -> Selection:
        ctx = context(seed=17, workers=workers, cache_dir=self.directory / "cache")
        given = (self.selector, pool, scores, budget, ctx, self.name, training)
        return choose(*given, **around, **self.settings)

    def ranked(self, pool: Pool, scores: Scores, budget: Budget, **around: Any) -> list[int]:
        found: list[int] = self.choose(pool, scores, budget, **around).best_first().tolist()
        return found

    def narrows(self, pool: Pool) -> bool:
        """Whether it gives a `Narrowing`."""
        ctx = context(seed=17, workers=1, cache_dir=self.directory / "cache")
        found = self.selector(pool, _scores(pool), Budget(samples=9), ctx, **self.settings)
        return isinstance(found, Narrowing)

    def partial(self, pool: Pool, scores: Scores) -> bool:
        """Whether a budget is only a ceiling."""
        ctx = context(seed=17, workers=1, cache_dir=self.directory / "cache")
        found = self.selector(pool, scores, Budget(samples=1), ctx, **self.settings)
        return getattr(found, "partial", False)


def _pool(directory: Path) -> Pool:
    """Sixty rows of three sources; every tenth repeats row 0; six rows or so are validation."""
    rows = [
        {
            "id": f"r{i}",
            "text": "the same words" if i % 10 == 0 else f"row {i} " + "word " * (i % 7),
            "source": ("web", "books", "code")[i % 3],
        }
        for i in range(60)
    ]
    return make_pool(rows, directory, name="selectors", validation=6)


def _near(directory: Path) -> tuple[Pool, Any]:
    """Ninety rows in thirty clusters of three, one word of eighty differs; their similarities."""
    rng = np.random.default_rng(3)
    rows = []
    for cluster in range(30):
        base = [f"w{word}" for word in rng.integers(0, 5000, 80)]
        for i in range(3):
            text = [*base[:40], f"own{cluster}x{i}", *base[41:]]
            rows.append({"id": f"r{cluster}-{i}", "text": " ".join(text), "source": "abc"[i]})
    pool = make_pool([rows[i] for i in rng.permutation(90)], directory, name="near", validation=3)
    words = [text.split() for text in pool.read(range(90), ["text"]).column("text").to_pylist()]
    runs = [{tuple(text[i : i + 5]) for i in range(len(text) - 4)} for text in words]
    return pool, np.array([[len(a & b) / len(a | b) for b in runs] for a in runs])


def _scores(
    pool: Pool,
    *,
    tied: bool = False,
    fingerprint: str | None = None,
    missing: tuple[int, ...] = _MISSING,
) -> Scores:
    """Made-up scores of three tasks; some rows have none."""
    by_task = np.random.default_rng(0).normal(size=(len(pool), 3))
    if tied:
        by_task[:] = 0
    values = by_task.mean(axis=1)
    values[list(missing)] = np.nan
    return Scores(
        values=values, higher_is_better=True, method="bm25", tasks=("a", "b", "c"),
        pool_fingerprint=fingerprint or pool.fingerprint, by_task=by_task,
        missing=dict.fromkeys(missing, "empty"),
    )  # fmt: skip


def _check_composition(run: _Run, pool: Pool) -> None:
    budget = Budget(samples=9)
    cost = estimate(run.selector, pool.stats, budget, run.name, **run.settings)
    check_cost(run.name, cost)
    ctx = context(seed=17, workers=1, cache_dir=run.directory / "cache")
    found = run.selector(pool, _scores(pool), budget, ctx, **run.settings)
    grows = isinstance(found, Growing | Narrowing)
    said = composition(run.selector).grows
    what, other = ("Growing", "True") if grows else ("Ranking", "False")
    promise(grows == said, f"{run.name}: it gives a {what}, so `Composition` says grows={other}")
    if not composition(run.selector).needs_scores:
        try:
            run.choose(pool, None, budget)
        except ConfigError:
            pass
        except Exception as error:
            raise AssertionError(
                f"{run.name}: fails without scores; say @Composition(needs_scores=True)"
            ) from error


def _check_amounts(run: _Run, pool: Pool) -> Selection:
    name, scores = run.name, _scores(pool)
    for budget in (Budget(samples=0), Budget(tokens=0), Budget(ratio=0.0)):
        promise(not len(run.choose(pool, scores, budget)), f"{name}: {budget} chooses something")
    if not run.narrows(pool):
        _check_whole(run, pool)
    chosen = run.choose(pool, scores, Budget(samples=9))
    rank = [] if chosen.rank is None else sorted(chosen.rank.tolist())
    promise(rank == list(range(9)), f"{name}: the rows are not ranked")
    codes = [] if chosen.why is None else chosen.why.tolist()
    promise(all(chosen.reasons[code] for code in codes), f"{name}: a row has no reason")
    own = {k: v for k, v in chosen.settings.items() if k not in {"budget", *vars(Around())}}
    check_settings(name, run.selector, own)
    return chosen


def _check_whole(run: _Run, pool: Pool) -> None:
    name, scores = run.name, _scores(pool)
    texts = pool.read(range(len(pool)), ["text"]).column("text").to_pylist()
    may = [
        row for row in range(len(pool)) if not pool.in_validation[row] and row not in _MISSING
    ]  # counted here, row by row
    n = len({texts[row] for row in may})
    whole = run.choose(pool, scores, Budget(samples=n))
    rows = whole.rows.tolist()
    promise(len(rows) == n, f"{name}: {len(rows)} rows chosen of {n} that may be")
    promise(set(rows) <= set(may), f"{name}: a row was chosen that may not be")
    promise(len({texts[row] for row in rows}) == n, f"{name}: an exact copy was chosen")
    promise(whole.pool_fingerprint == pool.fingerprint, f"{name}: rows of another pool")
    if not run.partial(pool, scores):
        for budget in (Budget(samples=n + 1), Budget(tokens=int(pool.n_tokens.sum()) + 1)):
            try:
                run.choose(pool, scores, budget)
            except BudgetError:
                continue
            raise AssertionError(f"{name}: {budget} is more than there is, and no error")
    one = make_pool([{"id": "a", "text": "only", "source": "web"}], run.directory, name="one")
    only = run.choose(one, _scores(one, missing=()), Budget(samples=1))
    promise(only.rows.tolist() == [0], f"{name}: the only row is not chosen")


def _check_ties(run: _Run, pool: Pool) -> None:
    name = run.name
    for scores, what in ((_scores(pool), ""), (_scores(pool, tied=True), " of tied scores")):
        answers = [run.ranked(pool, scores, Budget(samples=9), workers=w) for w in (1, 1, 2)]
        promise(answers[0] == answers[1], f"{name}: two equal calls{what} give two answers")
        promise(answers[0] == answers[2], f"{name}: the number of workers changes the answer{what}")
        promise(len(answers[0]) == 9, f"{name}: 9 samples asked{what}, {len(answers[0])} given")


def _check_prefixes(run: _Run, pool: Pool) -> None:
    name = run.name
    for unit, total in (("samples", 40), ("tokens", int(pool.n_tokens.sum()))):
        few, many = (
            run.ranked(pool, _scores(pool), Budget(**{unit: total // part})) for part in (4, 2)
        )
        kept = bool(few) and many[: len(few)] == few
        promise(kept, f"{name}: a smaller budget in {unit} is not a prefix by rank")


def _check_flops(run: _Run, pool: Pool) -> None:
    """As training would take: a little more than in proportion to tokens; one row takes nothing."""
    tokens = pool.n_tokens.astype(np.float64)
    each = 6e6 * tokens + 4e3 * tokens**2
    each[3] = 0
    lefts = [float(each.sum()) * share for share in (0.2, 0.45)]
    few, many = (
        run.ranked(pool, _scores(pool), Budget(flops=1e12), training=TrainingFlops(each, left))
        for left in lefts
    )
    kept = bool(few) and many[: len(few)] == few
    promise(kept, f"{run.name}: a smaller budget in FLOPs is not a prefix by rank")
    promise(each[many].sum() <= lefts[1], f"{run.name}: a budget in FLOPs is exceeded")
    fits = each[many[: len(few) + 1]].sum() <= lefts[0]
    promise(not fits, f"{run.name}: a budget in FLOPs leaves out a row that fits")


def _check_quotas(run: _Run, pool: Pool) -> None:
    def counts(quotas: Quotas) -> list[int]:
        chosen = run.choose(pool, _scores(pool), Budget(samples=9), quotas=quotas)
        found: list[int] = np.bincount(pool.source_codes[chosen.rows], minlength=3).tolist()
        return found

    most = counts(Quotas(at_most={"web": 2}))[pool.source_names.index("web")]
    promise(most <= 2, f"{run.name}: {most} rows of a source that may have 2 at most")
    least = counts(Quotas(at_least=3))
    promise(least == [3, 3, 3], f"{run.name}: {least} rows of sources that have 3 at least")


def _check_no_quotas(run: _Run, pool: Pool) -> None:
    try:
        run.choose(pool, _scores(pool), Budget(samples=9), quotas=Quotas(at_least=3))
    except ConfigError:
        return
    raise AssertionError(f"{run.name}: it narrows, and takes quotas; say why_no_quotas")


def _check_near_duplicates(run: _Run) -> None:
    name = run.name
    pool, similarity = _near(run.directory)
    scores = _scores(pool)
    chosen = run.choose(pool, scores, Budget(ratio=1.0), near_duplicates=_NEAR)
    among = similarity[np.ix_(chosen.rows, chosen.rows)] - np.eye(len(chosen))
    promise(among.max() == 0, f"{name}: two rows chosen are near-duplicates")
    may = np.setdiff1d(np.flatnonzero(~pool.in_validation), _MISSING)
    nearest = similarity[np.ix_(may, chosen.rows)].max(axis=1)
    promise(bool((nearest > 0.8).all()), f"{name}: a row was refused that is near to nobody")
    told = f"near-duplicates refused: {len(may) - len(chosen)}"
    promise(told in chosen.notes, f"{name}: no note says {told!r}")
    for unit, total in (("samples", 27), ("tokens", int(pool.n_tokens.sum()) // 4)):
        few, many = (
            run.ranked(pool, scores, Budget(**{unit: total // part}), near_duplicates=_NEAR)
            for part in (3, 1)
        )
        kept = bool(few) and many[: len(few)] == few
        promise(kept, f"{name}: without near-duplicates a smaller budget in {unit} is no prefix")
    one, two = (
        run.ranked(pool, scores, Budget(samples=20), near_duplicates=_NEAR, workers=w)
        for w in (1, 2)
    )
    promise(one == two, f"{name}: the number of workers changes which near-duplicates are refused")


def _check_refusals(run: _Run, pool: Pool) -> None:
    name, scores = run.name, _scores(pool)
    try:
        run.choose(pool, _scores(pool, fingerprint="e" * 32), Budget(samples=1))
    except PoolMismatchError:
        pass
    else:
        raise AssertionError(f"{name}: scores of another pool are taken")
    before = scores.values.copy(), pool.n_tokens.copy()
    run.choose(pool, scores, Budget(samples=9))
    same = np.array_equal(before[0], scores.values, equal_nan=True)
    promise(same and np.array_equal(before[1], pool.n_tokens), f"{name}: the input was changed")
