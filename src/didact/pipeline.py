"""READ THIS FIRST. The product, a stage a paragraph.

Data → score → select → order → export → report.

`run` chains the verbs of `didact.verbs` in a run folder, which skips what it already holds. Each
stage says what it depends on and what it does; nothing else decides what is run again.
"""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from didact import config as configs
from didact.config import DataConfig, RunConfig, ScoreConfig, SelectConfig
from didact.core import registry
from didact.core.atomic import replacing
from didact.core.cost import Cost
from didact.core.errors import ConfigError
from didact.core.manifest import Manifest, fingerprint
from didact.core.pool import Pool
from didact.core.protocols import Context, ignore_progress
from didact.core.scores import Scores, Selection, TrainingOrder
from didact.data import tables
from didact.data.export import export_notes, output_counts, write_data_set
from didact.data.ingest import Read, open_cached
from didact.execution.measure import measure
from didact.run_folder import Outcome, RunFolder, environment, opened, read_manifest
from didact.verbs import (
    Path_,
    Watch,
    combine,
    context,
    estimate_selection,
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
    ways = _scorings(config, ctx)
    with opened(Path(out).absolute()) as folder:
        pool, inputs = _data_stage(folder, config, ctx)
        _selecting_cost(config.select, pool)  # refuses what can be refused before a long scoring
        scores = _score_stage(folder, "score", ways["score"], resolved["score"], pool, ctx)
        own = (resolved["order"] or {}).get("score")
        order_scores = _score_stage(folder, "order_score", ways["order_score"], own, pool, ctx)
        chosen = _select_stage(folder, config, resolved, pool, scores, ctx)
        by = scores if order_scores is None else order_scores
        ordered = _order_stage(folder, config, resolved, pool, chosen, by, ctx)
        files = _export_stage(folder, config, resolved, pool, ordered)
        _report_stage(folder, resolved, pool, scores, order_scores, chosen, ordered, files, ctx)
        for way in ways.values():
            for target in way.targets if way is not None else ():
                inputs += tuple({**i, "role": "target"} for i in target.inputs) if target else ()
        manifest = folder.finish(resolved, config.seed, inputs)
        return Run(folder.path, manifest, tuple(folder.changes))


def _scorings(config: RunConfig, ctx: Context) -> dict[str, _Scoring | None]:
    """The scores of a run, by stage; refuses a missing target before anything is read."""
    own = config.order.score if config.order is not None else None
    parts = {"score": config.score, "order_score": own}
    return {k: None if p is None else _Scoring.of(p, config, ctx) for k, p in parts.items()}


def plan(config: RunConfig, ctx: Context) -> tuple[Pool, dict[str, Cost]]:
    """What `run` would do and its estimated cost by stage; reads the data, writes no run folder."""
    ways = _scorings(config, ctx)
    pool = read_with_inputs(config.data.path, config.data, ctx).pool
    costs = {"data": _reading_cost(pool)}
    costs |= {name: way.estimate(pool) for name, way in ways.items() if way is not None}
    costs["select"] = _selecting_cost(config.select, pool)
    return pool, costs | {"report": _report_cost(pool)}


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
        "data": config.data.model_dump(mode="json", exclude={"path", "exclude", "tokenizer"}),
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


def _selecting_cost(part: SelectConfig | None, pool: Pool) -> Cost:
    if part is None:
        return Cost()
    return estimate_selection(pool, part.method, budget=part.budget, **part.settings())


@dataclass(frozen=True, slots=True)
class _Scoring:
    """One score of the config, with the target sets it and the scores it combines need, read once.

    `targets` follow the scores in the order they stand in the config.
    """

    part: ScoreConfig
    targets: tuple[Read | None, ...]

    @classmethod
    def of(cls, part: ScoreConfig, config: RunConfig, ctx: Context) -> _Scoring:
        return cls(part, tuple(_target(leaf, config, ctx) for leaf in part.leaves()))

    def models(self) -> list[str]:
        """Content of the models that judge: a folder may hold another one today."""
        from didact.models.folder import digest, find

        found = []
        for leaf in self.part.leaves():
            settings = leaf.checked()
            scorer = registry.find("scorers", str(leaf.method))
            names = [settings.get(key) for key in getattr(scorer, "model_settings", ())]
            found += [digest(find(name)) for name in names if name]
        return found

    def estimate(self, pool: Pool) -> Cost:
        cost = Cost()
        for leaf, target in zip(self.part.leaves(), self.targets, strict=True):
            scorer = registry.find("scorers", str(leaf.method))(**leaf.checked())
            cost += scorer.estimate(pool.stats, target.pool.stats if target else None)
        return cost

    def run(self, pool: Pool, ctx: Context) -> Scores:
        return self._run(self.part, iter(self.targets), pool, ctx)

    def _run(
        self, part: ScoreConfig, targets: Iterator[Read | None], pool: Pool, ctx: Context
    ) -> Scores:
        if part.combine is None:
            target = next(targets)
            aim = target.pool if target is not None else None
            return score(pool, str(part.method), target=aim, ctx=ctx, **part.settings())
        scores = []
        for i, inner in enumerate(part.of):
            scratch = ctx.scratch / str(i) if ctx.scratch is not None else None
            scores.append(self._run(inner, targets, pool, replace(ctx, scratch=scratch)))
        return combine(scores, part.combine, weights=part.weights)


def _target(leaf: ScoreConfig, config: RunConfig, ctx: Context) -> Read | None:
    """The target set of one scorer, read like the pool unless it has settings of its own."""
    if leaf.target is None:
        if registry.find("scorers", str(leaf.method))(**leaf.checked()).needs_target:
            raise ConfigError(
                f"score.{leaf.method}: needs a target set, the samples to select for; set "
                "score.target to a file"
            )
        return None
    if isinstance(leaf.target, DataConfig):
        return read_with_inputs(leaf.target.path, leaf.target, ctx)
    return read_target(leaf.target, config.data, ctx)


def _score_stage(
    folder: RunFolder, name: str, scoring: _Scoring | None, settings: Any, pool: Pool, ctx: Context
) -> Scores | None:
    if scoring is None:
        return None
    path = folder.path / ("scores.parquet" if name == "score" else f"{name}s.parquet")

    def work() -> Outcome:
        before = ctx.executor.spent
        scores = scoring.run(pool, replace(ctx, scratch=folder.scratch(name)))
        tables.write_scores(scores, pool, path)
        spent = ctx.executor.spent
        cost = Cost(
            flops=spent.flops - before.flops,
            tokens=spent.tokens - before.tokens,
            device_seconds=spent.device_seconds - before.device_seconds,
        )
        notes: tuple[str, ...] = ()
        if "note" in scores.facts:
            notes += (str(scores.facts["note"]),)
        if scores.missing:
            row, why = next(iter(scores.missing.items()))
            notes += (f"rows without a score: {len(scores.missing):,}; row {row}: {why}",)
        counts = {"rows": len(scores), "missing": len(scores.missing), "tasks": len(scores.tasks)}
        return Outcome([path], counts, notes, scores.facts, cost)

    depends = {
        "pool": pool.fingerprint,
        "models": scoring.models(),
        "targets": [t.pool.fingerprint if t else None for t in scoring.targets],
        "score": _without_paths(settings),
        "seed": ctx.seed,
    }
    folder.stage(name, depends, work, estimated=scoring.estimate(pool))
    return tables.read_scores(path)


def _without_paths(score: Any) -> Any:
    """A resolved score without its targets: their content counts, not where it lies."""
    out = {k: v for k, v in score.items() if k not in {"target", "of"}}
    return out | {"of": [_without_paths(s) for s in score.get("of", [])]}


def _made(folder: RunFolder, name: str) -> str | None:
    """Identity of the files a stage made: what later stages depend on."""
    record = next((r for r in folder.records if r.name == name), None)
    return None if record is None else fingerprint(record.outputs)


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
        part = config.select
        if part is None:
            chosen = everything(pool, scores)
        else:
            chosen = select(
                pool, scores, part.method, budget=part.budget,
                ctx=replace(ctx, scratch=folder.scratch("select")), **part.settings(),
            )  # fmt: skip
        tables.write_selection(chosen, scores, pool, path)
        counts = {"in": len(pool), **chosen.describe(pool, scores)}
        return Outcome([path], counts, chosen.notes)

    depends = {
        "pool": pool.fingerprint,
        "scores": _made(folder, "score"),
        "select": resolved["select"],
        "seed": config.seed,
    }
    if (resolved["select"] or {}).get("near_duplicates"):  # what is near depends on its version
        depends["rensa"] = importlib.metadata.version("rensa")
    folder.stage("select", depends, work, estimated=_selecting_cost(config.select, pool))
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
        "select": _made(folder, "select"),
        "scores": _made(folder, "order_score") or _made(folder, "score"),
        # scores of its own count by their content, above
        "order": {k: v for k, v in (resolved["order"] or {}).items() if k != "score"},
        "seed": config.seed,
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
        notes = export_notes(pool, config.export)
        return Outcome(files, output_counts(pool, ordered), notes)

    depends = {
        "pool": pool.fingerprint,
        "order": _made(folder, "order"),
        "export": resolved["export"],
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
        "config": resolved,
    }
    folder.stage("report", depends, work, estimated=_report_cost(pool))


def report(
    folder: Path_, path: Path_, *, samples: bool | None = None, cache_dir: Path_ | None = None
) -> None:
    """Write the report of a finished run again, to any file; `samples` as the run had it."""
    from didact.reporting import write_report

    home = Path(folder)
    manifest = read_manifest(home)
    if samples is None:
        samples = bool(manifest.config["report"]["samples"])
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
