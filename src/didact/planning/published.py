"""The published panels as a prior, and where it holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from typing import Final

import numpy as np

from didact.core.pool import Kind
from didact.core.statistics import spearman
from didact.planning.comparison import RANDOM
from didact.planning.law import LawFit, fit_shared
from didact.planning.panels import METHODS, PANELS, SELECTOR_PARAMS, Panel, curves
from didact.planning.prior import (
    NOTHING_KNOWN,
    PUBLISHED,
    Prior,
    Trials,
    another_kind,
    prior_from_trials,
)
from didact.planning.resampling import Draws, bootstrap
from didact.planning.transfer import log_gains, log_rates

_NAMES: Final = {"embed": "embedding"}  # the paper's → didact's
_JUDGES: Final = ("perplexity", "less")


@cache
def published_fits() -> tuple[LawFit, ...]:
    """The shared form fitted to every panel, over training compute."""
    return tuple(fit_shared(curves(of), end=of.full) for of in PANELS)


@cache
def published_draws(draws: int = 1000) -> tuple[Draws, ...]:
    """Refits of every published panel.

    **Cost:** about a second for a thousand of each.
    """
    return tuple(
        bootstrap(curves(of), end=of.full, draws=draws, seed=seed) for seed, of in enumerate(PANELS)
    )


def published_prior(kind: Kind, train_params: float) -> Prior:
    """What the seven published panels say of a pool of a kind and a model of a size.

    They are instruction tuning with adapters of Llama-2 7B to 70B towards MMLU, BBH and IFEval: of
    preferences and raw text they say nothing, of much smaller or larger models little.

    Args:
        kind: What the samples are.
        train_params: Parameters of the model to train.

    Returns:
        With a sentence for each way in which the question is another one.

    **Source:** Yin and Rush (arXiv:2410.16208); see `didact.planning.panels`.
    **Cost:** a quarter of a second, once in a process.
    """
    if kind != "chat":
        what = {"pair": "preference pairs", "labelled": "labelled answers", "text": "raw text"}[
            kind
        ]
        note = (
            f"the published panels are instruction tuning; of {what} they say nothing: compare on "
            "your own data, and give the result with --from"
        )
        return replace(NOTHING_KNOWN, notes=(note,))
    found = _prior()
    return replace(found, notes=(*found.notes, *_cautions(train_params, found)))


def _cautions(train_params: float, prior: Prior) -> Iterator[str]:
    low, high = prior.train_params
    if another_kind(train_params, low, high):
        yield (
            f"the published panels are models of {low:.2g} to {high:.2g} parameters, this one has "
            f"{train_params:.2g}: their order of methods may not hold"
        )


@cache
def _prior() -> Prior:
    note = (
        "predictions are of seven published panels: Llama-2 7B to 70B with adapters on 271k "
        "instructions, towards MMLU, BBH and IFEval (arXiv:2410.16208); your task may be none of "
        "them"
    )
    perplexity = (
        "perplexity in those panels is the middle of the ranking by a model tuned on the target's "
        "samples"
    )
    trials = [trials_of(panel) for panel in PANELS]
    return prior_from_trials(trials, PUBLISHED, notes=(note, perplexity))


def trials_of(panel: Panel) -> Trials:
    """A published panel as the law sees it: net of selection, its base model not measured."""
    return Trials(
        name=panel.name,
        curves=tuple(replace(c, method=_NAMES.get(c.method, c.method)) for c in curves(panel)),
        end=panel.full,
        base=None,
        train_params=panel.n_params,
        selector_params=dict.fromkeys(_JUDGES, SELECTOR_PARAMS),
    )


@dataclass(frozen=True, slots=True)
class Foretold:
    """A panel's ranking of methods, told from other panels, beside what was measured there.

    Attributes:
        panel: Its name.
        ranking: Methods, best first: by the median over the others of ln λ_m − ln λ_random.
        rank_correlation: Spearman with the panel's own rates, -1 to 1.
        decision_accuracy: Share of pairs of methods whose means over fractions are so ranked.
        regret: Mean over fractions of the best method less that of the first in the ranking, in
            points; scoring is free here.
        regret_random: The same of taking random.
    """

    panel: str
    ranking: tuple[str, ...]
    rank_correlation: float
    decision_accuracy: float
    regret: float
    regret_random: float


def foretold(index: int) -> Foretold:
    """A published panel from the other six.

    Args:
        index: Its place in `PANELS`.

    **Source:** decision accuracy as in Magnusson et al. 2025, "DataDecide" (arXiv:2504.11393).
    """
    fits = published_fits()
    others = [fit for i, fit in enumerate(fits) if i != index]
    told = np.median(log_gains(others, METHODS), axis=0)
    of = PANELS[index]
    means = of.values.mean(axis=1)
    pairs = list(combinations(range(len(METHODS)), 2))
    hits = [np.sign(told[a] - told[b]) == np.sign(means[a] - means[b]) for a, b in pairs]
    return Foretold(
        panel=of.name,
        ranking=tuple(METHODS[i] for i in np.argsort(-told, kind="stable")),
        rank_correlation=spearman(told, log_rates(fits[index : index + 1], METHODS)[0]),
        decision_accuracy=float(np.mean(hits)),
        regret=regret(of, METHODS[int(told.argmax())]),
        regret_random=regret(of, RANDOM),
    )


def regret(of: Panel, method: str) -> float:
    """What taking one method for all fractions loses to the best one, in points; free scoring."""
    means = of.values.mean(axis=1)
    return float(means.max() - means[METHODS.index(method)])
