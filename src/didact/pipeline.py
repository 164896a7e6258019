"""READ THIS FIRST. The product, a stage a paragraph.

Data → score → select → order → export → report.

`run` chains the verbs of `didact.verbs` in a run folder, which skips what it already holds. Each
stage says what it depends on and what it does; nothing else decides what is run again.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from didact import config as configs
from didact.config import DataConfig, RunConfig, ScoreConfig
from didact.core import registry
from didact.core.cost import Cost
from didact.core.manifest import Manifest
from didact.core.pool import Pool
from didact.core.protocols import Context, ignore_progress
from didact.core.scores import Scores, Selection, TrainingOrder
from didact.data import tables
from didact.data.atomic import replacing
from didact.data.export import output_counts, write_data_set
from didact.data.ingest import Read, open_cached
from didact.execution.measure import measure
from didact.run_folder import Outcome, RunFolder, environment, opened, read_manifest
from didact.verbs import (
    Path_,
    Watch,
    combine,
    context,
    everything,
    order,
    read_target,
    read_with_inputs,
    score,
    select,
)

# Processor seconds a byte, from benchmarks/main_job.py on one core: reading and canonicalising
# chats, and reading text twice for the report. They only serve `estimated`.
_READ_SECONDS_PER_BYTE = 3.5e-8
_REPORT_SECONDS_PER_BYTE = 0.5e-8
_REPORT_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run: its folder, its manifest, what changed since the folder's last run."""

    folder: Path
    manifest: Manifest
    changes: tuple[str, ...]


def run(
    config: RunConfig | Mapping[str, Any] | Path_,
    out: Path_,
    *,
    workers: int | None = None,
    cache_dir: Path_ | None = None,
    progress: Watch = ignore_progress,
) -> Run:
    """The main job. Started again in the same folder, it skips what is there and unchanged.

    Args:
        config: A RunConfig, plain values, or the path of a YAML or TOML file.
        out: The run folder.
        workers: Threads; the result does not depend on it.
        cache_dir: Where canonical pools are kept.
        progress: Told of work done.

    Raises:
        DidactError: Something the user can fix; the run folder keeps every finished stage.
    """
    if isinstance(config, str | Path):
        config = configs.load(Path(config))
    elif not isinstance(config, RunConfig):
        config = configs.parse(config)
    resolved = config.resolved()
    ctx = context(config.seed, workers, cache_dir, progress)
    with opened(Path(out).absolute()) as folder:
        pool, inputs = _data_stage(folder, config, ctx)
        scores = _score_stage(folder, "score", config.score, config, pool, ctx)
        own = config.order.score if config.order is not None else None
        order_scores = _score_stage(folder, "order_score", own, config, pool, ctx)
        chosen = _select_stage(folder, config, resolved, pool, scores, ctx)
        by = scores if order_scores is None else order_scores
        ordered = _order_stage(folder, config, resolved, pool, chosen, by, ctx)
        files = _export_stage(folder, config, resolved, pool, ordered)
        _report_stage(folder, resolved, pool, scores, order_scores, chosen, ordered, files, ctx)
        for part in (config.score, own):
            for target in _targets(part, config, ctx) if part is not None else ():
                inputs += tuple({**i, "role": "target"} for i in target.inputs) if target else ()
        manifest = folder.finish(resolved, config.seed, inputs)
        return Run(folder.path, manifest, tuple(folder.changes))


def plan(config: RunConfig, ctx: Context) -> tuple[Pool, dict[str, Cost]]:
    """What `run` would do and its estimated cost by stage; reads the data, writes no run folder."""
    data = config.data
    pool = read_with_inputs(data.path, data, ctx).pool
    costs = {"data": _reading_cost(pool)}
    parts = [("score", config.score), ("order_score", config.order.score if config.order else None)]
    for name, part in parts:
        if part is not None:
            costs[name] = _estimate(part, config, pool, ctx)
    costs |= {"select": Cost(), "order": Cost(), "export": Cost(), "report": _report_cost(pool)}
    return pool, costs


def _data_stage(
    folder: RunFolder, config: RunConfig, ctx: Context
) -> tuple[Pool, tuple[dict[str, Any], ...]]:
    # The pool is read first: its content, not its path, is what the stages depend on.
    with measure() as reading:
        found = read_with_inputs(config.data.path, config.data, ctx)
    pool = found.pool

    def work() -> Outcome:
        written = []
        for name in ("rejected.jsonl", "excluded.jsonl"):
            if (pool.path / name).exists():
                with replacing(folder.path / name) as temporary:
                    shutil.copyfile(pool.path / name, temporary)
                written.append(folder.path / name)
        counts = {**pool.meta["counts"], "tokens": pool.stats.n_tokens, "bytes": pool.stats.n_bytes}
        facts = {"token_counter": pool.meta["token_counter"]}
        return Outcome(written, counts, _data_notes(pool, counts), facts)

    depends = {
        "pool": pool.fingerprint,
        "data": config.data.model_dump(mode="json", exclude={"path"}),
    }
    estimated = _reading_cost(pool)
    folder.stage("data", depends, work, estimated=estimated, before=reading, cached=found.reused)
    return pool, found.inputs


