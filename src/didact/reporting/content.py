"""What the report says, as frozen plain values; `page` only draws them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from didact.core.arrays import Bool1D
from didact.core.cost import Bill, Cost, total
from didact.core.manifest import StageRecord
from didact.core.pool import Pool
from didact.core.protocols import Context
from didact.core.scores import Scores, Selection, TrainingOrder, check_pool
from didact.reporting.distributions import (
    Cut,
    Distribution,
    find_cut,
    length_distribution,
    score_distribution,
)
from didact.reporting.formatting import count, shorten
from didact.reporting.redundancy import Redundancy, redundancy
from didact.reporting.samples import Group, groups
from didact.reporting.sequence import Along, along_order
from didact.reporting.sources import Amount, Sources, amount, source_shares
from didact.selection.around.budget import eligible

NOTICES = 40
NOTICE_WIDTH = 600
_UNSAID = ("epochs", "batch_size")  # told beside the order's method, not among its settings


@dataclass(frozen=True, slots=True)
class Method:
    """What did a step, as the config writes it."""

    name: str
    settings: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Scoring:
    """The scores the choice was made by.

    Attributes:
        method: The scorer.
        higher_is_better: Its direction.
        tasks: Target tasks.
        missing: Reason → rows without a score for it, the most frequent first.
    """

    method: Method
    higher_is_better: bool
    tasks: tuple[str, ...]
    missing: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Flow:
    """Rows from the files to the choice; each count is of rows.

    Attributes:
        read: Rows in the files.
        rejected: Bad rows, skipped on request.
        excluded: Rows that share text with held-out files.
        pool: Rows in the pool.
        duplicates: Rows of the pool that repeat an earlier row.
        held: Rows of the validation split.
        unscored: Rows without a score.
        candidates: Rows that could be chosen.
        chosen: Rows that were.
    """

    read: int
    rejected: int
    excluded: int
    pool: int
    duplicates: int
    held: int
    unscored: int
    candidates: int
    chosen: int


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the reader should know before the numbers."""

    kind: Literal["warning", "note"]
    text: str


@dataclass(frozen=True, slots=True)
class StageCost:
    """One line of the cost table.

    Attributes:
        name: The stage.
        reused: Whether its result was already there.
        estimated_cpu_seconds: Foreseen processor time.
        cpu_seconds: Processor time that making it takes from nothing.
        charged_cpu_seconds: Processor time spent by this run.
        estimated_flops: Foreseen floating-point operations of models.
        flops: Of making it from nothing.
        charged_flops: Spent by this run.
        device_seconds: Accelerator time of making it from nothing.
        wall_seconds: Elapsed time.
        peak_memory_bytes: Largest resident memory of all processes together.
    """

    name: str
    reused: bool
    estimated_cpu_seconds: float
    cpu_seconds: float
    charged_cpu_seconds: float
    estimated_flops: float
    flops: float
    charged_flops: float
    device_seconds: float
    wall_seconds: float
    peak_memory_bytes: int


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What identifies one stage's result."""

    stage: str
    fingerprint: str
    outputs: tuple[tuple[str, str], ...]
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Report:
    """All of it.

    Attributes:
        kind: What the samples are.
        tokens_estimated: Whether every token count here is an estimate.
        token_counter: What counted the tokens.
        pool: Size of the pool.
        chosen: Size of the choice.
        flow: Rows from the files to the choice.
        scoring: What the choice was made by, or None.
        order_scoring: What the order was made by, when it is another score.
        selection: The selector.
        budget: The budget as the user gave it, or "".
        order: The orderer.
        epochs: How often each chosen sample is read.
        files: What was written, relative to the report where possible.
        notices: Warnings first.
        sources: Before and after, by source.
        lengths: Tokens per sample.
        scores: Distribution of the scores, or None.
        cut: How the choice relates to the score, or None.
        redundancy: The chosen set beside random sets, or None.
        along: The order, or None when it is empty.
        costs: The cost table.
        total: Its last line.
        samples: Groups of samples to read; None when the report leaves all user text out.
        config: The resolved config.
        environment: Versions a result may depend on.
        fingerprints: Identities of the stages' results.
        pool_fingerprint: Identity of the pool.
    """

    kind: str
    tokens_estimated: bool
    token_counter: str
    pool: Amount
    chosen: Amount
    flow: Flow
    scoring: Scoring | None
    order_scoring: Scoring | None
    selection: Method
    budget: str
    order: Method
    epochs: int
    files: tuple[str, ...]
    notices: tuple[Notice, ...]
    sources: Sources
    lengths: Distribution
    scores: Distribution | None
    cut: Cut | None
    redundancy: Redundancy | None
    along: Along | None
    costs: tuple[StageCost, ...]
    total: StageCost
    samples: tuple[Group, ...] | None
    config: Mapping[str, Any]
    environment: Mapping[str, str]
    fingerprints: tuple[Fingerprint, ...]
    pool_fingerprint: str

    def to_json(self) -> dict[str, Any]:
        """As JSON values; every number that the page draws is in it."""
        return asdict(self)


