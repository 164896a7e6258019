"""What is known of a run that the law is asked about, and of a set, whose seeds are averaged."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from didact.core.errors import DataError

_MOST: Final = 1e50  # squares of more are no numbers any more
SHARES: Final = (0.05, 0.1, 0.25, 0.5)  # of the first epoch, after which L is looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class LawRun:
    """One training of one set.

    Attributes:
        run: What messages call it.
        ratio: R, raw ÷ compressed bytes of the set as the model read it, above 0; higher is more
            redundant.
        first_epoch_loss: L, nats per token over the first epoch, 0 or more.
        performance: Of the trained model; higher is better.
        tokens: Number of tokens of the first epoch.
        bytes: Number of bytes that R is of.
        mean_length: Tokens of a sample on average, above 0.
        similarity: To the held-out set, any scale that is the same for all runs.
        family: Sets of one method or source; the set's own name by default.
        backbone: The model that the training began with.
        stage: The stage of alignment, such as `sft` or `dpo`.
        deflate_ratio: R by DEFLATE, which sees 32 KiB back.
        early: Share of the first epoch → L up to there.
        dose: What was done to the family's own set, such as `copies×4`; None of a natural set.
        seed: Whatever was drawn; None where it is not known.
        set: Name of the set; runs of one set differ in seeds alone.
        tokenizer: Identity of the tokenizer; empty when not known.
        held_out: Identity of the held-out set; empty when not known.
    """

    run: str
    ratio: float
    first_epoch_loss: float
    performance: float
    tokens: float | None = None
    bytes: float | None = None
    mean_length: float | None = None
    similarity: float | None = None
    family: str = ""
    backbone: str = ""
    stage: str = ""
    deflate_ratio: float | None = None
    early: Mapping[float, float] = field(default_factory=dict)
    dose: str | None = None
    seed: str | None = None
    set: str = ""
    tokenizer: str = ""
    held_out: str = ""

    def __post_init__(self) -> None:
        if not self.set:
            object.__setattr__(self, "set", self.run)
        if not self.family:
            object.__setattr__(self, "family", family_of(self.set))
        for name in ("ratio", "mean_length", "deflate_ratio", "tokens", "bytes"):
            value = getattr(self, name)
            if value is not None and not (1 / _MOST < value < _MOST):
                what = f"a number above 0 and below {_MOST:g}" if value > 0 else "a number above 0"
                raise DataError(f"{self.run}: {name} is {value}; expected {what}")
        for name in ("first_epoch_loss", "performance", "similarity"):
            value = getattr(self, name)
            if value is not None and not abs(value) < _MOST:
                raise DataError(
                    f"{self.run}: {name} is {value}; expected a finite number, below {_MOST:g}"
                )
        if self.first_epoch_loss < 0:
            raise DataError(
                f"{self.run}: first_epoch_loss is {self.first_epoch_loss}; expected nats per "
                "token, 0 or more"
            )

    @property
    def group(self) -> tuple[str, str]:
        """Backbone and stage: what gets an intercept of its own."""
        return self.backbone, self.stage


def family_of(name: str) -> str:
    """The family in the name of a set: what stands before its dose, `random` of `random+copies4`.

    The dose is what stands behind the last `+`.
    """
    return name.rpartition("+")[0] or name


def dose_of(name: str) -> str | None:
    """The dose in the name of a set, `copies4` of `random+copies4`; None where there is none."""
    family, _, dose = name.rpartition("+")
    return dose if family and dose else None


@dataclass(frozen=True, slots=True, kw_only=True)
class LawSet:
    """The runs of one set on one backbone in one stage, averaged over seeds: the unit of the law.

    Attributes:
        set: Its name.
        family: Its family.
        backbone: The model that the trainings began with.
        stage: Their stage.
        dose: What was done to the family's own set; None of a natural set.
        runs: Names of its runs.
        values: Performance of each run.
        ratio: Mean of the runs' R.
        first_epoch_loss: Mean of their L.
        performance: Mean of their performance.
        deflate_ratio: Mean; None where a run has none. So are the next two.
        mean_length: Geometric mean of tokens a sample.
        similarity: Mean.
        early: Share of the first epoch → mean of L up to there, where all runs have it.
    """

    set: str
    family: str
    backbone: str
    stage: str
    dose: str | None
    runs: tuple[str, ...]
    values: tuple[float, ...]
    ratio: float
    first_epoch_loss: float
    performance: float
    deflate_ratio: float | None = None
    mean_length: float | None = None
    similarity: float | None = None
    early: Mapping[float, float] = field(default_factory=dict)

    @property
    def group(self) -> tuple[str, str]:
        """Backbone and stage."""
        return self.backbone, self.stage

    @property
    def name(self) -> str:
        """The set, with its backbone and stage where it has any."""
        where = ", ".join(part for part in self.group if part)
        return f"{self.set} ({where})" if where else self.set


def sets_of(runs: Sequence[LawRun]) -> tuple[LawSet, ...]:
    """The sets, in order of appearance, each with its runs averaged.

    Raises:
        DataError: There is no run, one is given twice, runs of one set have two families or doses,
            or the runs have several tokenizers or held-out sets.
    """
    if not runs:
        raise DataError("there is no run; give run folders, or a CSV with a run a line")
    _check(runs)
    grouped: dict[tuple[str, str, str], list[LawRun]] = {}
    for run in runs:
        grouped.setdefault((run.set, *run.group), []).append(run)
    return tuple(_averaged(group) for group in grouped.values())


def _check(runs: Sequence[LawRun]) -> None:
    names: set[str] = set()
    first: dict[str, LawRun] = {}
    seeds: dict[tuple[str, str, str, str], LawRun] = {}
    for run in runs:
        if run.run in names:
            raise DataError(f"{run.run}: is given twice; a run counts once: remove one")
        names.add(run.run)
        for what, told in (("tokenizers", run.tokenizer), ("held-out sets", run.held_out)):
            other = first.setdefault(what, run) if told else run
            known = other.tokenizer if what == "tokenizers" else other.held_out
            if told and known != told:
                raise DataError(
                    f"{other.run} and {run.run}: have different {what} ({known[:12]} and "
                    f"{told[:12]}), so their numbers are of different units; expected one in a "
                    "fit: fit each by itself"
                )
        if run.seed is not None:
            other = seeds.setdefault((run.set, *run.group, run.seed), run)
            if other is not run:
                raise DataError(
                    f"{other.run} and {run.run}: are runs of one set, {run.set!r}, with the same "
                    f"seed {run.seed}; a run counts once: remove one, or name their sets apart"
                )


def _averaged(runs: Sequence[LawRun]) -> LawSet:
    head = runs[0]
    for run in runs:
        if (run.family, run.dose) != (head.family, head.dose):
            raise DataError(
                f"{head.run} and {run.run}: are of one set, {run.set!r}, and have families "
                f"{head.family!r} and {run.family!r}, doses {head.dose!r} and {run.dose!r}; "
                "expected one of each: name the sets apart"
            )
    shares = [s for s in head.early if all(s in run.early for run in runs)]
    return LawSet(
        set=head.set, family=head.family, backbone=head.backbone, stage=head.stage, dose=head.dose,
        runs=tuple(run.run for run in runs), values=tuple(run.performance for run in runs),
        ratio=_mean([run.ratio for run in runs]),
        first_epoch_loss=_mean([run.first_epoch_loss for run in runs]),
        performance=_mean([run.performance for run in runs]),
        deflate_ratio=_known(runs, lambda run: run.deflate_ratio),
        mean_length=_geometric(_known(runs, lambda run: _log(run.mean_length))),
        similarity=_known(runs, lambda run: run.similarity),
        early={share: _mean([run.early[share] for run in runs]) for share in shares},
    )  # fmt: skip


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _known(runs: Sequence[LawRun], of: Callable[[LawRun], float | None]) -> float | None:
    """The mean of what every run has; None where one has it not."""
    found = [value for run in runs if (value := of(run)) is not None]
    return _mean(found) if len(found) == len(runs) else None


def _log(value: float | None) -> float | None:
    return None if value is None else math.log(value)


def _geometric(log: float | None) -> float | None:
    return None if log is None else math.exp(log)
