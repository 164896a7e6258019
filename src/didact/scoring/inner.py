"""What PDS and LQS share: settings, the adjoint of an inner training, the proxy set, the cost."""
# No postponed annotations: scorers inherit the settings, and their types are read from here.

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
from pydantic import Field

from didact._version import __version__
from didact.core.atomic import replacing
from didact.core.cost import Cost, Metered
from didact.core.errors import ConfigError, DataError
from didact.core.manifest import fingerprint
from didact.core.pool import Kind, Pool, PoolStats
from didact.core.protocols import BatchScores, Context, FittedScorer, Progress
from didact.core.scores import Int1D
from didact.scoring.annotation import Proxy, annotate
from didact.scoring.draw import content_hashes, key_of, usable
from didact.scoring.judge import Dtype, Judge, Seat
from didact.scoring.one_pass import one_pass
from didact.scoring.terms import Annotation, Rule, Visit, combine, labels, plan

if TYPE_CHECKING:
    from didact.models.adjoint import Adjoint
    from didact.models.encode import Encoding, Tokens

PROXY_ROWS = 16_384  # annotated samples unless the settings say otherwise
LEAST_PROXY = 20  # a tenth of them chooses the epoch


@dataclass(frozen=True, kw_only=True)
class InnerTraining(Judge):
    """Settings that PDS and LQS share, beside those of the judging model.

    Args:
        steps: T, inner steps of plain SGD.
        learning_rate: Of the inner steps, constant.
        inner_batch: Samples of an inner step, drawn from the pool.
        every: K, inner steps from one annotated step to the next.
        proxy: Samples that are annotated, drawn from the pool, or `all`; by default 16,384, or all
            of a smaller pool. With fewer annotated than pool samples all scores are the data
            scorer's, in standard deviations of the annotated ones, without further columns.
        hvp: Hessian-vector products exactly, or by central differences of gradients.
        scorer_model: Encoder or decoder the data scorer starts from, a folder or a hub name; the
            judging model when not given.
        scorer_epochs: Passes of its training over the annotated samples.
        scorer_learning_rate: Its highest.
    """

    dtype: Dtype = "float32"
    steps: Annotated[int, Field(ge=1)] = 100
    learning_rate: Annotated[float, Field(gt=0)] = 0.008
    inner_batch: Annotated[int, Field(ge=1)] = 16
    every: Annotated[int, Field(ge=1)] = 10
    proxy: Annotated[int, Field(ge=1)] | Literal["all"] | None = None
    hvp: Literal["forward_over_reverse", "finite_difference"] = "forward_over_reverse"
    scorer_model: str | None = None
    scorer_epochs: Annotated[int, Field(ge=1)] = 5
    scorer_learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    model_settings: ClassVar[tuple[str, ...]] = ("model", "scorer_model")

    needs_target: ClassVar[bool] = True
    name: ClassVar[str]

    @property
    def terms(self) -> Rule:
        """Which steps are visited, and what their terms are divided by."""
        raise NotImplementedError

    @property
    def visits(self) -> tuple[Visit, ...]:
        """The passes over the proxy set.

        Raises:
            ConfigError: There are none: rule `paper` begins at step 1.
        """
        found = plan(self.terms, self.steps, self.every)
        if not found:
            raise ConfigError(
                f"score.{self.name}.steps={self.steps}: rule=paper annotates the steps from 1 to "
                "steps - 1; set steps to 2 or more, or rule=interval"
            )
        return found

    @property
    def pairs(self) -> list[int]:
        """Steps i of which annotation needs θ_i and λ_{i+1}."""
        return [v.step for v in self.visits if v.dot]

    @property
    def alone(self) -> list[int]:
        """Steps of which it needs θ alone; T in any case, so that PDS and LQS share one folder."""
        return sorted({self.steps, *(v.step for v in self.visits if not v.dot)})

    def estimate(self, pool: PoolStats, target: PoolStats | None) -> Cost:
        """Inner training, target gradients, Hessian-vector products, annotation, data scorer."""
        from didact.scoring.inner_estimate import estimate

        return estimate(self, pool, target)

    def fit(self, pool: Pool, target: Pool | None, ctx: Context) -> FittedScorer:
        """Inner training and its adjoint, then the products of the proxy set."""
        where = f"score.{self.name}"
        if target is None:
            raise ConfigError(f"{where}: needs a target set, the samples to select for")
        size = self.proxy_size(len(pool))
        seat = self.seat(pool, where)
        self._check(seat, where)
        rows = self._rows(pool, size, ctx)
        adjoint = self._adjoint(pool, target, seat, ctx)
        proxy = Proxy(seat=seat, pool=pool, rows=rows, visits=self.visits, folder=adjoint.folder)
        found = combine(
            self.terms,
            annotate(proxy, ctx),
            steps=self.steps,
            every=self.every,
            learning_rate=self.learning_rate,
        )
        facts = {
            **seat.facts,
            "proxy": len(rows),
            "annotated_steps": self.pairs,
            "inner_loss": [adjoint.train_losses[0], adjoint.train_losses[-1]],
            "target_loss": [adjoint.target_losses[-1], adjoint.target_losses[0]],
        }
        if len(rows) < len(pool):
            return self._data_scorer(pool, rows, found, adjoint.folder, facts, seat, ctx)
        table = adjoint.folder / f"{self.name}-{fingerprint(asdict(self))}.npz"
        _write(table, pool.id_hash[rows], found)
        return one_pass(partial(look_up, table), ("id_hash",), facts=facts)

    def _data_scorer(
        self, pool: Pool, rows: Int1D, found: Annotation, folder: Path, facts: Mapping[str, Any],
        seat: Seat, ctx: Context,
    ) -> FittedScorer:  # fmt: skip
        """Scores of the whole pool from a regression on the annotated samples."""
        from didact.models.folder import digest, find
        from didact.scoring.data_scorer import fit_data_scorer
        from didact.training.regression import Regression

        has = np.setdiff1d(np.arange(len(rows)), list(found.missing))
        values = labels(found.values[has])
        order = np.argsort(content_hashes(pool)[rows[has]], kind="stable")
        settings = Regression(
            epochs=self.scorer_epochs, learning_rate=self.scorer_learning_rate, dtype=self.dtype,
            tokens_per_batch=self.tokens_per_batch, seed=key_of(ctx, "data scorer") % 2**31,
        )  # fmt: skip
        model = find(self.scorer_model) if self.scorer_model else seat.path
        key = fingerprint([asdict(self), digest(model), rows.tolist()])
        return fit_data_scorer(
            pool, rows[has][order], values[order], model=model,
            how=self.encoding(pool.kind, own=True), out=folder / f"{self.name}-{key}",
            settings=settings, devices=seat.devices, facts=facts, ctx=ctx,
        )  # fmt: skip

    def encoding(self, kind: Kind, *, own: bool) -> "Encoding":
        """How samples are shown to the judging model, or (`own`) to the data scorer.

        The data scorer reads turns as plain text where the judging model has a template of its own.
        """
        from didact.models.encode import Encoding

        template = "plain" if own and self.template == "model" else self.template
        return Encoding(kind=kind, loss=self.loss, template=template)

    def proxy_size(self, n: int) -> int:
        """Samples to annotate of a pool of n."""
        if self.proxy is None:
            return min(n, PROXY_ROWS)
        if self.proxy == "all":
            return n
        if self.proxy < min(n, LEAST_PROXY):
            raise ConfigError(
                f"score.{self.name}.proxy={self.proxy}: the data scorer learns from {LEAST_PROXY} "
                "samples or more, better from thousands"
            )
        if self.proxy > n:
            raise ConfigError(
                f"score.{self.name}.proxy={self.proxy}: the pool has {n} samples; set proxy=all "
                "or a smaller number"
            )
        return self.proxy

    def _check(self, seat: Seat, where: str) -> None:
        if self.hvp == "finite_difference" and self._dtype(seat) == "bfloat16":
            raise ConfigError(
                f"{where}.hvp=finite_difference: bfloat16 rounds the difference away; set "
                "dtype=float32, or hvp=forward_over_reverse"
            )

    def _dtype(self, seat: Seat) -> str:
        from didact.models.door import torch_dtype

        return str(torch_dtype(self.dtype, seat.devices[0])).removeprefix("torch.")

    def _rows(self, pool: Pool, size: int, ctx: Context) -> Int1D:
        """The proxy set: all rows, or a draw that leaves the validation split out."""
        from didact.models.trajectory import draw

        if size == len(pool):
            return np.arange(size)
        rows = usable(pool)
        if self.proxy is None:
            size = min(size, len(rows))
        if size > len(rows):
            raise ConfigError(
                f"score.{self.name}.proxy={size}: {len(rows)} of the pool's {len(pool)} samples "
                "can be drawn (no validation split, no repeats); set proxy=all or fewer"
            )
        return draw(content_hashes(pool), rows, size, key_of(ctx, "proxy set"))

    def _adjoint(self, pool: Pool, target: Pool, seat: Seat, ctx: Context) -> "Adjoint":
        """θ and λ of the visited steps, computed unless an earlier run left them."""
        from didact.models.adjoint import finished

        aim = self.seat(target, f"score.{self.name} (target set)")
        key = fingerprint(
            {
                "didact": __version__,
                "model": seat.facts,
                "dtype": self._dtype(seat),
                "pool": [pool.fingerprint, asdict(seat.how)],
                "target": [target.fingerprint, asdict(aim.how)],
                "inner": [self.steps, self.learning_rate, self.inner_batch, self.hvp],
                "kept": [self.pairs, self.alone],
                "seed": ctx.seed,
            }
        )
        folder = ctx.cache_dir / "adjoint" / key
        done = finished(folder)
        if done is not None:
            return done
        work = _Adjoint(
            pool=pool, target=target, seat=seat, aim=aim, folder=folder, ctx=ctx, settings=self
        )
        return ctx.executor.call(work.inner_training, device=seat.devices[0])


