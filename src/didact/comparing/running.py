"""Running trials: one after another or several at a time, each once, whoever asks for it."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from didact import config as configs
from didact import pipeline
from didact.comparing.grid import Plain
from didact.comparing.records import ARMS, RUNS, Record, read_record, write_record
from didact.comparing.trials import Trial
from didact.core.atomic import FULL, digest, remove, send
from didact.core.cost import Bill, Metered
from didact.core.errors import BudgetError, DataError
from didact.core.locks import passing_lock
from didact.core.manifest import Manifest, fingerprint
from didact.core.paths import Place, RemotePath, each
from didact.core.protocols import Context, Device, Progress
from didact.core.scratch import scratch
from didact.evaluation.results import TABLE
from didact.execution.executors import processes, serial
from didact.models.folder import RECORD
from didact.stages.spending import paid_before
from didact.training.trained import AVERAGED, read_trained

_AVERAGED_TABLE: Final = "evaluation-averaged.parquet"
_MODEL: Final = "model"
_FILES: Final = ("train.jsonl", "train.parquet", "validation.jsonl", "validation.parquet")
_ROOM: Final = 4  # weights, their gradients' moments and a second copy, while a run trains


@dataclass(frozen=True, slots=True)
class Job:
    """A trial as a worker is given it.

    Attributes:
        trial: The trial; it has a run config.
        scored_by: Of a repeated fraction, names and keys of trials with the same scoring: where one
            is done, its FLOPs are what there is left for training.
    """

    trial: Trial
    scored_by: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class _Place:
    """What all jobs share."""

    home: Place
    cache_dir: Place
    keep_models: bool


def run_trials(
    trials: Sequence[Trial],
    home: Place,
    ctx: Context,
    *,
    foretold: Mapping[str, float],
    keep_models: bool = False,
    jobs: int = 1,
    device: Device = "cpu",
) -> dict[str, Record]:
    """Run what is not done; the records of all trials that are runs.

    A trial that another process is running is waited for, so that several processes may share a
    folder. One that fails is recorded as failed and the others go on.

    Args:
        trials: The trials.
        home: The folder of the comparison.
        ctx: Cache, progress.
        foretold: Name of a trial → wall seconds that it is foretold to take.
        keep_models: Keep the weights of every run.
        jobs: Processes to run trials in; 1 is this one.
        device: What the trainings run on.

    Raises:
        DataError: The disk is full.
    """
    wanted = [t for t in trials if t.plain is not None]
    found = {t.name: r for t in wanted if (r := _done(home, t.name, t.key)) is not None}
    for name in (n for n, r in found.items() if r.status == "done"):
        # of runs that were killed between their record and this
        if isinstance(home, RemotePath):
            remove(_working(home) / name)
        elif not keep_models:
            _lighten(home / RUNS / name)
    todo = [_job(t, wanted) for t in wanted if t.name not in found]
    # what one-epoch runs were charged for scores is known before fractions are repeated
    phases = [[job for job in todo if job.trial.fill == fill] for fill in (False, True)]
    phases = [some for some in phases if some]
    clock = _Clock(foretold, len(wanted), ctx, set(found))
    place = _Place(home, ctx.cache_dir, keep_models)
    executor = serial() if jobs == 1 else processes(jobs)
    opened = partial(_opened, ctx.progress) if jobs == 1 else _opened_quietly
    for some in phases:
        busy: list[Job] = []
        results = executor.map(
            _apply, some, shared=place, open=opened, device=None if jobs == 1 else device
        )
        for job, record in zip(some, results, strict=True):
            if record is None:
                busy.append(job)
                continue
            found[job.trial.name] = record
            clock.tell(job.trial, record)
        for job in busy:
            ctx.tell(f"{job.trial.label}: another process runs it; waiting for it")
            found[job.trial.name] = _made(place, ctx.progress, job, lambda: None)
            clock.tell(job.trial, found[job.trial.name])
    return found


def _job(trial: Trial, trials: Sequence[Trial]) -> Job:
    alike = tuple((t.name, t.key) for t in trials if t.setting == trial.setting and not t.fill)
    return Job(trial, alike if trial.fill else ())


def _done(home: Place, name: str, key: str) -> Record | None:
    """A record that stands; what failed is tried again."""
    record = read_record(home, name, key)
    return None if record is None or record.status == "failed" else record


def _apply(run: Callable[[Job], Metered[Record | None]], job: Job) -> Metered[Record | None]:
    return run(job)


@contextmanager
def _opened(
    progress: Any, place: _Place, device: str
) -> Iterator[Callable[[Job], Metered[Record | None]]]:
    del device
    yield partial(_run_job, place, progress)


@contextmanager
def _opened_quietly(
    place: _Place, device: str
) -> Iterator[Callable[[Job], Metered[Record | None]]]:
    """In a process of its own: of several accelerators it sees the one that is its."""
    if device.startswith("cuda:"):
        os.environ["CUDA_VISIBLE_DEVICES"] = device.partition(":")[2]
    yield partial(_run_job, place, lambda _: None)


class _BusyError(Exception):
    """Another process is at it."""


def _busy() -> None:
    raise _BusyError


def _run_job(place: _Place, progress: Any, job: Job) -> Metered[Record | None]:
    """A job's record; None where another process is at it."""
    try:
        return Metered(_made(place, progress, job, _busy))
    except _BusyError:
        return Metered(None)


