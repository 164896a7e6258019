"""What PDS and LQS share: settings, the adjoint of an inner training, the proxy set, the cost."""
# No postponed annotations: scorers inherit the settings, and their types are read from here.

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from didact.accounting.spec import ModelSpec
from didact.core.arrays import Int1D
from didact.core.cost import Cost, Metered
from didact.core.errors import ConfigError, DataError
from didact.core.keep import keep
from didact.core.one_pass import one_pass
from didact.core.pool import Kind, Pool, PoolStats
from didact.core.protocols import BatchScores, Context, Fitted, Progress
from didact.core.sampling import content_hashes, key_of, usable
from didact.core.saved import by_row, read_arrays, write_arrays
from didact.scoring.adjoint.annotation import Proxy, annotate
from didact.scoring.adjoint.rules import Annotation, Rule, Visit, combine, labels, plan
from didact.scoring.around.score_pool import agreed, needed
from didact.scoring.judging.model_scorer import Dtype, Judge, Seat, described

if TYPE_CHECKING:
    from didact.gradients.adjoint import Adjoint, Traced
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

    def specs(self, pool: PoolStats, target: PoolStats | None) -> dict[str, ModelSpec]:
        """The judging model; the data scorer too where a part of the pool is annotated."""
        found = super().specs(pool, target)
        if self.proxy_size(pool.n) < pool.n:
            shown = [self.encoding(pool.kind, own=True)]
            model = self.scorer_model or self.model
            found["scorer_model"] = described(model, shown, headed=False)
        return found

    def foreseen(
        self, pool: PoolStats, target: PoolStats | None, specs: Mapping[str, ModelSpec]
    ) -> Cost:
        """Inner training, target gradients, Hessian-vector products, annotation, data scorer.

        `specs["scorer_model"]` is the data scorer: without a head, with an overhead of its own. It
        is not asked for where all of the pool is annotated.
        """
        from didact.scoring.adjoint.estimate import estimate

        return estimate(self, pool, target, specs)

    def fit(self, pool: Pool, target: Pool | None, ctx: Context) -> Fitted:
        """Inner training and its adjoint, then the products of the proxy set."""
        where = f"score.{self.name}"
        target = needed(target, self.name)
        size = self.proxy_size(len(pool))
        seat = self.seat(pool, where)
        rows = self._rows(pool, size, ctx)
        inner = self._inner(pool, target, seat, ctx)
        adjoint = inner.adjoint(ctx)
        settings = [self.terms, self.steps, self.every, self.learning_rate]
        table = keep(
            ctx, "annotations", [inner.key, seat.identity, rows.tolist(), settings],
            partial(self._annotated, Proxy(
                seat=seat, pool=pool, rows=rows, visits=self.visits, folder=adjoint.folder
            )),
            save=Table.save, load=Table.load,
        )  # fmt: skip
        facts = {
            **seat.facts,
            **agreed(adjoint.facts, table.facts),
            "proxy": len(rows),
            "annotated_steps": self.pairs,
            "inner_loss": [adjoint.train_losses[0], adjoint.train_losses[-1]],
            "target_loss": [adjoint.target_losses[-1], adjoint.target_losses[0]],
        }
        if len(rows) < len(pool):
            return self._data_scorer(pool, rows, table.annotation(), facts, seat, ctx)
        return one_pass(look_up, ("id_hash",), facts=facts, open=partial(open_table, table.folder))

    def _annotated(self, proxy: Proxy, ctx: Context) -> tuple[Proxy, Annotation, dict[str, Any]]:
        products, facts = annotate(proxy, ctx)
        found = combine(
            self.terms, products, steps=self.steps, every=self.every,
            learning_rate=self.learning_rate,
        )  # fmt: skip
        return proxy, found, facts

    def _data_scorer(
        self, pool: Pool, rows: Int1D, found: Annotation, facts: Mapping[str, Any], seat: Seat,
        ctx: Context,
    ) -> Fitted:  # fmt: skip
        """Scores of the whole pool from a regression on the annotated samples."""
        from didact.models.folder import find
        from didact.scoring.adjoint.data_scorer import fit_data_scorer
        from didact.training.regression import Regression

        has = np.setdiff1d(np.arange(len(rows)), list(found.missing))
        values = labels(found.values[has])
        order = np.argsort(content_hashes(pool)[rows[has]], kind="stable")
        settings = Regression(
            epochs=self.scorer_epochs, learning_rate=self.scorer_learning_rate, dtype=self.dtype,
            tokens_per_batch=self.tokens_per_batch, seed=key_of(ctx, "data scorer") % 2**31,
        )  # fmt: skip
        return fit_data_scorer(
            pool, rows[has][order], values[order],
            model=find(self.scorer_model) if self.scorer_model else seat.path,
            how=self.encoding(pool.kind, own=True), settings=settings, device=seat.device,
            facts=facts, ctx=ctx,
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

    def _rows(self, pool: Pool, size: int, ctx: Context) -> Int1D:
        """The proxy set: all rows, or a draw that leaves the validation split out."""
        from didact.gradients.inner_training import draw

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

    def _inner(self, pool: Pool, target: Pool, seat: Seat, ctx: Context) -> "_Inner":
        """The inner training that the settings describe."""
        aim = self.seat(target, f"score.{self.name} (target set)")
        key = {
            "model": seat.identity,
            "pool": [pool.fingerprint, asdict(seat.how)],
            "target": [target.fingerprint, asdict(aim.how)],
            "inner": [self.steps, self.learning_rate, self.inner_batch, self.hvp],
            "tokens_per_batch": self.tokens_per_batch,
            "kept": [self.pairs, self.alone],
            "seed": ctx.seed,
        }
        return _Inner(pool=pool, target=target, seat=seat, aim=aim, settings=self, key=key)


@dataclass(frozen=True, kw_only=True)
class _Inner:
    """The inner training of one pool for one target set."""

    pool: Pool
    target: Pool
    seat: Seat
    aim: Seat
    settings: InnerTraining
    key: Mapping[str, Any]

    def adjoint(self, ctx: Context) -> "Adjoint":
        """θ and λ of the visited steps, computed unless an earlier run left them."""
        from didact.gradients.adjoint import read_adjoint, save_adjoint

        def make(work: Context) -> "tuple[Traced, dict[str, Any]]":
            return work.executor.call(partial(self._traced, work), device=self.seat.device)

        def save(made: "tuple[Traced, dict[str, Any]]", folder: Path) -> None:
            save_adjoint(*made, folder)

        return keep(ctx, "adjoints", self.key, make, save=save, load=read_adjoint)

    def _traced(self, ctx: Context, device: str) -> "Metered[tuple[Traced, dict[str, Any]]]":
        """All of it, charged as it goes; what an earlier run left is used again."""
        from didact.gradients.adjoint import LanguageProblem, parameters_of, run_adjoint
        from didact.gradients.inner_training import Inner

        own = self.settings
        exact = own.hvp == "forward_over_reverse"
        # Fused attention kernels have no forward-mode derivative.
        with self.seat.open(device, attention="eager" if exact else None) as model:
            if not exact and model.dtype == "bfloat16":
                raise ConfigError(
                    f"score.{own.name}.hvp=finite_difference: bfloat16 rounds the difference "
                    "away; set dtype=float32, or hvp=forward_over_reverse"
                )
            problem = LanguageProblem(
                model,
                self._batches(model, ctx),
                self._target(model),
                tokens_per_batch=own.tokens_per_batch,
                hvp=own.hvp,
                charge=ctx.meter.add,
            )

            def watch(stage: str, done: int) -> None:
                ctx.progress(Progress(stage, done, own.steps, "steps"))

            traced = run_adjoint(
                problem,
                parameters_of(model),
                Inner(own.steps, own.learning_rate),
                ctx.pieces,
                visits=own.pairs,
                also=own.alone,
                forward=partial(watch, "inner training"),
                backward=partial(watch, "adjoint"),
            )
            return Metered((traced, {"dtype": model.dtype}))

    def _batches(self, model: Any, ctx: Context) -> "list[Tokens]":
        from didact.gradients.inner_training import inner_batches

        def encoded(rows: Int1D) -> "Tokens":
            return self.seat.tokens(self.pool.read(rows, ["turns"]), model)

        return inner_batches(
            encoded,
            content_hashes(self.pool),
            usable(self.pool),
            steps=self.settings.steps,
            size=self.settings.inner_batch,
            key=key_of(ctx, "inner batches"),
        )

    def _target(self, model: Any) -> "Tokens":
        """The target's samples that have a loss."""
        from didact.gradients.inner_training import joined

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


@dataclass(frozen=True, slots=True)
class Table:
    """Annotated scores on disk.

    Attributes:
        folder: Where they are.
        facts: What showed where the model was open.
    """

    folder: Path
    facts: Mapping[str, Any]

    @staticmethod
    def save(made: tuple[Proxy, Annotation, Mapping[str, Any]], folder: Path) -> None:
        """Write the scores of a proxy set by the hashes of its ids, into an empty folder."""
        proxy, found, facts = made
        arrays = {"ids": proxy.pool.id_hash[proxy.rows], "values": found.values, **found.parts}
        about = {"missing": dict(found.missing), "facts": dict(facts), "parts": list(found.parts)}
        write_arrays(folder, arrays, about)

    @classmethod
    def load(cls, folder: Path) -> "Table":
        """What `save` wrote."""
        _, about = read_arrays(folder)
        return cls(folder, about["facts"])

    def annotation(self) -> Annotation:
        """The scores, in the proxy set's order."""
        arrays, about = read_arrays(self.folder)
        columns = arrays.get("learnability"), arrays.get("quality")
        return Annotation(arrays["values"], *columns, by_row(about["missing"]))


@contextmanager
def open_table(folder: Path) -> Iterator[tuple[dict[str, Any], dict[int, str], list[str]]]:
    """Columns sorted by id, reasons by id, and the names of parts; read once per worker."""
    arrays, about = read_arrays(folder)
    order = np.argsort(arrays["ids"])
    reasons = {int(arrays["ids"][int(row)]): why for row, why in about["missing"].items()}
    yield {name: column[order] for name, column in arrays.items()}, reasons, about["parts"]


def look_up(
    table: tuple[Mapping[str, npt.NDArray[Any]], Mapping[int, str], Sequence[str]],
    batch: pa.RecordBatch,
) -> BatchScores:
    """Annotated scores of rows, by their ids."""
    columns, reasons, names = table
    ids = batch.column("id_hash").to_numpy().astype(np.uint64)
    at = np.searchsorted(columns["ids"], ids)
    missing = {i: reasons[int(h)] for i, h in enumerate(ids) if int(h) in reasons}
    parts = {name: columns[name][at] for name in names}
    return BatchScores(columns["values"][at][:, np.newaxis], parts, missing)
