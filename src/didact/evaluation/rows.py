"""Rows of a held-out file → a table of what they took; finished pieces and tables are kept."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from didact.accounting.lengths import window_and_stride
from didact.core.arrays import Int1D
from didact.core.cost import Metered
from didact.core.errors import ConfigError, DataError
from didact.core.identity import base_libraries, versions
from didact.core.keep import Piece, keep, kept_pieces, only
from didact.core.manifest import fingerprint
from didact.core.pool import Pool
from didact.core.protocols import Context, Progress
from didact.evaluation.model import EvaluatedModel
from didact.evaluation.options import options_of
from didact.evaluation.results import SCHEMA
from didact.evaluation.settings import EvaluateSettings
from didact.models.encode import Encoding, check_chat_template

ROWS: Final = 512  # samples that a model is given at a time, to be put in batches by length
_LIBRARIES: Final = ("peft", "tokenizers", "torch", "transformers")
# Beside the table's own: what the template's marks took, and why nothing of an answer counts.
KEPT: Final = pa.schema(
    [*list(SCHEMA)[1:], pa.field("mark_nats", pa.float64()), pa.field("marks", pa.int64()),
     pa.field("missing", pa.string())]
)  # fmt: skip


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
    """

    model: EvaluatedModel
    pool: Pool
    file: str
    rows: Int1D
    settings: EvaluateSettings
    labels: tuple[str, ...]

    @property
    def encoding(self) -> Encoding:
        """How samples become tokens."""
        return encoding_of(self.pool, self.settings)


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
    return window_and_stride(
        context, settings.window, settings.stride, where="evaluate", model="the model"
    )


def check_work(work: Work) -> tuple[int, int]:
    """Size and stride of the windows, once samples and settings are known to fit the model.

    Raises:
        ConfigError: The model has no chat template, or the windows do not fit it.
    """
    from didact.models.language_model import context_of, open_tokenizer

    settings = work.settings
    tokenizer = open_tokenizer(work.model.tokenizer_folder)
    if work.pool.kind != "text" and settings.loss != "text" and settings.template == "model":
        try:
            check_chat_template(tokenizer)
        except ConfigError as error:
            raise ConfigError(f"evaluate: {work.file}: {error}") from error
    return windows_of(context_of(work.model.path, tokenizer), settings)


def kept_table(work: Work, ctx: Context, done: int, total: int) -> pa.Table:
    """What the rows took, with the columns of `KEPT`, from the cache or made.

    Args:
        work: The rows of a file.
        ctx: Executor, cache, progress.
        done: Rows of other files that are done, for progress.
        total: Rows of all files.
    """
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
    windows = check_work(work)
    cuts = range(0, len(work.rows), ROWS)
    pieces = [Piece(f"rows-{at:09d}", [(at, min(at + ROWS, len(work.rows)))]) for at in cuts]
    parts = []
    for part in kept_pieces(
        ctx, pieces, shared=(work, windows), open=_opened, device=work.settings.device, join=only,
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
def _opened(shared: tuple[Work, tuple[int, int]], device: str) -> Iterator[Any]:
    """The model, opened once in a worker."""
    work, windows = shared
    with work.model.open(device, work.settings.dtype) as model:
        yield partial(_evaluated, work, windows, model)


def _evaluated(
    work: Work, windows: tuple[int, int], model: Any, span: tuple[int, int]
) -> Metered[pa.Table]:
    """Some of the rows, by their places in `work.rows`."""
    from didact.evaluation.likelihoods import Reading, of_options, of_samples

    rows = work.rows[slice(*span)]
    batch = work.pool.read(rows, ["id", "source", "task", "turns"])
    how = Reading(
        encoding=work.encoding, size=windows[0], stride=windows[1],
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
    arrays = [pa.array(columns[field.name], field.type) for field in KEPT]
    return Metered(pa.Table.from_arrays(arrays, schema=KEPT), cost)
