"""The algebra of LESS: Adam's step on each sample's gradient against unit target gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from didact.accounting.flops import NOTHING, Lengths
from didact.core.arrays import Float1D, Int1D
from didact.gradients.backward_pass import TileTransform
from didact.gradients.products import ProductKernel
from didact.gradients.projection import Rademacher
from didact.gradients.step_rule import StepRule
from didact.models.batches import Batch, over_batches
from didact.models.language_model import LanguageModel
from didact.models.losses import causal_losses
from didact.models.tokens import Tokens

Sums = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Adam's moments at a checkpoint.

    Attributes:
        values: Parameter name to first and second moment.
        beta1: Decay of the first moment.
        beta2: Decay of the second moment.
        steps: Steps taken so far.
    """

    values: Mapping[str, tuple[Tensor, Tensor]]
    beta1: float
    beta2: float
    steps: int


def adam_step(
    moments: Moments, rule: StepRule, device: torch.device, dtype: torch.dtype
) -> TileTransform:
    """Γ(g) = (β₁m + (1-β₁)g) / √(β₂v + (1-β₂)g² + ε), element by element; it is not linear in g.

    m and v are those of the checkpoint, the same for every sample.

    Args:
        moments: Adam's moments at the checkpoint.
        rule: The place of ε, and whether moments are corrected.
        device: The device on which steps are computed.
        dtype: Floating-point type of the steps.
    """
    c1 = 1 - moments.beta1 ** (moments.steps + 1) if rule.bias_correction else 1.0
    c2 = 1 - moments.beta2 ** (moments.steps + 1) if rule.bias_correction else 1.0
    inside = rule.epsilon if rule.epsilon_inside else 0.0
    parts = {
        name: (
            (m * (moments.beta1 / c1)).to(device, dtype),
            (v * (moments.beta2 / c2) + inside).to(device, dtype),
        )
        for name, (m, v) in moments.values.items()
    }

    def step(name: str, tile: Tensor) -> Tensor:
        mean, square = parts[name]
        below = torch.addcmul(square, tile, tile, value=(1 - moments.beta2) / c2).sqrt_()
        if not rule.epsilon_inside:
            below += rule.epsilon
        return torch.add(mean, tile, alpha=(1 - moments.beta1) / c1).div_(below)

    return step


@dataclass(frozen=True, slots=True)
class SampleResults:
    """The numbers that passes over samples gave for each of them, and what the passes cost.

    Attributes:
        values: float64 `(n, …)`, NaN on samples without a loss.
        lengths: Lengths of the sequences that ran, padding included.
        products: FLOPs beside forward and backward.
        tokens: Tokens that ran, without padding.
    """

    values: Float1D
    lengths: Lengths
    products: float
    tokens: int

    def __add__(self, other: SampleResults) -> SampleResults:
        """The values of the first with the cost of both."""
        return SampleResults(
            self.values,
            self.lengths + other.lengths,
            self.products + other.products,
            self.tokens + other.tokens,
        )


def cosines(
    model: LanguageModel,
    tokens: Tokens,
    kernel: ProductKernel,
    directions: Mapping[str, Tensor],
    step: TileTransform | None,
    tokens_per_batch: int,
) -> SampleResults:
    """⟨Γ(g_n), u_k⟩ / ‖Γ(g_n)‖ of every sample and direction, `(n, K)`."""

    def one(batch: Batch) -> tuple[Tensor, float]:
        found = kernel.products(batch, directions, transform=step, norms=True, losses=causal_losses)
        assert found.dots is not None  # noqa: S101 - directions were given
        assert found.squared_norms is not None  # noqa: S101 - norms were asked for
        # In float64 before the root: a small squared norm must not become zero in float32.
        return found.dots.double() / found.squared_norms.double().sqrt()[:, None], found.flops

    width = len(next(iter(directions.values())))
    return _sample_results(model, tokens, one, width, tokens_per_batch)


