"""The inner training of one pool for one target set, and its adjoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from didact.core.arrays import Int1D
from didact.core.cost import Metered
from didact.core.errors import ConfigError, DataError
from didact.core.keep import keep
from didact.core.pool import Pool
from didact.core.protocols import Context, Progress
from didact.core.sampling import drawable_rows, random_key, row_keys
from didact.models.tokens import Tokens
from didact.scoring.adjoint.inner_training import InnerTraining
from didact.scoring.judging.judging_model import JudgingModel

if TYPE_CHECKING:
    from didact.gradients.adjoint import Adjoint, AdjointPieces
    from didact.models.language_model import LanguageModel


@dataclass(frozen=True, kw_only=True)
class InnerRun:
    """The inner training that settings describe, of one pool for one target set.

    Attributes:
        settings: The settings.
        pool: Where the samples of the inner steps come from.
        target: The target set, whose loss is followed.
        judge: The model that is trained, as it reads the pool.
        target_judge: The same model, as it reads the target set.
    """

    settings: InnerTraining
    pool: Pool
    target: Pool
    judge: JudgingModel
    target_judge: JudgingModel

    def key(self, seed: int) -> Mapping[str, Any]:
        """Everything that θ and λ depend on, JSON values."""
        own = self.settings
        return {
            "model": self.judge.identity,
            "pool": [self.pool.fingerprint, asdict(self.judge.encoding)],
            "target": [self.target.fingerprint, asdict(self.target_judge.encoding)],
            "inner": [own.steps, own.learning_rate, own.inner_batch, own.hvp],
            "tokens_per_batch": own.tokens_per_batch,
            "kept": [own.product_steps, own.norm_steps],
            "seed": seed,
        }

    def adjoint(self, ctx: Context) -> Adjoint:
        """θ and λ of the annotated steps, computed unless an earlier run left them."""
        from didact.gradients.adjoint import read_adjoint, save_adjoint

        def make(work: Context) -> tuple[AdjointPieces, dict[str, Any]]:
            return work.executor.call(partial(self._traced, work), device=self.judge.device)

        def save(made: tuple[AdjointPieces, dict[str, Any]], folder: Path) -> None:
            save_adjoint(*made, folder)

        return keep(ctx, "adjoints", self.key(ctx.seed), make, save=save, load=read_adjoint)

    def _traced(self, ctx: Context, device: str) -> Metered[tuple[AdjointPieces, dict[str, Any]]]:
        """All of it, charged as it goes; what an earlier run left is used again."""
        from didact.gradients.adjoint import run_adjoint
        from didact.gradients.inner_training import InnerSettings
        from didact.gradients.language_problem import LanguageProblem
        from didact.gradients.parameters import parameters_of

        own = self.settings
        exact = own.hvp == "forward_over_reverse"
        # Fused attention kernels have no forward-mode derivative.
        with self.judge.open(device, attention="eager" if exact else None) as model:
            if not exact and model.dtype == "bfloat16":
                raise ConfigError(
                    f"{own.where}.hvp=finite_difference: bfloat16 rounds the difference "
                    "away; set dtype=float32, or hvp=forward_over_reverse"
                )
            problem = LanguageProblem(
                model,
                self._inner_batches(model, ctx),
                self._target_tokens(model),
                tokens_per_batch=own.tokens_per_batch,
                hvp=own.hvp,
                charge=ctx.meter.add,
            )

            def watch(stage: str, done: int) -> None:
                ctx.progress(Progress(stage, done, own.steps, "steps"))

            traced = run_adjoint(
                problem,
                parameters_of(model),
                InnerSettings(own.steps, own.learning_rate),
                ctx.pieces,
                visited=own.product_steps,
                theta_only=own.norm_steps,
                forward=partial(watch, "inner training"),
                backward=partial(watch, "adjoint"),
            )
            return Metered((traced, {"dtype": model.dtype}))

    def _inner_batches(self, model: LanguageModel, ctx: Context) -> list[Tokens]:
        """The samples of every inner step."""
        from didact.gradients.inner_batches import inner_batches

        def encoded(rows: Int1D) -> Tokens:
            return self.judge.tokens(self.pool.read(rows, ["turns"]), model)

        return inner_batches(
            encoded,
            row_keys(self.pool),
            drawable_rows(self.pool),
            steps=self.settings.steps,
            size=self.settings.inner_batch,
            key=random_key(ctx, "inner batches"),
        )

    def _target_tokens(self, model: LanguageModel) -> Tokens:
        """The target's samples that have a loss."""
        from didact.models.tokens import concatenated

        parts = [
            self.target_judge.tokens(self.target.read(rows, ["turns"]), model)
            for rows in self.target.batches()
        ]
        found = concatenated([part.take(part.scored) for part in parts])
        if not len(found):
            reason = next((r for part in parts for r in part.missing.values()), "it is empty")
            raise DataError(
                f"{self.settings.where}: no sample of the target set has a loss ({reason})"
            )
        return found
