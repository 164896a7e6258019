"""A comparison of one's own as a prior."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import NormalDist
from typing import Any, Final

import numpy as np

from didact.analysis.told import LEAST_SNR
from didact.core.errors import DataError
from didact.planning.comparison import ALL, BASE, RANDOM, Arm, Comparison
from didact.planning.law import LEAST_POINTS, Curve
from didact.planning.prior import (
    COMPARE,
    NOTHING_KNOWN,
    Prior,
    Trials,
    another_kind,
    prior_from_trials,
)

TERMS: Final = ("task", "base", "schedule", "learning_rate", "order")  # that a panel's arms share
LEAST_SEEDS: Final = 2
_NINETY_FIVE: Final = NormalDist().inv_cdf(0.975)
_PADDING: Final = 0.02  # what another order of the same samples may add to a full pass
_FAR_OFF: Final = 0.25  # of the gap; the law misses the published panels by 6 to 17 %


def compared_prior(comparison: Comparison, train_params: float, where: str) -> Prior:
    """What a comparison says of a model of a size.

    Args:
        comparison: What was compared.
        train_params: Parameters of the model to train.
        where: What messages call the comparison.

    Returns:
        With a sentence for each way in which the question is another one. Where the signal to noise
        of a task is below 2 its panels are left out; nothing is known where none is left.

    Raises:
        DataError: As `panels_of`.
    """
    quiet = sorted(c for c, snr in comparison.snr.items() if snr is not None and snr < LEAST_SNR)
    try:
        trials, left_out = panels_of(comparison, train_params=train_params, without=quiet)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    notes = [
        f"{contest}: signal to noise {comparison.snr[contest]:.2g} is below {LEAST_SNR:g}, so its "
        "runs rank nothing and were left out"
        for contest in quiet
    ]
    if not trials:
        return replace(
            NOTHING_KNOWN, notes=tuple(notes), why="the runs that were compared rank nothing"
        )
    tasks = ", ".join(sorted({t.terms["task"] for t in trials}))
    notes.append(f"predictions are of your runs on {tasks}: another task may be another matter")
    size = trials[0].train_params
    notes += left_out
    notes += _taken(comparison, size)
    if another_kind(train_params, size, size):
        notes.append(
            f"{where}: models of {size:.2g} parameters were compared, this one has "
            f"{train_params:.2g}: their order of methods may not hold"
        )
    found = prior_from_trials(trials, COMPARE, notes=notes)
    return replace(found, notes=(*found.notes, *_off_the_curve(trials, found)))


def _off_the_curve(trials: Sequence[Trials], found: Prior) -> Iterator[str]:
    """Where the law is not what was measured: far from its points, or better than the full pass."""
    for panel in trials:
        fit, gap = found.fits[panel.name]["shared"], panel.end - (panel.base or 0.0)
        if fit is not None and fit.rmse > _FAR_OFF * gap:
            yield (
                f"{panel.name}: the law misses the points by {fit.rmse / gap:.0%} of the gap; they "
                "lie on no such curve, and what is foretold from them means little"
            )
        for curve in panel.curves:
            above = curve.values - 2 * np.asarray(curve.errors) > panel.end
            if above.any():
                at = curve.compute[above][0]
                yield (
                    f"{panel.name}: {curve.method} was better than the full pass with {at:.3g} of "
                    "it, which the law cannot say: it foretells the full pass at most"
                )


def _scoring_sizes(comparison: Comparison, size: float) -> dict[str, set[int | None]]:
    """Parameters of the models that scored, by curve, where models of a size were trained."""
    out: dict[str, set[int | None]] = defaultdict(set)
    arms = [arm for arm in comparison.arms if arm.train_params == size]
    curves = _curves(arms)
    for arm in arms:
        if arm.value is not None:
            out[curves[arm.method, arm.name]].add(arm.selector_params)
    return out


def _taken(comparison: Comparison, size: float) -> Iterator[str]:
    """What was taken, or taken as one, in sentences."""
    for curve, sizes in sorted(_scoring_sizes(comparison, size).items()):
        if len(sizes) > 1:
            told = ", ".join(f"{params or 0:.2g}" for params in sorted(sizes, key=lambda p: p or 0))
            yield (
                f"{curve} was compared with scoring models of {told} parameters; the largest is "
                "taken for all"
            )
    arms = [a for a in comparison.arms if a.train_params == size and a.method not in {BASE, ALL}]
    curves = _curves(arms)
    budgets: dict[str, set[float]] = defaultdict(set)
    for arm in arms:
        if arm.value is not None:
            budgets[curves[arm.method, arm.name]].add(arm.k_flops)
    for curve in sorted(c for c, paid in budgets.items() if len(paid) + 2 < LEAST_POINTS):
        yield (
            f"{curve} could be paid at {len(budgets[curve])} budget, and the law needs "
            f"{LEAST_POINTS - 2}: it was left out"
        )
    of_method: dict[str, list[str]] = defaultdict(list)
    for (method, name), curve in curves.items():
        if curve != method or method not in of_method:
            of_method[method].append(name)
    for method, names in sorted(of_method.items()):
        if len(names) > 1:
            yield (
                f"{method} has several arms ({', '.join(names)}); the first of them is taken for it"
            )


def _curves(arms: Sequence[Arm]) -> dict[tuple[str, str], str]:
    """Method and name of an arm → what its curve is called: the method, for its first arm.

    A name that stands at one budget alone is a label of that row, as tables that are written by
    hand have them; such rows are of one arm.
    """
    at: dict[tuple[str, str], set[float]] = defaultdict(set)
    for arm in arms:
        at[arm.method, arm.name].add(arm.k_flops)
    first: dict[str, str] = {}
    for method, name in at:
        first.setdefault(method, name)
    return {
        (method, name): method
        if name == first[method] or len(budgets) == 1
        else f"{method}, {name}"
        for (method, name), budgets in at.items()
    }


def panels_of(
    comparison: Comparison, *, train_params: float | None = None, without: Sequence[str] = ()
) -> tuple[list[Trials], list[str]]:
    """One panel for each task, base, schedule, learning rate and order of a comparison.

    A curve is that of an arm. It is called as the arm's method; where a method has several arms,
    those after the first by method and name.

    Args:
        comparison: What was compared.
        train_params: Of several sizes the one nearest to this is taken; the largest without it.
        without: Contests to leave out, as `Arm.contest` has them.

    Returns:
        The panels, and a sentence for each that no law can be fitted to.

    Raises:
        DataError: There is no panel but such: no method has enough points and seeds, an end was
            not measured, or points lie where the law has no curve.
    """
    sizes = sorted({arm.train_params for arm in comparison.arms})
    size = sizes[-1]
    if train_params is not None:
        size = min(sizes, key=lambda s: abs(math.log(s / train_params)))
    largest = {
        curve: max(found, key=lambda params: params or 0)
        for curve, found in _scoring_sizes(comparison, size).items()
    }
    groups: dict[tuple[Any, ...], list[Arm]] = defaultdict(list)
    ends: dict[str, list[Arm]] = defaultdict(list)
    of_size = [arm for arm in comparison.arms if arm.train_params == size]
    names = _curves(of_size)
    for arm in of_size:
        if arm.value is None or arm.contest in without:
            continue
        ends[arm.contest].append(arm)
        judged_by = largest[names[arm.method, arm.name]]
        if arm.method not in {BASE, ALL} and arm.selector_params == judged_by:
            groups[tuple(getattr(arm, name) for name in TERMS)].append(arm)
    if not groups and not without:
        raise DataError(
            "the comparison has no feasible arm beside base and all; give larger budgets"
        )
    for contest, arms in ends.items():
        _check_measure(contest, arms)
    panels, errors = [], []
    for key, arms in groups.items():
        try:
            panels.append(_panel(dict(zip(TERMS, key, strict=True)), arms, names, ends))
        except DataError as error:
            errors.append(error)
    if errors and not panels:
        raise errors[0]
    return panels, [f"left out: {error}" for error in errors]


def _check_measure(contest: str, arms: Sequence[Arm]) -> None:
    measures = sorted({(arm.metric, arm.higher_is_better) for arm in arms})
    if len(measures) > 1:
        names = " and ".join(f"{metric} (higher is better: {up})" for metric, up in measures)
        raise DataError(f"{contest}: measured by {names}; keep the arms of one of them")


def _panel(
    terms: Mapping[str, Any],
    arms: Sequence[Arm],
    names: Mapping[tuple[str, str], str],
    ends: Mapping[str, Sequence[Arm]],
) -> Trials:
    name = " · ".join(str(part) for part in terms.values() if part not in {None, ""})
    measured = ends[arms[0].contest]
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
    curves: list[Curve] = []
    of_curve: dict[str, Arm] = {}
    called = [names[arm.method, arm.name] for arm in arms]
    for method in sorted(set(called), key=lambda m: (m != RANDOM, m)):
        of_arm = [a for a, curve in zip(arms, called, strict=True) if curve == method]
        own = sorted(of_arm, key=lambda a: a.training_flops)
        compute = np.array([a.training_flops for a in own]) / full.training_flops
        outside = [a for a, c in zip(own, compute, strict=True) if not 0 < c <= 1 + _PADDING]
        if outside:
            raise DataError(
                f"{name}: arm {outside[0].name!r} trained for {outside[0].training_flops:.3g} "
                f"FLOPs, which is on no curve; expected more than 0 and at most the full pass's "
                f"{full.training_flops:.3g}"
            )
        if len(set(compute.tolist())) + 2 < LEAST_POINTS:
            if method != RANDOM:  # said by `_taken`
                continue
            raise DataError(
                f"{name}: {method} has {len(own)} point beside the base model and the full pass; "
                f"the law needs {LEAST_POINTS} in all: add budgets to the comparison"
            )
        errors = [_standard_error(a) for a in own]
        values = np.array([a.performance for a in own])
        curves.append(Curve(method, compute, values, np.array(errors)))
        of_curve[method] = of_arm[0]
    if all(curve.method != RANDOM for curve in curves):
        raise DataError(f"{name}: no arm of random, beside which every other is judged")
    return Trials(
        name=name,
        curves=tuple(curves),
        end=full.performance,
        end_error=_standard_error(full),
        base=base.performance,
        train_params=float(arms[0].train_params),
        selector_params={
            curve: float(arm.selector_params)
            for curve, arm in of_curve.items()
            if arm.selector_params
        },
        terms=terms,
        arms={curve: arm.name for curve, arm in of_curve.items()},
        run_sd=math.sqrt(sum(_standard_error(a) ** 2 * a.seeds for a in arms) / len(arms)),
    )


def _standard_error(arm: Arm) -> float:
    """Of an arm's mean over runs; where only its 95 % interval is known, from that; else 0."""
    if arm.error is not None:
        return arm.error
    if arm.low is None or arm.high is None:
        return 0.0
    return (arm.high - arm.low) / 2 / _NINETY_FIVE


def _end(method: str, name: str, measured: Sequence[Arm], like: Arm) -> Arm:
    """The measured end of a panel: of the same schedule and rate where there are several."""
    found = [arm for arm in measured if arm.method == method]
    if not found:
        what = {BASE: "base model", ALL: "full pass"}[method]
        raise DataError(f"{name}: no arm with method {method!r}, the {what}, which is one end")
    same = [
        a for a in found if (a.schedule, a.learning_rate) == (like.schedule, like.learning_rate)
    ]
    return (same or found)[0]