def _made(place: _Place, progress: Any, job: Job, waiting: Callable[[], None]) -> Record:
    """The record of a job: that which another process made meanwhile, or made here."""
    name = job.trial.name
    with passing_lock(place.home / ARMS / f".{name}.lock", waiting):
        return _done(place.home, name, job.trial.key) or _run(place, job, progress)


def _working(home: Place) -> Path:
    """Where runs stand while they are under way; those that belong behind a URL in the scratch."""
    if isinstance(home, RemotePath):
        return scratch("runs") / fingerprint(str(home))
    return home / RUNS


def _run(place: _Place, job: Job, progress: Any) -> Record:
    folder = _working(place.home) / job.trial.name
    began = time.monotonic()
    blank = Record(name=job.trial.name, key=job.trial.key, status="failed")
    if (folder / _MODEL / RECORD).is_file() and not any((folder / _MODEL).glob("*.safetensors")):
        remove(folder)  # of another trial by this name, whose weights are gone
    try:
        config = configs.parse(_with_what_is_left(place.home, job), job.trial.label)
        done = pipeline.run(config, folder, cache_dir=place.cache_dir, progress=progress)
        record = _record(job, done.manifest, folder, time.monotonic() - began)
    except BudgetError as error:
        remove(folder)
        record = replace(
            blank, status="infeasible", reason=str(error), seconds=time.monotonic() - began
        )
    except Exception as error:
        if _disk_is_full(error):
            raise
        record = replace(blank, reason=f"failed: {type(error).__name__}: {error}")
    finished, there = record.status == "done", place.home / RUNS / job.trial.name
    if finished and isinstance(there, RemotePath):
        _put(folder, there, keep_models=place.keep_models)
    write_record(record, place.home)
    if finished and isinstance(there, RemotePath):
        remove(folder)
    elif finished and not place.keep_models:
        _lighten(folder)
    return record


def _with_what_is_left(home: Place, job: Job) -> Plain:
    """The config of a repeated fraction, with what its scoring really left for training."""
    plain = job.trial.plain or {}
    for name, key in job.scored_by:
        known = read_record(home, name, key)
        if known is not None and known.status == "done":
            left = max(job.trial.k_flops - known.selection_flops, 1.0)
            return {**plain, "train": {**plain["train"], "flops": left}}
    return plain


