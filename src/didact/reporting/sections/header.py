"""The head of the page: what was chosen, by what, from how much, and what to know first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from didact.core.findings import TITLE, Finding
from didact.core.manifest import StageRecord
from didact.core.scores import Scores
from didact.reporting.amounts import Amount, amount
from didact.reporting.formatting import count, shorten
from didact.reporting.subject import Subject
from didact.scoring.around.about_scores import about_scores

NOTICES = 40
NOTICE_WIDTH = 600
# Kinds of findings that tell how the data was read, where others tell what may be wrong with it.
_NO_WARNING = (
    *("duplicates", "excluded", "json_text", "label_spelled", "nothing_matched", "reasoning"),
    *("reasoning_dropped", "tools"),
)
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

    @property
    def preferred(self) -> str:
        """Its direction in words."""
        return "higher is preferred" if self.higher_is_better else "lower is preferred"


@dataclass(frozen=True, slots=True)
class Flow:
    """Rows from the files to the choice; each count is of rows.

    Attributes:
        read: Rows in the files.
        rejected: Bad rows, skipped on request.
        excluded: Rows that share text with held-out files.
        pool: Rows in the pool.
        duplicates: Rows of the pool that repeat an earlier row.
        validation: Rows of the validation split.
        unscored: Rows without a score.
        candidates: Rows that could be chosen.
        chosen: Rows that were.
    """

    read: int
    rejected: int
    excluded: int
    pool: int
    duplicates: int
    validation: int
    unscored: int
    candidates: int
    chosen: int


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the reader should know before the numbers."""

    kind: Literal["warning", "note"]
    text: str


@dataclass(frozen=True, slots=True)
class Header:
    """What is said before the sections.

    Attributes:
        tokens_estimated: Whether every token count here is an estimate.
        pool: Size of the pool.
        chosen: Size of the choice.
        flow: Rows from the files to the choice.
        scoring: What the choice was made by, or None.
        order_scoring: What the order was made by, when it is another score.
        selection: The selector.
        budget: The budget as the user gave it, or "".
        order: The orderer.
        epochs: How often each chosen sample is read.
        batch_size: Samples per optimizer step, when it is known.
        steps: Optimizer steps, when the batch size is known.
        files: What was written, relative to the report where possible.
        notices: Warnings first.
    """

    tokens_estimated: bool
    pool: Amount
    chosen: Amount
    flow: Flow
    scoring: Scoring | None
    order_scoring: Scoring | None
    selection: Method
    budget: str
    order: Method
    epochs: int
    batch_size: int | None
    steps: int | None
    files: tuple[str, ...]
    notices: tuple[Notice, ...]

    @property
    def know(self) -> str:
        """The heading of the notices."""
        return TITLE

    @property
    def tokens(self) -> str:
        """What a number of tokens is called."""
        return "tokens (estimate)" if self.tokens_estimated else "tokens"

    def about(self, text: str) -> str:
        """A number of tokens as text, marked where it is an estimate."""
        return f"≈ {text}" if self.tokens_estimated else text


def gather_header(subject: Subject) -> Header:
    """What is said before the sections, from the values of a run."""
    pool, selection, order = subject.pool, subject.selection, subject.order
    flow = _flow(subject)
    return Header(
        tokens_estimated=pool.tokens_are_estimated,
        pool=amount(pool),
        chosen=amount(pool, selection.rows),
        flow=flow,
        scoring=_scoring(subject.scores),
        order_scoring=_scoring(subject.order_scores),
        selection=_method(selection.method, selection.settings, without=("budget",)),
        budget=_budget(selection.settings.get("budget")),
        order=_method(order.method, _arranged(order.settings), without=_UNSAID),
        epochs=order.epochs,
        batch_size=order.batch_size,
        steps=order.steps,
        files=tuple(str(f) for f in subject.output_files),
        notices=_notices(subject, flow),
    )


def _flow(subject: Subject) -> Flow:
    pool, scores = subject.pool, subject.scores
    counts = pool.meta["counts"]
    return Flow(
        read=int(counts["read"]),
        rejected=int(counts["rejected"]),
        excluded=int(counts["excluded"]),
        pool=len(pool),
        duplicates=int(counts["duplicates"]),
        validation=int(np.count_nonzero(pool.in_validation)),
        unscored=0 if scores is None else len(scores.missing),
        candidates=int(np.count_nonzero(subject.candidates)),
        chosen=len(subject.selection),
    )


def _notices(subject: Subject, flow: Flow) -> tuple[Notice, ...]:
    """What the reader should know first: of the data, what was decided, what is estimated."""
    pool = subject.pool
    warnings: list[str] = []
    notes: list[str] = []
    if pool.tokens_are_estimated:
        read = subject.training is not None or subject.evaluation is not None
        but = " but those of models" if read else ""
        warnings.append(
            f"Every token count on this page{but} is an estimate ({pool.token_counter}), because "
            "no tokenizer was given. Set data.tokenizer to count them."
        )
    if not flow.chosen:
        warnings.append("Nothing was chosen.")
    warnings.extend(subject.selection.notes)
    for finding in dict.fromkeys(_findings(subject)):
        told = finding if subject.samples else replace(finding, first="")  # no ids in the page
        (notes if finding.kind in _NO_WARNING else warnings).append(str(told))
    if flow.validation:
        notes.append(
            f"{count(flow.validation)} rows are the validation split, which is never selected."
        )
    notes.extend(_stage_notes(subject.stages, {*warnings, *notes}))
    found = [Notice("warning", w) for w in warnings] + [Notice("note", n) for n in notes]
    out = [Notice(n.kind, shorten(n.text, NOTICE_WIDTH)) for n in found[:NOTICES]]
    if len(found) > NOTICES:
        left = count(len(found) - NOTICES)
        out.append(Notice("note", f"{left} more are in manifest.json"))
    return tuple(out)


def _findings(subject: Subject) -> Iterator[Finding]:
    """What stages found; of those that have no record here, what can be seen in their values."""
    said = {stage.name for stage in subject.stages if stage.findings}
    if "data" not in said:
        yield from subject.pool.findings
    if "score" not in said and subject.scores is not None:
        yield from about_scores(subject.scores)
    for stage in subject.stages:
        yield from stage.findings


def _stage_notes(stages: Sequence[StageRecord], already: set[str]) -> Iterator[str]:
    """What stages decided, once; the data stage's notes say what the flow of rows says already."""
    for stage in stages:
        for note in stage.notes if stage.name != "data" else ():
            if note not in already:
                already.add(note)
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
