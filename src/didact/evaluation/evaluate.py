"""Held-out files → an evaluation: overlap dealt with, every sample read once, results kept."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from didact.core.arrays import Int1D, UInt64s
from didact.core.errors import DataError
from didact.core.paths import is_url
from didact.core.pool import Pool
from didact.core.protocols import Context
from didact.evaluation.model import EvaluatedModel, training_facts
from didact.evaluation.options import Survey, survey
from didact.evaluation.results import SCHEMA, Evaluation
from didact.evaluation.rows import KEPT, Work, kept_table
from didact.evaluation.settings import EvaluateSettings, OnOverlap
from didact.training.trained import TRAINED_ON

UNTRAINED: Final = 0.9  # of ln V, what a token takes that a model knows nothing of
LISTED: Final = 5  # rows that a note names


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A held-out file.

    Attributes:
        path: The file.
        blake2b: Identity of its bytes.
        pool: Its samples, every one.
        n_bytes: Its size.
    """

    path: str
    blake2b: str
    pool: Pool
    n_bytes: int

    @property
    def name(self) -> str:
        """The file's name, without folders."""
        path = self.path.partition("?")[0] if is_url(self.path) else self.path
        return Path(path).name


def evaluate(
    files: Sequence[HeldOut], model: EvaluatedModel, settings: EvaluateSettings, ctx: Context
) -> Evaluation:
    """Evaluate a model on held-out files.

    Answers and everything come from one forward pass over each sample; a long one is read in the
    windows of the scorer `bits_per_byte`. Options of a multiple choice take a pass each.

    Args:
        files: The files, no two of one name.
        model: The model.
        settings: What counts and how.
        ctx: Executor, cache, progress.

    Raises:
        DataError: A row is not what it should be; with `on_overlap=error`, the model has been
            trained on rows; a likelihood is not a finite number.
        ConfigError: Samples, settings and model do not fit each other.

    **Cost:** a forward pass over every sample; for each option another one over prompt and option.
    """
    names = [file.name for file in files]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            f"{twice[0]}: several held-out files have this name, by which results are told apart; "
            "rename one, or evaluate them in two calls"
        )
    notes = [*_about_training(model, settings)]
    seen = model.trained_on()
    if seen is None:
        notes.append(
            f"{model.given} has no {TRAINED_ON}, so whether it was trained on held-out rows "
            "cannot be checked"
        )
    works, told = [], []
    for file in files:  # everything that can be refused is, before the model is opened
        rows, overlap, said = without_overlap(file, seen, settings.on_overlap)
        found = survey(file.pool, rows, settings.choices, file.name)
        works.append(
            Work(
                model=model,
                pool=file.pool,
                file=file.name,
                rows=rows,
                settings=settings,
                labels=found.labels,
            )
        )
        notes += [*said, *_about_options(file, found, settings)]
        told.append(
            {"file": file.name, "path": file.path, "blake2b": file.blake2b,
             "rows": len(file.pool), "overlap": overlap}
        )  # fmt: skip
    total = sum(len(work.rows) for work in works)
    tables, done = [], 0
    for work in works:
        table = kept_table(work, ctx, done, total)
        done += len(work.rows)
        notes += _about_results(work, table)
        tables.append(
            table.select(KEPT.names[:-3]).add_column(
                0, "file", pa.array([work.file] * len(table), pa.string())
            )
        )
    meta = {
        "model": model.given, "model_digest": model.digest, "training": training_facts(model),
        "settings": asdict(settings), "files": told, "notes": notes,
    }  # fmt: skip
    return Evaluation(pa.concat_tables(tables).cast(SCHEMA), meta)


def without_overlap(
    file: HeldOut, seen: UInt64s | None, on_overlap: OnOverlap
) -> tuple[Int1D, list[int], list[str]]:
    """Rows to evaluate, rows that the model was trained on, and what to say of them."""
    every = np.arange(len(file.pool))
    if seen is None:
        return every, [], []
    known = np.isin(file.pool.content_hash, seen)
    overlap = np.flatnonzero(known)
    if not len(overlap):
        return every, [], []
    ids = file.pool.read(overlap[:LISTED], ["id"]).column("id").to_pylist()
    shown = ", ".join(
        f"row {row + 1} ({id_})" for row, id_ in zip(overlap[:LISTED].tolist(), ids, strict=True)
    )
    more = f" and {len(overlap) - LISTED:,} more" if len(overlap) > LISTED else ""
    what = f"{len(overlap):,} of {len(every):,} rows are among what the model was trained on"
    if on_overlap == "error":
        raise DataError(
            f"{file.path}: {what}: {shown}{more}; expected rows that it has never seen: remove "
            "them, or set on_overlap to drop (left out) or keep (counted)"
        )
    drop = on_overlap == "drop"
    if drop and len(overlap) == len(every):
        raise DataError(
            f"{file.path}: all {len(every):,} rows are among what the model was trained on; give "
            "other held-out rows, or set on_overlap=keep to see how well it remembers them"
        )
    note = f"{file.name}: {what} and {'left out' if drop else 'counted'}: {shown}{more}"
    return every[~known] if drop else every, overlap.tolist(), [note]


def _about_training(model: EvaluatedModel, settings: EvaluateSettings) -> Iterator[str]:
    """Notes on samples that are shown otherwise than in training."""
    trained = (model.training() or {}).get("settings") or {}
    for name, here in (("template", settings.template), ("loss", settings.loss)):
        there = trained.get(name, here)
        as_text = "text" in {settings.loss, trained.get("loss")}
        if there != here and (name == "template" or as_text):
            yield (
                f"the model was trained with {name}={there} and is evaluated with {name}={here}: "
                "what it finds unlikely may be the form; set the same to judge what it has learnt"
            )


def _about_options(file: HeldOut, found: Survey, settings: EvaluateSettings) -> Iterator[str]:
    plain = found.n - found.questions
    if plain and (found.questions or settings.choices == "letters"):
        yield (
            f"{file.name}: {plain:,} of {found.n:,} rows have no options and are no multiple "
            "choice; their answers count in bits per byte"
        )


def _about_results(work: Work, table: pa.Table) -> Iterator[str]:
    """Notes on answers that are missing, and on a model or a template that looks untrained."""
    from didact.models.architecture import read_spec

    reasons = table.column("missing").drop_null().to_pylist()
    if reasons:
        most = max(set(reasons), key=reasons.count)
        yield (
            f"{work.file}: {len(reasons):,} of {len(table):,} rows have no answer that counts: "
            f"{most}"
        )
    blind = math.log(read_spec(work.model.path).vocab)
    sums = {name: float(table.column(name).to_numpy().sum())
            for name in ("all_nats", "all_tokens", "mark_nats", "marks")}  # fmt: skip
    if sums["all_nats"] >= UNTRAINED * blind * sums["all_tokens"]:
        yield (
            f"{work.file}: the model looks untrained: a token takes "
            f"{sums['all_nats'] / sums['all_tokens']:.2f} nats, and {blind:.2f} takes no knowledge"
        )
    elif sums["marks"] and sums["mark_nats"] >= UNTRAINED * blind * sums["marks"]:
        yield (
            f"{work.file}: the model has never seen this chat template: a mark of it takes "
            f"{sums['mark_nats'] / sums['marks']:.2f} nats, and {blind:.2f} takes no knowledge; "
            "set template=plain or roles, or train with the template first"
        )