def _record(job: Job, manifest: Manifest, folder: Path, seconds: float) -> Record:
    chooses = job.trial.setting.sections["select"]  # all data pay for nothing
    before = paid_before(manifest.stages) if chooses else Bill()
    table = folder / _AVERAGED_TABLE
    table = table if table.is_file() else folder / TABLE
    select, train = manifest.stage("select"), manifest.stage("train")
    if select is None or train is None:
        raise DataError(f"{folder}: its manifest has no training; remove it and run again")
    trained = read_trained(folder / _MODEL)
    return Record(
        name=job.trial.name, key=job.trial.key, status="done", selection_flops=before.value.flops,
        selection_cpu_seconds=before.value.cpu_seconds,
        made={name: cost.flops for name, cost in before.uses.items()},
        training_flops=trained.cost.flops,
        tokens=trained.cost.tokens, samples=int(select.counts["samples"]),
        n_params=int(trained.about["n_params"]),
        evaluation=f"{RUNS}/{folder.name}/{table.name}", digest=digest(table),
        seconds=seconds,
    )  # fmt: skip


def _lighten(folder: Path) -> None:
    """Remove weights and the training file of a run whose record stands."""
    for path in _heavy(folder):
        remove(path)


def _heavy(folder: Path) -> set[Path]:
    """Weights of a run, and its training file, there or not."""
    model = folder / _MODEL
    weights = {*model.glob("*.safetensors"), *(model / AVERAGED).glob("*.safetensors")}
    return weights | {folder / name for name in _FILES}


def _put(folder: Path, there: RemotePath, *, keep_models: bool) -> None:
    """Put a finished run behind its URL, its manifest last."""
    there.remove()
    left = {folder / ".lock", *(() if keep_models else _heavy(folder))}
    files = [path for path in folder.rglob("*") if path.is_file() and path not in left]
    places = [there / file.relative_to(folder).as_posix() for file in files]
    last = there / "manifest.json"

    def put(place: RemotePath) -> None:
        send(folder / place.relative_to(there), place)

    each(put, [place for place in places if place != last])
    put(last)


def _disk_is_full(error: BaseException) -> bool:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in {*FULL, errno.ENOSPC}:
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def check_room(home: Place, weight_bytes: int, runs: int, jobs: int, *, keep_models: bool) -> None:
    """Refuse a comparison for which the disk has no room.

    Args:
        home: Its folder.
        weight_bytes: Bytes of the largest base model's weights.
        runs: Runs to come.
        jobs: Runs at a time.
        keep_models: Whether the weights of every run stay.

    Raises:
        DataError: There is too little.
    """
    other = "choose another folder with -o"
    if isinstance(home, RemotePath):  # where what is kept has room
        home, keep_models = _working(home).parent, False
        other = "set DIDACT_SCRATCH to another one"
    needed = weight_bytes * (_ROOM * jobs + (runs if keep_models else 0)) if runs else 0
    free = shutil.disk_usage(home).free
    if needed > free:
        remedy = "set keep_models: false, " if keep_models else ""
        raise DataError(
            f"{home}: {free / 1e9:.3g} GB are free, and the runs need about {needed / 1e9:.3g} GB "
            f"for weights; {remedy}free some space, or {other}"
        )


class _Clock:
    """Tells after every run how much is left."""

    def __init__(
        self, foretold: Mapping[str, float], total: int, ctx: Context, done: set[str]
    ) -> None:
        self._foretold, self._total, self._ctx = foretold, total, ctx
        self._done = set(done)
        self._began, self._had = time.monotonic(), sum(foretold.get(n, 0.0) for n in done)
        if done:
            ctx.tell(f"{len(done)} of {total} runs are done already")

    def tell(self, trial: Trial, record: Record) -> None:
        """A line for a run, and how long the rest takes at the pace so far."""
        self._done.add(trial.name)
        seconds = sum(self._foretold.get(n, 0.0) for n in self._done) - self._had
        left = sum(self._foretold.values()) - self._had - seconds
        pace = (time.monotonic() - self._began) / seconds if seconds > 0 else 1.0
        what = record.status if record.status != "done" else f"{record.seconds:.0f} s"
        if record.reason:
            what += f", {record.reason}"
        self._ctx.progress(
            Progress("compare", len(self._done), self._total, "runs", note=trial.label)
        )
        self._ctx.tell(
            f"{trial.name}: {what}; {len(self._done)} of {self._total} runs, about "
            f"{_duration(max(left, 0.0) * pace)} left"
        )


def _duration(seconds: float) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
