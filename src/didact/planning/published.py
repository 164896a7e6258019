"""The published panels as a prior, and where it holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Final

from didact.core.pool import Kind
from didact.planning.panels import PANELS, SELECTOR_PARAMS, Panel, curves
from didact.planning.prior import NOTHING_KNOWN, PUBLISHED, Prior, Trials, prior_from_trials

_NAMES: Final = {"embed": "embedding"}  # the paper's → didact's
_JUDGES: Final = ("perplexity", "less")
_FAR: Final = 2.0  # a factor beyond the panels' sizes at which they are another kind of model


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
    if not low / _FAR <= train_params <= high * _FAR:
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
