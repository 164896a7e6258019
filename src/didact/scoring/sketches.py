"""Projected gradients of a pool on disk: one file a shard, so that a killed run goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from didact.core.atomic import replacing
from didact.core.cost import Metered
from didact.core.manifest import fingerprint
from didact.core.pool import Pool
from didact.core.protocols import BatchScorer, BatchScores, Context, Progress
from didact.scoring.checkpoints import Aim, At, WarmedUp, check_tasks
from didact.scoring.judge import NOT_FINITE
from didact.scoring.run import MODEL_ROWS as SHARD

if TYPE_CHECKING:
    from didact.models.encode import Tokens
    from didact.models.influence import Pass

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Sketches:
    """Unit vectors of every sample at one checkpoint, bfloat16, `(n, dimension)` in shards.

    Attributes:
        folder: Where the shards are.
        starts: First row of every shard, and the number of rows at the end.
    """

    folder: Path
    starts: tuple[int, ...]

    def path(self, shard: int) -> Path:
        """The file of a shard; there once it is whole."""
        return self.folder / f"{shard:06d}.npy"

    def todo(self) -> list[range]:
        """Row ranges of the shards that are not there."""
        bounds = zip(self.starts[:-1], self.starts[1:], strict=True)
        return [range(*b) for shard, b in enumerate(bounds) if not self.path(shard).exists()]

    def write(
        self, rows: range, values: npt.NDArray[np.float64], missing: Mapping[int, str]
    ) -> None:
        """Keep one shard; `missing` counts from its first row."""
        path = self.path(self.starts.index(rows.start))
        with replacing(path.with_suffix(".json")) as temporary:
            temporary.write_bytes(orjson.dumps(missing, option=orjson.OPT_NON_STR_KEYS))
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.save(file, bfloat16(values.astype(np.float32)))

    def read(self, rows: npt.NDArray[np.int64]) -> tuple[Float32, dict[int, str]]:
        """Vectors of some rows, and which of them have none and why.

        **Cost:** the shards are memory-mapped; only the rows asked for are read.
        """
        out: Float32 | None = None
        missing: dict[int, str] = {}
        shards = np.searchsorted(np.asarray(self.starts), rows, side="right") - 1
        for shard in np.unique(shards).tolist():
            at = np.flatnonzero(shards == shard)
            inside = rows[at] - self.starts[shard]
            kept = np.load(self.path(shard), mmap_mode="r", allow_pickle=False)
            if out is None:
                out = np.zeros((len(rows), kept.shape[1]), np.float32)
            out[at] = single(kept[inside])
            reasons = orjson.loads(self.path(shard).with_suffix(".json").read_bytes())
            missing |= {
                int(a): reasons[str(i)]
                for a, i in zip(at, inside.tolist(), strict=True)
                if str(i) in reasons
            }
        return (out if out is not None else np.zeros((0, 1), np.float32)), missing


def bfloat16(values: Float32) -> npt.NDArray[np.uint16]:
    """The upper halves of float32 numbers, rounded to the nearest, ties to even."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), np.uint32(0x7FC0), rounded).astype(np.uint16)


def single(halves: npt.NDArray[np.uint16]) -> Float32:
    """bfloat16 as float32, exactly."""
    return (halves.astype(np.uint32) << 16).view(np.float32)


@dataclass(frozen=True, kw_only=True)
class Sketched:
    """A fitted scorer that reads sketches: Σ_c w_c ⟨sketch, u_ck⟩. See `didact.scoring.less`.

    Attributes:
        pool: The pool the sketches belong to; rows of a batch are found by the hash of their id.
        stores: Sketches of every checkpoint.
        targets: float32 `(K, dimension)` of every checkpoint.
        weights: w of every checkpoint.
        tasks: Names of the K tasks.
        reduce: How they become one.
        facts: What the result depends on beside the settings.
    """

    pool: Pool
    stores: tuple[Sketches, ...]
    targets: tuple[Float32, ...]
    weights: tuple[float, ...]
    tasks: tuple[str, ...]
    reduce: Literal["mean", "max"]
    facts: Mapping[str, Any]
    higher_is_better: bool = field(default=True, init=False)
    columns: tuple[str, ...] = field(default=("id_hash",), init=False)
    devices: tuple[str, ...] = field(default=(), init=False)

    @property
    def passes(self) -> int:
        """One for each checkpoint."""
        return len(self.stores)

    @contextmanager
    def open(self, index: int, device: str) -> Iterator[BatchScorer]:
        """Index the pool's ids once."""
        del device
        order = np.argsort(self.pool.id_hash, kind="stable")
        yield partial(self._score, index, order, self.pool.id_hash[order])

    def _score(
        self,
        index: int,
        order: npt.NDArray[np.int64],
        hashes: npt.NDArray[np.uint64],
        batch: pa.RecordBatch,
    ) -> Metered[BatchScores]:
        rows = order[np.searchsorted(hashes, batch.column("id_hash").to_numpy())]
        vectors, missing = self.stores[index].read(rows)
        target = self.targets[index].astype(np.float64)
        values = np.zeros((len(rows), len(target)))
        if len(rows):
            values = self.weights[index] * (vectors.astype(np.float64) @ target.T)
        return Metered(BatchScores(values, missing=missing))


