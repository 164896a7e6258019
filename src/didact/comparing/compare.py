"""Compare: a grid in, its bill first, then every run, and what they come to."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from didact import verbs
from didact.comparing.bill import Bill, billed
from didact.comparing.estimates import Estimates
from didact.comparing.grid import Grid, GridGiven, read_grid
from didact.comparing.ground import Ground, one_at_a_time, open_ground
from didact.comparing.measured import task_of
from didact.comparing.points import points_of
from didact.comparing.records import ARMS, Record, read_record, selection_flops
from didact.comparing.running import check_room, run_trials
from didact.comparing.settings import Setting, settings_of
from didact.comparing.speed import Speed, measured_speed
from didact.comparing.told import Asked, told
from didact.comparing.trials import Trial, trials_of
from didact.comparing.writing import write_comparison
from didact.core.errors import ConfigError, DataError, did_you_mean
from didact.core.manifest import fingerprint
from didact.core.paths import Given, Place, listed, place
from didact.core.protocols import Context
from didact.evaluation.results import HIGHER_IS_BETTER, write_evaluation
from didact.execution.devices import local_devices
from didact.planning.comparison import ALL, Comparison


@dataclass(frozen=True, slots=True)
class Compared:
    """What a comparison came to.

    Attributes:
        folder: Its folder.
        bill: What was to be paid when it was begun.
        comparison: What it found; None of a dry run.
        failed: Name of a run that failed → why.
    """

    folder: Place
    bill: Bill
    comparison: Comparison | None = None
    failed: Mapping[str, str] | None = None


def compare(
    grid: GridGiven,
    out: Given,
    *,
    dry_run: bool = False,
    max_hours: float | None = None,
    jobs: int = 1,
    so_far: bool = False,
    about_to_run: Callable[[Bill], None] | None = None,
    ctx: Context | None = None,
) -> Compared:
    """Which method, at equal total compute: run a grid and tell what it comes to.

    Every arm pays for its scoring what that takes from nothing, and trains one epoch of the longest
    prefix that the rest of its budget allows. The base model, random samples and all data are
    always there. Started again in the same folder, it does what is not done; several processes may
    share a folder.

    Args:
        grid: A Grid, plain values, or a YAML or TOML file, here or behind a URL.
        out: The folder of the comparison. Behind a URL runs are put there once they are done; until
            then they stand in the scratch.
        dry_run: Stop after the bill.
        max_hours: Most hours; settings are dropped to keep to them, see
            `didact.comparing.bill.billed`.
        jobs: Runs at a time, in processes.
        so_far: Run nothing, and tell what is done.
        about_to_run: Told of the bill before the first run.
        ctx: Cache, progress, and who is told.

    Raises:
        ConfigError: The grid is wrong, or the folder holds something else.
        DataError: A file is bad, held-out samples are among those that must not be, the disk is
            full, or no two arms have the metric.
        BudgetError: The arms that stay take longer than `max_hours`.

    **Source:** after Yin and Rush (arXiv:2410.16208); differences by Holm 1979 over runs with
    samples nested inside.
    **Cost:** the bill's; the pool is tokenised once and four optimizer steps are timed.
    """
    ctx = ctx or verbs.context()
    checked, where = read_grid(grid)
    home = place(out).absolute()
    arms = home / ARMS
    if so_far and not (arms.is_dir() and listed(arms, "*.json")):
        raise DataError(f"{home}: no run is done there; run it without --so-far first")
    settings = settings_of(checked, where)
    _check_metric(checked.metric, where)
    ground = open_ground(checked, settings, home, ctx, where, making=not so_far)
    ahead = Estimates(ground)
    trials = trials_of(ahead, settings)
    done = {
        t.name: r.seconds for t in trials
        if (r := read_record(home, t.name, t.key)) is not None and r.status != "failed"
    }  # fmt: skip
    speeds = _speeds(ahead, settings, timing=not so_far)
    device = _device(ahead, settings)
    # runs on one processor share its cores, those on one accelerator its time
    devices = 1 if device == "cpu" else min(jobs, len(local_devices(device)))
    bill = billed(ahead, settings, trials, speeds, done=done, jobs=devices, max_hours=max_hours)
    going = [t for t in trials if t.setting.label not in bill.dropped or t.name in done]
    staying = {t.setting.label for t in going}
    kept = [s for s in settings if s.label not in bill.dropped or s.label in staying]
    trials = [t for t in trials if t.setting.label in staying]
    if dry_run:
        return Compared(home, bill)
    if about_to_run is not None and not so_far:
        about_to_run(bill)
    base_tables = _evaluated_bases(ground, making=not so_far)
    if so_far:
        read = (read_record(home, t.name, t.key) for t in trials)
        records = {record.name: record for record in read if record is not None}
    else:
        weights = max(base.weight_bytes for base in ground.bases.values())
        runs = sum(t.plain is not None and t.name not in done for t in going)
        check_room(home, weights, runs, jobs, keep_models=checked.keep_models)
        records = run_trials(
            going, home, ctx, foretold=_foretold(ahead, going, speeds),
            keep_models=checked.keep_models, jobs=jobs, device=device,
        )  # fmt: skip
    points, notes = points_of(ahead, kept, trials, records, base_tables)
    whole = replace(
        billed(ahead, kept, trials, speeds, jobs=devices), dropped=bill.dropped
    )  # fmt: skip
    about = _about(ahead, kept, whole, speeds, records, notes)
    asked = Asked(
        metric=checked.metric, choosing=tuple(task_of(f.name) for f in ground.choosing),
        telling=tuple(task_of(f.name) for f in ground.telling),
    )  # fmt: skip
    comparison = told(points, asked, about)
    write_comparison(comparison, home)
    failed = {r.name: r.reason for r in records.values() if r.status == "failed"}
    return Compared(home, bill, comparison, failed)


def _check_metric(metric: str, where: str) -> None:
    known = sorted(HIGHER_IS_BETTER.keys() - {"chance"})
    if metric not in known:
        raise ConfigError(f"{where}: metric {metric!r} is unknown{did_you_mean(metric, known)}")


def _speeds(ahead: Estimates, settings: Sequence[Setting], *, timing: bool) -> dict[str, Speed]:
    """Digest of a base → how fast all data train it."""
    out: dict[str, Speed] = {}
    for setting in settings:
        base = ahead.ground.base_of(setting)
        if setting.method == ALL and base.digest not in out:
            out[base.digest] = measured_speed(ahead, setting, timing=timing)
    return out


def _foretold(
    ahead: Estimates, trials: Sequence[Trial], speeds: Mapping[str, Speed]
) -> dict[str, float]:
    """Name of a trial → wall seconds that its training and evaluation are foretold to take."""
    out = {}
    for trial in trials:
        if trial.plain is not None:
            flops = trial.training_flops + ahead.evaluation(trial.setting).flops
            out[trial.name] = speeds[ahead.ground.base_of(trial.setting).digest].seconds(flops)
    return out


def _device(ahead: Estimates, settings: Sequence[Setting]) -> Any:
    """What trainings run on: the CPU or accelerators."""
    some = next(s for s in settings if s.method == ALL)
    asked = ahead.train_settings(some).device
    return "cpu" if local_devices(asked)[0] == "cpu" else asked


def _evaluated_bases(ground: Ground, *, making: bool) -> dict[str, Place]:
    """Digest of a base → the table of its evaluation, made once."""
    out: dict[str, Place] = {}
    for base in ground.bases.values():
        key = fingerprint([base.digest, ground.identity, ground.grid.evaluate])[:16]
        path = out[base.digest] = ground.home / "bases" / f"{key}.parquet"
        if path.is_file():
            continue
        if not making:
            raise DataError(f"{path}: the base model is not evaluated; run it without --so-far")
        with one_at_a_time(ground.home, "evaluate the base model", ground.ctx):
            if not path.is_file():
                found = verbs.evaluate(
                    base.model, ground.held_out, name="base", ctx=ground.ctx, **ground.grid.evaluate
                )
                write_evaluation(found, path)
    return out


def _about(
    ahead: Estimates,
    settings: Sequence[Setting],
    bill: Bill,
    speeds: Mapping[str, Speed],
    records: Mapping[str, Record],
    notes: Sequence[str],
) -> dict[str, Any]:
    """What stands beside the numbers, JSON values."""
    ground, grid = ahead.ground, ahead.ground.grid
    bases: list[dict[str, Any]] = []
    for setting in settings:
        if setting.method == ALL and all(
            b["model"] != ground.base_of(setting).model for b in bases
        ):
            base, whole = ground.base_of(setting), ahead.full_pass(setting)
            speed = speeds[base.digest]
            bases.append(
                {
                    "name": setting.place[0], "model": base.model, "digest": base.digest,
                    "n_params": base.n_params,
                    "full_pass_flops": whole.flops, "full_pass_tokens": whole.tokens,
                    "samples": whole.samples,
                    **({} if math.isnan(speed.flops_per_second) else {
                        "flops_per_second": speed.flops_per_second,
                        "flops_per_cpu_second": speed.flops_per_cpu_second,
                        "device": speed.device,
                    }),
                }
            )  # fmt: skip
    return {
        "pool": {"fingerprint": ground.pool.fingerprint, "samples": len(ground.pool),
                 "name": _named(grid)},
        "bases": bases, "budgets": list(grid.budgets), "seeds": list(grid.seeds),
        "metric": grid.metric, "tasks": grid.tasks, "fraction": grid.fraction,
        "choose_on": [file.name for file in ground.choosing],
        "tell_on": [file.name for file in ground.telling],
        "axes": {axis: list(values) for axis, values in grid.axes.items()},
        "bill": None if math.isnan(bill.seconds) else bill.to_json(),
        "spent": {
            "training_flops": sum(r.training_flops for r in records.values()),
            "selection_flops": selection_flops(records.values()),
            "hours": sum(r.seconds for r in records.values()) / 3600,
            "runs": len(records),
        },
        "notes": list(notes),
    }  # fmt: skip


def _named(grid: Grid) -> str:
    path = grid.data_section.get("path", "")
    paths = [path] if isinstance(path, str) else path
    return ", ".join(place(each).name for each in paths)
