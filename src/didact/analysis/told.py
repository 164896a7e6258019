"""What is told of sets by one measure: a value with a JSON form, and the sentences that say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final

LEAST_SNR: Final = 2.0  # below which nothing is ranked (arXiv:2508.13144)
_ONE_RUN: Final = (
    "No set has two runs: how far equal trainings come apart is not known, so nothing can be told "
    "apart or ranked. Train each set with two seeds at least."
)
_EQUAL_RUNS: Final = (
    "All runs of every set have the same value: how far equal trainings come apart is not known, "
    "so nothing can be told apart or ranked."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetMean:
    """The mean of a set.

    Attributes:
        set: Label of the set.
        mean: Mean over its runs; over draws of rows where it has several.
        low: Where the mean over other trainings, and other samples where samples are known, is
            expected to be with 95 %; None where the spread of runs is not known.
        high: The upper end.
        runs: Number of runs.
        draws: Number of draws of rows, where they are the unit; None where runs are.
        sd: SD of its own runs; None of a single one.
    """

    set: str
    mean: float
    low: float | None
    high: float | None
    runs: int
    draws: int | None
    sd: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Two sets, and whether they can be told apart.

    Attributes:
        a: Label of one set.
        b: Label of the other.
        difference: Mean of `a` less that of `b`.
        low: 95 % interval of this difference alone, paired by sample; None where the spread of
            runs is not known.
        high: The upper end.
        holm_low: The interval that decides, at the level that Holm's test holds this pair to among
            all pairs of sets; it holds 0 where the two are a tie.
        holm_high: The upper end.
        p: p-value of this pair alone.
        tie: Whether the two cannot be told apart.
    """

    a: str
    b: str
    difference: float
    low: float | None
    high: float | None
    holm_low: float | None
    holm_high: float | None
    p: float | None
    tie: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """All sets by one measure.

    Attributes:
        file: Base name of the held-out file; empty in a table that names none.
        task: The task; empty for all together.
        metric: Such as `bits_per_byte`; every difference is in its unit.
        higher_is_better: Direction of the metric.
        size: Number of parameters of the models; None when not known.
        unit: What varies in the intervals: `runs`, or `runs and samples`.
        n_samples: Number of held-out samples that all runs have.
        snr: SD of the sets' means ÷ pooled SD of runs within a set, both as they are: noise of
            runs is in the means too, so sets that do not differ have 1/√m and not 0. None when no
            set has two runs, or when these are equal.
        set_sd: The one.
        run_sd: The other.
        detectable: The smallest difference that is found with 80 % power at 5 % among all pairs of
            sets, with the runs and samples there are; by t quantiles, which few runs need.
        wanted: The difference that `seeds_needed` is for; if none was asked for, `set_sd`.
        seeds_needed: Runs of each set for it, each of its own draw where draws are the unit; None
            where no number would do, or nothing is known.
        decision_accuracy: How often one run a set ranks two sets as the means of the others do.
        decides_larger: Size → share of pairs of sets whose means are in the same order there, for
            sizes above this one.
        ties: Pairs of sets that cannot be told apart.
        ranking: Labels of the sets, best first, ties among them; None below an snr of 2.
        sets: The sets, best first.
        differences: All pairs of them.
        notes: What was left out or decided.
    """

    file: str
    task: str
    metric: str
    higher_is_better: bool
    size: int | None
    unit: str
    n_samples: int
    snr: float | None
    set_sd: float
    run_sd: float | None
    detectable: float | None
    wanted: float | None
    seeds_needed: int | None
    decision_accuracy: float | None
    decides_larger: Mapping[str, float] = field(default_factory=dict)
    ties: tuple[tuple[str, str], ...]
    ranking: tuple[str, ...] | None
    sets: tuple[SetMean, ...]
    differences: tuple[Difference, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON values, without infinities or NaN; with the `sentences`."""
        found = {**asdict(self), "sentences": list(self.sentences())}
        found["ties"] = [list(pair) for pair in self.ties]
        found["ranking"] = None if self.ranking is None else list(self.ranking)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in found.items()}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Told:
        """What `to_json` gave."""
        ranking = found["ranking"]
        values = {
            "ties": tuple((a, b) for a, b in found["ties"]),
            "ranking": None if ranking is None else tuple(ranking),
            "sets": tuple(SetMean(**s) for s in found["sets"]),
            "differences": tuple(Difference(**d) for d in found["differences"]),
            "notes": tuple(found["notes"]),
        }
        names = {f.name for f in fields(cls)}
        return cls(**{k: v for k, v in {**found, **values}.items() if k in names})

    def sentences(self) -> tuple[str, ...]:
        """What it comes to, in words: whether sets may be ranked, what is detectable, ties."""
        return (*self._of_noise(), *self._of_pairs(), *self.notes)

    def _of_noise(self) -> list[str]:
        if self.run_sd is None:
            return [_ONE_RUN]
        if self.snr is None:
            return [_EQUAL_RUNS]
        spreads = f"SD of the sets' means {self.set_sd:.3g}, of runs within a set {self.run_sd:.3g}"
        said = [f"Signal to noise {self.snr:.3g}: {spreads}."]
        if self.ranking is None:
            said.append(f"Below {LEAST_SNR:g} nothing is ranked.")
        if self.detectable is not None:
            said.append(
                f"Detectable with 80 % power at 5 %, {len(self.differences)} "
                f"comparison{'s' * (len(self.differences) > 1)}: {self.detectable:.3g}."
            )
        if self.wanted:
            how = (
                f"takes {self.seeds_needed:,} runs of each set"
                if self.seeds_needed
                else "is out of reach of more runs: it takes more held-out samples"
                if self.unit != "runs"
                else "is out of reach"
            )
            said.append(f"A difference of {self.wanted:.3g} {how}.")
        if self.decision_accuracy is not None:
            said.append(
                f"One run of each set ranks two sets as the others do in "
                f"{self.decision_accuracy:.0%} of cases."
            )
        said += [
            f"This size ranks {share:.0%} of pairs as {int(size):,} parameters do."
            for size, share in self.decides_larger.items()
        ]
        return said

    def _of_pairs(self) -> list[str]:
        if self.snr is None:
            return []
        if not self.ties:
            return ["No ties: all sets are told apart."]
        if len(self.ties) == len(self.differences):
            return ["All sets are ties: no two can be told apart."]
        return ["Ties: " + "; ".join(f"{a} and {b}" for a, b in self.ties) + "."]
