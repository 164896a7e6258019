"""Comparison: what every arm of a comparison at equal total compute cost and was worth.

The JSON form is `comparison.json`, which a plan can be made from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

from didact.core.errors import DataError, did_you_mean

BASE: Final = "base"  # the model before any of the pool: the value at no training
ALL: Final = "all"  # one pass over the whole pool, where every ranking is the same set
RANDOM: Final = "random"
_OPTIONAL: Final = frozenset({"reason", "setting", "chosen", "error", "base", "status"})
STATUSES: Final = ("done", "infeasible", "failed", "missing")


def contest(task: str, base: str) -> str:
    """What arms are compared within: a task, and a base model where there are several."""
    return f"{task} · {base}" if base else task


def labelled(arm: str, setting: str) -> str:
    """An arm with its values of the axes, where it has any."""
    return f"{arm} [{setting}]" if setting else arm


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One way to choose, at one total budget, on one task.

    Attributes:
        name: What the user calls it.
        method: The scorer, or `random`; `base` and `all` are the two ends.
        order: How the chosen samples were ordered.
        task: What was measured on.
        beta: Total budget K as a share of one full pass C of the train model; 0 for `base`.
        k_flops: K, the FLOPs of selection and training together.
        n_tokens: Tokens that were trained on.
        selector_params: Parameters of the model that scored; None without one.
        train_params: Parameters of the model that was trained.
        schedule: Learning-rate schedule.
        learning_rate: Highest learning rate.
        selection_flops: FLOPs of scoring, from nothing.
        selection_cpu_seconds: Processor seconds of scoring, from nothing.
        training_flops: FLOPs of training.
        metric: Name of the measure.
        higher_is_better: Its direction.
        value: Mean over seeds; None where it could not run.
        low: Lower end of the value's 95 % interval; None with one seed.
        high: Upper end.
        seeds: Number of runs, seeds and draws counted together.
        feasible: Whether K pays for the scoring.
        reason: Why not, or why there is no value.
        setting: Its values of the comparison's axes, as `learning_rate=0.001`; empty without axes.
        chosen: Whether among the settings of its name this one was chosen, on other files.
        error: Standard error of the value over runs alone: without what the held-out samples add
            to the interval, which is alike for all arms. None where it is not known.
        base: The model that it was trained from, where several were compared.
        status: `done` where it has a value, `infeasible`, `failed`, or `missing`: not run, or
            without a value on this task.
    """

    name: str
    method: str
    order: str
    task: str
    beta: float
    k_flops: float
    n_tokens: int
    selector_params: int | None
    train_params: int
    schedule: str
    learning_rate: float | None
    selection_flops: float
    selection_cpu_seconds: float
    training_flops: float
    metric: str
    higher_is_better: bool
    value: float | None
    low: float | None
    high: float | None
    seeds: int
    feasible: bool
    reason: str = ""
    setting: str = ""
    chosen: bool = True
    error: float | None = None
    base: str = ""
    status: str = ""

    def __post_init__(self) -> None:
        where = f"arm {self.name!r} on {self.task!r}"
        texts = ("name", "method", "order", "task", "schedule", "metric", "reason", "setting")
        for name in (*texts, "base"):
            _expect(isinstance(getattr(self, name), str), where, name, getattr(self, name), "text")
        for name in ("feasible", "higher_is_better", "chosen"):
            given = getattr(self, name)
            _expect(isinstance(given, bool), where, name, given, "true or false")
        amounts = ("beta", "k_flops", "n_tokens", "selection_flops", "selection_cpu_seconds")
        for name in (*amounts, "training_flops", "seeds"):
            given = getattr(self, name)
            _expect(_finite(given) and given >= 0, where, name, given, "a number, 0 or more")
        given = self.train_params
        _expect(_finite(given) and given > 0, where, "train_params", given, "a number above 0")
        for name in ("selector_params", "learning_rate"):
            given = getattr(self, name)
            fine = given is None or (_finite(given) and given > 0)
            _expect(fine, where, name, given, "a number above 0, or null")
        fine = self.error is None or (_finite(self.error) and self.error >= 0)
        _expect(fine, where, "error", self.error, "a number, 0 or more, or null")
        for name in ("value", "low", "high"):
            given = getattr(self, name)
            _expect(given is None or _finite(given), where, name, given, "a number, or null")
        if not self.status:
            object.__setattr__(self, "status", "done" if self.feasible else "infeasible")
        _expect(self.status in STATUSES, where, "status", self.status, ", ".join(STATUSES))
        if self.status == "done":
            _expect(self.value is not None, where, "value", None, "a number: the arm is feasible")
        fine = self.feasible == (self.status != "infeasible")
        _expect(fine, where, "feasible", self.feasible, f"what status {self.status!r} says")
        if (self.low is None) != (self.high is None):
            raise DataError(f"{where}: low={self.low}, high={self.high}; expected both or neither")
        if self.low is not None and self.high is not None and self.value is not None:
            inside = self.low <= self.value <= self.high
            _expect(inside, where, "value", self.value, f"within {self.low} to {self.high}")

    @property
    def contest(self) -> str:
        """What it is compared within: its task, and its base where there are several."""
        return contest(self.task, self.base)

    @property
    def performance(self) -> float:
        """The value, turned so that higher is better; NaN without one."""
        if self.value is None:
            return math.nan
        return self.value if self.higher_is_better else -self.value


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _expect(fine: object, where: str, name: str, given: object, expected: str) -> None:
    if not fine:
        raise DataError(f"{where}: {name}={given!r}; expected {expected}")


