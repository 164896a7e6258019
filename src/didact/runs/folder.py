"""The run folder: stages that are skipped when nothing they depend on has changed.

```text
OUT/stages/<name>.json   one StageRecord per finished stage, written after its outputs
OUT/manifest.json        written last: its existence means the run completed
```

The folder is input, too: what stands in it may have been written by anybody.
"""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from didact.core.atomic import digest, lies_inside, remove, sweep, sync, write_text
from didact.core.checksums import read_signed, signed
from didact.core.claims import Claim, claimed
from didact.core.cost import Bill, Cost, Meter
from didact.core.errors import ConfigError, DamagedError, DataError, DidactError
from didact.core.findings import Finding
from didact.core.identity import base_libraries
from didact.core.locks import lock_file
from didact.core.manifest import Manifest, Measured, StageRecord, fingerprint
from didact.core.nesting import parse_json
from didact.core.paths import Place, RemotePath, inside, listed
from didact.execution.measure import Usage, measure
from didact.runs.differences import differences

_FINGERPRINT = re.compile(r"[0-9a-f]{32}")
_CHECKSUM = "manifest.checksum"
_LOCK = ".lock"
_BEGUN = ".begun"  # behind a URL, where a folder is there as long as something lies in it


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a stage has to say when it is done.

    Attributes:
        outputs: Files written, inside the run folder.
        counts: Rows, tokens and the like that went in and came out.
        notes: Decisions worth telling.
        findings: What should be known of the data, counted.
        facts: Library versions and statistics the result depends on.
        timed: Those of `outputs` that show measured times and so differ between equal runs.
        found: The work was found done, outside of the run folder.
    """

    outputs: Sequence[Place] = ()
    counts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    timed: Sequence[Place] = ()
    found: bool = False


@dataclass
class RunFolder:
    """One run's folder, locked while it is worked on.

    Attributes:
        path: The folder, on a disk or behind a URL.
        records: The records of this run's stages so far.
        changes: What changed since the folder's last run, in sentences.
        finished: Stages of the folder's last run, if it finished.
    """

    path: Place
    records: list[StageRecord] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    finished: frozenset[str] = frozenset()

    def run_or_reuse(
        self,
        name: str,
        depends_on: Mapping[str, Any],
        work: Callable[[], Outcome],
        *,
        meter: Meter,
        estimated: Cost | None = None,
        used_before: Usage | None = None,
    ) -> StageRecord:
        """Run `work`, unless this stage ran before with the same dependencies and files.

        Args:
            name: The stage.
            depends_on: Every setting and input that the result depends on; JSON values.
            work: Does it.
            meter: What the work is charged to.
            estimated: Cost foreseen.
            used_before: What was measured of this stage's work before this call.
        """
        used_before = used_before or Usage()
        earlier = self._earlier_record(name)
        depends_on = {**depends_on, "environment": base_libraries()}
        key = fingerprint(depends_on)
        if earlier is not None and earlier.fingerprint == key and self._intact(earlier):
            record = self._reused(earlier, meter, used_before)
            self.records.append(record)
            return record
        if earlier is not None:
            self.changes += [f"{name}: {c}" for c in _changes(earlier, depends_on, key)]
        self._invalidate(name, earlier)
        pa.default_memory_pool().release_unused()  # what Arrow holds of what stages before freed
        with measure() as used, meter.running():
            outcome = work()
            hashes = {self._name(p): digest(p) for p in outcome.outputs}
            timed = {self._name(p) for p in outcome.timed}
        for stale in set(earlier.outputs if earlier is not None else ()) - set(hashes):
            remove(self.path / stale)
        record = StageRecord(
            name=name,
            fingerprint=key,
            depends_on=depends_on,
            counts=outcome.counts,
            outputs={name: "" if name in timed else told for name, told in hashes.items()},
            notes=outcome.notes,
            findings=outcome.findings,
            facts=outcome.facts,
            estimated=estimated or Cost(),
            measured=Measured(
                meter.bill,
                used.wall_seconds + used_before.wall_seconds,
                max(used.peak_memory_bytes, used_before.peak_memory_bytes),
                reused=outcome.found,
                hashes={name: told for name, told in hashes.items() if name in timed},
            ),
        )
        write_text(self._record_path(name), signed(record.to_json()))
        record = StageRecord.from_json(
            read_signed(self._record_path(name))
        )  # as a later run finds it
        self.records.append(record)
        return record

    def _name(self, path: Place) -> str:
        return inside(path, self.path).as_posix()

    def finish(
        self,
        config: Mapping[str, Any],
        seed: int,
        inputs: Sequence[Any],
        lasting: Mapping[str, Mapping[str, str]] | None = None,
    ) -> Manifest:
        """Remove what earlier runs left and this one did not make; write the manifest, last.

        Args:
            config: The run's, resolved.
            seed: Its seed.
            inputs: The files behind it.
            lasting: Stages whose files stay although this run had no such stage → keys of what
                they depend on, and the stages whose results these are.
        """
        lasting = lasting or {}
        for stale in listed(self.path / "stages", "*.json"):
            if stale.stem in lasting and stale.stem not in {r.name for r in self.records}:
                record = self._earlier_record(stale.stem)
                if record is not None and not record.fingerprint:
                    self.changes.append(
                        f"{stale.stem}: not in the config; an earlier run was stopped in it, and "
                        "goes on there once it is back"
                    )
                    continue
                old = self._outdated(record, lasting[stale.stem])
                of = f", made of another result of {old} than this run's" if old else ""
                self.changes.append(
                    f"{stale.stem}: not in the config; its files stay as they were{of}"
                )
            elif stale.stem not in {r.name for r in self.records}:
                record = self._earlier_record(stale.stem)
                for output in record.outputs if record is not None else ():
                    remove(self.path / output)
                remove(stale)
                self.changes.append(f"{stale.stem}: no longer in the config; its files are removed")
        remove(self.path / ".work")  # of earlier versions
        manifest = Manifest(
            config=config,
            seed=seed,
            inputs=tuple(inputs),
            environment=environment(),
            stages=tuple(self.records),
        )
        text = _pretty(manifest.to_json())
        checksum = self.path / "stages" / _CHECKSUM
        remove(checksum)
        write_text(self.path / "manifest.json", text)
        write_text(checksum, fingerprint(text))
        return manifest

    def _outdated(self, record: StageRecord | None, made_of: Mapping[str, str]) -> str:
        """The stage of this run whose result is not the one that an earlier stage was made of."""
        results = {r.name: fingerprint(r.outputs) for r in self.records}
        known = {} if record is None else record.depends_on
        stages = [s for key, s in made_of.items() if s in results and known.get(key) != results[s]]
        return ", ".join(stages)

    def _record_path(self, name: str) -> Place:
        return self.path / "stages" / f"{name}.json"

    def _earlier_record(self, name: str) -> StageRecord | None:
        path = self._record_path(name)
        again = "running it again"
        try:
            record = StageRecord.from_json({**read_signed(path), "name": name})
        except FileNotFoundError:
            if name in self.finished:
                self.changes.append(f"{name}: its record is gone; {again}")
            return None
        except (DamagedError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError):
            older = _record_of_version_1(path)
            if older is None:
                self.changes.append(f"{name}: its record is damaged; {again}")
                remove(path)
                return None
            self.changes.append(f"{name}: its record is of an earlier didact; {again}")
            record = older
        strange = [n for n in record.outputs if not lies_inside(self.path, n)]
        if strange:
            self.changes.append(
                f"{name}: its record names {strange[0]!r}, which is not in this folder; {again}"
            )
            kept = {n: h for n, h in record.outputs.items() if n not in strange}
            return replace(record, fingerprint="", outputs=kept)
        return record

    def _intact(self, record: StageRecord) -> bool:
        for name, told in record.outputs.items():
            path = self.path / name
            expected = told or record.measured.hashes.get(name, "")
            if not path.is_file() or digest(path) != expected:
                self.changes.append(f"{record.name}: {name} was changed or removed; running again")
                return False
        return True

    def _reused(self, earlier: StageRecord, meter: Meter, used: Usage) -> StageRecord:
        """The record of a stage that is skipped: charged is only what looking cost."""
        measured = earlier.measured
        bill = Bill(meter.bill.charged, measured.bill.own, measured.bill.uses)
        return replace(
            earlier,
            measured=replace(
                measured, bill=bill, reused=True, wall_seconds=used.wall_seconds,
                peak_memory_bytes=used.peak_memory_bytes,
            ),
        )  # fmt: skip

    def _invalidate(self, name: str, earlier: StageRecord | None) -> None:
        remove(self.path / "manifest.json")
        if earlier is not None:  # its files stay on record until the new ones are there
            void = replace(earlier, fingerprint="")
            write_text(self._record_path(name), signed(void.to_json()))


def _record_of_version_1(path: Place) -> StageRecord | None:
    """A record without a checksum; what it says of files is used to remove them, no more."""
    try:
        values = parse_json(path.read_bytes())
        if "checksum" in values or "cost" not in values["measured"]:
            return None
        return replace(StageRecord.from_json(values), fingerprint="")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


@contextmanager
def open_run_folder(path: Place) -> Iterator[RunFolder]:
    """A run folder, made if need be and locked.

    Raises:
        ConfigError: The folder holds something else, or another run works on it.
    """
    if path.exists() and not path.is_dir():
        raise ConfigError(f"{path} is a file; choose a folder for the run with -o")
    if isinstance(path, Path):
        path.mkdir(parents=True, exist_ok=True)
    found = {p.name for p in path.iterdir()} - {_LOCK} if path.is_dir() else set()
    if found and not found & {"stages", "manifest.json", ".work"}:
        raise ConfigError(
            f"{path} is not empty and not a run folder (it holds {min(found)!r}); choose "
            "another folder with -o"
        )
    if isinstance(path, Path):
        _refuse_links(path)
    with _held(path):
        sweep(path)
        if isinstance(path, Path):
            (path / "stages").mkdir(exist_ok=True)  # what says that the rest is a run's
            sync(path)
        elif "stages" not in found:
            write_text(path / "stages" / _BEGUN, "")
        yield RunFolder(path, finished=_finished_stages(path))


def _refuse_links(path: Path) -> None:
    for name, kind in (("stages", Path.is_dir), (_LOCK, Path.is_file)):
        place = path / name
        if place.is_symlink() or (place.exists() and not kind(place)):
            raise ConfigError(
                f"{place} is a link, or not what a run folder has there; choose another folder "
                "with -o, or remove it"
            )


@contextmanager
def _held(path: Place) -> Iterator[None]:
    """Hold a run folder; another run that wants it is refused."""
    if isinstance(path, RemotePath):

        def refuse(claim: Claim) -> None:
            raise ConfigError(
                f"{path} is in use by another run ({claim}); wait for it, or choose another -o"
            )

        with claimed(path / _LOCK, refuse):
            yield
        return
    with lock_file(path / _LOCK) as ours:
        if not ours:
            raise ConfigError(f"{path} is in use by another run; wait for it, or choose another -o")
        yield


def _finished_stages(path: Place) -> frozenset[str]:
    try:
        return frozenset(stage.name for stage in read_manifest(path).stages)
    except DidactError:
        return frozenset()


def read_manifest(path: Place) -> Manifest:
    """The manifest of a finished run, from its folder or file.

    Raises:
        DataError: There is none: the run was interrupted, or this is not a run folder.
    """
    file = path / "manifest.json" if path.is_dir() else path
    if not file.exists():
        begun = (path / "stages").is_dir()
        why = "the run did not finish; run the same command again" if begun else "not a run folder"
        raise DataError(f"{file}: no manifest: {why}")
    try:
        text = file.read_text("utf-8")
        expected = file.parent / "stages" / _CHECKSUM
        if expected.is_file() and expected.read_text("utf-8") != fingerprint(text):
            raise DataError(
                f"{file}: was changed since the run, its checksum does not hold; run the same "
                "command again to mend it"
            )
        return Manifest.from_json(parse_json(text))
    except (
        OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError
    ) as error:  # fmt: skip
        raise DataError(f"{file}: not a manifest ({error}); expected the file of a run") from error


def output(folder: Place, record: StageRecord, name: str) -> Place:
    """A file that a stage wrote.

    Raises:
        DataError: It is not what the stage wrote.
    """
    path = folder / name
    if not path.is_file() or digest(path) != record.outputs.get(name):
        raise DataError(
            f"{path}: was changed or removed since the run; run the same command again to mend it"
        )
    return path


def environment() -> dict[str, str]:
    """Versions that a result may depend on."""
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        **base_libraries(),
    }


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _changes(before: StageRecord, now: Mapping[str, Any], key: str) -> Iterator[str]:
    """Sentences on what differs between two sets of dependencies."""
    if before.fingerprint == key:
        return
    for name, (old, new) in differences(before.depends_on, now).items():
        if all(isinstance(v, str) and _FINGERPRINT.fullmatch(v) for v in (old, new)):
            yield f"{name} has changed"
        else:
            yield f"{name} changed from {old!r} to {new!r}"
