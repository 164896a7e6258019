"""Records: what a run of a comparison came to, a file each, written last and whole."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, Literal

from didact.core.atomic import digest, write_text
from didact.core.nesting import parse_json
from didact.core.paths import Place

ARMS: Final = "arms"
RUNS: Final = "runs"

Status = Literal["done", "infeasible", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A run that was tried.

    Attributes:
        name: The trial's.
        key: The trial's, so that a record of another trial by this name is seen.
        status: `done`; `infeasible` where the budget does not pay; `failed` by an error.
        reason: Why, of the last two.
        selection_flops: FLOPs of scoring and choosing, from nothing.
        selection_cpu_seconds: Processor seconds of it, from nothing.
        made: What is kept and shared of it, such as scores: name → FLOPs of making that alone.
        training_flops: FLOPs of the training as executed.
        tokens: Tokens that were trained on, without padding.
        samples: Samples that were chosen.
        n_params: Parameters of the model.
        evaluation: Path of the table of its evaluation, relative to the comparison's folder.
        digest: That file's.
        seconds: Wall seconds that the run took.
    """

    name: str
    key: str
    status: Status
    reason: str = ""
    selection_flops: float = 0.0
    selection_cpu_seconds: float = 0.0
    made: Mapping[str, float] = field(default_factory=dict)
    training_flops: float = 0.0
    tokens: int = 0
    samples: int = 0
    n_params: int = 0
    evaluation: str = ""
    digest: str = ""
    seconds: float = 0.0


def write_record(record: Record, home: Place) -> None:
    """Write it, whole or not at all."""
    write_text(_file(home, record.name), json.dumps(asdict(record), indent=1) + "\n")


def read_record(home: Place, name: str, key: str) -> Record | None:
    """The record of a trial; None where there is none, or it is of another trial or damaged."""
    try:
        told: Any = parse_json(_file(home, name).read_bytes())
        record = Record(**{f.name: told[f.name] for f in fields(Record)})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    if record.key != key or record.name != name:
        return None
    if record.evaluation:
        table = home / record.evaluation
        if not table.is_file() or digest(table) != record.digest:
            return None
    return record


def selection_flops(records: Iterable[Record]) -> float:
    """FLOPs of scoring and choosing in all runs, what several of them share counted once."""
    shared: dict[str, float] = {}
    own = 0.0
    for record in records:
        shared |= record.made
        own += record.selection_flops - sum(record.made.values())
    return own + sum(shared.values())


def _file(home: Place, name: str) -> Place:
    return home / ARMS / f"{name}.json"
