"""Projected gradients of a pool on disk: one file a shard, so that a killed run goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from didact.core.arrays import Float32s
from didact.core.checksums import CheckedFile
from didact.core.cost import Metered
from didact.core.entries import ENTRY, open_entry
from didact.core.errors import DamagedError
from didact.core.keep import Part, keep, kept_parts, only
from didact.core.pieces import Pieces
from didact.core.pool import Pool
from didact.core.protocols import BatchScorer, BatchScores, Context, Fitted, Progress
from didact.scoring.around.score_pool import MODEL_ROWS as SHARD
from didact.scoring.around.score_pool import agreed
from didact.scoring.judging.model_scorer import without_number
from didact.scoring.less.checkpoints import Aim, At, WarmedUp, check_tasks

if TYPE_CHECKING:
    from didact.gradients.influence import Pass
    from didact.models.encode import Tokens


@dataclass(frozen=True, slots=True)
class Sketches:
    """Unit vectors of every sample at one checkpoint, bfloat16, `(n, dimension)` in shards.

    Attributes:
        folder: The entry that holds the shards; they are verified when they are read.
        starts: First row of every shard.
        facts: What showed where the model was open.
    """

    folder: Path
    starts: tuple[int, ...]
    facts: Mapping[str, Any]

    def read(self, rows: npt.NDArray[np.int64]) -> tuple[Float32s, dict[int, str]]:
        """Vectors of some rows, and which of them have none and why.

        **Cost:** the shards are memory-mapped; only the rows asked for are read.
        """
        out: Float32s | None = None
        missing: dict[int, str] = {}
        shards = np.searchsorted(np.asarray(self.starts), rows, side="right") - 1
        for shard in np.unique(shards).tolist():
            at = np.flatnonzero(shards == shard)
            inside = rows[at] - self.starts[shard]
            folder = self.folder / _name(shard)
            for name in ("vectors.npy", "about.json"):
                _checked(self.folder, f"{_name(shard)}/{name}").verify()
            kept = np.load(folder / "vectors.npy", mmap_mode="r", allow_pickle=False)
            if out is None:
                out = np.zeros((len(rows), kept.shape[1]), np.float32)
            out[at] = single(kept[inside])
            reasons = orjson.loads((folder / "about.json").read_bytes())["missing"]
            missing |= {
                int(a): reasons[str(i)]
                for a, i in zip(at, inside.tolist(), strict=True)
                if str(i) in reasons
            }
        return (out if out is not None else np.zeros((0, 1), np.float32)), missing


def _name(shard: int) -> str:
    return f"{shard:06d}"


def _checked(folder: Path, name: str) -> CheckedFile:
    """A file of an entry; the entry is read again once it was made again."""
    try:
        made = (folder / ENTRY).stat().st_ino
    except OSError as error:
        raise DamagedError(folder / ENTRY, str(error)) from error
    return _of_entry(folder, made, name)


@lru_cache(maxsize=64)
def _of_entry(folder: Path, made: int, name: str) -> CheckedFile:
    del made
    return open_entry(folder).file(name)


def bfloat16(values: Float32s) -> npt.NDArray[np.uint16]:
    """The upper halves of float32 numbers, rounded to the nearest, ties to even."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), np.uint32(0x7FC0), rounded).astype(np.uint16)


def single(halves: npt.NDArray[np.uint16]) -> Float32s:
    """bfloat16 as float32, exactly."""
    return (halves.astype(np.uint32) << 16).view(np.float32)


