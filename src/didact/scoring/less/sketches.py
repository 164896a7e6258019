"""Projected influence scores: the pool's gradients are sketched once, whatever the target."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from didact.core.arrays import Float32s
from didact.core.cost import Metered
from didact.core.keep import Piece, keep, kept_pieces, only
from didact.core.pool import Pool
from didact.core.protocols import BatchScorer, BatchScores, Context, Fitted, Progress
from didact.models.tokens import Tokens
from didact.scoring.around.score_pool import merged_facts, model_batches
from didact.scoring.judging.judging_model import with_note
from didact.scoring.judging.model_scorer import missing_or_not_finite
from didact.scoring.less.checkpoints import OpenCheckpoint, WarmUpCheckpoints
from didact.scoring.less.sketch_store import (
    FilledStore,
    SketchShard,
    SketchStore,
    bfloat16,
    load_store,
    save_store,
    shard_name,
)
from didact.scoring.less.target_set import TargetSet

if TYPE_CHECKING:
    from didact.gradients.influence import SampleResults


@dataclass(frozen=True)
class Sketching:
    """The projection of a pool's gradients at every checkpoint.

    Attributes:
        warm: The checkpoints.
        pool: The pool.
        dimension: Numbers of a projected gradient.
        seed: Seed of the projection.
        unit: Whether vectors are made unit `after` or `before` projection.
    """

    warm: WarmUpCheckpoints
    pool: Pool
    dimension: int
    seed: int
    unit: Literal["after", "before"]

    def fit(self, target: TargetSet, ctx: Context, reduce: Literal["mean", "max"]) -> Fitted:
        """Fill what is missing of the stores; project the target's gradients."""
        starts = tuple(rows.start for rows in model_batches(self.pool))
        stores, targets = [], []
        facts: dict[str, Any] = {}
        settings = [self.warm.key, self.dimension, self.seed, self.unit]
        for index in range(len(self.warm.checkpoints)):
            folder, found = keep(
                ctx, "sketches", [*settings, index, self.pool.fingerprint],
                partial(self._fill, index), save=save_store, load=load_store, lazy=True,
            )  # fmt: skip
            facts = merged_facts(facts, found)
            stores.append(SketchStore(folder, starts))
            targets.append(
                keep(
                    ctx, "sketched-targets", [*settings, index, *target.key],
                    partial(self._sketch_target, index, target),
                    save=_save_target, load=_load_target,
                )
            )  # fmt: skip
        return Fitted(
            open=partial(_open_index, self.pool, tuple(stores), tuple(targets), self.warm.weights),
            columns=("id_hash",),
            tasks=target.task_names,
            reduce=reduce,
            passes=len(stores),
            facts=with_note(
                {**self.warm.facts, **facts, "space": "projected"},
                f"gradients are projected to {self.dimension:,} numbers; exact scores need "
                "space=exact, and memory for the target directions (score.less.memory)",
            ),
        )

    def _fill(self, index: int, ctx: Context) -> FilledStore:
        """Sketches of all rows at a checkpoint, a piece for each shard."""
        parts = [Piece(shard_name(i), [rows]) for i, rows in enumerate(model_batches(self.pool))]
        shards = kept_pieces(
            ctx, parts, shared=(self, index), open=open_sketcher, device=self.warm.judge.device,
            join=only, save=SketchShard.save, load=SketchShard.load,
        )  # fmt: skip
        stage = f"sketches {index + 1}/{len(self.warm.checkpoints)}"
        facts: dict[str, Any] = {}
        ctx.progress(Progress(stage, 0, len(self.pool)))
        for part, shard in zip(parts, shards, strict=True):
            facts = merged_facts(facts, shard.facts)
            ctx.progress(Progress(stage, part.items[0].stop, len(self.pool)))
        return ctx.pieces, [part.name for part in parts], facts

    def _sketch_target(self, index: int, target: TargetSet, ctx: Context) -> Float32s:
        """Mean unit sketch of each task's plain gradients, `(K, dimension)`."""

        def work(device: str) -> Metered[Float32s]:
            with self.warm.open(index, device) as checkpoint:
                tokens, tasks = target.tokens(checkpoint.model)
                ran = self._sketch(checkpoint, tokens, step=False)
            target.check_gradients(tasks, ran)
            out = np.zeros((len(target.task_names), self.dimension), np.float32)
            finite = np.isfinite(ran.values).all(axis=1)
            for k in range(len(out)):
                out[k] = ran.values[finite & (tasks == k)].mean(axis=0)
            return Metered(out, checkpoint.cost(ran))

        return ctx.executor.call(work, device=self.warm.judge.device)

    def _sketch(self, checkpoint: OpenCheckpoint, tokens: Tokens, *, step: bool) -> SampleResults:
        from didact.gradients.influence import sketches
        from didact.gradients.projection import Rademacher

        return sketches(
            checkpoint.model, tokens, checkpoint.kernel, Rademacher(self.dimension, self.seed),
            checkpoint.step if step else None, self.warm.judge.tokens_per_batch, unit=self.unit,
        )  # fmt: skip

    def sketch_rows(self, checkpoint: OpenCheckpoint, rows: range) -> Metered[SketchShard]:
        """Sketches of a range of the pool's rows."""
        tokens = self.warm.judge.tokens(self.pool.read(rows, ["turns"]), checkpoint.model)
        ran = self._sketch(checkpoint, tokens, step=True)
        missing = missing_or_not_finite(tokens.missing, ran.values)
        vectors = bfloat16(ran.values.astype(np.float32))
        shard = SketchShard(vectors, missing, {"dtype": checkpoint.model.dtype})
        return Metered(shard, checkpoint.cost(ran))


@contextmanager
def open_sketcher(
    shared: tuple[Sketching, int], device: str
) -> Iterator[Callable[[range], Metered[SketchShard]]]:
    """The function of a range of rows, at one checkpoint, opened once per worker."""
    sketching, index = shared
    with sketching.warm.open(index, device) as checkpoint:
        yield partial(sketching.sketch_rows, checkpoint)


def _save_target(target: Float32s, folder: Path) -> None:
    np.save(folder / "target.npy", target, allow_pickle=False)


def _load_target(folder: Path) -> Float32s:
    target: Float32s = np.load(folder / "target.npy", allow_pickle=False)
    return target


@contextmanager
def _open_index(
    pool: Pool,
    stores: tuple[SketchStore, ...],
    targets: tuple[Float32s, ...],
    weights: tuple[float, ...],
    index: int,
    device: str,
) -> Iterator[BatchScorer]:
    """Σ_c w_c ⟨sketch, u_ck⟩: the pool's ids are indexed once, since rows are found by them.

    Args:
        pool: The pool the sketches belong to.
        stores: Sketches of every checkpoint.
        targets: float32 `(K, dimension)` of every checkpoint.
        weights: w of every checkpoint.
        index: The checkpoint.
        device: Not used.
    """
    del device
    order = np.argsort(pool.id_hash, kind="stable")
    hashes = pool.id_hash[order]
    yield partial(_score, stores[index], targets[index], weights[index], order, hashes)


def _score(
    store: SketchStore,
    target: Float32s,
    weight: float,
    order: npt.NDArray[np.int64],
    hashes: npt.NDArray[np.uint64],
    batch: pa.RecordBatch,
) -> Metered[BatchScores]:
    rows = order[np.searchsorted(hashes, batch.column("id_hash").to_numpy())]
    vectors, missing = store.read(rows)
    values = np.zeros((len(rows), len(target)))
    if len(rows):
        values = weight * (vectors.astype(np.float64) @ target.astype(np.float64).T)
    return Metered(BatchScores(values, missing=missing))
