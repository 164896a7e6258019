"""Cost: what each stage was estimated to take, took from nothing, and took in this run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from didact.core.cost import Bill, Cost, total
from didact.core.manifest import StageRecord
from didact.reporting.sections.header import Header
from didact.reporting.sections.section import Section
from didact.reporting.subject import Subject


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
class Costs:
    """The cost table.

    Attributes:
        stages: Its lines.
        total: Its last line: a kept value that several stages use counts once, memory is the
            largest.
    """

    stages: tuple[StageCost, ...]
    total: StageCost


def _gather(subject: Subject) -> Costs | None:
    if not subject.stages:
        return None
    return Costs(tuple(_stage_cost(s) for s in subject.stages), _total(subject.stages))


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
    return {"models": used, "or_none": lambda value: value or None}


SECTION = Section(name="cost", title="Cost", gather=_gather, template_values=_template_values)
