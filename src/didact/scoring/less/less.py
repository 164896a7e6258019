"""LESS: how well a step on a sample points where target samples want the model to go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from didact.accounting import flops
from didact.accounting.lengths import executed_training
from didact.accounting.lora import lora_spec
from didact.accounting.spec import ModelSpec
from didact.core.cost import Cost
from didact.core.errors import DataError
from didact.core.identity import method
from didact.core.pool import Pool, PoolStats
from didact.core.protocols import Context, Fitted
from didact.core.sampling import drawable_rows, random_key, shuffled_rows
from didact.gradients.step_rule import StepRule
from didact.scoring.judging.judging_model import MODEL_LIBRARIES, JudgingModel
from didact.scoring.judging.model_scorer import ModelScorer
from didact.scoring.less.checkpoints import WarmUpCheckpoints
from didact.scoring.less.directions import fit_exact
from didact.scoring.less.sketches import Sketching
from didact.scoring.less.target_set import TargetSet

GIBI = 2**30


@method(
    "less", libraries=(*MODEL_LIBRARIES, "peft", "accelerate"), models=("model",), needs=("models",)
)
@dataclass(frozen=True, kw_only=True)
class LESS(ModelScorer):
    """Influence of a sample on the target set: cosine of its Adam step with target gradients.

    Adapters (LoRA) are warmed up on a random share of the pool; at the end of every epoch stands a
    checkpoint with Adam's moments. The score is max over tasks of Σ_c w_c ⟨Γ_c(g), u_ck⟩ /
    ‖Γ_c(g)‖: g the gradient of the sample's loss in the adapters, Γ Adam's step, u the mean over a
    task's samples of their unit gradients, w the checkpoint's share of the learning rate. Higher is
    better; values lie in -1 to 1, most of them near 0.

    By default nothing is projected: the products are exact, in the space of all adapter
    parameters, and no gradient is stored.

    Args:
        model: A folder with a causal language model (safetensors), or a hub name.
        device: `auto` is every visible accelerator, else the CPU.
        dtype: `auto` is bfloat16 on an accelerator that has it, float32 elsewhere.
        loss: What counts: `completion`, `all` tokens, or the sample as plain `text`.
        template: How chats are written: the `model`'s own chat template, or one of didact's.
        max_length: Most tokens of a sample; the model's context when not given.
        tokens_per_batch: Most tokens of a batch, padding included.
        share: Share of the pool's samples that the warm-up trains on.
        epochs: Epochs of the warm-up; each ends with a checkpoint.
        rank: Rank of the adapters' matrices.
        alpha: Their scale is alpha / rank.
        dropout: Dropout of the adapters, in the warm-up alone; masks belong to step and sample, so
            that `tokens_per_batch` does not change them.
        targets: Last parts of the names of the adapted modules; by default q, k, v, o projections
            where the model has them, else all matrices inside the layers.
        learning_rate: Highest learning rate of the warm-up; linear to zero after a warm-up of 3 %.
        batch_size: Samples per step of the warm-up.
        gradient: `adam` is Γ; `sgd` compares plain gradients.
        epsilon: Adam's ε.
        epsilon_inside: ε under the root, as in the reference; else beside it, as in Adam's paper.
        bias_correction: Correct the moments for their start at zero; the reference does not.
        space: `exact`, `projected`, or `auto`: exact if the target directions of one checkpoint fit
            into `memory`.
        memory: GiB for target directions of one checkpoint.
        dimension: Numbers of a projected gradient, a multiple of 64.
        unit: In the projected space, divide by the norm `after` projection, as the reference, or by
            the true norm `before` it.
        reduce: How the scores of several tasks become one; the paper's is max.

    **Source:** Xia et al. 2024, arXiv:2402.04333; settings as in its released code unless said.
    The code projects to 8,192 numbers; exact is what that estimates.
    **Cost:** `epochs` times one forward and backward of the pool with a frozen base (about 4N per
    token), plus the warm-up; memory tasks × adapter parameters × 4 bytes.
    `projected` adds 2 · adapter parameters · `dimension` a sample and checkpoint, and keeps samples
    × `dimension` × 2 bytes × checkpoints on disk, from which any further target is scored at once.
    """

    share: Annotated[float, Field(gt=0, le=1)] = 0.05
    epochs: Annotated[int, Field(ge=1)] = 4
    rank: Annotated[int, Field(ge=1)] = 128
    alpha: Annotated[float, Field(gt=0)] = 512
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    targets: tuple[str, ...] | None = None
    learning_rate: Annotated[float, Field(gt=0)] = 2e-5
    batch_size: Annotated[int, Field(ge=1)] = 128
    gradient: Literal["adam", "sgd"] = "adam"
    epsilon: Annotated[float, Field(gt=0)] = 1e-8
    epsilon_inside: bool = True
    bias_correction: bool = False
    space: Literal["auto", "exact", "projected"] = "auto"
    memory: Annotated[float, Field(gt=0)] = 8.0
    dimension: Annotated[int, Field(ge=64, multiple_of=64)] = 8192
    unit: Literal["after", "before"] = "after"
    reduce: Literal["mean", "max"] = "max"
    needs_target = True

    def estimate_from_specs(
        self, pool: PoolStats, target: PoolStats | None, specs: Mapping[str, ModelSpec]
    ) -> Cost:
        """Warm-up, target gradients and the pool's gradients at every checkpoint, frozen base."""
        spec = specs["model"]
        lora = lora_spec(spec, rank=self.rank, targets=self.targets or None)
        lengths, tokens = self.executed(pool, spec)
        of_target, target_tokens = flops.NOTHING, 0
        if target is not None:
            of_target, target_tokens = self.executed(target, spec)
        n_tasks = len(target.tasks) if target is not None else 1

        def gradients(of: flops.Lengths) -> float:
            return flops.lora_counted(spec, lora, of.tokens, of.squares)

        projected = self.projected(n_tasks, lora.n_params)
        products = 2.0 * n_tasks * lora.n_params * lengths.n
        if projected:
            products = flops.projection_flops(lora.n_params, self.dimension) * (
                lengths.n + of_target.n
            )
        times = 1 if projected else 2  # exact directions take norms first
        each = gradients(lengths) + products + times * gradients(of_target)
        warm_up = executed_training(
            self.typical(pool, spec), n=self.share * pool.n, batch_size=self.batch_size,
            tokens_per_batch=self.tokens_per_batch,
        )  # fmt: skip
        each += gradients(warm_up)
        return Cost(
            flops=self.epochs * each,
            tokens=round(self.epochs * ((1 + self.share) * tokens + times * target_tokens)),
        )

    def projected(self, n_tasks: int, n_params: int) -> bool:
        """Whether gradients are projected: asked for, or their targets do not fit."""
        width = 8 if self.dtype == "float64" else 4  # adapters are float32 beside bfloat16
        needed = n_tasks * n_params * width
        return self.space == "projected" or (self.space == "auto" and needed > self.memory * GIBI)

    def fit(self, pool: Pool, target: Pool, ctx: Context) -> Fitted:
        """Warm the adapters up; take target directions (or all sketches) at every checkpoint."""
        judge = self.judging_model(pool, self.where)
        encoding = self.judging_model(target, f"{self.where} (target set)").encoding
        target_set = TargetSet(target, encoding)
        warm = self._warm_up(pool, judge, ctx)
        if self.projected(len(target.task_names), warm.n_params):
            sketching = Sketching(warm, pool, self.dimension, ctx.seed, self.unit)
            return sketching.fit(target_set, ctx, self.reduce)
        return fit_exact(warm, target_set, ctx, self.reduce)

    def _warm_up(self, pool: Pool, judge: JudgingModel, ctx: Context) -> WarmUpCheckpoints:
        """The checkpoints, trained unless an earlier run left them."""
        from didact.training.lora import WarmUpSettings, warm_up

        settings = WarmUpSettings(
            rank=self.rank, alpha=self.alpha, dropout=self.dropout, targets=self.targets,
            learning_rate=self.learning_rate, batch_size=self.batch_size, epochs=self.epochs,
            tokens_per_batch=self.tokens_per_batch, dtype=self.dtype, seed=ctx.seed,
        )  # fmt: skip
        candidates = drawable_rows(pool)
        if not len(candidates):
            raise DataError("score.less: the pool has no row to warm up on")
        count = max(1, round(self.share * len(candidates)))
        rows = shuffled_rows(pool, candidates, random_key(ctx, "warm-up"))[:count]
        checkpoints = warm_up(
            pool, rows, judge.path, settings, how=judge.encoding, ctx=ctx, device=judge.device
        )
        rule = StepRule(
            kind=self.gradient,
            epsilon=self.epsilon,
            epsilon_inside=self.epsilon_inside,
            bias_correction=self.bias_correction,
        )
        return WarmUpCheckpoints.of(judge, checkpoints, rule, samples=len(rows))
