"""Two runs, side by side: what was set differently and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from didact.core.manifest import Manifest


def side_by_side(a: Manifest, b: Manifest) -> dict[str, Any]:
    """Settings, inputs, environment, counts and value costs of two runs, as JSON values.

    Costs are what making a stage's result takes from nothing, whatever was found in a cache.
    """
    flops = {name: _values(a, b, name, "flops") for name in _stage_names(a, b)}
    return {
        "equal": a.without_measured() == b.without_measured(),
        "config": _pairs(a.config, b.config),
        "environment": _pairs(a.environment, b.environment),
        "inputs_equal": [i["blake2b"] for i in a.inputs] == [i["blake2b"] for i in b.inputs],
        "counts": _counts(a, b),
        "cost": {name: _values(a, b, name, "cpu_seconds") for name in _stage_names(a, b)},
        "flops": {name: pair for name, pair in flops.items() if any(pair)},
    }


def _values(a: Manifest, b: Manifest, stage: str, unit: str) -> list[float | None]:
    """What making a stage's result takes from nothing; None where a run has no such stage."""
    records = a.stage(stage), b.stage(stage)
    return [None if r is None else getattr(r.measured.bill.value, unit) for r in records]


def _stage_names(a: Manifest, b: Manifest) -> list[str]:
    return list(dict.fromkeys(s.name for s in (*a.stages, *b.stages)))


def _pairs(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {name: list(pair) for name, pair in differences(a, b).items()}


def _counts(a: Manifest, b: Manifest) -> dict[str, Any]:
    out = {}
    for stage in ("data", "select", "export"):
        in_a, in_b = a.stage(stage), b.stage(stage)
        if in_a is not None and in_b is not None:
            for name, pair in _pairs(dict(in_a.counts), dict(in_b.counts)).items():
                if not name.startswith("sources"):
                    out[f"{stage}.{name}"] = pair
    return out


def differences(old: Any, new: Any, place: str = "") -> dict[str, tuple[Any, Any]]:
    """Leaves that differ between two JSON values: dotted place → (old, new)."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        out: dict[str, tuple[Any, Any]] = {}
        for name in sorted({*old, *new}):
            inner = f"{place}.{name}" if place else name
            out |= differences(old.get(name), new.get(name), inner)
        return out
    if isinstance(old, list | tuple) and isinstance(new, list | tuple):
        if list(old) == list(new):
            return {}
        if len(old) == len(new) and all(isinstance(v, Mapping) for v in (*old, *new)):
            return {
                name: pair
                for i, (a, b) in enumerate(zip(old, new, strict=True))
                for name, pair in differences(a, b, f"{place}[{i}]").items()
            }
    return {} if old == new else {place: (old, new)}