def sketches(
    model: LanguageModel,
    tokens: Tokens,
    kernel: ProductKernel,
    projection: Rademacher,
    step: TileTransform | None,
    tokens_per_batch: int,
    *,
    unit: Literal["after", "before"],
) -> SampleResults:
    """Projected steps as unit vectors, `(n, dimension)`.

    Args:
        model: The model whose gradients are taken.
        tokens: The samples.
        kernel: Entered on the model.
        projection: The random matrix.
        step: Γ, or None for the gradient itself.
        tokens_per_batch: Most tokens of a batch.
        unit: Divide by the norm `after` projection, as the reference does, or by the true norm
            `before` it.
    """

    def one(batch: Batch) -> tuple[Tensor, float]:
        out = torch.zeros(len(batch), projection.dimension, device=batch.input_ids.device)
        flops = 0.0

        def project(name: str, tile: Tensor, rows: slice) -> None:
            nonlocal flops
            out[rows] += projection.project(tile.to(out.dtype), name)
            flops += 2.0 * tile.numel() * projection.dimension

        found = kernel.products(
            batch,
            None,
            transform=step,
            norms=unit == "before",
            losses=causal_losses,
            visitor=project,
        )
        norms = out.norm(dim=1) if found.squared_norms is None else found.squared_norms.sqrt()
        return out / norms[:, None], found.flops + flops

    return _sample_results(model, tokens, one, projection.dimension, tokens_per_batch)


def unit_directions(
    model: LanguageModel,
    tokens: Tokens,
    tasks: npt.NDArray[np.int64],
    n_tasks: int,
    kernel: ProductKernel,
    tokens_per_batch: int,
) -> tuple[dict[str, Tensor], SampleResults]:
    """u_k: the mean over a task's samples of their *unit* gradients, not made unit again.

    Two passes: norms first, then one backward of Σ_n loss_n / ‖g_n‖ for each task.

    Args:
        model: The model whose gradients are taken.
        tokens: The target samples.
        tasks: Task of each sample.
        n_tasks: K.
        kernel: Entered on the model.
        tokens_per_batch: Most tokens of a batch.

    Returns:
        Parameter name to `(K, *shape)` in the model's dtype, and what ran.
    """

    def norm(batch: Batch) -> tuple[Tensor, float]:
        found = kernel.products(batch, None, norms=True, losses=causal_losses)
        assert found.squared_norms is not None  # noqa: S101 - norms were asked for
        return found.squared_norms.double().sqrt()[:, None], found.flops

    norms = _sample_results(model, tokens, norm, 1, tokens_per_batch)
    parameters = kernel.parameters
    out = {n: torch.zeros((n_tasks, *p.shape), dtype=p.dtype) for n, p in parameters.items()}
    n_params = sum(p.numel() for p in parameters.values())
    ran = norms
    usable = np.isfinite(norms.values[:, 0]) & (norms.values[:, 0] > 0)
    for k in range(n_tasks):
        rows = np.flatnonzero(usable & (tasks == k))
        share = 1.0 / (norms.values[:, 0] * max(len(rows), 1))
        sums = {name: torch.zeros_like(p) for name, p in parameters.items()}

        def weighted(
            batch: Batch, share: Float1D = share, sums: Sums = sums
        ) -> tuple[Tensor, float]:
            with torch.enable_grad():
                losses = causal_losses(model.module, batch)
                total = (losses * torch.from_numpy(share[batch.rows]).to(losses)).sum()
            gradients = torch.autograd.grad(total, list(parameters.values()))
            for into, gradient in zip(sums.values(), gradients, strict=True):
                into.add_(gradient)
            return losses.detach()[:, None], 2.0 * n_params * batch.input_ids.numel()

        ran += _sample_results(model, tokens, weighted, 1, tokens_per_batch, rows)
        for name, total in sums.items():
            out[name][k] = total.cpu()
    return out, ran


def _sample_results(
    model: LanguageModel,
    tokens: Tokens,
    one: Callable[[Batch], tuple[Tensor, float]],
    width: int,
    tokens_per_batch: int,
    rows: Int1D | None = None,
) -> SampleResults:
    """`one` of every micro-batch, its rows put where they belong; of all with a loss, or some."""
    rows = tokens.scored if rows is None else rows
    values = np.full((len(tokens), width), np.nan)
    lengths, flops = NOTHING, 0.0
    for batch, (found, more) in over_batches(
        one, tokens, rows, tokens_per_batch=tokens_per_batch, pad_id=model.pad_id,
        device=model.device,
    ):  # fmt: skip
        values[batch.rows] = found.double().cpu().numpy()
        lengths += batch.executed
        flops += more
    return SampleResults(values, lengths, flops, int(tokens.lengths[rows].sum()))
