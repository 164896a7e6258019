"""The run folder: stages that are skipped when nothing they depend on has changed.

```text
OUT/stages/<name>.json   one StageRecord per finished stage, written after its outputs
OUT/.work/<name>/        shards of a stage that is still running
OUT/manifest.json        written last: its existence means the run completed
```
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import json
import platform
import re
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from didact._version import __version__
from didact.core.atomic import digest, sweep, write_text
from didact.core.cost import Cost
from didact.core.errors import ConfigError, DataError
from didact.core.manifest import Manifest, Measured, StageRecord, fingerprint
from didact.execution.measure import Reading, measure

_FINGERPRINT = re.compile(r"[0-9a-f]{32}")
_LIBRARIES = ("isal", "numpy", "pyarrow", "zstandard")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a stage has to say when it is done.

    Attributes:
        outputs: Files written, inside the run folder.
        counts: Rows, tokens and the like that went in and came out.
        notes: Decisions worth telling.
        facts: Library versions and statistics the result depends on.
        cost: What models and devices spent; processor time is measured by the folder.
        hashed: False when the outputs show measured times and so differ between equal runs.
    """

    outputs: Sequence[Path] = ()
    counts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)
    hashed: bool = True


@dataclass
class RunFolder:
    """One run's folder, locked while it is worked on.

    Attributes:
        path: The folder.
        records: The records of this run's stages so far.
        changes: What changed since the folder's last run, in sentences.
    """

    path: Path
    records: list[StageRecord] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)

    def stage(
        self,
        name: str,
        depends_on: Mapping[str, Any],
        work: Callable[[], Outcome],
        *,
        estimated: Cost | None = None,
        before: Reading | None = None,
        cached: bool = False,
    ) -> StageRecord:
        """Run `work`, unless this stage ran before with the same dependencies and files.

        Args:
            name: The stage.
            depends_on: Every setting and input that the result depends on; JSON values.
            work: Does it.
            estimated: Cost foreseen.
            before: What was measured of this stage's work before this call.
            cached: The work was found done, outside this folder.
        """
        earlier = self._before(name)
        depends_on = {**depends_on, "environment": libraries()}
        key = fingerprint(depends_on)
        if earlier is not None and earlier.fingerprint == key and self._intact(earlier):
            record = replace(earlier, measured=replace(earlier.measured, reused=True))
            self.records.append(record)
            return record
        if earlier is not None:
            self.changes += [f"{name}: {c}" for c in _changed(earlier, depends_on, key)]
        self._begin(name, key, earlier)
        with measure() as reading:
            outcome = work()
        hashes = {
            str(p.relative_to(self.path)): digest(p) if outcome.hashed else ""
            for p in outcome.outputs
        }
        for stale in set(earlier.outputs if earlier is not None else ()) - set(hashes):
            (self.path / stale).unlink(missing_ok=True)
        readings = [reading] if before is None else [reading, before]
        spent = outcome.cost + Cost(cpu_seconds=sum(r.cpu_seconds for r in readings))
        measured = Measured(
            spent,
            sum(r.wall_seconds for r in readings),
            max(r.peak_memory_bytes for r in readings),
            reused=cached,
        )
        record = StageRecord(
            name=name,
            fingerprint=key,
            depends_on=depends_on,
            counts=outcome.counts,
            outputs=hashes,
            notes=outcome.notes,
            facts=outcome.facts,
            estimated=estimated or Cost(),
            measured=measured,
        )
        text = _pretty(record.to_json())
        write_text(self.path / "stages" / f"{name}.json", text)
        record = StageRecord.from_json(json.loads(text))  # as a later run will find it
        shutil.rmtree(self.scratch(name), ignore_errors=True)
        self.records.append(record)
        return record

    def scratch(self, name: str) -> Path:
        """Where a stage keeps finished shards while it runs."""
        return self.path / ".work" / name

    def finish(self, config: Mapping[str, Any], seed: int, inputs: Sequence[Any]) -> Manifest:
        """Remove what earlier runs left and this one did not make; write the manifest, last."""
        for stale in (self.path / "stages").glob("*.json"):
            if stale.stem not in {r.name for r in self.records}:
                record = self._before(stale.stem)
                for output in record.outputs if record is not None else ():
                    (self.path / output).unlink(missing_ok=True)
                stale.unlink()
                self.changes.append(f"{stale.stem}: no longer in the config; its files are removed")
        shutil.rmtree(self.path / ".work", ignore_errors=True)
        manifest = Manifest(
            config=config,
            seed=seed,
            inputs=tuple(inputs),
            environment=environment(),
            stages=tuple(self.records),
        )
        write_text(self.path / "manifest.json", _pretty(manifest.to_json()))
        return manifest

    def _before(self, name: str) -> StageRecord | None:
        path = self.path / "stages" / f"{name}.json"
        if not path.exists():
            return None
        try:
            return StageRecord.from_json(json.loads(path.read_text()))
        except (ValueError, TypeError, KeyError):
            self.changes.append(f"{name}: its record could not be read; running it again")
            return None

    def _intact(self, record: StageRecord) -> bool:
        for name, expected in record.outputs.items():
            path = self.path / name
            if not path.exists() or (expected and digest(path) != expected):
                self.changes.append(f"{record.name}: {name} was changed or removed; running again")
                return False
        return True

    def _begin(self, name: str, key: str, earlier: StageRecord | None) -> None:
        (self.path / "manifest.json").unlink(missing_ok=True)
        if earlier is not None:  # its files stay on record until the new ones are there
            void = replace(earlier, fingerprint="")
            write_text(self.path / "stages" / f"{name}.json", _pretty(void.to_json()))
        scratch = self.scratch(name)
        marker = scratch / "fingerprint"
        if not marker.exists() or marker.read_text() != key:
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(parents=True)
            write_text(marker, key)


