"""Prior: how fast each method learns, from published panels or from a comparison of one's own."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, Final, Literal

import numpy as np

from didact.core.arrays import Float1D
from didact.core.errors import DataError
from didact.planning.comparison import ALL, BASE, RANDOM, Arm, Comparison
from didact.planning.law import Curve, LawFit, bootstrap, fit_shared

Source = Literal["published", "compare", "none"]
PUBLISHED: Final[Source] = "published"
COMPARE: Final[Source] = "compare"
NONE: Final[Source] = "none"
DRAWS: Final = 420  # of the published panels' number a multiple
SMALL: Final = 15e6  # parameters below which rankings of sets are known to change with size
LEAST_POINTS: Final = 4
LEAST_SEEDS: Final = 2
LEAST_SNR: Final = 2.0
_TWO_SIDED: Final = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One task, one model, several methods at several amounts of training.

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
        fits: The shared fit of each panel, by its name.
        notes: What should be known of it, in sentences.
    """

    source: Source
    panels: tuple[str, ...] = ()
    rates: Mapping[str, float] = field(default_factory=dict)
    draws: Mapping[str, Float1D] = field(default_factory=dict)
    selector_params: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    train_params: tuple[float, float] = (0.0, 0.0)
    noise: float = 0.0
    fits: Mapping[str, LawFit] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """JSON values; draws are rounded to four digits."""
        return {
            "source": self.source,
            "panels": list(self.panels),
            "rates": dict(self.rates),
            "draws": {m: [float(f"{x:.4g}") for x in d] for m, d in self.draws.items()},
            "selector_params": {m: list(p) for m, p in self.selector_params.items()},
            "train_params": list(self.train_params),
            "noise": self.noise,
            "fits": {name: fit.to_json() for name, fit in self.fits.items()},
        }


NOTHING_KNOWN: Final = Prior(source=NONE)