@contextmanager
def _open_index(
    pool: Pool,
    stores: tuple[Sketches, ...],
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
    store: Sketches,
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

    def fit(self, aim: Aim, ctx: Context, reduce: Literal["mean", "max"]) -> Fitted:
        """Fill what is missing of the stores; project the target's gradients."""
        starts = tuple(
            start for rows in self.pool.batches() for start in range(rows.start, rows.stop, SHARD)
        )
        stores, targets = [], []
        facts: dict[str, Any] = {}
        how = [self.warm.key, self.dimension, self.seed, self.unit]
        for index in range(len(self.warm.checkpoints)):
            folder, found = keep(
                ctx, "sketches", [*how, index, self.pool.fingerprint],
                partial(self._fill, index, starts), save=_save_store, load=_load_store, lazy=True,
            )  # fmt: skip
            facts = agreed(facts, found)
            stores.append(Sketches(folder, starts, found))
            about = [*how, index, aim.pool.fingerprint, asdict(aim.how)]
            targets.append(
                keep(
                    ctx, "sketched-targets", about, partial(self._target, index, aim),
                    save=_save_target, load=_load_target,
                )
            )  # fmt: skip
        return Fitted(
            open=partial(_open_index, self.pool, tuple(stores), tuple(targets), self.warm.weights),
            columns=("id_hash",),
            tasks=aim.pool.task_names,
            reduce=reduce,
            passes=len(stores),
            facts={
                **self.warm.facts,
                **facts,
                "space": "projected",
                "note": f"gradients are projected to {self.dimension:,} numbers; exact scores need "
                "space=exact, and memory for the target directions (score.less.memory)",
            },
        )

    def _fill(self, index: int, starts: tuple[int, ...], ctx: Context) -> Filled:
        """Sketches of all rows at a checkpoint, a piece for each shard."""
        bounds = list(pairwise([*starts, len(self.pool)]))
        parts = [Part(_name(i), [range(*rows)]) for i, rows in enumerate(bounds)]
        shards = kept_parts(
            ctx, parts, shared=(self, index), open=opened, device=self.warm.seat.device,
            join=only, save=_save_shard, load=_shard_facts,
        )  # fmt: skip
        stage = f"sketches {index + 1}/{len(self.warm.checkpoints)}"
        facts: dict[str, Any] = {}
        ctx.progress(Progress(stage, 0, len(self.pool)))
        for (_, stop), shard in zip(bounds, shards, strict=True):
            facts = agreed(facts, shard.facts)
            ctx.progress(Progress(stage, stop, len(self.pool)))
        return ctx.pieces, [part.name for part in parts], facts

    def _target(self, index: int, aim: Aim, ctx: Context) -> Float32s:
        """Mean unit sketch of each task's plain gradients, `(K, dimension)`."""

        def work(device: str) -> Metered[Float32s]:
            with self.warm.open(index, device) as at:
                tokens, tasks = aim.tokens(at.model)
                ran = self._sketch(at, tokens, step=False)
            check_tasks(aim, tasks, ran)
            out = np.zeros((len(aim.pool.task_names), self.dimension), np.float32)
            usable = np.isfinite(ran.values).all(axis=1)
            for k in range(len(out)):
                out[k] = ran.values[usable & (tasks == k)].mean(axis=0)
            return Metered(out, at.cost(ran))

        return ctx.executor.call(work, device=self.warm.seat.device)

    def _sketch(self, at: At, tokens: Tokens, *, step: bool) -> Pass:
        from didact.gradients.influence import sketches
        from didact.gradients.projection import Rademacher

        return sketches(
            at.model, tokens, at.kernel, Rademacher(self.dimension, self.seed),
            at.step if step else None, self.warm.seat.tokens_per_batch, unit=self.unit,
        )  # fmt: skip

    def shard(self, at: At, rows: range) -> Metered[Shard]:
        """Sketch a range of rows."""
        tokens = self.warm.seat.tokens(self.pool.read(rows, ["turns"]), at.model)
        ran = self._sketch(at, tokens, step=True)
        missing = without_number(tokens.missing, ran.values)
        vectors = bfloat16(ran.values.astype(np.float32))
        return Metered(Shard(vectors, missing, {"dtype": at.model.dtype}), at.cost(ran))


@dataclass(frozen=True, slots=True)
class Shard:
    """Sketches of some rows; rows in `missing` count from the first of them."""

    vectors: npt.NDArray[np.uint16]
    missing: Mapping[int, str]
    facts: Mapping[str, Any]


Filled = tuple[Pieces, list[str], dict[str, Any]]


def _save_shard(shard: Shard, folder: Path) -> None:
    np.save(folder / "vectors.npy", shard.vectors, allow_pickle=False)
    about = {"missing": shard.missing, "facts": shard.facts}
    (folder / "about.json").write_bytes(orjson.dumps(about, option=orjson.OPT_NON_STR_KEYS))


def _shard_facts(folder: Path) -> Shard:
    """A shard that was found, without its vectors, which stay on disk."""
    about = orjson.loads((folder / "about.json").read_bytes())
    return Shard(np.empty((0, 0), np.uint16), {}, about["facts"])


def _save_store(filled: Filled, folder: Path) -> None:
    pieces, names, facts = filled
    for name in names:
        pieces.link(name, folder / name)
    (folder / "facts.json").write_bytes(orjson.dumps(facts))


def _load_store(folder: Path) -> tuple[Path, dict[str, Any]]:
    return folder, orjson.loads(_checked(folder, "facts.json").read())


def _save_target(target: Float32s, folder: Path) -> None:
    np.save(folder / "target.npy", target, allow_pickle=False)


def _load_target(folder: Path) -> Float32s:
    target: Float32s = np.load(folder / "target.npy", allow_pickle=False)
    return target


@contextmanager
def opened(shared: tuple[Sketching, int], device: str) -> Iterator[Callable[[range], Any]]:
    """A checkpoint, opened once per worker."""
    sketching, index = shared
    with sketching.warm.open(index, device) as at:
        yield partial(sketching.shard, at)
