"""Cost: choosing, training and evaluating on one ledger, and what each stage took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from didact.core.cost import Bill, Cost, total
from didact.core.manifest import StageRecord
from didact.reporting.formatting import percent, seconds
from didact.reporting.sections.header import Header
from didact.reporting.sections.section import Section
from didact.reporting.subject import Subject

SCORING: Final = "scoring"
SELECTION: Final = "selection"
TRAINING: Final = "training"
EVALUATION: Final = "evaluation"
REST: Final = "all else"
PURPOSES: Final[Mapping[str, tuple[str, ...]]] = {  # purpose → its stages
    SCORING: ("score", "order_score"),
    SELECTION: ("select",),
    TRAINING: ("train",),
    EVALUATION: ("evaluate",),
    REST: (),
}


@dataclass(frozen=True, slots=True)
class StageCost:
    """One line of the cost table.

    Attributes:
        name: The stage.
        reused: Whether its result was already there.
        estimated: What was foreseen.
        value: What making it takes from nothing.
        charged: What this run spent.
        wall_seconds: Elapsed time.
        peak_memory_bytes: Largest resident memory of all processes together.
    """

    name: str
    reused: bool
    estimated: Cost
    value: Cost
    charged: Cost
    wall_seconds: float
    peak_memory_bytes: int


@dataclass(frozen=True, slots=True)
class LedgerLine:
    """What one purpose takes from nothing.

    Attributes:
        name: The purpose.
        value: Its cost; a kept value that an earlier line stands on too is not in it.
        share: Its share of all model FLOPs, 0-1; None where there are none.
    """

    name: str
    value: Cost
    share: float | None


@dataclass(frozen=True, slots=True)
class Costs:
    """The cost tables.

    Attributes:
        stages: Lines of the table by stage.
        total: Its last line: a kept value that several stages use counts once, memory is the
            largest.
        ledger: Lines by purpose, which add up to the total; () where nothing was trained or
            evaluated.
    """

    stages: tuple[StageCost, ...]
    total: StageCost
    ledger: tuple[LedgerLine, ...]

    def of(self, *names: str) -> Cost:
        """The value of some lines of the ledger together."""
        return total(line.value for line in self.ledger if line.name in names)


def ledger(stages: Sequence[StageRecord]) -> tuple[LedgerLine, ...]:
    """What each purpose takes from nothing; the lines add up to the whole run's value.

    A kept value that several stages stand on counts for the first of them.
    """
    spent, lines = Bill(), list[tuple[str, Cost]]()
    for name, members in PURPOSES.items():
        own = [s for s in stages if s.name in members]
        if name == REST:
            own = [s for s in stages if not any(s.name in m for m in PURPOSES.values())]
        if own:
            after = sum((s.measured.bill for s in own), spent)
            lines.append((name, _difference(after.value, spent.value)))
            spent = after
    flops = spent.value.flops
    return tuple(
        LedgerLine(name, value, value.flops / flops if flops else None) for name, value in lines
    )


def _difference(after: Cost, before: Cost) -> Cost:
    """What came on top; sums of floats in another order may differ by next to nothing."""
    return Cost(
        max(after.flops - before.flops, 0.0), after.tokens - before.tokens,
        max(after.cpu_seconds - before.cpu_seconds, 0.0),
        max(after.device_seconds - before.device_seconds, 0.0),
    )  # fmt: skip


def verdict(costs: Costs) -> str:
    """What choosing cost beside training, in a sentence; "" without a training."""
    chosen, trained = costs.of(SCORING, SELECTION), costs.of(TRAINING)
    if not trained.flops:
        return ""
    evaluated = costs.of(EVALUATION).flops
    share = percent(chosen.flops / trained.flops)
    beside = f", evaluating {percent(evaluated / trained.flops)}" if evaluated else ""
    cpu = "" if chosen.flops else f" ({seconds(chosen.cpu_seconds)} of processor time alone)"
    return f"Choosing cost {share} of the training FLOPs{cpu}{beside}."


def _gather(subject: Subject) -> Costs | None:
    if not subject.stages:
        return None
    used = any(s.name in (*PURPOSES[TRAINING], *PURPOSES[EVALUATION]) for s in subject.stages)
    return Costs(
        tuple(_stage_cost(s) for s in subject.stages), _total(subject.stages),
        ledger(subject.stages) if used else (),
    )  # fmt: skip


def _stage_cost(stage: StageRecord) -> StageCost:
    measured, bill = stage.measured, stage.measured.bill
    return StageCost(
        stage.name, measured.reused, stage.estimated, bill.value, bill.charged,
        measured.wall_seconds, measured.peak_memory_bytes,
    )  # fmt: skip


def _total(stages: Sequence[StageRecord]) -> StageCost:
    bill = sum((s.measured.bill for s in stages), Bill())
    return StageCost(
        "in all", False, total(s.estimated for s in stages), bill.value, bill.charged,
        sum(s.measured.wall_seconds for s in stages),
        max((s.measured.peak_memory_bytes for s in stages), default=0),
    )  # fmt: skip


def _template_values(costs: Costs, _header: Header) -> Mapping[str, Any]:
    used = any(c.value.flops or c.estimated.flops or c.value.device_seconds for c in costs.stages)
    return {"models": used, "or_none": lambda value: value or None, "verdict": verdict(costs)}


SECTION = Section(name="cost", title="Cost", gather=_gather, template_values=_template_values)