@contextmanager
def opened(path: Path) -> Iterator[RunFolder]:
    """A run folder, made if need be and locked.

    Raises:
        ConfigError: The folder holds something else, or another run works on it.
    """
    if path.exists() and not path.is_dir():
        raise ConfigError(f"{path} is a file; choose a folder for the run with -o")
    path.mkdir(parents=True, exist_ok=True)
    inside = {p.name for p in path.iterdir()} - {".lock"}
    if inside and not inside & {"stages", "manifest.json", ".work"}:
        raise ConfigError(
            f"{path} is not empty and not a run folder (it holds {min(inside)!r}); choose "
            "another folder with -o"
        )
    with (path / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                f"{path} is in use by another run; wait for it, or choose another -o"
            ) from error
        sweep(path)
        try:
            yield RunFolder(path)
        finally:
            (path / ".lock").unlink(missing_ok=True)


def read_manifest(path: Path) -> Manifest:
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
        return Manifest.from_json(json.loads(file.read_text()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file}: not a manifest ({error}); expected the file of a run") from error


def environment() -> dict[str, str]:
    """Versions that a result may depend on."""
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {
        "didact": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "zlib": zlib.ZLIB_RUNTIME_VERSION,
        **versions,
    }


def libraries() -> dict[str, str]:
    """The part of the environment that a result's numbers and bytes depend on."""
    return {k: v for k, v in environment().items() if k not in {"platform", "python"}}


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _changed(before: StageRecord, now: Mapping[str, Any], key: str) -> Iterator[str]:
    """Sentences on what differs between two sets of dependencies."""
    if before.fingerprint == key:
        return
    for name, (old, new) in differences(before.depends_on, now).items():
        if all(isinstance(v, str) and _FINGERPRINT.fullmatch(v) for v in (old, new)):
            yield f"{name} has changed"
        else:
            yield f"{name} changed from {old!r} to {new!r}"


def differences(old: Any, new: Any, place: str = "") -> dict[str, tuple[Any, Any]]:
    """Leaves that differ between two JSON values: dotted place → (old, new)."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        out: dict[str, tuple[Any, Any]] = {}
        for name in sorted({*old, *new}):
            inner = f"{place}.{name}" if place else name
            out |= differences(old.get(name), new.get(name), inner)
        return out
    if isinstance(old, list | tuple) and isinstance(new, list | tuple) and list(old) == list(new):
        return {}
    return {} if old == new else {place: (old, new)}