@dataclass(frozen=True)
class Sketching:
    """Projecting the gradients of a pool at every checkpoint, whatever the target.

    Attributes:
        warm: The checkpoints.
        pool: The pool.
        dimension: Of the projection.
        seed: Of the projection.
        unit: Whether vectors are made unit `after` or `before` projection.
    """

    warm: WarmedUp
    pool: Pool
    dimension: int
    seed: int
    unit: Literal["after", "before"]

    def fit(self, aim: Aim, ctx: Context, reduce: Literal["mean", "max"]) -> Sketched:
        """Fill what is missing of the stores; project the target's gradients."""
        key = fingerprint([self.warm.key, self.dimension, self.seed, self.unit])
        parts = [
            start for rows in self.pool.batches() for start in range(rows.start, rows.stop, SHARD)
        ]
        stores = tuple(
            Sketches(ctx.cache_dir / "less" / key[:32] / f"{i}", (*parts, len(self.pool)))
            for i in range(len(self.warm.checkpoints))
        )
        targets = []
        for index, store in enumerate(stores):
            todo = store.todo()
            done = len(self.pool) - sum(map(len, todo))
            filled = ctx.executor.map(
                fill, todo, shared=(self, index, store), open=opened, devices=self.warm.seat.devices
            )
            ctx.progress(Progress(f"sketches {index + 1}/{len(stores)}", done, len(self.pool)))
            for n in filled:
                done += n
                ctx.progress(Progress(f"sketches {index + 1}/{len(stores)}", done, len(self.pool)))
            device = self.warm.seat.devices[0]
            targets.append(ctx.executor.call(partial(self._target, index, aim), device=device))
        return Sketched(
            pool=self.pool,
            stores=stores,
            targets=tuple(targets),
            weights=self.warm.weights,
            tasks=aim.pool.task_names,
            reduce=reduce,
            facts={
                **self.warm.facts,
                "space": "projected",
                "note": f"gradients are projected to {self.dimension:,} numbers; exact scores need "
                "space=exact, and memory for the target directions (score.less.memory)",
            },
        )

    def _target(self, index: int, aim: Aim) -> Metered[Float32]:
        """Mean unit sketch of each task's plain gradients, `(K, dimension)`."""
        with self.warm.open(index, self.warm.seat.devices[0]) as at:
            tokens, tasks = aim.tokens(at.model)
            ran = self._sketch(at, tokens, step=False)
        check_tasks(aim, tasks, ran)
        out = np.zeros((len(aim.pool.task_names), self.dimension), np.float32)
        usable = np.isfinite(ran.values).all(axis=1)
        for k in range(len(out)):
            out[k] = ran.values[usable & (tasks == k)].mean(axis=0)
        return Metered(out, at.cost(ran))

    def _sketch(self, at: At, tokens: Tokens, *, step: bool) -> Pass:
        from didact.models.influence import sketches
        from didact.models.projection import Rademacher

        return sketches(
            at.model, tokens, at.kernel, Rademacher(self.dimension, self.seed),
            at.step if step else None, self.warm.seat.tokens_per_batch, unit=self.unit,
        )  # fmt: skip

    def shard(self, at: At, store: Sketches, rows: range) -> Metered[int]:
        """Sketch a range of rows and keep them."""
        tokens = self.warm.seat.tokens(self.pool.read(rows, ["turns"]), at.model)
        ran = self._sketch(at, tokens, step=True)
        missing = dict(tokens.missing)
        for row in np.flatnonzero(~np.isfinite(ran.values).all(axis=1)).tolist():
            missing.setdefault(row, NOT_FINITE)
        store.write(rows, ran.values, missing)
        return Metered(len(rows), at.cost(ran))


Shared = tuple[Sketching, int, Sketches]


@contextmanager
def opened(shared: Shared, device: str) -> Iterator[Callable[[range], Metered[int]]]:
    """A checkpoint, opened once per worker."""
    sketching, index, store = shared
    with sketching.warm.open(index, device) as at:
        yield partial(sketching.shard, at, store)


def fill(shard: Callable[[range], Metered[int]], rows: range) -> Metered[int]:
    """One shard in a worker."""
    return shard(rows)
