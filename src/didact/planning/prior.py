"""Prior: how fast each method learns, from published panels or from a comparison of one's own."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np

from didact.core.arrays import Float1D
from didact.planning.comparison import RANDOM
from didact.planning.law import LEAST_POINTS, Curve, Form, LawFit, bootstrap, fit_own, fit_shared

Fits = Mapping[Form, LawFit | None]
Source = Literal["published", "compare", "none"]
PUBLISHED: Final[Source] = "published"
COMPARE: Final[Source] = "compare"
NONE: Final[Source] = "none"
DRAWS: Final = 420  # of the published panels' number a multiple


@dataclass(frozen=True, slots=True, kw_only=True)
class Trials:
    """One task and one trained model: several methods at several amounts of training.

    Attributes:
        name: Such as "MMLU 7B".
        curves: One for each method; compute is net of selection, a share of the full pass.
        end: Performance after the full pass, where all rankings are the same set.
        base: Performance of the model before; None where it was not measured, and is fitted.
        train_params: Parameters of the model that was trained.
        selector_params: Method → parameters of the model that scored.
    """

    name: str
    curves: tuple[Curve, ...]
    end: float
    base: float | None
    train_params: float
    selector_params: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """What is known of how fast methods learn.

    A method's value after a share c of a full pass is 1 − exp(−λc): 0 is the base model, 1 what
    the full pass gives.

    Attributes:
        source: Where it comes from.
        panels: Their names.
        rates: Method → λ, the one that a point prediction takes.
        draws: Method → λ in resampled panels, `(d,)`; one place is one panel for all methods.
        selector_params: Method → smallest and largest model that scored.
        train_params: Smallest and largest model that was trained; (0, 0) without panels.
        noise: SD of one run, as a share of the gap from the base model to the full pass.
        fits: The law fitted to each panel, by its name: one base for all methods (`shared`), of
            which the rates are, and beside it each method by itself (`own`), where it has points
            enough.
        notes: What should be known of it, in sentences.
    """

    source: Source
    panels: tuple[str, ...] = ()
    rates: Mapping[str, float] = field(default_factory=dict)
    draws: Mapping[str, Float1D] = field(default_factory=dict)
    selector_params: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    train_params: tuple[float, float] = (0.0, 0.0)
    noise: float = 0.0
    fits: Mapping[str, Fits] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """JSON values; draws are rounded to seven digits."""
        return {
            "source": self.source,
            "panels": list(self.panels),
            "rates": dict(self.rates),
            "draws": {m: [float(f"{x:.7g}") for x in d] for m, d in self.draws.items()},
            "selector_params": {m: list(p) for m, p in self.selector_params.items()},
            "train_params": list(self.train_params),
            "noise": self.noise,
            "fits": {
                name: {form: None if fit is None else fit.to_json() for form, fit in both.items()}
                for name, both in self.fits.items()
            },
        }


NOTHING_KNOWN: Final = Prior(source=NONE)


def prior_from_trials(
    panels: Sequence[Trials], source: Source, *, notes: Sequence[str] = (), seed: int = 0
) -> Prior:
    """What some panels say of a panel like them.

    λ of random is the panels' geometric median; that of another method is it times the median over
    panels of its ratio to random's in the same panel. A draw is one panel, resampled.

    Args:
        panels: One or more, each with a curve of `random`.
        source: Where they come from.
        notes: Sentences to keep with it.
        seed: Of the resampling.

    **Source:** own; the law is that of Yin and Rush (arXiv:2410.16208), one P0 and one end for all
    methods of a panel.
    **Cost:** fits of about 60 resampled copies of each panel.
    """
    fits: dict[str, LawFit] = {}
    drawn: list[dict[str, Float1D]] = []
    each = -(-DRAWS // len(panels))
    for i, panel in enumerate(panels):
        fits[panel.name] = fit_shared(panel.curves, end=panel.end, base=panel.base)
        found = bootstrap(panel.curves, end=panel.end, base=panel.base, draws=each, seed=seed + i)
        drawn.append(dict(zip(found.methods, found.rates.T, strict=True)))
    of_random = np.log([_rate(fits[p.name], RANDOM) for p in panels])
    middle = float(np.median(of_random))
    rates, draws = {RANDOM: math.exp(middle)}, dict[str, Float1D]()
    methods = list(dict.fromkeys(c.method for p in panels for c in p.curves))
    for method in methods:
        having = [i for i, p in enumerate(panels) if method in fits[p.name].rates]
        ratios = [math.log(_rate(fits[panels[i].name], method)) - of_random[i] for i in having]
        if method != RANDOM:
            rates[method] = math.exp(middle + float(np.median(ratios)))
        draws[method] = np.concatenate(
            [found.get(method, np.full(each, np.nan)) for found in drawn]
        )
    judged = defaultdict(list)
    for panel in panels:
        for method, params in panel.selector_params.items():
            judged[method].append(params)
    sizes = [panel.train_params for panel in panels]
    noise = [fits[p.name].rmse / abs(p.end - fits[p.name].base[RANDOM]) for p in panels]
    return Prior(
        source=source,
        panels=tuple(p.name for p in panels),
        rates=rates,
        draws=draws,
        selector_params={m: (min(p), max(p)) for m, p in judged.items()},
        train_params=(min(sizes), max(sizes)),
        noise=float(np.median(noise)),
        fits={p.name: {"shared": fits[p.name], "own": _own(p)} for p in panels},
        notes=tuple(notes),
    )


def _own(panel: Trials) -> LawFit | None:
    """Every method by itself, as published; None where one has too few points for it."""
    if min(len(curve.compute) for curve in panel.curves) < LEAST_POINTS:
        return None
    return fit_own(panel.curves, end=panel.end)


def _rate(fit: LawFit, method: str) -> float:
    return max(fit.rates[method], 1e-6)