def gather(
    *,
    pool: Pool,
    scores: Scores | None,
    order_scores: Scores | None,
    selection: Selection,
    order: TrainingOrder,
    stages: Sequence[StageRecord],
    config: Mapping[str, Any],
    samples: bool,
    ctx: Context,
    output_files: Sequence[str | Path] = (),
    environment: Mapping[str, str] | None = None,
) -> Report:
    """Everything the report says, computed from the run's values.

    Args:
        pool: What was chosen from.
        scores: What was chosen by, or None.
        order_scores: What was ordered by, if other than `scores`.
        selection: The choice.
        order: Its sequence.
        stages: Records of the stages so far.
        config: The resolved config.
        samples: False leaves all user text out: samples and ids.
        ctx: Seed.
        output_files: What was exported.
        environment: Versions a result may depend on.

    Raises:
        PoolMismatchError: One of the values belongs to another pool.

    **Cost:** one pass over the pool's store, whose texts are not kept; some sorts of the columns
    in memory; six compressions of at most 16 MB.
    """
    selection.check(pool)
    check_pool("ordered rows", order.pool_fingerprint, pool.fingerprint, "re-run 'didact order'")
    for values in (scores, order_scores):
        if values is not None:
            values.check(pool)
    candidates = candidate_rows(pool, scores, selection)
    by = order_scores if order_scores is not None else scores
    flow = _flow(pool, scores, selection, candidates)
    free = np.flatnonzero(candidates)
    cut = find_cut(scores, selection.rows, candidates) if scores is not None else None
    return Report(
        kind=pool.kind,
        tokens_estimated=pool.tokens_are_estimated,
        token_counter=pool.token_counter,
        pool=amount(pool),
        chosen=amount(pool, selection.rows),
        flow=flow,
        scoring=_scoring(scores),
        order_scoring=_scoring(order_scores),
        selection=_method(selection.method, selection.settings, without=("budget",)),
        budget=_budget(selection.settings.get("budget")),
        order=_method(order.method, _arranged(order.settings), without=_UNSAID),
        epochs=order.epochs,
        files=tuple(str(f) for f in output_files),
        notices=_notices(pool, scores, selection, flow, stages),
        sources=source_shares(pool, selection.rows),
        lengths=length_distribution(pool.n_tokens, selection.rows),
        scores=score_distribution(scores, selection.rows, cut) if scores is not None else None,
        cut=cut,
        redundancy=redundancy(pool, selection.rows, free, ctx),
        along=along_order(pool, order, by) if len(order) else None,
        costs=tuple(_stage_cost(s) for s in stages),
        total=_total(stages),
        samples=groups(pool, scores, selection, order, candidates, ctx) if samples else None,
        config=dict(config),
        environment=dict(environment or {}),
        fingerprints=tuple(_fingerprint(s) for s in stages),
        pool_fingerprint=pool.fingerprint,
    )


def candidate_rows(pool: Pool, scores: Scores | None, selection: Selection) -> Bool1D:
    """True on the rows that could have been chosen, `(n,)`: the chosen ones are among them.

    Of equal rows one counts: the chosen one, else the first.
    """
    out = np.zeros(len(pool), dtype=bool)
    out[selection.rows] = True
    ranking = np.concatenate([selection.rows, np.flatnonzero(~out)])
    out[ranking[eligible(pool, ranking, scores)]] = True
    return out


def _flow(pool: Pool, scores: Scores | None, selection: Selection, candidates: Bool1D) -> Flow:
    counts = pool.meta["counts"]
    return Flow(
        read=int(counts["read"]),
        rejected=int(counts["rejected"]),
        excluded=int(counts["excluded"]),
        pool=len(pool),
        duplicates=int(counts["duplicates"]),
        held=int(np.count_nonzero(pool.in_validation)),
        unscored=0 if scores is None else len(scores.missing),
        candidates=int(np.count_nonzero(candidates)),
        chosen=len(selection),
    )