def _data_notes(pool: Pool, counts: Mapping[str, Any]) -> tuple[str, ...]:
    notes = []
    if counts["rejected"]:
        notes.append(f"bad rows, listed in rejected.jsonl: {counts['rejected']:,}")
    if counts["excluded"]:
        notes.append(f"rows with held-out text, listed in excluded.jsonl: {counts['excluded']:,}")
    if counts["duplicates"]:
        how = "counted once" if pool.dedup else "kept (dedup: none)"
        notes.append(f"exact duplicates of earlier rows: {counts['duplicates']:,}, {how}")
    if pool.tokens_are_estimated:
        notes.append(f"token counts are an estimate ({pool.token_counter}); give data.tokenizer")
    return tuple(notes)


def _reading_cost(pool: Pool) -> Cost:
    return Cost(cpu_seconds=_READ_SECONDS_PER_BYTE * pool.stats.n_bytes)


def _report_cost(pool: Pool) -> Cost:
    return Cost(cpu_seconds=_REPORT_SECONDS + _REPORT_SECONDS_PER_BYTE * pool.stats.n_bytes)


def _targets(part: ScoreConfig, config: RunConfig, ctx: Context) -> list[Read | None]:
    """Target sets of a score, or of those it combines; read like the pool unless told otherwise."""
    if part.combine is not None:
        return [t for inner in part.of for t in _targets(inner, config, ctx)]
    if part.target is None:
        return [None]
    if isinstance(part.target, DataConfig):
        return [read_with_inputs(part.target.path, part.target, ctx)]
    return [read_target(part.target, config.data, ctx)]


def _estimate(part: ScoreConfig, config: RunConfig, pool: Pool, ctx: Context) -> Cost:
    if part.combine is not None:
        return sum((_estimate(p, config, pool, ctx) for p in part.of), Cost())
    checked, _ = configs.bound("scorers", str(part.method), part.settings(), "score")
    scorer = registry.find("scorers", str(part.method))(**checked)
    (target,) = _targets(part, config, ctx)
    cost: Cost = scorer.estimate(pool.stats, target.pool.stats if target is not None else None)
    return cost


def _scores_of(part: ScoreConfig, config: RunConfig, pool: Pool, ctx: Context) -> Scores:
    if part.combine is None:
        (target,) = _targets(part, config, ctx)
        aim = target.pool if target is not None else None
        return score(pool, str(part.method), target=aim, ctx=ctx, **part.settings())
    scores = []
    for i, inner in enumerate(part.of):
        scratch = ctx.scratch / str(i) if ctx.scratch is not None else None
        scores.append(_scores_of(inner, config, pool, replace(ctx, scratch=scratch)))
    return combine(scores, part.combine, weights=part.weights)


def _score_stage(
    folder: RunFolder,
    name: str,
    part: ScoreConfig | None,
    config: RunConfig,
    pool: Pool,
    ctx: Context,
) -> Scores | None:
    if part is None:
        return None
    path = folder.path / ("scores.parquet" if name == "score" else f"{name}s.parquet")

    def work() -> Outcome:
        before = ctx.executor.spent
        scores = _scores_of(part, config, pool, replace(ctx, scratch=folder.scratch(name)))
        tables.write_scores(scores, pool, path)
        spent = ctx.executor.spent
        cost = Cost(flops=spent.flops - before.flops, tokens=spent.tokens - before.tokens)
        notes: tuple[str, ...] = ()
        if scores.missing:
            row, why = next(iter(scores.missing.items()))
            notes = (f"{len(scores.missing)} rows have no score; row {row}: {why}",)
        counts = {"rows": len(scores), "missing": len(scores.missing), "tasks": len(scores.tasks)}
        return Outcome([path], counts, notes, scores.facts, cost)

    depends = {
        "pool": pool.fingerprint,
        "targets": [t and t.pool.fingerprint for t in _targets(part, config, ctx)],
        "score": config.resolved()["score"]
        if name == "score"
        else config.resolved()["order"]["score"],
        "seed": config.seed,
        "environment": _libraries(),
    }
    folder.stage(name, depends, work, estimated=_estimate(part, config, pool, ctx))
    return tables.read_scores(path)


def _libraries() -> dict[str, str]:
    """What another version of could change a number."""
    return {k: v for k, v in environment().items() if k not in {"platform", "python"}}


def _fingerprint_of(folder: RunFolder, name: str) -> str | None:
    return next((r.fingerprint for r in folder.records if r.name == name), None)


