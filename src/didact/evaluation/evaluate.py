"""Held-out files → an evaluation: overlap dealt with, every sample read once, results kept."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from didact.core.arrays import Int1D
from didact.core.cost import Metered
from didact.core.errors import ConfigError, DataError
from didact.core.identity import base_libraries, versions
from didact.core.keep import Piece, keep, kept_pieces, only
from didact.core.manifest import fingerprint
from didact.core.pool import Pool
from didact.core.protocols import Context, Progress
from didact.evaluation.model import EvaluatedModel, training_facts
from didact.evaluation.options import Survey, options_of, survey
from didact.evaluation.results import SCHEMA, Evaluation
from didact.evaluation.settings import EvaluateSettings
from didact.models.encode import Encoding, check_chat_template

ROWS: Final = 512  # samples that a model is given at a time, to be put in batches by length
UNTRAINED: Final = 0.9  # of ln V, what a token takes that a model knows nothing of
LISTED: Final = 5  # rows that a note names
_LIBRARIES: Final = ("peft", "tokenizers", "torch", "transformers")
# Beside the table's own: what the template's marks took, and why nothing of an answer counts.
_KEPT: Final = pa.schema(
    [*list(SCHEMA)[1:], pa.field("mark_nats", pa.float64()), pa.field("marks", pa.int64()),
     pa.field("missing", pa.string())]
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A held-out file.

    Attributes:
        path: The file.
        blake2b: Identity of its bytes.
        pool: Its samples, every one.
    """

    path: str
    blake2b: str
    pool: Pool

    @property
    def name(self) -> str:
        """The file's name, without folders."""
        return Path(self.path).name


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a worker needs to evaluate rows of a file; small and picklable.

    Attributes:
        model: The model.
        pool: The samples.
        file: The file's name.
        rows: int64, ascending: the rows to evaluate.
        settings: The settings.
        labels: The distinct answers, where the options are labels.
        size: Most tokens of a window.
        stride: From the start of a window to that of the next.
    """

    model: EvaluatedModel
    pool: Pool
    file: str
    rows: Int1D
    settings: EvaluateSettings
    labels: tuple[str, ...]
    size: int
    stride: int

    @property
    def encoding(self) -> Encoding:
        """How samples become tokens."""
        return encoding_of(self.pool, self.settings)


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
            f"{model.given} has no trained_on.npy, so whether it was trained on held-out rows "
            "cannot be checked"
        )
    works, told = [], []
    for file in files:  # everything that can be refused is, before the model is opened
        rows, overlap, said = _without_overlap(file, seen, settings)
        found = survey(file.pool, rows, settings.choices, file.name)
        works.append(_work(file, rows, found, model, settings))
        notes += [*said, *_about_options(file, found, settings)]
        told.append(
            {"file": file.name, "path": file.path, "blake2b": file.blake2b,
             "rows": len(file.pool), "overlap": overlap}
        )  # fmt: skip
    total = sum(len(work.rows) for work in works)
    tables, done = [], 0
    for work in works:
        table = _kept(work, ctx, done, total)
        done += len(work.rows)
        notes += _about_results(work, table)
        tables.append(
            table.select(_KEPT.names[:-3]).add_column(
                0, "file", pa.array([work.file] * len(table), pa.string())
            )
        )
    meta = {
        "model": model.given, "model_digest": model.digest, "training": training_facts(model),
        "settings": asdict(settings), "files": told, "notes": notes,
    }  # fmt: skip
    return Evaluation(pa.concat_tables(tables).cast(SCHEMA), meta)


def encoding_of(pool: Pool, settings: EvaluateSettings) -> Encoding:
    """How a pool's samples become tokens."""
    return Encoding(
        kind=pool.kind, loss=settings.loss, template=settings.template,
        pool_template=pool.meta["template"], max_length=settings.max_length,
    )  # fmt: skip


