"""The entropy law on natural sets: fits, rivals, correlations, outliers, and what they come to.

The law says that what a model learns from a set goes with how redundant the set is (R, raw ÷
compressed bytes) and how hard it is to learn (L, the first-epoch training loss).

**Source:** Yin et al. 2024 (arXiv:2407.06645). The rivals, the families left out, the rule and its
*cannot_tell* are didact's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from didact.analysis.arms import Arm
from didact.analysis.entropy import fits
from didact.analysis.entropy.correlation import Correlation, centered, correlation
from didact.analysis.entropy.doses import doses_of
from didact.analysis.entropy.fits import FORMS, Form
from didact.analysis.entropy.runs import SHARES, LawRun, LawSet, sets_of
from didact.analysis.entropy.told import (
    Curve,
    Deduction,
    EntropyLaw,
    LawFit,
    Observable,
    Outlier,
    Rival,
)  # fmt: skip
from didact.analysis.entropy.verdict import Evidence, decide
from didact.analysis.spread import Spread, pooled, squares
from didact.core.arrays import Float1D, Float2D, Int1D
from didact.evaluation.student import t_quantile

RATIO: Final = "ratio"
LOSS: Final = "first_epoch_loss"
LENGTH: Final = "length and similarity"
_FEATURES: Final = ((RATIO,), (LOSS,), (RATIO, LOSS))
_LEAST: Final = 3  # sets; of fewer nothing is fitted
_FAR: Final = 3.0  # robust SDs
_POINTS: Final = 60  # of a curve


@dataclass(frozen=True, slots=True, eq=False)
class _Columns:
    """The natural sets as arrays."""

    sets: tuple[LawSet, ...]
    groups: Int1D
    families: Int1D
    names: tuple[str, ...]  # of groups
    y: Float1D
    features: Mapping[str, Float1D]
    given: Float2D  # what partial correlations take off

    def matrix(self, names: Sequence[str]) -> Float2D:
        return np.column_stack([np.empty((len(self.y), 0)), *(self.features[n] for n in names)])


def entropy_law(runs: Sequence[LawRun]) -> EntropyLaw:
    """What runs tell of the law, and whether it holds on them.

    Args:
        runs: Runs; those of one set on one backbone in one stage are seeds of it and averaged.

    Raises:
        DataError: There is no run, one is given twice, or they have several tokenizers or held-out
            sets.

    **Source:** see the module. **Cost:** some tens of fits for each family; under a second for
    hundreds of sets.
    """
    sets = sets_of(runs)
    natural = tuple(s for s in sets if s.dose is None)
    columns, known = _columns(natural)
    snr, spread, of_noise = _noise(natural, columns)
    doses, of_doses = doses_of(sets, spread)
    found = _fitted(columns) if len(natural) >= _LEAST else []
    rivals = _rivals(columns, known=known) if len(natural) >= _LEAST else ()
    partials = {name: _partial(columns, name) for name in (RATIO, LOSS)}
    errors = {r.name: r.loo_rmse for r in rivals}
    lengths = [r.loo_rmse for r in rivals if r.name == LENGTH and r.loo_rmse is not None]

    def judged(name: str) -> Evidence:
        with_it = [f.loo_rmse for f, _, _ in found if _counts(name, f.features)]
        own = [error for error in with_it if error is not None]
        return Evidence(
            sets=len(natural), families=len(set(columns.families.tolist())),
            partial=partials[name], error=min(own, default=None),
            constant=errors.get("constant"),
            length=min(lengths, default=None), known=known, snr=snr,
        )  # fmt: skip

    verdict, reasons = decide(judged(RATIO))
    verdict_loss, reasons_loss = decide(judged(LOSS))
    best = {name: _best(found, name) for name in (RATIO, LOSS)}
    return EntropyLaw(
        verdict=verdict, verdict_loss=verdict_loss, reasons=reasons, reasons_loss=reasons_loss,
        fits=tuple(f for f, _, _ in found), rivals=rivals, snr=snr,
        outliers=tuple(o for b in best.values() if b is not None for o in _outliers(columns, b)),
        deductions=_deductions(columns, partials) if len(natural) >= _LEAST else (),
        beside=_beside(columns), doses=doses,
        curves=tuple(_curve(columns, b) for b in best.values() if b is not None),
        sets=sets, ranges={
            name: (float(v.min()), float(v.max()))
            for name, v in columns.features.items() if name in {RATIO, LOSS} and len(v)
        },
        runs=len(runs), natural=len(natural), families=len(set(columns.families.tolist())),
        notes=(*of_noise, *of_doses, *_unknown(natural, known=known), *_alone(columns)),
    )  # fmt: skip


def _columns(natural: tuple[LawSet, ...]) -> tuple[_Columns, bool]:
    """The columns, and whether length and similarity are known of all sets."""
    places = list(dict.fromkeys(s.group for s in natural))
    kinds = list(dict.fromkeys(s.family for s in natural))
    groups = np.array([places.index(s.group) for s in natural], np.int64)
    features = {
        RATIO: np.array([s.ratio for s in natural]),
        LOSS: np.array([s.first_epoch_loss for s in natural]),
    }
    given: list[Float1D] = []
    lengths = [s.mean_length for s in natural if s.mean_length is not None]
    if natural and len(lengths) == len(natural):
        features["log_length"] = np.log(lengths)
        # sets of middling length may do best: how far one is from it counts, too
        far = centered(features["log_length"], groups)
        features["log_length²"], features["|log_length|"] = far**2, np.abs(far)
        given += [features["log_length"], features["log_length²"]]
    alike = [s.similarity for s in natural if s.similarity is not None]
    if natural and len(alike) == len(natural):
        features["similarity"] = np.array(alike)
        given.append(features["similarity"])
    columns = _Columns(
        sets=natural, groups=groups,
        families=np.array([kinds.index(s.family) for s in natural], np.int64),
        names=tuple(" · ".join(part for part in g if part) or "all" for g in places),
        y=np.array([s.performance for s in natural]), features=features,
        given=np.column_stack([np.empty((len(natural), 0)), *given]),
    )  # fmt: skip
    return columns, "log_length" in features and "similarity" in features


def _noise(
    natural: Sequence[LawSet], columns: _Columns
) -> tuple[float | None, Spread | None, tuple[str, ...]]:
    """Signal to noise, the variance of runs within a set, and notes."""
    arms = [
        Arm(set=s.name, values=np.array(s.values), unit_of=np.arange(len(s.values)))
        for s in natural
    ]  # fmt: skip
    spread = pooled([squares(arm.values) for arm in arms])
    if spread is None or spread.variance == 0:
        why = (
            "No natural set has two runs" if spread is None
            else "The runs of every set have the same value"
        )  # fmt: skip
        told = f"{why}: how far equal trainings come apart is not known, and snr is null."
        return None, None, (told,)
    means = centered(columns.y, columns.groups)
    df = len(means) - len(columns.names)
    if df < 1:
        return None, spread, ("There are too few natural sets for a signal to noise.",)
    return float(np.sqrt((means**2).sum() / df / spread.variance)), spread, ()


# A fit, what it expects of sets whose family it has not seen, and the fit of all sets.
_Tried = tuple[LawFit, Float1D | None, fits.Fitted]


def _fitted(columns: _Columns) -> list[_Tried]:
    out = []
    for names in _FEATURES:
        x = columns.matrix(names)
        directions = [-1] * len(names)
        of_feature = _correlations(columns, names[0]) if len(names) == 1 else None
        for form in FORMS:
            whole = fits.fit(form, x, columns.y, columns.groups, directions)
            expected = _left_out(form, x, columns, directions)
            plain, partial = of_feature or _foretelling(columns, expected)
            told = LawFit(
                form=form, features=names, params=whole.params(names, columns.names),
                loo_rmse=fits.rmse(columns.y, expected), spearman=plain.value,
                partial=partial.value, low=partial.low, high=partial.high,
            )  # fmt: skip
            out.append((told, expected, whole))
    return out


def _left_out(
    form: Form, x: Float2D, columns: _Columns, directions: Sequence[int] = ()
) -> Float1D | None:
    return fits.left_out(form, x, columns.y, columns.groups, columns.families, directions)


def _correlations(columns: _Columns, name: str) -> tuple[Correlation, Correlation]:
    """Of performance with a feature: by itself, and given others."""
    x, nothing = columns.features[name], np.empty((len(columns.y), 0))
    plain = correlation(columns.y, x, nothing, columns.groups, columns.families)
    return plain, _partial(columns, name)


def _foretelling(columns: _Columns, expected: Float1D | None) -> tuple[Correlation, Correlation]:
    """Of performance with what is expected of families unseen: by itself, and given others."""
    if expected is None or np.isnan(expected).any():
        return Correlation(), Correlation()
    nothing, place = np.empty((len(columns.y), 0)), (columns.groups, columns.families)
    return (
        correlation(columns.y, expected, nothing, *place),
        correlation(columns.y, expected, columns.given, *place),
    )


def _partial(columns: _Columns, name: str) -> Correlation:
    """Given length and similarity; of the loss given R as well: the law speaks of equal R."""
    if len(columns.y) < _LEAST:
        return Correlation()
    given = columns.given
    if name not in {RATIO, "deflate_ratio"}:
        given = np.column_stack([given, columns.features[RATIO]])
    x = columns.features[name]
    return correlation(columns.y, x, given, columns.groups, columns.families)


def _rivals(columns: _Columns, *, known: bool) -> tuple[Rival, ...]:
    nothing = _left_out("constant", columns.matrix(()), columns)
    out = [Rival("constant", "constant", (), fits.rmse(columns.y, nothing))]
    if known:
        forms = {
            "linear": ("log_length", "similarity"),
            "curved": ("log_length", "log_length²", "similarity"),
            "bent": ("|log_length|", "similarity"),
        }
        for form, names in forms.items():
            expected = _left_out("linear", columns.matrix(names), columns)
            out.append(Rival(LENGTH, form, names, fits.rmse(columns.y, expected)))
    return tuple(out)


def _counts(name: str, features: Sequence[str]) -> bool:
    """Whether a fit is one by which R, or L, is judged: L is looked at beside R, too."""
    return tuple(features) == (name,) if name == RATIO else name in features


def _best(found: Sequence[_Tried], name: str) -> _Tried | None:
    """Of the fits on one feature the one with the lowest error; linear where none has any."""
    own = [tried for tried in found if tried[0].features == (name,)]
    if not own:
        return None
    errors = [float("inf") if f.loo_rmse is None else f.loo_rmse for f, _, _ in own]
    return own[int(np.argmin(errors))]


def _outliers(columns: _Columns, tried: _Tried) -> list[Outlier]:
    """Sets that a fit which has not seen their family misses by more than 3 robust SDs."""
    told, expected, _ = tried
    if expected is None:
        return []
    residuals = columns.y - expected
    there = ~np.isnan(residuals)
    middle = float(np.median(residuals[there])) if there.any() else 0.0
    scale = 1.4826 * float(np.median(np.abs(residuals[there] - middle))) if there.any() else 0.0
    if scale == 0:
        return []
    far = (residuals - middle) / scale
    return [
        Outlier(
            set=columns.sets[i].name, runs=columns.sets[i].runs, feature=told.features[0],
            form=told.form, performance=float(columns.y[i]), expected=float(expected[i]),
            robust_sds=float(far[i]),
        )
        for i in np.flatnonzero(there & (np.abs(far) > _FAR)).tolist()
    ]  # fmt: skip


def _deductions(columns: _Columns, partials: Mapping[str, Correlation]) -> tuple[Deduction, ...]:
    """What the law comes to by the paper, each with what was found."""
    place = (columns.groups, columns.families)
    nothing = np.empty((len(columns.y), 0))
    ratio, loss = columns.features[RATIO], columns.features[LOSS]
    return (
        Deduction(
            "At like consistency R governs the loss: more redundant sets have a lower L.",
            "L with R, natural sets", correlation(loss, ratio, nothing, *place),
        ),
        Deduction(
            "At like consistency R governs performance: more redundant sets do worse.",
            "performance with R, given length and similarity", partials[RATIO],
        ),
        Deduction(
            "At equal R a higher L is worse.",
            "performance with L, given R, length and similarity", partials[LOSS],
        ),
    )  # fmt: skip


def _beside(columns: _Columns) -> tuple[Observable, ...]:
    """What else was measured: R by DEFLATE, and L after a part of the epoch."""
    n = len(columns.sets)
    extra: dict[str, Float1D] = {}
    deflate = [s.deflate_ratio for s in columns.sets if s.deflate_ratio is not None]
    if n >= _LEAST and len(deflate) == n:
        extra["deflate_ratio"] = np.array(deflate)
    shares = sorted({share for s in columns.sets for share in s.early} | set(SHARES))
    for share in shares if n >= _LEAST else ():
        early = [s.early[share] for s in columns.sets if share in s.early]
        if len(early) == n:
            extra[f"loss_{100 * share:g}"] = np.array(early)
    both = _Columns(
        columns.sets, columns.groups, columns.families, columns.names, columns.y,
        {**columns.features, **extra}, columns.given,
    )  # fmt: skip
    found = {name: _correlations(both, name) for name in extra}
    return tuple(Observable(name, plain.value, part) for name, (plain, part) in found.items())


def _curve(columns: _Columns, tried: _Tried) -> Curve:
    """The best fit on one feature, drawn within the range of the sets.

    With one backbone and stage in natural units; with several the means of each are taken off both
    axes. The band is where a set of a new family is expected with 95 %: the fit ± t · error.
    """
    told, _, whole = tried
    name = told.features[0]
    values = columns.features[name]
    one = len(columns.names) == 1
    x = values if one else centered(values, columns.groups)
    y = columns.y if one else centered(columns.y, columns.groups)
    grid = np.linspace(x.min(), x.max(), _POINTS)
    first = np.zeros(_POINTS, np.int64)
    shift = 0.0 if one else float(whole.means[0][0])
    line = whole((grid + shift)[:, None], first)
    if not one:  # groups share the shape, and differ by what is added
        at = np.array(
            [(v - whole.means[g][0]) for v, g in zip(values, columns.groups, strict=True)]
        )
        line = line - float(whole((at + shift)[:, None], np.zeros(len(at), np.int64)).mean())
    half = None
    df = len(columns.y) - fits.n_params(told.form, 1, len(columns.names))
    if told.loo_rmse is not None and df > 0:
        half = t_quantile(0.975, df) * told.loo_rmse
    return Curve(
        feature=name, form=told.form, centered=not one, x=tuple(grid.tolist()),
        line=tuple(line.tolist()), half=half,
        points=tuple(zip((s.name for s in columns.sets), x.tolist(), y.tolist(), strict=True)),
    )  # fmt: skip


def _unknown(natural: Sequence[LawSet], *, known: bool) -> tuple[str, ...]:
    if known or not natural:
        return ()
    absent = [
        name for name in ("mean_length", "similarity")
        if any(getattr(s, name) is None for s in natural)
    ]  # fmt: skip
    note = (
        f"Not known of all natural sets: {' and '.join(absent)}. Partial correlations are given "
        "what else is known, and the rival that knows them is absent, so nothing can hold."
    )
    return (note,)


def _alone(columns: _Columns) -> tuple[str, ...]:
    """Backbones and stages of one family: their sets cannot be foretold from other families."""
    alone = [
        name for g, name in enumerate(columns.names)
        if len(set(columns.families[columns.groups == g].tolist())) == 1
    ]  # fmt: skip
    if not alone or len(columns.sets) < _LEAST:
        return ()
    note = (
        f"Of {', '.join(alone)} there is one family only: without it the intercept is not known, "
        "so its sets are in no error."
    )
    return (note,)
