"""The manifest of a run: what went in, what each stage did and cost; fingerprints of values."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from didact.core.cost import Bill, Cost
from didact.core.errors import ConfigError
from didact.core.findings import Finding, findings_of

MANIFEST_VERSION = 2
_READ = (1, MANIFEST_VERSION)  # version 1 told one cost of a stage, what was charged


def canonical(value: Any) -> str:
    """One JSON text per value: sorted keys, no spaces, finite numbers.

    Raises:
        ConfigError: The value has no stable form (NaN, an object, a non-string key). A permissive
            fallback would let two different values share one fingerprint.
    """
    return json.dumps(_stable(value, "value"), sort_keys=True, separators=(",", ":"))


def fingerprint(value: Any) -> str:
    """32 hex digits that identify a value by its canonical JSON."""
    return hashlib.blake2b(canonical(value).encode(), digest_size=16).hexdigest()


def _stable(value: Any, place: str) -> Any:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        if not math.isfinite(value):
            raise ConfigError(f"{place} is {value}; only finite numbers have a stable form")
        return float(value)
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, list | tuple):
        return [_stable(v, f"{place}[{i}]") for i, v in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ConfigError(f"{place} has the key {key!r}; only text keys have a stable form")
        return {k: _stable(v, f"{place}.{k}") for k, v in value.items()}
    raise ConfigError(f"{place} is a {type(value).__name__}, which has no stable form")


@dataclass(frozen=True, slots=True)
class Measured:
    """The cost of a stage, and everything else that may differ between two equal runs.

    Attributes:
        bill: What was charged this time, and what making it takes from nothing.
        wall_seconds: Elapsed time.
        peak_memory_bytes: Largest resident memory, summed over the process tree.
        reused: True when the stage was skipped because its result was already there.
        hashes: Hashes of outputs that show measured times and so differ between equal runs.
    """

    bill: Bill = field(default_factory=Bill)
    wall_seconds: float = 0.0
    peak_memory_bytes: int = 0
    reused: bool = False
    hashes: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As JSON values: `charged`, `value`, and of that what is `own` and what it `uses`."""
        bill = self.bill
        return {
            "charged": asdict(bill.charged), "value": asdict(bill.value), "own": asdict(bill.own),
            "uses": {name: asdict(cost) for name, cost in bill.uses.items()},
            "wall_seconds": self.wall_seconds, "peak_memory_bytes": self.peak_memory_bytes,
            "reused": self.reused, "hashes": dict(self.hashes),
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Measured:
        """Measurements from `to_json`; one cost, of version 1, counts as charged and as value."""
        if "cost" in data:
            cost = Cost.from_json(data["cost"])
            bill = Bill(charged=cost, own=cost)
        else:
            uses = {str(name): Cost.from_json(cost) for name, cost in data["uses"].items()}
            charged, own = Cost.from_json(data["charged"]), Cost.from_json(data["own"])
            bill = Bill(charged, own, uses)
        return cls(
            bill, float(data["wall_seconds"]), int(data["peak_memory_bytes"]),
            bool(data["reused"]), dict(data.get("hashes", {})),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class StageRecord:
    """One stage of one run.

    Attributes:
        name: "data", "score", "select", …
        fingerprint: Identity of settings and inputs; equal means the result can be reused.
        depends_on: The settings and inputs behind the fingerprint, to say what changed.
        counts: Rows, tokens and the like that went in and came out.
        outputs: File name relative to the run folder → hash of its bytes.
        notes: Decisions worth telling.
        findings: What should be known of the data, counted.
        facts: Library versions and statistics the result depends on.
        estimated: Cost foreseen before the stage ran.
        measured: Cost found; not part of equality between runs.
    """

    name: str
    fingerprint: str
    depends_on: Mapping[str, Any]
    counts: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    estimated: Cost = field(default_factory=Cost)
    measured: Measured = field(default_factory=Measured)

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        return {
            "name": self.name, "fingerprint": self.fingerprint,
            "depends_on": dict(self.depends_on), "counts": dict(self.counts),
            "outputs": dict(self.outputs), "notes": list(self.notes),
            "findings": [found.to_json() for found in self.findings], "facts": dict(self.facts),
            "estimated": asdict(self.estimated), "measured": self.measured.to_json(),
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StageRecord:
        """From `to_json`.

        Raises:
            TypeError, ValueError, KeyError: That is none.
        """
        for name in ("depends_on", "counts", "outputs", "facts"):
            _expect(data, name, Mapping)
        for name in ("name", "fingerprint"):
            _expect(data, name, str)
        findings = findings_of(data.get("findings", ()))  # records of before have none
        for text in (*data["outputs"].items(), *data["notes"], *map(str, findings)):
            "".join(text).encode()
        return cls(
            **{
                **data,
                "notes": tuple(data["notes"]),
                "findings": findings,
                "estimated": Cost.from_json(data["estimated"]),
                "measured": Measured.from_json(data["measured"]),
            }
        )


def things_to_know(stages: Iterable[StageRecord]) -> list[Finding | str]:
    """What stages found and what they decided, each thing once: findings first, then notes."""
    records = list(stages)
    findings = [found for record in records for found in record.findings]
    notes = [f"{record.name}: {note}" for record in records for note in record.notes]
    return list(dict.fromkeys([*findings, *notes]))


def _expect(data: Mapping[str, Any], name: str, kind: type) -> None:
    if not isinstance(data[name], kind):
        raise TypeError(f"{name} is {data[name]!r:.80}; expected {kind.__name__}")


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything a run can say of itself. Written last: its existence means the run completed."""

    config: Mapping[str, Any]
    seed: int
    inputs: tuple[Mapping[str, Any], ...]
    environment: Mapping[str, str]
    stages: tuple[StageRecord, ...]
    version: int = MANIFEST_VERSION

    @property
    def bill(self) -> Bill:
        """The bill of the whole run; a kept value that several stages use counts once."""
        return sum((stage.measured.bill for stage in self.stages), Bill())

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        return {
            "version": self.version,
            "config": dict(self.config),
            "seed": self.seed,
            "inputs": [dict(i) for i in self.inputs],
            "environment": dict(self.environment),
            "stages": [s.to_json() for s in self.stages],
            "cost": {"charged": asdict(self.bill.charged), "value": asdict(self.bill.value)},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Manifest:
        """From `to_json`.

        Raises:
            ConfigError: The manifest was written by a newer didact.
        """
        if data.get("version") not in _READ:
            raise ConfigError(
                f"manifest version {data.get('version')}; this didact reads {MANIFEST_VERSION}"
            )
        for name, kind in (("config", Mapping), ("environment", Mapping), ("seed", int)):
            _expect(data, name, kind)
        return cls(
            config=data["config"],
            seed=data["seed"],
            inputs=tuple(data["inputs"]),
            environment=data["environment"],
            stages=tuple(StageRecord.from_json(s) for s in data["stages"]),
        )

    def without_measured(self) -> dict[str, Any]:
        """The part that is equal for two runs of one config on one machine."""
        data = self.to_json()
        for stage in data["stages"]:
            del stage["measured"]
        del data["cost"]
        return data

    def stage(self, name: str) -> StageRecord | None:
        """The record of a stage, or None when the run had none."""
        return next((s for s in self.stages if s.name == name), None)