@dataclass(frozen=True, kw_only=True)
class _Adjoint:
    """The inner training of one pool for one target set."""

    pool: Pool
    target: Pool
    seat: Seat
    aim: Seat
    folder: Path
    ctx: Context
    settings: InnerTraining

    def inner_training(self) -> "Metered[Adjoint]":
        """All of it; what an earlier run left is used again and not charged."""
        from didact.models.adjoint import LanguageProblem, parameters_of, run_adjoint
        from didact.models.trajectory import Inner

        own, ctx = self.settings, self.ctx
        exact = own.hvp == "forward_over_reverse"
        # Fused attention kernels have no forward-mode derivative.
        with self.seat.open(self.seat.devices[0], attention="eager" if exact else None) as model:
            problem = LanguageProblem(
                model,
                self._batches(model),
                self._target(model),
                tokens_per_batch=own.tokens_per_batch,
                hvp=own.hvp,
            )

            def watch(stage: str, done: int) -> None:
                ctx.progress(Progress(stage, done, own.steps, "steps"))

            found = run_adjoint(
                problem,
                parameters_of(model),
                Inner(own.steps, own.learning_rate),
                self.folder,
                visits=own.pairs,
                also=own.alone,
                forward=partial(watch, "inner training"),
                backward=partial(watch, "adjoint"),
            )
            return Metered(found, problem.cost)

    def _batches(self, model: Any) -> "list[Tokens]":
        from didact.models.trajectory import inner_batches

        def encoded(rows: Int1D) -> "Tokens":
            return self.seat.tokens(self.pool.read(rows, ["turns"]), model)

        return inner_batches(
            encoded,
            content_hashes(self.pool),
            usable(self.pool),
            steps=self.settings.steps,
            size=self.settings.inner_batch,
            key=key_of(self.ctx, "inner batches"),
        )

    def _target(self, model: Any) -> "Tokens":
        """The target's samples that have a loss."""
        from didact.models.trajectory import joined

        parts = [
            self.aim.tokens(self.target.read(rows, ["turns"]), model)
            for rows in self.target.batches()
        ]
        found = joined(parts)
        if not len(found):
            reason = next((r for part in parts for r in part.missing.values()), "it is empty")
            raise DataError(
                f"score.{self.settings.name}: no sample of the target set has a loss ({reason})"
            )
        return found


