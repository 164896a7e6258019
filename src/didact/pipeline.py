"""READ THIS FIRST. The product: a tuple of stages, and what walks it.

A stage says what it depends on, what it will cost, what it does and how its result is loaded
(`didact.stages`, a file each); the run folder skips what it already holds (`didact.runs.folder`);
what a stage makes on the way is kept with its cost (`didact.core.keep`). Nothing else decides what
is done again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from didact import config as configs
from didact.analysis.risk.flags import read_risk
from didact.config import RunConfig
from didact.core.cost import Cost, Meter
from didact.core.errors import DamagedError, DataError
from didact.core.manifest import Manifest
from didact.core.paths import Given, Place, place, shown
from didact.core.pool import Pool
from didact.core.protocols import Context, ProgressCallback, ignore_progress
from didact.execution.choice import Kind
from didact.execution.measure import Usage, measure
from didact.runs.differences import side_by_side
from didact.runs.folder import RunFolder, open_run_folder, read_manifest
from didact.stages import data, evaluate, export, order, score, select, train
from didact.stages import report as reports
from didact.stages.stage import Stage, Values
from didact.verbs import PathLike, context

STAGES: Final[tuple[Stage, ...]] = (
    data.STAGE,
    score.STAGE,
    score.ORDER_STAGE,
    select.STAGE,
    order.STAGE,
    export.STAGE,
    train.STAGE,
    evaluate.STAGE,
    reports.STAGE,
)
_MOST_MENDED: Final = 8  # damaged entries of the cache that one run makes again before it gives up


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run: its folder, its manifest, what changed since the folder's last run."""

    folder: Place
    manifest: Manifest
    changes: tuple[str, ...]


def run(
    config: RunConfig | Mapping[str, Any] | PathLike,
    out: Given,
    *,
    workers: int | None = None,
    cache_dir: Given | None = None,
    progress: ProgressCallback = ignore_progress,
    executor: Kind | None = None,
    address: str | None = None,
) -> Run:
    """The main job. Started again in the same folder, it skips what is there and unchanged.

    Args:
        config: A RunConfig, plain values, or the path of a YAML or TOML file.
        out: The run folder, here or behind a URL (s3://bucket/run).
        workers: How many work at a time; the result does not depend on it, nor on where they are.
        cache_dir: Where pools, scores and whatever else is costly are kept.
        progress: Told of work done.
        executor: Instead of the config's: `threads`, `processes`, `serial` or `ray`.
        address: Likewise, of a Ray cluster.

    Raises:
        DidactError: Something the user can fix; the run folder keeps every finished stage.
    """
    if isinstance(config, str | Path):
        config = configs.load(config)
    elif not isinstance(config, RunConfig):
        config = configs.parse(config)
    _check(config)
    meters = {stage.name: Meter() for stage in _wanted(config)}
    execution = config.execution.with_given(executor=executor, workers=workers, address=address)
    with open_run_folder(place(out).absolute()) as folder:
        told = folder.changes.append
        ctx = context(config.seed, None, cache_dir, progress, told, executor=execution)
        for _ in range(_MOST_MENDED):
            try:
                return _run(config, folder, ctx, meters)
            except DamagedError as error:  # its entry is void now: the next try makes it again
                folder.changes.append(f"{error.path}: is damaged ({error.what}); made again")
                folder.records.clear()
                for meter in meters.values():
                    meter.start_over()
        return _run(config, folder, ctx, meters)


def _run(config: RunConfig, folder: RunFolder, ctx: Context, meters: Mapping[str, Meter]) -> Run:
    """The walk: every stage in turn, skipped where the folder has its result."""
    ahead = _look_ahead(config, ctx, meters)
    values = ahead.values
    for stage in _wanted(config):
        staged = replace(ctx, meter=meters[stage.name])
        with staged.meter.running():
            depends = stage.depends(values)
        record = folder.run_or_reuse(
            stage.name,
            depends,
            partial(stage.work, values, folder.path, staged),
            meter=staged.meter,
            estimated=ahead.costs.get(stage.name),
            used_before=ahead.usage[stage.name],
        )
        values = values.having(record, stage.load(folder.path, record, values, staged))
    inputs = [i for s in _wanted(config) for i in s.inputs(values.read[s.name])]
    lasting = {stage.name: stage.made_of for stage in STAGES if stage.lasting}
    manifest = folder.finish(values.resolved, config.seed, inputs, lasting)
    return Run(folder.path, manifest, tuple(folder.changes))


