"""From vectors to scores: how close each sample of a pool is to the samples of a target set."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from didact.core.atomic import replacing
from didact.core.cost import Cost, Metered
from didact.core.errors import DataError
from didact.core.pool import Pool
from didact.core.protocols import BatchScorer, BatchScores, Context, FittedScorer, Progress
from didact.scoring.run import MODEL_ROWS

if TYPE_CHECKING:
    from didact.models.embed import Vectors

Within = Literal["mean", "max", "each"]
Float64 = npt.NDArray[np.float64]
BatchEmbed = Callable[[pa.RecordBatch], "Metered[Vectors]"]

_CARRIED_BYTES = 8 * 2**20  # larger target vectors go to workers as a file
_BLOCK = 256  # rows compared with all target samples at a time


class Encoder(Protocol):
    """A model that can be opened; small and picklable."""

    @property
    def columns(self) -> tuple[str, ...]:
        """What it reads of a batch."""
        ...

    @property
    def devices(self) -> tuple[str, ...]:
        """Where it runs; `()` for one without a device of its own."""
        ...

    def open(self, device: str) -> AbstractContextManager[BatchEmbed]:
        """The function of a batch, on a device."""
        ...


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
) -> FittedScorer:
    """A fitted scorer: cosines of each sample to the target set's.

    Args:
        encoder: For the pool.
        target: The target set.
        ctx: Counts what encoding the target costs; its cache folder holds large target vectors.
        target_encoder: For the target: the same model, perhaps another part of the samples.
        within: How cosines to one task's samples become its score: their `mean`, their `max`, or
            `each` its own, named by the sample's id.
        reduce: How scores per task (or per target sample) become one.
        where: For messages, such as "score.embedding".
        facts: What the result depends on beside the settings.

    Raises:
        DataError: A task of the target has no sample with an embedding.
    """
    vectors, missing = _target_vectors(target, target_encoder, ctx)
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
    if within == "each":
        ids = target.ids
        names = tuple(ids[i].as_py() for i in present.tolist())
        vectors = vectors[present]
    else:
        present = present[np.argsort(tasks[present], kind="stable")]  # task after task
        vectors = vectors[present]
        first = np.searchsorted(tasks[present], np.arange(len(names)))
        if within == "max":
            starts = tuple(first.tolist())
        else:
            counts = np.bincount(tasks[present], minlength=len(names))
            sums = np.add.reduceat(vectors.astype(np.float64), first)
            vectors = (sums / counts[:, None]).astype(np.float32)
    return _Similarity(
        encoder=encoder,
        vectors=_carried(vectors, ctx.cache_dir),
        starts=starts,
        tasks=names,
        reduce=reduce,
        facts={**facts, "target_samples": len(present), "target_left_out": len(missing)},
    )


def _target_vectors(
    target: Pool, encoder: Encoder, ctx: Context
) -> tuple[npt.NDArray[np.float32], dict[int, str]]:
    """Unit vectors of all target samples, and why some have none; on the first device."""
    device = encoder.devices[0] if encoder.devices else None

    def embed_target() -> Metered[tuple[npt.NDArray[np.float32], dict[int, str]]]:
        parts: list[npt.NDArray[np.float32]] = []
        missing: dict[int, str] = {}
        cost = Cost()
        ctx.progress(Progress("embed the target", 0, len(target)))
        with encoder.open(device or "cpu") as embed:
            for rows in _pieces(target):
                found = embed(target.read(rows, encoder.columns))
                parts.append(found.value.values)
                missing |= {rows.start + row: why for row, why in found.value.missing.items()}
                cost += found.cost
                ctx.progress(Progress("embed the target", rows.stop, len(target)))
        return Metered((np.concatenate(parts), missing), cost)

    return ctx.executor.call(embed_target, device=device)


def _pieces(target: Pool) -> Iterator[range]:
    """Rows a model works on at a time, as when it scores the pool."""
    for rows in target.batches():
        yield from (rows[i : i + MODEL_ROWS] for i in range(0, len(rows), MODEL_ROWS))


def _carried(vectors: npt.NDArray[np.float32], cache_dir: Path) -> npt.NDArray[np.float32] | Path:
    """The vectors themselves when they are few, else a file named by their content."""
    if vectors.nbytes <= _CARRIED_BYTES:
        return vectors
    name = hashlib.blake2b(np.ascontiguousarray(vectors).data, digest_size=16).hexdigest()
    path = cache_dir / "target-vectors" / f"{name}.npy"
    if not path.exists():
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.save(file, vectors, allow_pickle=False)
    return path


@dataclass(frozen=True, kw_only=True)
class _Similarity:
    """See `similarity`.

    Attributes:
        vectors: float32 `(m, d)` or the file that holds them: a vector for each task (the mean of
            its samples'), or for each target sample.
        starts: The first vector of each task, for the largest cosine of each; else None.
    """

    encoder: Encoder
    vectors: npt.NDArray[np.float32] | Path
    starts: tuple[int, ...] | None
    tasks: tuple[str, ...]
    reduce: Literal["mean", "max"]
    facts: Mapping[str, Any]
    higher_is_better: bool = field(default=True, init=False)
    passes: int = field(default=1, init=False)

    @property
    def columns(self) -> tuple[str, ...]:
        """What it reads of a batch."""
        return self.encoder.columns

    @property
    def devices(self) -> tuple[str, ...]:
        """Where the model runs."""
        return self.encoder.devices

    @contextmanager
    def open(self, index: int, device: str) -> Iterator[BatchScorer]:
        """The model and the target's vectors, opened once per worker."""
        del index
        vectors = self.vectors
        if isinstance(vectors, Path):
            vectors = np.load(vectors, allow_pickle=False)
        with self.encoder.open(device) as embed:
            yield partial(_score, embed, vectors.astype(np.float64), self.starts)


def _score(
    embed: BatchEmbed, target: Float64, starts: tuple[int, ...] | None, batch: pa.RecordBatch
) -> Metered[BatchScores]:
    metered = embed(batch)
    found = metered.value
    parts = {} if found.truncated is None else {"truncated": found.truncated.astype(np.float64)}
    values = cosines(found.values, target, starts)
    return Metered(BatchScores(values, parts, found.missing), metered.cost)


def cosines(
    vectors: npt.NDArray[np.float32], target: Float64, starts: tuple[int, ...] | None = None
) -> Float64:
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
