"""Feature-based selection: grams that few chosen samples have, each time worth a little less."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import Field

from didact.core.cost import Cost
from didact.core.errors import need
from didact.core.identity import method
from didact.core.protocols import Composition, Growing, Narrowing
from didact.selection.around.budget import candidates
from didact.selection.feature_based.dealing import MOST, OVERSAMPLED, refuse_share
from didact.selection.greedy.noise_last import doublings, estimate_noise, noise_last
from didact.selection.greedy.shares import scripts_of

if TYPE_CHECKING:
    from didact.core.budget import Budget
    from didact.core.pool import Pool, PoolStats
    from didact.core.protocols import Context, Grown
    from didact.core.scores import Scores

Weight = Literal["none", "log", "sqrt"]
Per = Literal["auto", "byte", "token", "sample"]

# Processor seconds a byte of the pool on one core of an AMD EPYC (Zen 3), scaled to it by those of
# `compression` in one run (benchmarks/estimates.py); the last, times the share that is chosen.
# Tables outgrow the caches: a pool of 16 MiB has the first, and each doubling adds `_DOUBLING`.
_FEATURES: Final = 55e-9
_GREEDY: Final = 60e-9
_DOUBLING: Final = 14e-9
# In partitions also what no second sample has is numbered; and what reading one takes, whatever is
# in it.
_EVERY_GRAM: Final = 20e-9
_PARTITION: Final = 0.015


def estimate_feature_based(
    stats: PoolStats,
    budget: Budget | None,
    *,
    noise: float,
    partitions: int | None,
    **_settings: Any,
) -> Cost:
    """Processor time: noise, features, first gains, and lazy greedy as far as the budget goes.

    Raises:
        BudgetError: The budget is too large for partitions.
    """
    need("feature_based", "fast")
    if budget is None or not budget.amount(stats.n):
        return Cost()
    whole = stats.n_tokens if budget.unit == "tokens" else stats.n
    share = min(budget.amount(stats.n) / max(whole, 1), 1.0)
    if partitions is None:
        a_byte = _FEATURES + _DOUBLING * doublings(stats) + _GREEDY * share
        return Cost(cpu_seconds=a_byte * stats.n_bytes + estimate_noise(stats, noise))
    refuse_share(share, partitions)
    part, union = _part(stats, 1 / partitions), _part(stats, OVERSAMPLED * share)
    first = _EVERY_GRAM + _FEATURES + _DOUBLING * doublings(part) + _GREEDY * OVERSAMPLED * share
    second = _FEATURES + _DOUBLING * doublings(union) + _GREEDY / OVERSAMPLED
    seconds = first * stats.n_bytes + second * union.n_bytes
    seconds += partitions * (_PARTITION + estimate_noise(part, noise))
    return Cost(cpu_seconds=seconds)


def _part(stats: PoolStats, share: float) -> PoolStats:
    """A pool of a share of the bytes; nothing else of it is looked at."""
    return replace(stats, n_bytes=round(share * stats.n_bytes))


def _why_no_quotas(settings: Mapping[str, Any]) -> str:
    if settings["partitions"] is None:
        return ""
    return (
        f"partitions={settings['partitions']}, of which only picks are ranked, and quotas may need "
        "any row; leave one of the two out"
    )


@method("feature_based", libraries=("numba",))
@Composition(grows=True, estimate=estimate_feature_based, why_no_quotas=_why_no_quotas)
def feature_based(
    pool: Pool,
    scores: Scores | None,
    budget: Budget | None,
    ctx: Context,
    /,
    *,
    weight: Weight = "none",
    min_df: Annotated[int, Field(ge=1, le=2**31 - 1)] = 2,
    per: Per = "auto",
    noise: Annotated[float, Field(ge=0, le=1)] = 0.3,
    own_pairs: Annotated[float, Field(ge=0, le=1000)] = 0.8,
    balance: Annotated[float, Field(ge=0, le=1000)] = 0.2,
    script_factor: Annotated[float, Field(ge=1.1, le=100)] | None = 1.5,
    partitions: Annotated[int, Field(ge=2, le=MOST)] | None = None,
) -> Growing | Narrowing:
    """Grams that few chosen samples have yet: the most per byte, each time worth a little less.

    Picks one sample after another, each the one that adds most to

        f(S) = Σ_g w(m_g)·√c_g(S) + own_pairs·w(1)·Σ_{d ∈ S} u_d + balance·F·Σ_s √(p_s·b_s(S))

    for a unit of its length; ties go to the lowest row. g are words and pairs of neighboring words
    that are in m_g ≥ min_df samples, c_g(S) is how often g occurs in S, and u_d is the
    number of distinct pairs of sample d that are no such g. s are sources, p_s is the share of the
    candidates' bytes that is in s, b_s(S) the part of all these bytes that is chosen and in s, and
    F what the first two sums are for all candidates: the third keeps sources near their shares.
    In scripts without spaces a word is a character. Samples that have no such g and no u_d add
    nothing to any sum and come last.

    Scripts differ in how many grams their bytes make, which says nothing of what is said. So a pick
    that would take a script beyond 1.5 times its share of the candidates' tokens waits, and a
    script that would fall below its share by 1.5 is picked from first (`script_factor`). Within
    that, and in a pool of one script, the rule is the above. A source that shrinks by more is
    named in a note.

    What no other sample has cannot be told from noise one gram at a time, but sample by sample it
    can: see `didact.text.noise.noise`. Samples that look like noise come last too, whatever they
    would add; they are not counted in m_g, and neither is an exact copy of another sample. Leaving
    u_d out (`own_pairs: 0`) favors samples whose rare grams are in a second sample, which is what
    near-duplicates are made of. `noise: 0, own_pairs: 0, balance: 0, script_factor: null` is the
    plain feature-based function.

    `per: sample` picks the longest samples. Under a budget in samples the default is per byte all
    the same: a set as varied as possible *for its length*.

    f is monotone and submodular, and the greedy rule is followed exactly, by all but the noise.
    With `per: sample` and a budget of k samples, f is at least 1 - 1/e of the best f of any k
    samples (Nemhauser, Wolsey & Fisher 1978), for every k at once. With `per: token` and a budget
    of tokens, f is at least 1 - 1/e of the best f in that budget *minus* what the first sample that
    does not fit would have added (the argument of Khuller, Moss & Naor 1999, and of Krause &
    Golovin 2014 for submodular f; their ½(1 - 1/e) without the minus needs a comparison with the
    best single sample, which would break the rule that a smaller budget is a prefix). With other
    combinations, among them the default under a budget in samples, with quotas, with refused
    near-duplicates and where `script_factor` held something back there is no such bound. `auto`
    changes with the unit of the budget: a smaller budget is a prefix of a larger one in the same
    unit.

    `partitions: m` is for pools whose features do not fit one machine: the two rounds of GreeDi.
    Each candidate is dealt to one of m partitions by what it says and the seed, whatever the
    workers, copies to the same one. A worker takes a partition, and by the rule above picks 4 times
    its share of the budget; noise and shares are those of the partition, and as m_g ≥ min_df in the
    pool is m_g ≥ min_df / m in a part of it, grams count from that on. Then the rule picks from all
    that was picked: m_g is counted there, shares of scripts and sources are those of the pool, and
    noise is what partitions found to be.

    GreeDi's bounds are for cardinality: partitions pick k samples each, k being the budget, of one
    monotone submodular f, and the better of the second round's set and the best partition's is
    taken. Then f is in expectation at least (1 - 1/e) / 2 of the best there is when partitions are
    drawn at random (Barbosa, Ene, Nguyen & Ward 2015), and (1 - 1/e) / min(m, k) however they are
    drawn (Mirzasoleiman et al. 2016). Here neither holds: partitions pick 4·k / m, since of a
    budget that is a share of the pool k would be all they have, and count grams of their own. What
    holds: the second round keeps the bounds above, next to the best set *of what was picked*. What
    f comes to is measured (`benchmarks/two_rounds.py`): fewer partitions, and a larger budget, are
    closer to one machine's. Where half of the pool is wanted there is nothing to gain: a budget of
    a quarter or more is refused. So are quotas; near-duplicates are refused among what was picked,
    and a set that comes out short says so. A smaller budget is *not* a prefix of a larger one,
    since partitions pick less for it; the rank is the order of choice all the same.

    Args:
        pool: The samples.
        scores: Rows without one are never chosen; not looked at otherwise.
        budget: How many samples or tokens, or which share of the rows.
        ctx: Workers, progress, pieces for the picks so far.
        weight: w(m): `none` 1; `log` ln(1 + m) and `sqrt` √m stay closer to the pool's mix and
            keep more of what repeats.
        min_df: Samples a gram must be in; noise and copies do not count.
        per: What gains are divided by: `byte`, `token`, `sample` (nothing); `auto` is `token` under
            a budget of tokens or FLOPs and `byte` otherwise.
        noise: Samples of which less than this share holds together are noise, see
            `didact.text.noise.noise`; 0 lets everything pass, misdecoded text included.
        own_pairs: What a pair counts that no feature stands for, next to a gram of weight w(1).
        balance: What the shares of sources count next to grams; 0 ignores sources.
        script_factor: By what factor a script's share of the tokens may rise or fall, for every
            script that has at least 2 % of them and something left to gain, from some dozens of
            samples on; null lets scripts go to those that say most in a byte.
        partitions: Pick in so many parts of the pool, then from what these picked; null is one
            machine's exact greedy.

    Raises:
        MissingDependencyError: numba is not installed.
        BudgetError: With partitions, a quarter or more of what may be chosen is asked for.

    **Source:** GreeDi (Mirzasoleiman et al. 2016, arXiv:1411.0541); feature-based functions (Lin &
    Bilmes 2011; apricot's `FeatureBasedSelection`, equal
    in a differential test where the two coincide); lazy greedy (Minoux 1978). The filter, u_d
    and the sum over sources are our own.
    **Cost:** the filter, some 76 ns a byte, and more as the pool grows, and two passes over the
    text, 38 ns a byte, of both of which workers share two thirds or more; and lazy greedy in one
    thread, 20 to 50 ns a byte of the pool. All of it takes some four times as long as
    `compression` for a fifth of 40,000 samples (24 MB). Memory 4 to 8 bytes a gram that is a
    feature of its sample, about one a byte of text, and 30 bytes a feature: 1.8 GB at 1.5 million
    samples (906 MB), the pool's index in it; before that, while noise is looked for, 4 to 8 bytes a
    byte of text, at most 530 MiB. Compiling, once per machine: some 7 s. With partitions every
    worker holds that for one partition and its text, each worker process the pool's index (57 bytes
    a row) too; the caller 57 bytes a row and some in the first round, and in the second the
    features of 4 budgets. A partition reads the pages that its rows are on, which is nearly all of
    the store where rows are short; finished partitions are kept, and a killed selection goes on
    after them.
    """
    need("feature_based", "fast")
    rows = candidates(pool, scores)
    if per == "auto":
        per = "byte" if budget is None or budget.unit == "samples" else "token"

    from didact.selection.feature_based.partitions import two_rounds
    from didact.selection.feature_based.rule import Rule, lazy_greedy

    rule = Rule(
        weight=weight, min_df=min_df, per=per, noise=noise, own_pairs=own_pairs, balance=balance,
        script_factor=script_factor,
    )  # fmt: skip
    if partitions is not None:
        samples = budget is not None and budget.unit == "samples"
        return two_rounds(pool, rows, rule, ctx, partitions=partitions, samples=samples)

    @contextmanager
    def growth() -> Iterator[Grown]:
        scripts = scripts_of(pool, rows, ctx)
        suspects, ranking = noise_last(
            "feature_based", pool, rows, scripts, ctx, strictness=noise, script_factor=script_factor
        )
        yield lazy_greedy(pool, rows, rule, ctx, scripts=scripts, suspects=suspects), ranking

    return Growing(rows=rows, open=growth)
