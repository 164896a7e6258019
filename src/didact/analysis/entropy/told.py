"""What is told of the entropy law: values with a JSON form, and the sentences that say them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from didact.analysis.entropy.correlation import Correlation
from didact.analysis.entropy.doses import Dose
from didact.analysis.entropy.fits import Form
from didact.analysis.entropy.runs import LawSet
from didact.analysis.entropy.verdict import RULE, Verdict

SAID: Mapping[Verdict, str] = {
    "holds": "holds on these sets",
    "fails": "fails on these sets",
    "cannot_tell": "cannot be told from these sets",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LawFit:
    """Performance on R, on L, or on both, in one form.

    Attributes:
        form: `linear`, `quadratic` or `monotone`.
        features: `ratio`, `first_epoch_loss`, or both.
        params: Its numbers; features are standardised within backbone and stage.
        loo_rmse: Root mean squared error on families left out, in the unit of performance; None
            where there are too few sets.
        spearman: Rank correlation of performance with the feature; with two features, with what is
            expected of families left out.
        partial: Likewise given length and similarity; of the loss given R as well.
        low: 95 % interval of `partial`; None where there are too few sets.
        high: The upper end.
    """

    form: Form
    features: tuple[str, ...]
    params: Mapping[str, Any]
    loo_rmse: float | None
    spearman: float | None
    partial: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Rival:
    """What the law has to beat.

    Attributes:
        name: `constant`, or `length and similarity`.
        form: `constant`; `linear` in log length; `curved`, with the square of its distance from the
            mean; `bent`, in that distance alone.
        features: What it knows.
        loo_rmse: As of `LawFit`.
    """

    name: str
    form: str
    features: tuple[str, ...]
    loo_rmse: float | None


@dataclass(frozen=True, slots=True)
class Deduction:
    """A consequence that the paper draws, and the correlation that it is read from.

    Attributes:
        says: The consequence; the foretold sign is minus.
        of: What is correlated.
        found: The correlation.
    """

    says: str
    of: str
    found: Correlation

    @property
    def agrees(self) -> str:
        """`yes`, `no`, or `cannot_tell`: its interval, beside the foretold sign."""
        if self.found.high is not None and self.found.high < 0:
            return "yes"
        if self.found.low is not None and self.found.low > 0:
            return "no"
        return "cannot_tell"


@dataclass(frozen=True, slots=True)
class Observable:
    """Something measured beside R and L, and how performance goes with it.

    Attributes:
        name: `deflate_ratio`, or `loss_10`: L over the first 10 % of the epoch.
        spearman: Rank correlation with performance.
        partial: Given length and similarity; of a loss given R as well.
    """

    name: str
    spearman: float | None
    partial: Correlation


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlier:
    """A set that a fit misses by more than three robust SDs when its family is left out.

    Attributes:
        set: Its name.
        runs: Its runs.
        feature: The feature of the fit.
        form: Its form.
        performance: What was found.
        expected: What the fit expects.
        robust_sds: How far it is, in 1.4826 · median absolute deviations; above 0 is better.
    """

    set: str
    runs: tuple[str, ...]
    feature: str
    form: str
    performance: float
    expected: float
    robust_sds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """What is drawn of the best fit on one feature.

    Attributes:
        feature: `ratio` or `first_epoch_loss`.
        form: Form of the fit.
        centered: Whether means of backbone and stage are taken off both axes.
        x: Values of the feature, ascending, within the range of the sets.
        line: What the fit expects there.
        half: Half the width of the 95 % band for a set of a new family; None where not known.
        points: Name, feature and performance of every natural set.
    """

    feature: str
    form: str
    centered: bool
    x: tuple[float, ...]
    line: tuple[float, ...]
    half: float | None
    points: tuple[tuple[str, float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EntropyLaw:
    """What runs tell of the law.

    Attributes:
        verdict: Of R: `holds`, `fails` or `cannot_tell`, by `verdict.RULE`.
        verdict_loss: Of L.
        reasons: Why, in sentences.
        reasons_loss: Why, of L.
        fits: Every fit.
        rivals: What they have to beat.
        snr: SD between natural sets within backbone and stage ÷ SD between runs of a set; None
            without seeds.
        outliers: Sets that the best fit on R, or on L, misses by far.
        deductions: The paper's consequences.
        beside: R by DEFLATE and L after a part of the epoch.
        doses: Sets with a dose beside their family's own; in no fit.
        curves: What is drawn.
        sets: All sets.
        ranges: `ratio` and `first_epoch_loss` of natural sets, lowest and highest: the law may be
            read in between.
        runs: Number of runs.
        natural: Number of natural sets.
        families: Number of their families.
        notes: What was left out or is not known.
    """

    verdict: Verdict
    verdict_loss: Verdict
    reasons: tuple[str, ...]
    reasons_loss: tuple[str, ...]
    fits: tuple[LawFit, ...]
    rivals: tuple[Rival, ...]
    snr: float | None
    outliers: tuple[Outlier, ...]
    deductions: tuple[Deduction, ...]
    beside: tuple[Observable, ...]
    doses: tuple[Dose, ...]
    curves: tuple[Curve, ...]
    sets: tuple[LawSet, ...]
    ranges: Mapping[str, tuple[float, float]]
    runs: int
    natural: int
    families: int
    notes: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """As JSON values, without infinities or NaN; with the rule and the sentences."""
        found = asdict(self)
        for deduction, told in zip(self.deductions, found["deductions"], strict=True):
            told["agrees"] = deduction.agrees
        for each in found["sets"]:
            each["early"] = {f"{100 * s:g}": loss for s, loss in each["early"].items()}
        found["rule"] = RULE
        found["sentences"] = list(self.sentences())
        listed: dict[str, Any] = _listed(found)
        return listed

    def sentences(self) -> tuple[str, ...]:
        """What it comes to, in words."""
        said = [
            f"R: the law {SAID[self.verdict]}.", *self.reasons,
            f"L: the law {SAID[self.verdict_loss]}.", *self.reasons_loss,
        ]  # fmt: skip
        if self.ranges:
            (a, b), (c, d) = self.ranges["ratio"], self.ranges["first_epoch_loss"]
            said.append(
                f"To be read between R {a:.3g} and {b:.3g}, L {c:.3g} and {d:.3g}; outside of them "
                "nothing was tried."
            )
        if self.outliers:
            names = dict.fromkeys(o.set for o in self.outliers)
            said.append(f"Far from what other families foretell: {', '.join(names)}.")
        return (*said, *self.notes)


def _listed(value: Any) -> Any:
    """The same with lists for tuples."""
    if isinstance(value, Mapping):
        return {name: _listed(inner) for name, inner in value.items()}
    return [_listed(inner) for inner in value] if isinstance(value, list | tuple) else value