def _notices(
    pool: Pool,
    scores: Scores | None,
    selection: Selection,
    flow: Flow,
    stages: Sequence[StageRecord],
) -> tuple[Notice, ...]:
    """What the reader should know first: what was left out, what is estimated, what was decided."""
    warnings, notes = [], []
    if pool.tokens_are_estimated:
        warnings.append(
            f"Every token count on this page is an estimate ({pool.token_counter}), because no "
            "tokenizer was given. Set data.tokenizer to count them."
        )
    if not flow.chosen:
        warnings.append("Nothing was chosen.")
    warnings.extend(selection.notes)
    if flow.rejected:
        warnings.append(f"{count(flow.rejected)} bad rows were skipped: rejected.jsonl")
    if scores is not None and scores.missing:
        reasons = "; ".join(f"{reason} ({count(n)})" for reason, n in _missing(scores)[:3])
        warnings.append(
            f"{count(flow.unscored)} rows have no score and cannot be chosen: {reasons}"
        )
    if flow.excluded:
        notes.append(
            f"{count(flow.excluded)} rows share text with held-out files and were left out."
        )
    if flow.duplicates:
        how = "count once" if pool.dedup else "were kept, as dedup is off"
        notes.append(f"{count(flow.duplicates)} rows repeat an earlier row exactly; they {how}.")
    if flow.held:
        notes.append(f"{count(flow.held)} rows are the validation split, which is never selected.")
    notes.extend(_stage_notes(stages, {*warnings, *notes}))
    found = [Notice("warning", w) for w in warnings] + [Notice("note", n) for n in notes]
    out = [Notice(n.kind, shorten(n.text, NOTICE_WIDTH)) for n in found[:NOTICES]]
    if len(found) > NOTICES:
        left = count(len(found) - NOTICES)
        out.append(Notice("note", f"{left} more are in manifest.json"))
    return tuple(out)


def _stage_notes(stages: Sequence[StageRecord], told: set[str]) -> Iterator[str]:
    """What stages decided, once; the data stage's notes say what the flow of rows says already."""
    for stage in stages:
        for note in stage.notes if stage.name != "data" else ():
            if note not in told:
                told.add(note)
                yield f"{stage.name}: {note}"


def _scoring(scores: Scores | None) -> Scoring | None:
    if scores is None:
        return None
    return Scoring(
        method=_method(scores.method, scores.settings),
        higher_is_better=scores.higher_is_better,
        tasks=tuple(shorten(t, 60) for t in scores.tasks[:50]),
        missing=_missing(scores),
    )


def _missing(scores: Scores) -> tuple[tuple[str, int], ...]:
    found = Counter(shorten(reason, 200) for reason in scores.missing.values())
    return tuple(sorted(found.items(), key=lambda item: (-item[1], item[0])))[:10]


def _method(name: str, settings: Mapping[str, Any], without: Sequence[str] = ()) -> Method:
    """The settings that say something, as `name = value` would be written."""
    given = {k: _plain(v) for k, v in settings.items() if k not in without and v is not None}
    return Method(name, tuple((k, shorten(v, 80)) for k, v in given.items() if v))


def _arranged(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """An order's settings, without the interleaving that was not asked for."""
    return {k: v for k, v in settings.items() if not (k == "interleave" and v is False)}


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k}={_plain(v)}" for k, v in value.items() if v is not None)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_plain(v) for v in value) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _budget(budget: Any) -> str:
    """'tokens=2,000,000' from either form a selection may keep its budget in."""
    return "" if budget in (None, "none") else _plain(budget)


def _stage_cost(stage: StageRecord) -> StageCost:
    measured = stage.measured
    return _line(
        stage.name, measured.bill, stage.estimated, reused=measured.reused,
        wall_seconds=measured.wall_seconds, peak_memory_bytes=measured.peak_memory_bytes,
    )  # fmt: skip


def _line(name: str, bill: Bill, estimated: Cost, **more: Any) -> StageCost:
    return StageCost(
        name=name,
        estimated_cpu_seconds=estimated.cpu_seconds,
        cpu_seconds=bill.value.cpu_seconds,
        charged_cpu_seconds=bill.charged.cpu_seconds,
        estimated_flops=estimated.flops,
        flops=bill.value.flops,
        charged_flops=bill.charged.flops,
        device_seconds=bill.value.device_seconds,
        **more,
    )


def _total(stages: Sequence[StageRecord]) -> StageCost:
    """Of all stages; a kept value that several use counts once, memory is the largest."""
    return _line(
        "in all",
        sum((s.measured.bill for s in stages), Bill()),
        total(s.estimated for s in stages),
        reused=False,
        wall_seconds=sum(s.measured.wall_seconds for s in stages),
        peak_memory_bytes=max((s.measured.peak_memory_bytes for s in stages), default=0),
    )


def _fingerprint(stage: StageRecord) -> Fingerprint:
    outputs = tuple((str(k), v) for k, v in list(stage.outputs.items())[:50])
    return Fingerprint(stage.name, stage.fingerprint, outputs, dict(stage.facts))
