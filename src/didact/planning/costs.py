"""What scoring a pool will cost by every method: as didact counts it, and as papers charge it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from didact.accounting import flops
from didact.accounting.catalog import Described
from didact.accounting.lengths import executed_training, typical_lengths
from didact.accounting.lora import lora_spec
from didact.accounting.spec import ModelSpec, headless
from didact.core import binding, registry
from didact.core.budget import Budget
from didact.core.cost import Cost
from didact.core.errors import ConfigError, MissingDependencyError, did_you_mean
from didact.core.pool import PoolStats
from didact.planning.comparison import RANDOM
from didact.selection.around.choose import estimate as estimate_selection

BY_LANGUAGE_MODEL: Final = ("perplexity", "bits_per_byte", "ifd", "rds", "less", "pds", "lqs")
BY_ENCODER: Final = ("embedding",)
WITHOUT_MODEL: Final = (
    RANDOM, "bm25", "dsir", "classifier", "ngram_perplexity", "zip_fit", "static_embedding",
    "learned_grade", "compression", "length",
)  # fmt: skip
SETS: Final = ("zip", "feature_based", "shingle_novelty")  # selectors that need no scores
METHODS: Final = (*WITHOUT_MODEL, *BY_ENCODER, *BY_LANGUAGE_MODEL, *SETS)
_TOKENS_PER_BATCH: Final = 8192
_SELECTORS: Final = {"perplexity": "middle"}  # neither end of it is better
# What was measured of perplexity is of a model tuned on the target; the others begin from a target,
# and the classifier and the n-gram model take all of it as one.
OF_ONE_TARGET: Final = ("perplexity", "pds", "lqs", "classifier", "ngram_perplexity")
_MODEL: Final = "model"  # settings ask for a name; nothing is read under it
_SETTINGS: Final = {"static_embedding": {"model": _MODEL}, "learned_grade": {"grade": "grade"}}


@dataclass(frozen=True, slots=True)
class Scoring:
    """What scoring a pool by one method costs.

    Attributes:
        method: Name of a scorer, or of a selector that needs no scores.
        selector: The scoring model, by the name or size it was given; None without one.
        selector_params: Its parameters; None without one.
        cost: As didact will execute it, padding included.
        published: What papers charge for it: name of the rule → FLOPs.
        shared: Whether one scoring serves several target tasks.
    """

    method: str
    selector: str | None
    selector_params: int | None
    cost: Cost
    published: Mapping[str, float]
    shared: bool = True

    def over(self, tasks: int) -> int:
        """The number of tasks, of so many, that one scoring is for."""
        return tasks if self.shared else 1

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "cost": asdict(self.cost), "published": dict(self.published)}


@dataclass(frozen=True, slots=True)
class Training:
    """What one pass over the whole pool costs the model that is trained.

    Attributes:
        flops: Counted, as the model reads samples (template in, cut), without padding.
        flops_6nd: 6 · parameters · tokens.
        tokens: Tokens read.
        padding: What padding adds with batches of the size given, as a share of `flops`.
        rank: Rank of adapters; None where all weights are trained.
    """

    flops: float
    flops_6nd: float
    tokens: int
    padding: float
    rank: int | None = None


def training_cost(
    stats: PoolStats,
    model: ModelSpec,
    *,
    batch_size: int,
    max_length: int | None = None,
    lora_rank: int | None = None,
) -> Training:
    """One pass over a pool, from its sizes alone.

    Args:
        stats: Sizes of the pool; its tokens may be an estimate.
        model: The model that is trained.
        batch_size: Samples per optimizer step.
        max_length: Most tokens of a sample; the model's context when not given.
        lora_rank: Rank of adapters on the default modules; None for all weights.
    """
    longest = max_length or model.context or None
    lengths = typical_lengths(stats, overhead=model.added(stats.kind), max_length=longest)
    scale = stats.n / max(len(lengths), 1)
    tokens, squares = float(lengths.sum()) * scale, float(np.square(lengths).sum()) * scale
    ran = executed_training(
        lengths, n=stats.n, batch_size=batch_size, tokens_per_batch=_TOKENS_PER_BATCH
    )

    def counted(of: float, squared: float) -> float:
        if lora_rank is None:
            return flops.training_flops(model, round(of), squared)
        return flops.lora_counted(model, lora_spec(model, rank=lora_rank), round(of), squared)

    whole = counted(tokens, squares)
    return Training(
        flops=whole,
        flops_6nd=flops.training_flops_6nd(model.n_total, tokens),
        tokens=round(tokens),
        padding=counted(ran.tokens, ran.squares) / whole - 1 if whole else 0.0,
        rank=lora_rank,
    )


def scoring_costs(
    stats: PoolStats,
    target: PoolStats,
    judges: Sequence[Described],
    encoder: Described,
    methods: Sequence[str] = METHODS,
) -> tuple[list[Scoring], list[str]]:
    """Every method's cost, those that score by a language model once for each of `judges`.

    Returns:
        The costs; and for each method that is left out, since a library that it needs is not
        installed, a sentence with the command that installs it.

    Raises:
        ConfigError: There is no such method.
    """
    if unknown := sorted(set(methods) - set(METHODS)):
        raise ConfigError(f"method {unknown[0]!r}{did_you_mean(unknown[0], METHODS)}")
    named = dict.fromkeys((RANDOM, *methods))  # random samples are beside every other method
    found: list[Scoring] = []
    left_out: list[str] = []
    for method in named:
        try:
            found += _of(method, stats, target, judges, encoder)
        except MissingDependencyError as error:
            left_out.append(f"{method} is left out: {error}")
    return found, left_out


def _of(
    method: str,
    stats: PoolStats,
    target: PoolStats,
    judges: Sequence[Described],
    encoder: Described,
) -> Iterator[Scoring]:
    if method in SETS:
        yield Scoring(method, None, None, _set_cost(method, stats), {})
    elif method in WITHOUT_MODEL:
        scorer = registry.find("scorers", method)(**_SETTINGS.get(method, {}))
        shared = method not in OF_ONE_TARGET
        yield Scoring(method, None, None, scorer.estimate(stats, target), {}, shared)
    elif method in BY_ENCODER:
        scorer = registry.find("scorers", method)(model=_MODEL)
        cost = scorer.estimate_from_specs(stats, target, {"model": headless(encoder.spec)})
        forward = flops.forward_flops_2nd(encoder.spec.n_total, stats.n_tokens)
        yield Scoring(
            method, encoder.given, encoder.spec.n_total, cost, {"2·N·D of the encoder": forward}
        )
    else:
        yield from (_judged(method, stats, target, judge) for judge in judges)


def _judged(method: str, stats: PoolStats, target: PoolStats, judge: Described) -> Scoring:
    make = registry.find("scorers", method)
    scorer = make(model=_MODEL)
    spec = judge.spec if make.headed else headless(judge.spec)
    specs = {"model": spec, "scorer_model": headless(judge.spec)}
    cost = scorer.estimate_from_specs(stats, target, specs)
    published = _published(method, judge.spec.n_total, stats)
    shared = method not in OF_ONE_TARGET
    return Scoring(method, judge.given, judge.spec.n_total, cost, published, shared)


def _published(method: str, n_params: int, stats: PoolStats) -> dict[str, float]:
    """What papers charge for a method, by the rule's name."""
    tokens = stats.n_tokens
    forward = flops.forward_flops_2nd(n_params, tokens)
    rds_plus = flops.rds_plus_printed(
        "less" if method == "less" else "rds", n_params=n_params, n_pool=stats.n, n_chosen=0
    ).selection
    if method in {"perplexity", "rds"}:
        return {
            "one forward pass, 2·N·D": forward,
            "as in RDS+, two passes of 2,048 tokens a sample": rds_plus,
        }
    if method == "less":
        return {
            "as plotted, 5.4 forward passes": flops.less_published(n_params, tokens),
            "as counted, 12.6 with four checkpoints": flops.less_counted(n_params, tokens).total,
            "as in RDS+, three checkpoints of 2,048 tokens a sample": rds_plus,
        }
    return {}


def _set_cost(method: str, stats: PoolStats) -> Cost:
    """A selector that needs no scores, at half of the pool's tokens."""
    selector = registry.find("selectors", method)
    settings = binding.bind(selector, {}, method)
    half = Budget(tokens=max(stats.n_tokens // 2, 1))
    return estimate_selection(selector, stats, half, method, **settings)


def method_sections(method: str, selector: str | None) -> dict[str, Any]:
    """The `score` and `select` sections of a config that choose by a method, without a budget."""
    if method in SETS:
        return {"select": {"method": method}}
    score: dict[str, Any] = {"method": method}
    if selector is not None:
        score["model"] = selector
    return {"score": score, "select": {"method": _SELECTORS.get(method, "top_k")}}
