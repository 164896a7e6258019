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
        estimated_cpu_seconds: Foreseen processor time.
        cpu_seconds: Processor time that making it takes from nothing.
        charged_cpu_seconds: Processor time spent by this run.
        estimated_flops: Foreseen floating-point operations of models.
        flops: Floating-point operations of making it from nothing.
        charged_flops: Floating-point operations of this run.
        device_seconds: Accelerator time of making it from nothing.
        wall_seconds: Elapsed time.
        peak_memory_bytes: Largest resident memory of all processes together.
    """

    name: str
    reused: bool
    estimated_cpu_seconds: float
    cpu_seconds: float
    charged_cpu_seconds: float
    estimated_flops: float
    flops: float
    charged_flops: float
    device_seconds: float
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
    measured = stage.measured
    return _line(
        stage.name, measured.bill, stage.estimated, reused=measured.reused,
        wall_seconds=measured.wall_seconds, peak_memory_bytes=measured.peak_memory_bytes,
    )  # fmt: skip


def _line(name: str, bill: Bill, estimated: Cost, **more: Any) -> StageCost:
    return StageCost(
        name=name,
        estimated_cpu_seconds=estimated.cpu_seconds,
        cpu_seconds=bill.value.cpu_seconds,
        charged_cpu_seconds=bill.charged.cpu_seconds,
        estimated_flops=estimated.flops,
        flops=bill.value.flops,
        charged_flops=bill.charged.flops,
        device_seconds=bill.value.device_seconds,
        **more,
    )


def _total(stages: Sequence[StageRecord]) -> StageCost:
    return _line(
        "in all",
        sum((s.measured.bill for s in stages), Bill()),
        total(s.estimated for s in stages),
        reused=False,
        wall_seconds=sum(s.measured.wall_seconds for s in stages),
        peak_memory_bytes=max((s.measured.peak_memory_bytes for s in stages), default=0),
    )


def _template_values(costs: Costs, _header: Header) -> Mapping[str, Any]:
    used = any(c.flops or c.estimated_flops or c.device_seconds for c in costs.stages)
    return {"models": used, "or_none": lambda value: value or None}


SECTION = Section(name="cost", title="Cost", gather=_gather, template_values=_template_values)