@dataclass(frozen=True, slots=True)
class Comparison:
    """What `comparison.json` holds.

    Attributes:
        arms: Every arm, infeasible ones too.
        fits: The law per task and method, JSON values.
        snr: Contest, see `contest` → spread between sets ÷ spread between seeds; None where seeds
            are too few.
        ranks: Rank correlation between two values of an axis, JSON values; None without.
        decision_accuracy: Share of pairs of arms ranked alike at two sizes; None with one.
        verdict: `{code, text}`.
        filled: Arms that repeat the same fraction until their budget is spent, likewise.
        differences: Arms beside random samples at the same budget, JSON values.
        about: What was compared, the bill, and what to know of it, JSON values.
    """

    arms: tuple[Arm, ...]
    fits: Sequence[Mapping[str, Any]] = ()
    snr: Mapping[str, float | None] = field(default_factory=dict)
    ranks: Any = None
    decision_accuracy: float | None = None
    verdict: Mapping[str, Any] | None = None
    filled: tuple[Arm, ...] = ()
    differences: Sequence[Mapping[str, Any]] = ()
    about: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not self.arms:
            raise DataError("the comparison has no arms; expected at least base, all and random")
        if not isinstance(self.snr, Mapping) or not all(
            snr is None or _finite(snr) for snr in self.snr.values()
        ):
            raise DataError(f"snr={self.snr!r}; expected task → a number, or null")

    def to_json(self) -> dict[str, Any]:
        """JSON values; `from_json` reads them back."""
        return {
            "arms": [_arm_json(arm) for arm in self.arms],
            "fits": [dict(fit) for fit in self.fits],
            "snr": dict(self.snr),
            "ranks": self.ranks,
            "decision_accuracy": self.decision_accuracy,
            "verdict": None if self.verdict is None else dict(self.verdict),
            "filled": [_arm_json(arm) for arm in self.filled],
            "differences": [dict(each) for each in self.differences],
            "about": None if self.about is None else dict(self.about),
        }

    @classmethod
    def from_json(cls, values: Any, where: str = "comparison") -> Comparison:
        """The comparison in JSON values.

        Args:
            values: What `to_json` gave, or the like written by hand.
            where: What messages call it, such as the file's name.

        Raises:
            DataError: A key is missing, unknown, or its value is not what it should be.
        """
        if not isinstance(values, Mapping) or not isinstance(values.get("arms"), list):
            raise DataError(f"{where}: expected a mapping with a list of 'arms'")
        unknown = sorted(values.keys() - {f.name for f in fields(cls)})
        if unknown:
            known = (f.name for f in fields(cls))
            raise DataError(f"{where}: unknown key {unknown[0]!r}{did_you_mean(unknown[0], known)}")
        arms = tuple(_arm(arm, f"{where}: arms[{i}]") for i, arm in enumerate(values["arms"]))
        rest = {name: given for name, given in values.items() if name != "arms" and given}
        if not isinstance(rest.get("filled", []), list):
            raise DataError(f"{where}: 'filled' is {rest['filled']!r:.80}; expected a list of arms")
        if "filled" in rest:
            rest["filled"] = tuple(
                _arm(arm, f"{where}: filled[{i}]") for i, arm in enumerate(rest["filled"])
            )
        try:
            return cls(arms, **rest)
        except DataError as error:
            raise DataError(f"{where}: {error}") from error


def _arm_json(arm: Arm) -> dict[str, Any]:
    return {f.name: getattr(arm, f.name) for f in fields(Arm)}


def _arm(values: Any, where: str) -> Arm:
    if not isinstance(values, Mapping):
        raise DataError(f"{where} is {values!r}; expected a mapping")
    known = [f.name for f in fields(Arm)]
    missing = [name for name in known if name not in values and name not in _OPTIONAL]
    if missing:
        raise DataError(f"{where}: no {', '.join(missing)}; expected {', '.join(known)}")
    if unknown := sorted(values.keys() - set(known)):
        raise DataError(f"{where}: unknown key {unknown[0]!r}{did_you_mean(unknown[0], known)}")
    try:
        return Arm(**values)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