def prior_from_panels(
    panels: Sequence[Panel], source: Source, *, notes: Sequence[str] = (), seed: int = 0
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
    fits, drawn = {}, []
    each = -(-DRAWS // len(panels))
    for i, panel in enumerate(panels):
        fits[panel.name] = fit_shared(panel.curves, end=panel.end, base=panel.base)
        drawn.append(
            bootstrap(
                panel.curves, end=panel.end, form="shared", base=panel.base, draws=each,
                seed=seed + i,
            )
        )  # fmt: skip
    of_random = np.log([_rate(fits[p.name], RANDOM) for p in panels])
    middle = float(np.median(of_random))
    rates, draws = {RANDOM: math.exp(middle)}, {}
    methods = list(dict.fromkeys(c.method for p in panels for c in p.curves))
    for method in methods:
        having = [i for i, p in enumerate(panels) if method in fits[p.name].rates]
        ratios = [math.log(_rate(fits[panels[i].name], method)) - of_random[i] for i in having]
        if method != RANDOM:
            rates[method] = math.exp(middle + float(np.median(ratios)))
        draws[method] = np.concatenate(
            [drawn[i][method] if i in having else np.full(each, np.nan) for i in range(len(panels))]
        )
    judged = defaultdict(list)
    for panel in panels:
        for method, params in panel.selector_params.items():
            judged[method].append(params)
    sizes = [panel.train_params for panel in panels]
    gaps = [abs(p.end - fits[p.name].base[RANDOM]) or 1.0 for p in panels]
    noise = [fits[p.name].rmse / gap for p, gap in zip(panels, gaps, strict=True)]
    return Prior(
        source=source,
        panels=tuple(p.name for p in panels),
        rates=rates,
        draws=draws,
        selector_params={m: (min(p), max(p)) for m, p in judged.items()},
        train_params=(min(sizes), max(sizes)),
        noise=float(np.median(noise)),
        fits=fits,
        notes=tuple(notes),
    )


def _rate(fit: LawFit, method: str) -> float:
    return max(fit.rates[method], 1e-6)


def panels_of(comparison: Comparison, *, train_params: float | None = None) -> list[Panel]:
    """The panels of a comparison: one for each task, schedule, learning rate and order.

    Args:
        comparison: What was compared.
        train_params: Of several sizes the one nearest to this is taken; the largest without it.

    Raises:
        DataError: No method has enough points and seeds, an end was not measured, or points lie
            where the law has no curve.
    """
    sizes = sorted({arm.train_params for arm in comparison.arms})
    size = sizes[-1]
    if train_params is not None:
        size = min(sizes, key=lambda s: abs(math.log(s / train_params)))
    groups: dict[tuple[Any, ...], list[Arm]] = defaultdict(list)
    ends: dict[str, list[Arm]] = defaultdict(list)
    for arm in comparison.arms:
        if arm.train_params != size or not arm.feasible:
            continue
        ends[arm.task].append(arm)
        if arm.method not in {BASE, ALL}:
            groups[arm.task, arm.schedule, arm.learning_rate, arm.order].append(arm)
    if not groups:
        raise DataError(
            "the comparison has no feasible arm beside base and all; give larger budgets"
        )
    return [
        _panel(" · ".join(str(part) for part in key if part is not None), arms, ends[key[0]])
        for key, arms in groups.items()
    ]


def _panel(name: str, arms: Sequence[Arm], measured: Sequence[Arm]) -> Panel:
    base = _end(BASE, name, measured, arms[0])
    full = _end(ALL, name, measured, arms[0])
    if not full.training_flops:
        raise DataError(f"{name}: the arm of the full pass has no training_flops")
    if full.performance <= base.performance:
        raise DataError(
            f"{name}: the full pass ({full.value}) is no better than the base model "
            f"({base.value}); the law has no curve to fit, and no data is worth training on here"
        )
    if few := [arm for arm in arms if arm.seeds < LEAST_SEEDS]:
        raise DataError(
            f"{name}: arm {few[0].name!r} has {few[0].seeds} seed; a law needs {LEAST_SEEDS} or "
            "more of every arm, since one run says nothing of its noise"
        )
    curves = []
    for method in sorted({arm.method for arm in arms}, key=lambda m: (m != RANDOM, m)):
        own = sorted((a for a in arms if a.method == method), key=lambda a: a.training_flops)
        compute = np.array([a.training_flops for a in own]) / full.training_flops
        outside = [a for a, c in zip(own, compute, strict=True) if not 0 < c <= 1]
        if outside:
            raise DataError(
                f"{name}: arm {outside[0].name!r} trained for {outside[0].training_flops:.3g} "
                f"FLOPs, which is on no curve; expected more than 0 and at most the full pass's "
                f"{full.training_flops:.3g}"
            )
        if len(set(compute.tolist())) + 2 < LEAST_POINTS:
            raise DataError(
                f"{name}: {method} has {len(own)} point beside the base model and the full pass; "
                f"the law needs {LEAST_POINTS} in all: add budgets to the comparison"
            )
        errors = [
            ((a.high or 0.0) - (a.low or 0.0)) / 2 / _TWO_SIDED if a.low is not None else 0.0
            for a in own
        ]
        values = np.array([a.performance for a in own])
        curves.append(Curve(method, compute, values, np.array(errors)))
    if all(curve.method != RANDOM for curve in curves):
        raise DataError(f"{name}: no arm of random, beside which every other is judged")
    return Panel(
        name=name,
        curves=tuple(curves),
        end=full.performance,
        base=base.performance,
        train_params=float(arms[0].train_params),
        selector_params={a.method: float(a.selector_params) for a in arms if a.selector_params},
    )


def _end(method: str, name: str, measured: Sequence[Arm], like: Arm) -> Arm:
    """The measured end of a panel: of the same schedule and rate where there are several."""
    found = [arm for arm in measured if arm.method == method]
    if not found:
        what = {BASE: "base model", ALL: "full pass"}[method]
        raise DataError(f"{name}: no arm with method {method!r}, the {what}, which is one end")
    same = [a for a in found if (a.schedule, a.learning_rate) == (like.schedule, like.learning_rate)]
    return (same or found)[0]