def _select_stage(
    folder: RunFolder,
    config: RunConfig,
    resolved: Mapping[str, Any],
    pool: Pool,
    scores: Scores | None,
    ctx: Context,
) -> Selection:
    path = folder.path / "selection.parquet"

    def work() -> Outcome:
        if config.select is None:
            chosen = everything(pool, scores)
        else:
            settings = config.select.settings()
            chosen = select(
                pool, scores, config.select.method, budget=config.select.budget, ctx=ctx, **settings
            )
        tables.write_selection(chosen, scores, pool, path)
        counts = {"in": len(pool), **chosen.describe(pool, scores)}
        return Outcome([path], counts, chosen.notes)

    depends = {
        "pool": pool.fingerprint,
        "scores": _fingerprint_of(folder, "score"),
        "select": resolved["select"],
        "seed": config.seed,
        "didact": environment()["didact"],
    }
    folder.stage("select", depends, work)
    return tables.read_selection(path)[0]


def _order_stage(
    folder: RunFolder,
    config: RunConfig,
    resolved: Mapping[str, Any],
    pool: Pool,
    chosen: Selection,
    scores: Scores | None,
    ctx: Context,
) -> TrainingOrder:
    path = folder.path / "order.parquet"

    def work() -> Outcome:
        part = config.order
        if part is None:
            ordered = order(pool, chosen, scores, "keep", ctx=ctx)
        else:
            ordered = order(
                pool, chosen, scores, part.method, epochs=part.epochs, batch_size=part.batch_size,
                jitter=part.jitter, interleave=part.interleave, ctx=ctx, **part.settings(),
            )  # fmt: skip
        ids = pool.read(ordered.rows, ["id"]).column("id")
        tables.write_order(ordered, ids, path)
        return Outcome([path], {"rows": len(ordered), "steps": ordered.steps})

    depends = {
        "select": _fingerprint_of(folder, "select"),
        "scores": _fingerprint_of(folder, "order_score") or _fingerprint_of(folder, "score"),
        "order": resolved["order"],
        "seed": config.seed,
        "didact": environment()["didact"],
    }
    folder.stage("order", depends, work)
    return tables.read_order(path)


def _export_stage(
    folder: RunFolder,
    config: RunConfig,
    resolved: Mapping[str, Any],
    pool: Pool,
    ordered: TrainingOrder,
) -> list[Path]:
    def work() -> Outcome:
        files = write_data_set(pool, ordered, folder.path, config.export)
        return Outcome(files, output_counts(pool, ordered))

    depends = {
        "pool": pool.fingerprint,
        "order": _fingerprint_of(folder, "order"),
        "export": resolved["export"],
        "didact": environment()["didact"],
    }
    record = folder.stage("export", depends, work)
    return [folder.path / name for name in record.outputs]


def _report_stage(
    folder: RunFolder,
    resolved: Mapping[str, Any],
    pool: Pool,
    scores: Scores | None,
    order_scores: Scores | None,
    chosen: Selection,
    ordered: TrainingOrder,
    files: list[Path],
    ctx: Context,
) -> None:
    from didact.reporting import write_report

    path = folder.path / "report.html"

    def work() -> Outcome:
        write_report(
            path, pool=pool, scores=scores, order_scores=order_scores, selection=chosen,
            order=ordered, stages=folder.records, config=resolved,
            samples=resolved["report"]["samples"], ctx=ctx, environment=environment(),
            output_files=[str(p.relative_to(folder.path)) for p in files],
        )  # fmt: skip
        return Outcome([path], hashed=False)

    depends = {
        "stages": {r.name: r.fingerprint for r in folder.records},
        "report": resolved["report"],
        "didact": environment()["didact"],
    }
    folder.stage("report", depends, work, estimated=_report_cost(pool))


def report(
    folder: Path_, path: Path_, *, samples: bool = True, cache_dir: Path_ | None = None
) -> None:
    """Write the report of a finished run again, to any file, with or without samples to read."""
    from didact.reporting import write_report

    home = Path(folder)
    manifest = read_manifest(home)
    ctx = context(manifest.seed, None, cache_dir)
    scores, order_scores = (
        tables.read_scores(home / name) if (home / name).exists() else None
        for name in ("scores.parquet", "order_scores.parquet")
    )
    chosen, _ = tables.read_selection(home)
    pool = open_cached(chosen.pool_fingerprint, ctx.cache_dir)
    if not pool.path.exists():  # the cache was emptied: read the files again
        data = configs.parse(manifest.config).data
        pool = read_with_inputs(data.path, data, ctx).pool
        chosen.check(pool)
    exported = manifest.stage("export")
    write_report(
        Path(path), pool=pool, scores=scores, order_scores=order_scores, selection=chosen,
        order=tables.read_order(home), config=manifest.config, samples=samples, ctx=ctx,
        stages=[s for s in manifest.stages if s.name != "report"],
        environment=manifest.environment,
        output_files=list(exported.outputs) if exported is not None else [],
    )  # fmt: skip