def windows_of(context: int, settings: EvaluateSettings) -> tuple[int, int]:
    """Size and stride of windows: those of the scorer `bits_per_byte`.

    Raises:
        ConfigError: The window is beyond the context, or the stride leaves nothing in common.
    """
    size = context if settings.window is None else settings.window
    if size > context:
        raise ConfigError(f"evaluate.window={size}: the model reads at most {context} tokens")
    stride = max(size // 2, 1) if settings.stride is None else settings.stride
    if stride >= size:
        raise ConfigError(
            f"evaluate.stride={stride}: expected less than the window of {size} tokens, so that "
            "the first token of a window has some before it"
        )
    return size, stride


def _work(
    file: HeldOut, rows: Int1D, found: Survey, model: EvaluatedModel, settings: EvaluateSettings
) -> Work:
    """The work that a file is, checked against the model's tokenizer."""
    from didact.models.language_model import context_of, open_tokenizer

    tokenizer = open_tokenizer(model.tokenizer_folder)
    if file.pool.kind != "text" and settings.loss != "text" and settings.template == "model":
        try:
            check_chat_template(tokenizer)
        except ConfigError as error:
            raise ConfigError(f"evaluate: {file.name}: {error}") from error
    size, stride = windows_of(context_of(model.path, tokenizer), settings)
    return Work(
        model=model, pool=file.pool, file=file.name, rows=rows, settings=settings,
        labels=found.labels, size=size, stride=stride,
    )  # fmt: skip


def _without_overlap(
    file: HeldOut, seen: Any, settings: EvaluateSettings
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
    if settings.on_overlap == "error":
        raise DataError(
            f"{file.path}: {what}: {shown}{more}; expected rows that it has never seen: remove "
            "them, or set on_overlap to drop (left out) or keep (counted)"
        )
    drop = settings.on_overlap == "drop"
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


def _kept(work: Work, ctx: Context, done: int, total: int) -> pa.Table:
    """The table of a file, from the cache or made."""
    key = {
        "model": work.model.digest,
        "pool": work.pool.fingerprint,
        "rows": fingerprint(work.rows.tolist()),
        "settings": {k: v for k, v in asdict(work.settings).items() if k != "on_overlap"},
        "libraries": {**base_libraries(), **versions(_LIBRARIES)},
    }
    ctx.progress(Progress("evaluate", done, total))
    table: pa.Table = keep(
        ctx, "evaluations", key, partial(_make, work, done, total), save=_save, load=_load
    )
    ctx.progress(Progress("evaluate", done + len(table), total))
    return table


def _make(work: Work, done: int, total: int, ctx: Context) -> pa.Table:
    cuts = range(0, len(work.rows), ROWS)
    pieces = [Piece(f"rows-{at:09d}", [(at, min(at + ROWS, len(work.rows)))]) for at in cuts]
    parts = []
    for part in kept_pieces(
        ctx, pieces, shared=work, open=_opened, device=work.settings.device, join=only,
        save=_save, load=_load,
    ):  # fmt: skip
        parts.append(part)
        done += len(part)
        ctx.progress(Progress("evaluate", done, total))
    table = pa.concat_tables(parts)
    if not table.column("all_bytes").to_numpy().any():
        reason = next(iter(table.column("missing").drop_null().to_pylist()), "no token counts")
        raise DataError(f"{work.file}: none of the {len(table)} samples counts; row 1: {reason}")
    return table


def _save(table: pa.Table, folder: Path) -> None:
    pq.write_table(table, folder / "samples.parquet")


def _load(folder: Path) -> pa.Table:
    with pq.ParquetFile(folder / "samples.parquet") as file:
        return file.read()


@contextmanager
def _opened(work: Work, device: str) -> Iterator[Any]:
    """The model, opened once in a worker."""
    with work.model.open(device, work.settings.dtype) as model:
        yield partial(_evaluated, work, model)


def _evaluated(work: Work, model: Any, span: tuple[int, int]) -> Metered[pa.Table]:
    """Some of the rows, by their places in `work.rows`."""
    from didact.evaluation.likelihoods import Reading, of_options, of_samples

    rows = work.rows[slice(*span)]
    batch = work.pool.read(rows, ["id", "source", "task", "turns"])
    how = Reading(
        encoding=work.encoding, size=work.size, stride=work.stride,
        tokens_per_batch=work.settings.tokens_per_batch,
    )  # fmt: skip
    found = of_samples(model, batch.column("turns"), how)
    value, cost = found.value, found.cost
    all_options = options_of(work.pool, rows, work.settings.choices, work.labels, work.file)
    asked = [i for i, options in enumerate(all_options) if options is not None]
    columns: dict[str, Any] = {
        name: [None] * len(rows)
        for name in ("choice_nats", "choice_bytes", "choice_chars", "right")
    }
    if asked:
        turns = batch.column("turns").take(pa.array(asked)).to_pylist()
        places = [f"{work.file}: row {rows[i] + 1}" for i in asked]
        options = [o for o in all_options if o is not None]
        judged = of_options(model, turns, options, how, places)
        cost += judged.cost
        for i, one, each in zip(asked, options, judged.value, strict=True):
            columns["choice_nats"][i], columns["choice_bytes"][i] = each.nats, each.n_bytes
            columns["choice_chars"][i], columns["right"][i] = each.chars, one.right
            if not value.answer.tokens[i]:  # the row has a prompt alone; its answer is the option
                value.answer.nats[i], value.answer.n_bytes[i], value.answer.tokens[i] = (
                    numbers[one.right] for numbers in (each.nats, each.n_bytes, each.tokens)
                )
                value.missing.pop(i, None)
    for row, nats in zip(rows.tolist(), value.everything.nats.tolist(), strict=True):
        if not math.isfinite(nats):
            raise DataError(
                f"{work.file}: row {row + 1}: its likelihood is {nats}; expected a finite number: "
                "the model's training diverged, or dtype is too narrow: set dtype=float32"
            )
    source, task = batch.column("source"), batch.column("task")
    columns |= {
        "row": rows, "id": batch.column("id"), "source": source,
        "task": ["" if t == s else t
                 for t, s in zip(task.to_pylist(), source.to_pylist(), strict=True)],
        "answer_nats": value.answer.nats, "answer_bytes": value.answer.n_bytes,
        "answer_tokens": value.answer.tokens, "all_nats": value.everything.nats,
        "all_bytes": value.everything.n_bytes, "all_tokens": value.everything.tokens,
        "mark_nats": value.mark_nats, "marks": value.marks,
        "missing": [value.missing.get(i) for i in range(len(rows))],
    }  # fmt: skip
    arrays = [pa.array(columns[field.name], field.type) for field in _KEPT]
    return Metered(pa.Table.from_arrays(arrays, schema=_KEPT), cost)
