"""From vectors to scores: how close each sample of a pool is to the samples of a target set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from didact.core.arrays import Float2D
from didact.core.cost import Cost, Metered
from didact.core.errors import DataError
from didact.core.keep import keep
from didact.core.pool import Pool
from didact.core.protocols import BatchScorer, BatchScores, Context, Device, Fitted, Progress
from didact.models.embed import Vectors
from didact.scoring.around.score_pool import model_batches

Within = Literal["mean", "max", "each"]
BatchEmbed = Callable[[pa.RecordBatch], Metered[Vectors]]

_CARRIED_BYTES = 8 * 2**20  # larger target vectors go to workers as a file
_BLOCK = 256  # rows compared with all target samples at a time


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """A model that embeds samples, ready to be opened; small and picklable.

    Attributes:
        open: `device` → the function of a batch, and what shows only where it is open.
        columns: What it reads of a batch.
        device: Where it runs; None for one without a device of its own.
        identity: What its vectors depend on, JSON values.
    """

    open: Callable[[str], AbstractContextManager[tuple[BatchEmbed, dict[str, str]]]]
    columns: tuple[str, ...]
    device: Device | None
    identity: Any


@dataclass(frozen=True, slots=True)
class TargetVectors:
    """Unit vectors of the samples of a target set.

    Attributes:
        path: Their file, float32 `(m, d)`; workers read it.
        missing: Row to the reason it has none.
    """

    path: Path
    missing: Mapping[int, str]


def similarity(
    encoder: Encoder,
    target: Pool,
    ctx: Context,
    *,
    target_encoder: Encoder,
    within: Within,
    reduce: Literal["mean", "max"],
    where: str,
    facts: Mapping[str, Any],
) -> Fitted:
    """A fitted scorer: cosines of each sample to the target set's.

    Args:
        encoder: Encodes the pool's samples.
        target: The target set.
        ctx: Counts what encoding the target costs; its cache holds the target's vectors.
        target_encoder: Encodes the target's: the same model, perhaps another part of the samples.
        within: How cosines to one task's samples become its score: their `mean`, their `max`, or
            `each` its own, named by the sample's id.
        reduce: How scores per task (or per target sample) become one.
        where: For messages, such as "score.embedding".
        facts: What the result depends on beside the settings.

    Raises:
        DataError: A task of the target has no sample with an embedding.
    """
    found = keep(
        ctx, "target-vectors", [target_encoder.identity, target.fingerprint],
        partial(_embed, target, target_encoder), save=_save, load=_load,
    )  # fmt: skip
    vectors, missing = np.load(found.path, allow_pickle=False), found.missing
    tasks = np.asarray(target.task_codes)
    present = np.setdiff1d(np.arange(len(target)), np.fromiter(missing, np.int64))
    for code, name in enumerate(target.task_names):
        if code not in tasks[present]:
            row = int(np.flatnonzero(tasks == code)[0])
            raise DataError(
                f"{where}: target task {name!r} has no sample with an embedding (row {row}: "
                f"{missing[row]}); drop the task, or look at another part of its samples"
            )
    names, starts = target.task_names, None
    kept: Path | npt.NDArray[np.float32]
    if within == "each":
        ids = target.ids
        names = tuple(ids[i].as_py() for i in present.tolist())
        rows = present
    else:
        rows = present[np.argsort(tasks[present], kind="stable")]  # task after task
        first = np.searchsorted(tasks[rows], np.arange(len(names)))
        if within == "max":
            starts = tuple(first.tolist())
        else:
            counts = np.bincount(tasks[rows], minlength=len(names))
            sums = np.add.reduceat(vectors[rows].astype(np.float64), first)
            vectors = (sums / counts[:, None]).astype(np.float32)
            rows = np.arange(len(names))
    kept = found.path
    if within == "mean" or vectors[rows].nbytes <= _CARRIED_BYTES:  # few enough to be sent along
        kept, rows = vectors[rows], np.arange(len(rows))
    return Fitted(
        open=partial(_open, encoder, kept, rows, starts),
        columns=encoder.columns,
        tasks=names,
        reduce=reduce,
        device=encoder.device,
        facts={**facts, "target_samples": len(present), "target_left_out": len(missing)},
    )


_Embedded = tuple[npt.NDArray[np.float32], dict[int, str]]


def _embed(target: Pool, encoder: Encoder, ctx: Context) -> _Embedded:
    """Unit vectors of all target samples, and why some have none; on the first device."""

    def embed_target(device: str) -> Metered[_Embedded]:
        parts: list[npt.NDArray[np.float32]] = []
        missing: dict[int, str] = {}
        cost = Cost()
        ctx.progress(Progress("embed the target", 0, len(target)))
        with encoder.open(device) as (embed, _):
            for rows in model_batches(target):
                found = embed(target.read(rows, encoder.columns))
                parts.append(found.value.values)
                missing |= {rows.start + row: why for row, why in found.value.missing.items()}
                cost += found.cost
                ctx.progress(Progress("embed the target", rows.stop, len(target)))
        return Metered((np.concatenate(parts), missing), cost)

    return ctx.executor.call(embed_target, device=encoder.device)


def _save(found: _Embedded, folder: Path) -> None:
    vectors, missing = found
    np.save(folder / "vectors.npy", vectors, allow_pickle=False)
    (folder / "missing.json").write_bytes(orjson.dumps(missing, option=orjson.OPT_NON_STR_KEYS))


def _load(folder: Path) -> TargetVectors:
    missing = orjson.loads((folder / "missing.json").read_bytes())
    return TargetVectors(folder / "vectors.npy", {int(k): v for k, v in missing.items()})


@contextmanager
def _open(
    encoder: Encoder,
    vectors: npt.NDArray[np.float32] | Path,
    rows: npt.NDArray[np.int64],
    starts: tuple[int, ...] | None,
    index: int,
    device: str,
) -> Iterator[BatchScorer]:
    """The model and the target's vectors, opened once per worker.

    Args:
        encoder: Encodes the pool's samples.
        vectors: float32 `(m, d)` or the file that holds them.
        rows: Rows of the matrix to compare with: one for each task (the mean of its samples'), or
            target samples.
        starts: The first of each task, for the largest cosine of each; else None.
        index: The pass.
        device: The worker's.
    """
    del index
    given = np.load(vectors, allow_pickle=False) if isinstance(vectors, Path) else vectors
    with encoder.open(device) as (embed, facts):
        yield partial(_score, embed, facts, given[rows].astype(np.float64), starts)


def _score(
    embed: BatchEmbed,
    facts: dict[str, str],
    target: Float2D,
    starts: tuple[int, ...] | None,
    batch: pa.RecordBatch,
) -> Metered[BatchScores]:
    metered = embed(batch)
    found = metered.value
    parts = {} if found.truncated is None else {"truncated": found.truncated.astype(np.float64)}
    values = cosines(found.values, target, starts)
    return Metered(BatchScores(values, parts, found.missing, facts), metered.cost)


def cosines(
    vectors: npt.NDArray[np.float32], target: Float2D, starts: tuple[int, ...] | None = None
) -> Float2D:
    """Inner products in float64, a block of rows at a time.

    Args:
        vectors: Unit vectors `(b, d)`.
        target: `(m, d)`.
        starts: The first target vector of each of K groups, to keep the largest of each.

    Returns:
        `(b, K)`, or `(b, m)` without groups.
    """
    out = np.empty((len(vectors), len(target) if starts is None else len(starts)))
    for at in range(0, len(vectors), _BLOCK):
        found = vectors[at : at + _BLOCK].astype(np.float64) @ target.T
        if starts is not None:
            found = np.maximum.reduceat(found, starts, axis=1)
        out[at : at + _BLOCK] = found
    return out
