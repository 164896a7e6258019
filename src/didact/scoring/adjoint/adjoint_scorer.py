"""What PDS and LQS do alike: inner training and its adjoint, annotation, the data scorer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from didact.accounting.spec import ModelSpec
from didact.core.arrays import Int1D
from didact.core.cost import Cost
from didact.core.errors import ConfigError
from didact.core.keep import keep
from didact.core.one_pass import one_pass
from didact.core.pool import Pool, PoolStats
from didact.core.protocols import Context, Fitted
from didact.core.sampling import drawable_rows, random_key, row_keys
from didact.core.statistics import zscore
from didact.models.folder import find
from didact.scoring.adjoint.annotation import ProxySet, annotate
from didact.scoring.adjoint.annotation_store import (
    AnnotationStore,
    annotated_scores,
    open_annotations,
)
from didact.scoring.adjoint.data_scorer import LABEL_CLIP, fit_data_scorer
from didact.scoring.adjoint.estimate import estimate
from didact.scoring.adjoint.inner_run import InnerRun
from didact.scoring.adjoint.inner_training import InnerTraining
from didact.scoring.adjoint.rules import Annotation, sum_products
from didact.scoring.around.score_pool import merged_facts
from didact.scoring.judging.judging_model import JudgingModel, with_note


@dataclass(frozen=True, kw_only=True)
class AdjointScorer(InnerTraining):
    """A scorer that sums products of samples' gradients with the adjoint of an inner training."""

    def estimate_from_specs(
        self, pool: PoolStats, target: PoolStats | None, specs: Mapping[str, ModelSpec]
    ) -> Cost:
        """Inner training, target gradients, Hessian-vector products, annotation, data scorer.

        `specs["scorer_model"]` is the data scorer: without a head, with an overhead of its own. It
        is not asked for where all of the pool is annotated.
        """
        return estimate(self, pool, target, specs)

    def fit(self, pool: Pool, target: Pool, ctx: Context) -> Fitted:
        """Inner training and its adjoint, then the products of the proxy set."""
        judge = self.judging_model(pool, self.where)
        rows = self._proxy_rows(pool, ctx)
        inner = InnerRun(
            settings=self,
            pool=pool,
            target=target,
            judge=judge,
            target_judge=self.judging_model(target, f"{self.where} (target set)"),
        )
        adjoint = inner.adjoint(ctx)
        proxy = ProxySet(
            judge=judge, pool=pool, rows=rows, steps=self.annotated_steps, folder=adjoint.folder
        )
        settings = [self.annotation_rule, self.steps, self.every, self.learning_rate]
        store = keep(
            ctx, "annotations", [inner.key(ctx.seed), judge.identity, rows.tolist(), settings],
            partial(self._annotated, proxy),
            save=AnnotationStore.save, load=AnnotationStore.load,
        )  # fmt: skip
        facts = {
            **judge.facts,
            **merged_facts(adjoint.facts, store.facts),
            "proxy": len(rows),
            "annotated_steps": self.product_steps,
            "inner_loss": [adjoint.train_losses[0], adjoint.train_losses[-1]],
            "target_loss": [adjoint.target_loss_before, adjoint.target_losses[0]],
        }
        facts = with_note(facts, judge.untrained(adjoint.target_loss_before, "the target set"))
        if len(rows) < len(pool):
            return self._data_scorer(pool, rows, store.annotation(), facts, judge, ctx)
        opened = partial(open_annotations, store.folder)
        return one_pass(annotated_scores, ("id_hash",), facts=facts, open=opened)

    def _annotated(
        self, proxy: ProxySet, ctx: Context
    ) -> tuple[ProxySet, Annotation, dict[str, Any]]:
        products, facts = annotate(proxy, ctx)
        found = sum_products(
            self.annotation_rule, products, steps=self.steps, every=self.every,
            learning_rate=self.learning_rate,
        )  # fmt: skip
        return proxy, found, facts

    def _data_scorer(
        self, pool: Pool, rows: Int1D, found: Annotation, facts: Mapping[str, Any],
        judge: JudgingModel, ctx: Context,
    ) -> Fitted:  # fmt: skip
        """Scores of the whole pool from a regression on the annotated samples."""
        from didact.training.regression import RegressionSettings

        has = np.setdiff1d(np.arange(len(rows)), list(found.missing))
        labels = zscore(found.values[has], clip=LABEL_CLIP)
        order = np.argsort(row_keys(pool)[rows[has]], kind="stable")
        settings = RegressionSettings(
            epochs=self.scorer_epochs, learning_rate=self.scorer_learning_rate, dtype=self.dtype,
            tokens_per_batch=self.tokens_per_batch, seed=random_key(ctx, "data scorer") % 2**31,
        )  # fmt: skip
        return fit_data_scorer(
            pool, rows[has][order], labels[order],
            model=find(self.scorer_model) if self.scorer_model else judge.path,
            encoding=self.data_scorer_encoding(pool.kind), settings=settings, device=judge.device,
            facts=facts, ctx=ctx,
        )  # fmt: skip

    def _proxy_rows(self, pool: Pool, ctx: Context) -> Int1D:
        """The proxy set: all rows, or some drawn at random, none of the validation split."""
        from didact.gradients.inner_batches import drawn_rows

        size = self.proxy_size(len(pool))
        if size == len(pool):
            return np.arange(size)
        rows = drawable_rows(pool)
        if self.proxy is None:
            size = min(size, len(rows))
        if size > len(rows):
            raise ConfigError(
                f"{self.where}.proxy={size}: {len(rows)} of the pool's {len(pool)} samples "
                "can be drawn (no validation split, no repeats); set proxy=all or fewer"
            )
        return drawn_rows(row_keys(pool), rows, size, random_key(ctx, "proxy set"))