def plan(config: RunConfig, ctx: Context) -> tuple[Pool, dict[str, Cost]]:
    """What `run` would do and its estimated cost by stage; reads the data, writes no run folder."""
    _check(config)
    ahead = _look_ahead(config, ctx, {stage.name: Meter() for stage in _wanted(config)})
    pool: Pool = ahead.values.read["data"].pool
    return pool, ahead.costs


def report(
    folder: Given,
    path: Given,
    *,
    samples: bool | None = None,
    cache_dir: Given | None = None,
) -> None:
    """Write the report of a finished run again, to any file; `samples` as the run had it."""
    home = place(folder)
    manifest = read_manifest(home)
    ctx = context(manifest.seed, None, cache_dir)
    needed = [s for s in STAGES if s is not reports.STAGE]
    values = _loaded(home, manifest, ctx, needed)
    absent = [s.name for s in needed if s.wanted(values.config) and s.name not in values.made]
    if absent:
        raise DataError(f"{home}: its manifest has no stage {absent[0]!r}; run it again")
    reports.write(
        place(path),
        values,
        ctx,
        manifest.environment,
        samples=samples,
        risks=read_risk(home),
    )


def diff(run_a: Given, run_b: Given) -> dict[str, Any]:
    """Two finished runs side by side, as JSON values.

    `same_pool` says whether rows can be compared; if not, what stages have in common is absent:
    `scores`, `selection`, `order`. `jaccard` is shared ÷ united rows; `spearman` is over rows
    scored in both, of utilities, so that 1 means the same preference. Costs are value costs.
    """
    a, b = (read_manifest(place(run)) for run in (run_a, run_b))
    out = {"a": shown(run_a), "b": shown(run_b), **side_by_side(a, b)}
    pools = [r.depends_on.get("pool") if (r := m.stage("data")) else None for m in (a, b)]
    out["same_pool"] = pools[0] is not None and pools[0] == pools[1]
    if out["same_pool"]:
        comparing = {s.name: s.compare for s in STAGES if s.compare is not None}
        stages, ctx = [s for s in STAGES if s.name in comparing], context()
        made_a = _loaded(place(run_a), a, ctx, stages).made
        made_b = _loaded(place(run_b), b, ctx, stages).made
        for name, compare in comparing.items():
            if name in made_a and name in made_b:
                out |= compare(made_a[name], made_b[name])
    return out


def made(folder: Given, names: Sequence[str], ctx: Context) -> Values:
    """What some stages of a finished run made, by name; those that it did not have are left out.

    Raises:
        DataError: The run did not finish, or its files are gone.
    """
    home = place(folder)
    return _loaded(home, read_manifest(home), ctx, [s for s in STAGES if s.name in names])


def _loaded(folder: Place, manifest: Manifest, ctx: Context, stages: Sequence[Stage]) -> Values:
    """What some stages of a finished run made."""
    values = Values(configs.parse(manifest.config), manifest.config)
    for stage in stages:
        record = manifest.stage(stage.name)
        if record is not None:
            values = values.having(record, stage.load(folder, record, values, ctx))
    return values


# -- looking ahead ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Ahead:
    """What is known before any stage works: what stages read, what they will cost."""

    values: Values
    costs: dict[str, Cost]
    usage: dict[str, Usage]


def _wanted(config: RunConfig) -> list[Stage]:
    return [stage for stage in STAGES if stage.wanted(config)]


def _check(config: RunConfig) -> None:
    for stage in _wanted(config):
        stage.check(config)


def _look_ahead(config: RunConfig, ctx: Context, meters: Mapping[str, Meter]) -> _Ahead:
    """Read what stages read for themselves, the pool last; refuse what can be refused by then."""
    values = Values(config, config.resolved())
    stages = _wanted(config)
    usage: dict[str, Usage] = {}
    for stage in reversed(stages):  # a target set that is wrong shows before a pool is read
        meter = meters[stage.name]
        with measure() as used, meter.running():
            found = stage.read(config, replace(ctx, meter=meter))
        values, usage[stage.name] = values.having_read(stage.name, found), used
    costs = {stage.name: stage.estimate(values) for stage in stages}
    known = {name: cost for name, cost in costs.items() if cost is not None}
    return _Ahead(values, known, usage)
