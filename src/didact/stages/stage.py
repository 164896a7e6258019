"""A stage is a value: everything that walks a run walks a tuple of these."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from didact.config import RunConfig
from didact.core.cost import Cost
from didact.core.manifest import StageRecord, fingerprint
from didact.core.paths import Place
from didact.core.pool import Pool
from didact.core.protocols import Context
from didact.runs.folder import Outcome


@dataclass(frozen=True)
class Values:
    """What a run has so far.

    Attributes:
        config: The run's.
        resolved: The same with every default filled in, JSON values.
        read: Stage → what it read for itself, beside what other stages made.
        made: Stage → what it made.
        records: The records of the stages that are done.
    """

    config: RunConfig
    resolved: Mapping[str, Any]
    read: Mapping[str, Any] = field(default_factory=dict)
    made: Mapping[str, Any] = field(default_factory=dict)
    records: tuple[StageRecord, ...] = ()

    @property
    def pool(self) -> Pool:
        """What is chosen from."""
        pool: Pool = self.made["data"]
        return pool

    def having_read(self, stage: str, value: Any) -> Values:
        """The same values with what a stage read."""
        return replace(self, read={**self.read, stage: value})

    def having(self, record: StageRecord, value: Any) -> Values:
        """The same values with what a stage made."""
        made = {**self.made, record.name: value}
        return replace(self, made=made, records=(*self.records, record))

    def result(self, stage: str) -> str | None:
        """Identity of the files a stage made: what later stages depend on; None without it."""
        record = next((r for r in self.records if r.name == stage), None)
        return None if record is None else fingerprint(record.outputs)


Compare = Callable[[Any, Any], Mapping[str, Any]]


def _nothing(*_: Any) -> Any:
    return None


def _always(_: RunConfig) -> bool:
    return True


def _free(_: Values) -> Cost | None:
    return None


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage.

    Attributes:
        name: What records, tables and messages call it.
        depends: Every setting and input that its result depends on; JSON values.
        work: Does it, and writes its files into the run folder.
        load: Its value, from the run folder and the record of `work`.
        wanted: Whether a config asks for it.
        check: Refuses a config before anything is read.
        read: What it reads for itself, before any stage works: files of the pool, target sets.
        inputs: The files behind what it read, as the manifest lists them.
        estimate: What it will cost; None where that is not worth a number. Refuses what `work`
            would refuse, as far as it can be known by then.
        compare: What its values of two finished runs have in common; JSON values.
        does: What a table of the plan says it does.
        samples: Which of its counts tells the samples that it leaves.
        lasting: Whether what it made stays in the run folder when a config leaves it out.
        made_of: Key of `depends` → the stage whose result it is; says when what stays is outdated.
    """

    name: str
    depends: Callable[[Values], Mapping[str, Any]]
    work: Callable[[Values, Place, Context], Outcome]
    load: Callable[[Place, StageRecord, Values, Context], Any] = _nothing
    wanted: Callable[[RunConfig], bool] = _always
    check: Callable[[RunConfig], None] = _nothing
    read: Callable[[RunConfig, Context], Any] = _nothing
    inputs: Callable[[Any], tuple[dict[str, Any], ...]] = lambda _: ()
    estimate: Callable[[Values], Cost | None] = _free
    compare: Compare | None = None
    does: Callable[[RunConfig], str] = lambda _: ""
    samples: str = "rows"
    lasting: bool = False
    made_of: Mapping[str, str] = field(default_factory=dict)
