"""score: one number for every sample; order_score: another one to order by."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from didact.config import DataConfig, RunConfig, ScoreConfig
from didact.core.cost import Cost, total
from didact.core.errors import ConfigError
from didact.core.manifest import StageRecord
from didact.core.paths import Place
from didact.core.protocols import Context
from didact.core.scores import Scores
from didact.core.statistics import spearman
from didact.data import tables
from didact.data.about import SKIPPED_TARGET_ROWS, rejected_rows
from didact.data.reading.ingest import Ingested
from didact.runs.folder import Outcome, output
from didact.scoring.around.about_scores import about_scores, about_target
from didact.stages.left_out import listed, rejected
from didact.stages.stage import Compare, Stage, Values
from didact.verbs import combine, identified, read_target, read_with_inputs, score

Section = Callable[[RunConfig], ScoreConfig | None]
Targets = tuple[Ingested | None, ...]  # of the scores, in the order they stand in the config


def _leaves(section: Section, config: RunConfig) -> list[ScoreConfig]:
    found = section(config)
    return [] if found is None else found.leaves()


def _check(section: Section, config: RunConfig) -> None:
    for leaf in _leaves(section, config):
        if leaf.target is None and leaf.scorer().needs_target:
            raise ConfigError(
                f"score.{leaf.method}: needs a target set, the samples to select for; set "
                "score.target to a file"
            )


def _read(section: Section, config: RunConfig, ctx: Context) -> Targets:
    return tuple(_target(leaf, config, ctx) for leaf in _leaves(section, config))


def _target(leaf: ScoreConfig, config: RunConfig, ctx: Context) -> Ingested | None:
    """The target set of one scorer, read like the pool unless it has settings of its own."""
    if leaf.target is None:
        return None
    if isinstance(leaf.target, DataConfig):
        return read_with_inputs(leaf.target.path, leaf.target, ctx, role="target")
    return read_target(leaf.target, config.data, ctx)


def _inputs(targets: Targets) -> tuple[dict[str, Any], ...]:
    return tuple({**i, "role": "target"} for read in targets if read for i in read.inputs)


def _depends(section: Section, name: str, values: Values) -> Mapping[str, Any]:
    config = values.config
    methods = [
        identified("scorers", str(leaf.method), leaf.settings())
        for leaf in _leaves(section, config)
    ]
    settings = values.resolved["score"]
    if name == "order_score":
        settings = values.resolved["order"]["score"]
    return {
        "pool": values.pool.fingerprint,
        "methods": methods,
        "targets": [t.pool.fingerprint if t else None for t in values.read[name]],
        "score": _without_paths(settings),
        "seed": config.seed_of("draw"),
    }


def _without_paths(resolved: Any) -> Any:
    """A resolved score without its targets: their content counts, not where it lies."""
    out = {k: v for k, v in resolved.items() if k not in {"target", "of"}}
    return out | {"of": [_without_paths(s) for s in resolved.get("of", [])]}


def _estimate(section: Section, name: str, values: Values) -> Cost:
    stats = values.read["data"].pool.stats
    return total(
        leaf.scorer().estimate(stats, target.pool.stats if target else None)
        for leaf, target in zip(_leaves(section, values.config), values.read[name], strict=True)
    )


def _work(section: Section, name: str, values: Values, folder: Place, ctx: Context) -> Outcome:
    found = section(values.config)
    assert found is not None  # noqa: S101 - the stage is wanted
    ctx = replace(ctx, seed=values.config.seed_of("draw"))
    scores = _scored(found, iter(values.read[name]), values, ctx)
    path = folder / f"{name}s.parquet"
    tables.write_scores(scores, values.pool, path)
    notes = tuple(_notes(scores.facts))
    reads = {read.pool.fingerprint: read for read in values.read[name] if read is not None}
    targets = [read.pool for read in reads.values()]
    lost = f"rejected_{name}_target.jsonl"
    written = [path, *listed(targets, "rejected", folder / lost)]
    findings = [*about_scores(scores)]
    aims = {
        read.pool.fingerprint
        for leaf, read in zip(_leaves(section, values.config), values.read[name], strict=True)
        if read is not None and leaf.scorer().needs_target
    }
    for fingerprint, read in reads.items():
        aimed_at = fingerprint in aims
        findings += about_target(values.pool, read.pool, _own_files(read), aimed_at=aimed_at)
    findings += rejected_rows(targets, "target files", lost, SKIPPED_TARGET_ROWS)
    counts = {"rows": len(scores), "missing": len(scores.missing), "tasks": len(scores.tasks),
              "rejected_target": rejected(targets)}  # fmt: skip
    return Outcome(written, counts, notes, tuple(findings), scores.facts)


def _notes(facts: Mapping[str, Any]) -> Iterator[str]:
    """What scores say of themselves, those that were combined one after another."""
    if "note" in facts:
        yield str(facts["note"])
    for name, part in facts.items():
        if isinstance(part, Mapping):
            yield from (f"{name}: {note}" for note in _notes(part))


def _own_files(read: Ingested) -> list[str]:
    return [str(file["path"]) for file in read.inputs if "role" not in file]


def _scored(
    section: ScoreConfig, targets: Iterator[Ingested | None], values: Values, ctx: Context
) -> Scores:
    if section.combine is None:
        target = next(targets)
        target_pool = target.pool if target is not None else None
        return score(
            values.pool, str(section.method), target=target_pool, ctx=ctx, **section.settings()
        )
    scores = [_scored(inner, targets, values, ctx) for inner in section.of]
    return combine(scores, section.combine, weights=section.weights)


def _load(name: str, folder: Place, record: StageRecord, values: Values, ctx: Context) -> Scores:
    del values, ctx
    return tables.read_scores(output(folder, record, f"{name}s.parquet"))


def _compare(a: Scores, b: Scores) -> Mapping[str, Any]:
    return {"scores": {"spearman": rank_correlation(a, b)}}


def rank_correlation(a: Scores, b: Scores) -> float | None:
    """Spearman's, of two utilities over the rows scored in both; None where there is none."""
    both = a.present & b.present
    if both.sum() < 2:
        return None
    found = spearman(a.utility[both], b.utility[both])
    return found if math.isfinite(found) else None


def _does(section: Section, config: RunConfig) -> str:
    found = section(config)
    return "" if found is None else str(found.method or found.combine)


def _by(config: RunConfig) -> ScoreConfig | None:
    return config.score


def _ordered_by(config: RunConfig) -> ScoreConfig | None:
    return config.order.score if config.order is not None else None


def _stage(name: str, section: Section, compare: Compare | None = None) -> Stage:
    return Stage(
        name=name,
        wanted=lambda config: section(config) is not None,
        check=partial(_check, section),
        read=partial(_read, section),
        inputs=_inputs,
        depends=partial(_depends, section, name),
        estimate=partial(_estimate, section, name),
        work=partial(_work, section, name),
        load=partial(_load, name),
        compare=compare,
        does=partial(_does, section),
    )


STAGE = _stage("score", _by, _compare)
ORDER_STAGE = _stage("order_score", _ordered_by)
