"""The bill of a comparison before it runs: FLOPs, hours, and what is dropped to keep to hours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from didact.comparing.estimates import Estimates
from didact.comparing.settings import Setting
from didact.comparing.speed import Speed
from didact.comparing.trials import Trial
from didact.core.cost import Cost, total
from didact.core.errors import BudgetError
from didact.planning.comparison import ALL, BASE, RANDOM


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What a setting costs.

    Attributes:
        label: The setting.
        runs: Number of its runs to come.
        infeasible: Number of its budgets that do not pay for its scoring.
        scoring_flops: FLOPs of scoring; 0 where an earlier line has the same scores.
        scoring_cpu_seconds: Processor seconds of scoring, likewise.
        training_flops: FLOPs of all its trainings, at most.
        evaluation_flops: FLOPs of all its evaluations.
        seconds: Wall seconds foretold.
    """

    label: str
    runs: int
    infeasible: int
    scoring_flops: float
    scoring_cpu_seconds: float
    training_flops: float
    evaluation_flops: float
    seconds: float

    @property
    def flops(self) -> float:
        """All FLOPs."""
        return self.scoring_flops + self.training_flops + self.evaluation_flops


@dataclass(frozen=True, slots=True)
class Bill:
    """The bill.

    Attributes:
        lines: One for each setting.
        dropped: Labels of settings that were dropped, in the order in which they were.
        device: What the seconds are of.
        jobs: Runs at a time, each on a device of its own.
    """

    lines: tuple[Line, ...]
    dropped: tuple[str, ...] = ()
    device: str = ""
    jobs: int = 1

    @property
    def flops(self) -> float:
        """All FLOPs."""
        return sum(line.flops for line in self.lines)

    @property
    def seconds(self) -> float:
        """Wall seconds foretold; runs at a time on several devices share them."""
        return sum(line.seconds for line in self.lines) / self.jobs

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "lines": [
                {
                    "setting": x.label, "runs": x.runs, "infeasible_budgets": x.infeasible,
                    "scoring_flops": x.scoring_flops, "scoring_cpu_seconds": x.scoring_cpu_seconds,
                    "training_flops": x.training_flops, "evaluation_flops": x.evaluation_flops,
                    "hours": x.seconds / 3600,
                }
                for x in self.lines
            ],
            "flops": self.flops, "hours": self.seconds / 3600, "device": self.device,
            "jobs": self.jobs, "dropped": list(self.dropped),
        }  # fmt: skip


def billed(
    ahead: Estimates,
    settings: Sequence[Setting],
    trials: Sequence[Trial],
    speeds: Mapping[str, Speed],
    *,
    done: Mapping[str, float] = MappingProxyType({}),
    jobs: int = 1,
    max_hours: float | None = None,
) -> Bill:
    """What the trials cost, the scores of each method once.

    Settings go, one after another, until what is left keeps to `max_hours`: the last value of an
    axis first, arms from the last to the first after that. The base model, random samples and all
    data stay, and so do all seeds and budgets of what stays. What is done counts by the time that
    it took, so that a comparison that is gone on with keeps to the hours in all; of a setting that
    goes half done, the rest is not run.

    Args:
        ahead: What is foretold of them.
        settings: The settings.
        trials: The trials.
        speeds: Digest of a base → how fast it trains.
        done: Name of a trial that is done → wall seconds that it took.
        jobs: Runs at a time, each on a device of its own.
        max_hours: Most hours that it may take in all.

    Raises:
        BudgetError: What stays takes longer than that.
    """
    undone = {t.setting.label for t in trials if t.plain is not None and t.name not in done}
    spent = sum(done.values()) / jobs
    left = list(settings)
    dropped: list[str] = []
    while True:
        bill = _bill(ahead, left, trials, speeds, done, jobs, dropped)
        over = max_hours is not None and spent + bill.seconds > 3600 * max_hours
        if max_hours is None or not over or not any(s.label in undone for s in left):
            return bill
        going = next_to_go([s for s in left if s.label in undone])
        if going is None:
            raise BudgetError(
                f"--max-hours {max_hours:g}: the base model, random samples and all data alone "
                f"take {bill.seconds / 3600:.3g} h{_beside(spent)}; lower budgets or seeds, take a "
                "smaller base, or raise it"
            )
        left.remove(going)
        dropped.append(going.label)


def _beside(spent: float) -> str:
    return f" beside the {spent / 3600:.3g} h that runs took before" if spent else ""


def next_to_go(settings: Sequence[Setting]) -> Setting | None:
    """The setting that is missed least: a further value of an axis, else the last arm."""
    arms = [s for s in settings if s.arm not in {BASE, ALL, RANDOM}]
    counts = {s.arm: sum(o.arm == s.arm for o in arms) for s in arms}
    further = [s for s in arms if counts[s.arm] > 1]
    return next(reversed(further or arms), None)


def _bill(
    ahead: Estimates,
    settings: Sequence[Setting],
    trials: Sequence[Trial],
    speeds: Mapping[str, Speed],
    done: Mapping[str, float],
    jobs: int,
    dropped: Sequence[str],
) -> Bill:
    scored = {
        part for t in trials if t.name in done for part in _parts(ahead, t.setting, t.seed)
    }  # fmt: skip
    lines = []
    device = ""
    for setting in settings:
        base = ahead.ground.base_of(setting)
        speed = speeds[base.digest]
        device = speed.device
        mine = [t for t in trials if t.setting == setting and t.plain is not None]
        todo = [t for t in mine if t.name not in done]
        cost = Cost()
        for trial in todo:
            parts = _parts(ahead, setting, trial.seed)
            cost += total(each for part, each in parts.items() if part not in scored)
            scored |= parts.keys()
        one = ahead.evaluation(setting).flops
        runs = 1 if setting.method == BASE else len(todo)
        training = sum(t.training_flops for t in todo)
        line = Line(
            label=setting.label, runs=runs,
            infeasible=len({t.beta for t in trials if t.setting == setting and t.reason}),
            scoring_flops=cost.flops, scoring_cpu_seconds=cost.cpu_seconds,
            training_flops=training,
            evaluation_flops=one * runs,
            seconds=speed.seconds(cost.flops + training + one * runs, runs) + cost.cpu_seconds,
        )  # fmt: skip
        lines.append(line)
    return Bill(tuple(lines), tuple(dropped), device, jobs)


def _parts(ahead: Estimates, setting: Setting, seed: int) -> dict[tuple[str, int | None], Cost]:
    """What is made before a training, by what it is; what is drawn anew for every seed, by seed."""
    if not setting.sections["select"]:
        return {}
    draw = seed if setting.draws else None
    return {(part, draw): cost for part, cost in ahead.scoring_parts(setting).items()}