def _write(table: Path, ids: npt.NDArray[np.uint64], found: Annotation) -> None:
    order = np.argsort(ids)
    reasons = orjson.dumps(
        {str(ids[row]): reason for row, reason in found.missing.items()},
        option=orjson.OPT_SORT_KEYS,
    )
    columns: dict[str, Any] = {"values": found.values, **found.parts}
    columns = {k: v[order] for k, v in columns.items()}
    columns |= {"ids": ids[order], "missing": np.frombuffer(reasons, np.uint8)}
    with replacing(table) as temporary, temporary.open("wb") as file:
        np.savez(file, **columns)


@lru_cache(maxsize=2)
def _read(table: Path) -> tuple[Mapping[str, npt.NDArray[Any]], Mapping[int, str]]:
    try:
        with np.load(table, allow_pickle=False) as file:
            columns = {k: file[k] for k in file.files}
    except FileNotFoundError as error:
        raise DataError(f"{table}: annotated scores are not in the cache; score again") from error
    reasons = orjson.loads(columns.pop("missing").tobytes())
    return columns, {int(k): v for k, v in reasons.items()}


def look_up(table: Path, batch: pa.RecordBatch) -> BatchScores:
    """Annotated scores of rows, by their ids."""
    columns, reasons = _read(table)
    ids = batch.column("id_hash").to_numpy().astype(np.uint64)
    at = np.searchsorted(columns["ids"], ids)
    missing = {i: reasons[int(h)] for i, h in enumerate(ids) if int(h) in reasons}
    parts = {k: v[at] for k, v in columns.items() if k not in {"ids", "values"}}
    return BatchScores(columns["values"][at][:, np.newaxis], parts, missing)
