"""The losses of a causal language model as inner training sees them, with their derivatives."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.func import functional_call, grad, jvp

from didact.accounting.flops import forward_flops, hvp_flops, training_flops
from didact.accounting.spec import ModelSpec
from didact.core.cost import Cost
from didact.gradients.parameters import Parameters, norm
from didact.models.batches import Batch, over_batches
from didact.models.language_model import LanguageModel
from didact.models.losses import sample_losses
from didact.models.tokens import Tokens

HessianProduct = Literal["forward_over_reverse", "finite_difference"]

# Of the parameters' norm, the step on either side of a central difference: on small GPT-2 and Llama
# models the product is right to 3e-4 in float32; longer steps meet curvature, shorter rounding.
_STEP = 1e-4


class LanguageProblem:
    """A causal language model's losses: one batch for every inner step, and a target set.

    Every loss is the mean over its samples; attention must be one that has forward-mode
    derivatives ("eager") for `hvp="forward_over_reverse"`.

    Args:
        model: The model; its module keeps its own parameters.
        batches: Samples of every inner step, all with a loss.
        target: Samples of the target set, all with a loss.
        tokens_per_batch: Most tokens of a micro-batch, padding included.
        hvp: Exact, by forward-mode derivatives of the gradient; or the central difference of two
            gradients, which needs no eager attention.
        charge: Told FLOPs and tokens of every pass.

    Attributes:
        device: The device of the model.
    """

    def __init__(
        self,
        model: LanguageModel,
        batches: Sequence[Tokens],
        target: Tokens,
        *,
        tokens_per_batch: int,
        hvp: HessianProduct = "forward_over_reverse",
        charge: Callable[[Cost], None],
    ) -> None:
        self._charge = charge
        self.device = model.device
        self._model = model
        self._batches = batches
        self._target = target
        self._tokens_per_batch = tokens_per_batch
        self._hvp = hvp

    def train_gradient(self, theta: Parameters, step: int) -> tuple[float, Parameters]:
        """Mean loss of step's batch and its gradient."""
        return self._gradient(theta, self._batches[step])

    def target_gradient(self, theta: Parameters) -> tuple[float, Parameters]:
        """Mean loss of the target set and its gradient."""
        return self._gradient(theta, self._target)

    @torch.no_grad()
    def target_loss(self, theta: Parameters) -> float:
        """Mean loss of the target set, by a forward pass."""
        total = 0.0
        run = partial(self._sum, theta=theta)
        for batch, loss in self._over(run, self._target, self._tokens_per_batch):
            total += float(loss) / len(self._target)
            self._charge_pass(forward_flops, batch)
        return total

    def hvp(self, theta: Parameters, step: int, vector: Parameters) -> Parameters:
        """The Hessian of step's mean loss times a vector."""
        tokens = self._batches[step]
        if self._hvp == "finite_difference":
            return self._difference(theta, tokens, vector)
        out = {k: torch.zeros_like(v) for k, v in theta.items()}
        # Tangents double what a micro-batch keeps for its backward pass.
        most = max(1, self._tokens_per_batch // 2)
        for batch, product in self._over(partial(self._curved, theta, vector), tokens, most):
            for name, value in product.items():
                out[name] += value / len(tokens)
            self._charge_pass(hvp_flops, batch)
        return out

    def _charge_pass(self, flops: Callable[[ModelSpec, int, float], float], batch: Batch) -> None:
        ran = batch.executed
        self._charge(
            Cost(
                flops=flops(self._model.spec, ran.tokens, ran.squares),
                tokens=int(batch.attention_mask.sum()),
            )
        )

    def _curved(self, theta: Parameters, vector: Parameters, batch: Batch) -> Parameters:
        with warnings.catch_warnings():
            # torch's own table of forward-mode rules, read at the first use, is still TorchScript.
            warnings.filterwarnings("ignore", ".torch.jit.", DeprecationWarning)
            out: Parameters = jvp(grad(partial(self._sum, batch)), (theta,), (vector,))[1]
        return out

    def _difference(self, theta: Parameters, tokens: Tokens, vector: Parameters) -> Parameters:
        length = norm(vector)
        if length == 0:
            return {k: torch.zeros_like(v) for k, v in vector.items()}
        epsilon = _STEP * norm(theta) / length
        _, above = self._gradient({k: v + epsilon * vector[k] for k, v in theta.items()}, tokens)
        _, below = self._gradient({k: v - epsilon * vector[k] for k, v in theta.items()}, tokens)
        return {k: (v - below[k]) / (2 * epsilon) for k, v in above.items()}

    def _gradient(self, theta: Parameters, tokens: Tokens) -> tuple[float, Parameters]:
        leaves = {k: v.detach().requires_grad_() for k, v in theta.items()}
        total, out = 0.0, {k: torch.zeros_like(v) for k, v in theta.items()}
        run = partial(self._loss_and_gradient, leaves)
        for batch, (loss, gradients) in self._over(run, tokens, self._tokens_per_batch):
            total += loss / len(tokens)
            for name, value in zip(out, gradients, strict=True):
                out[name] += value / len(tokens)
            self._charge_pass(training_flops, batch)
        return total, out

    def _loss_and_gradient(
        self, leaves: Parameters, batch: Batch
    ) -> tuple[float, tuple[Tensor, ...]]:
        loss = self._sum(batch, leaves)
        found = torch.autograd.grad(
            loss, list(leaves.values()), allow_unused=True, materialize_grads=True
        )
        return float(loss.detach()), found

    def _sum(self, batch: Batch, theta: Parameters) -> Tensor:
        """Sum of the samples' losses at θ, computed in the model's own type."""
        module = self._model.module
        cast = {k: v.to(module.dtype) for k, v in theta.items()}
        inputs = {**batch.inputs, "use_cache": False}
        logits = functional_call(module, cast, (), inputs).logits
        return sample_losses(logits, batch).sum()

    def _over(self, function: Any, tokens: Tokens, tokens_per_batch: int) -> Any:
        return over_batches(
            function,
            tokens,
            tokens_per_batch=tokens_per_batch,
            pad_id=self._model.pad_id,
            device=self._model.device,
        )
