"""Prior: how fast each method learns, from published panels or from a comparison of one's own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from didact.core.arrays import Float1D, Float2D
from didact.planning.comparison import RANDOM
from didact.planning.law import LEAST_POINTS, Curve, Form, LawFit, fit_own, fit_shared
from didact.planning.resampling import bootstrap
from didact.planning.transfer import alike, log_rates, logs

Fits = Mapping[Form, LawFit | None]
Source = Literal["published", "compare", "none"]
PUBLISHED: Final[Source] = "published"
COMPARE: Final[Source] = "compare"
NONE: Final[Source] = "none"
DRAWS: Final = 420  # a multiple of seven, the number of published panels
_FAR: Final = 2.0  # a factor between sizes of models at which they are another kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Trials:
    """One task and one trained model: several methods at several amounts of training.

    Attributes:
        name: Such as "MMLU 7B".
        curves: One for each method; compute is net of selection, a share of the full pass.
        end: Performance after the full pass, where all rankings are the same set.
        end_error: Its standard error over seeds.
        base: Performance of the model before; None where it was not measured, and is fitted.
        train_params: Parameters of the model that was trained.
        selector_params: Method → parameters of the model that scored.
        run_sd: SD of one run, in the unit of performance; 0 where it was not measured, and is what
            the law misses.
        terms: What all its points have in common, JSON values: `task`, `base`, `schedule`,
            `learning_rate`, `order`; empty of published panels.
        arms: Curve → name of the arm that it is of, likewise.
    """

    name: str
    curves: tuple[Curve, ...]
    end: float
    base: float | None
    train_params: float
    selector_params: Mapping[str, float] = field(default_factory=dict)
    end_error: float = 0.0
    run_sd: float = 0.0
    terms: Mapping[str, Any] = field(default_factory=dict)
    arms: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """What is known of how fast methods learn.

    A method's value after a share c of a full pass is 1 − exp(−λc): 0 is the base model, 1 what
    the full pass gives.

    Attributes:
        source: Where it comes from.
        panels: Their names.
        rates: Method → λ, the one that a point prediction takes.
        middle: Method → λ of the mean panel as it may be, `(d,)`; one place for all methods.
        draws: Method → λ of a panel like those, `(d,)`, NaN where a panel has not the method;
            likewise.
        selector_params: Method → smallest and largest model that scored.
        train_params: Smallest and largest model that was trained; (0, 0) without panels.
        noise: SD of one run, as a share of the gap from the base model to the full pass.
        fits: The law fitted to each panel, by its name: one base for all methods (`shared`), of
            which the rates are, and beside it each method by itself (`own`), where it has points
            enough.
        notes: What should be known of it, in sentences.
        why: Why nothing is known, where that is so, as a clause.
    """

    source: Source
    panels: tuple[str, ...] = ()
    rates: Mapping[str, float] = field(default_factory=dict)
    middle: Mapping[str, Float1D] = field(default_factory=dict)
    draws: Mapping[str, Float1D] = field(default_factory=dict)
    selector_params: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    train_params: tuple[float, float] = (0.0, 0.0)
    noise: float = 0.0
    fits: Mapping[str, Fits] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    why: str = "nothing that was measured is like this"

    def to_json(self) -> dict[str, Any]:
        """JSON values; draws are rounded to seven digits."""
        return {
            "source": self.source,
            "panels": list(self.panels),
            "rates": dict(self.rates),
            "middle": {m: [_short(x) for x in d] for m, d in self.middle.items()},
            "draws": {m: [_short(x) for x in d] for m, d in self.draws.items()},
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
    trials: Sequence[Trials], source: Source, *, notes: Sequence[str] = (), seed: int = 0
) -> Prior:
    """What some panels say of a panel like them.

    The rate of random is the geometric mean over panels; that of another method is it times the
    geometric mean of its ratio to random's in the same panel.

    Args:
        trials: One panel or more, each with a curve of `random`.
        source: Published panels are a sample of what there is, and their mean is known as far as
            they agree; those of a comparison are all that is asked for, known as far as their
            seeds agree.
        notes: Sentences to keep with it.
        seed: Of the resampling.

    **Source:** own; the law is that of Yin and Rush (arXiv:2410.16208), one P0 and one end for all
    methods of a panel.
    **Cost:** fits of 420 resampled copies in all.
    """
    fits = [fit_shared(t.curves, end=t.end, base=t.base) for t in trials]
    each = -(-DRAWS // len(trials))
    drawn = [
        bootstrap(
            t.curves, end=t.end, base=t.base, end_error=t.end_error, draws=each, seed=seed + i
        )
        for i, t in enumerate(trials)
    ]
    methods = list(
        dict.fromkeys(m for t in trials for m in (RANDOM, *(c.method for c in t.curves)))
    )
    resampled = [_columns(methods, d.methods, logs(d.rates)) for d in drawn]
    measured = [_columns(methods, tuple(f.rates), log_rates([f], tuple(f.rates))) for f in fits]
    rates = np.exp(_mean(np.concatenate(measured)[:, None]))[0]
    if source == PUBLISHED:
        middle = alike(fits, methods, mean=True, draws=DRAWS, seed=seed).rates
    else:
        middle = np.exp(_mean(np.stack(resampled)))
    judged: dict[str, list[float]] = {}
    for panel in trials:
        for method, params in panel.selector_params.items():
            judged.setdefault(method, []).append(params)
    sizes = [panel.train_params for panel in trials]
    noise = [
        max(f.rmse, t.run_sd) / abs(t.end - f.base[RANDOM])
        for t, f in zip(trials, fits, strict=True)
    ]
    return Prior(
        source=source,
        panels=tuple(t.name for t in trials),
        rates=dict(zip(methods, rates.tolist(), strict=True)),
        middle=dict(zip(methods, middle.T, strict=True)),
        draws=dict(zip(methods, np.exp(np.concatenate(resampled)).T, strict=True)),
        selector_params={m: (min(p), max(p)) for m, p in judged.items()},
        train_params=(min(sizes), max(sizes)),
        noise=float(np.median(noise)),
        fits={t.name: {"shared": f, "own": _own(t)} for t, f in zip(trials, fits, strict=True)},
        notes=tuple(notes),
    )


def _columns(methods: Sequence[str], named: Sequence[str], of: Float2D) -> Float2D:
    """Columns of ln λ for all methods, `(d, methods)`; NaN for those that a panel has not."""
    out = np.full((len(of), len(methods)), np.nan)
    out[:, [methods.index(name) for name in named]] = of
    return out


def _mean(of: npt.NDArray[np.float64]) -> Float2D:
    """Mean over panels of ln λ, `(panels, d, methods)` → `(d, methods)`: random's, and the others'
    beside random's in the same panel.
    """
    beside = of - of[..., :1]
    return np.asarray(of[..., :1].mean(axis=0) + np.nanmean(beside, axis=0))


def another_kind(train_params: float, low: float, high: float) -> bool:
    """Whether the order of methods measured on models of some sizes may not hold of another."""
    return not low / _FAR <= train_params <= high * _FAR


def _own(panel: Trials) -> LawFit | None:
    """Every method by itself, as published; None where one has too few points for it."""
    if min(len(curve.compute) for curve in panel.curves) < LEAST_POINTS:
        return None
    return fit_own(panel.curves, end=panel.end)


def _short(x: float) -> float | None:
    """Seven digits of a number; None of NaN, which JSON has not."""
    return float(f"{x:.7g}") if math.isfinite(x) else None
