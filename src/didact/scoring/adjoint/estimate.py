"""What PDS and LQS will cost: their passes over lengths drawn from histograms."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from didact.accounting import flops
from didact.accounting.algebra import algebras, worth_dropping
from didact.accounting.flops import NOTHING, Lengths
from didact.accounting.lengths import micro_batches, typical_lengths
from didact.accounting.segments import segments
from didact.accounting.spec import ModelSpec, headless
from didact.core.arrays import Int1D
from didact.core.cost import Cost
from didact.core.pool import PoolStats
from didact.scoring.adjoint import annotation
from didact.scoring.adjoint.inner_training import InnerTraining
from didact.scoring.adjoint.rules import AnnotatedStep

_SIMULATED = 64  # random batches whose padding stands for that of all
_SHARDS = 8  # of annotation, likewise
_DEV_SHARE = 0.1  # of `didact.training.regression.RegressionSettings`


def estimate(
    settings: InnerTraining,
    pool: PoolStats,
    target: PoolStats | None,
    specs: Mapping[str, ModelSpec],
) -> Cost:
    """All phases, each with the padding of batches as they are made.

    Counted as executed: T gradients going forward, all but the last of every segment but the last
    again, T of the target and a forward pass of it; T - 1 Hessian-vector products; a pass over the
    proxy set for each annotated step.
    """
    spec = specs["model"]
    most = settings.tokens_per_batch
    rng = np.random.default_rng(0)
    lengths = settings.typical(pool, spec)
    of_target = settings.typical(target, spec) if target is not None else lengths[:0]
    size = min(settings.inner_batch, len(lengths))
    drawn = [rng.choice(lengths, size, replace=False) for _ in range(_SIMULATED)]
    first = min(settings.product_steps)
    again = segments(settings.steps)[:-1]
    gradients = settings.steps + sum(stop - start - 1 for start, stop in again)
    back = settings.steps - 1 - first
    exact = settings.hvp == "forward_over_reverse"
    batch = _padded(drawn, most)
    curved = _padded(drawn, max(1, most // 2)) if exact else batch
    total = gradients / _SIMULATED * _gradient(spec, batch)
    total += (3 if exact else 2) * back / _SIMULATED * _gradient(spec, curved)
    each = target.n / max(len(of_target), 1) if target is not None else 1.0  # samples a length
    followed = _padded([of_target], most)
    total += (settings.steps - first) * each * _gradient(spec, followed)
    total += each * flops.forward_flops(spec, followed.tokens, followed.squares)
    n_proxy = settings.proxy_size(pool.n)
    shards = _shards(rng, lengths, annotation.SHARD_ROWS)
    scale = n_proxy / max(sum(map(len, shards)), 1)
    learned = 1.0
    if settings.loss == "completion":  # the template's own tokens are hardly learned
        learned = pool.learned * min(1.0, pool.n_tokens / max(pool.n * float(lengths.mean()), 1.0))
    passes = [(step, shard) for step in settings.annotated_steps for shard in shards]
    total += scale * sum(_annotation(spec, shard, most, step, learned) for step, shard in passes)
    batches = gradients + back * (1 if exact else 2)
    tokens = batches * size * float(lengths.mean() if len(lengths) else 0)
    tokens += (settings.steps - first + 1) * each * float(of_target.sum())
    tokens += len(settings.annotated_steps) * n_proxy * float(lengths.mean() if len(lengths) else 0)
    cost = Cost(flops=total, tokens=round(tokens))
    if n_proxy == pool.n:
        return cost
    return cost + _data_scorer(settings, pool, n_proxy, headless(specs["scorer_model"]))


def _data_scorer(settings: InnerTraining, pool: PoolStats, n_proxy: int, spec: ModelSpec) -> Cost:
    """Training on the proxy set, and a forward pass over the pool."""
    rng = np.random.default_rng(0)
    lengths = typical_lengths(pool, overhead=spec.added(pool.kind), max_length=spec.context or None)
    n_train, epochs = (1 - _DEV_SHARE) * n_proxy, settings.scorer_epochs
    drawn = [rng.choice(lengths, min(32, len(lengths)), replace=False) for _ in range(_SIMULATED)]
    train = _padded(drawn, settings.tokens_per_batch)
    shards = _shards(rng, lengths, annotation.SHARD_ROWS)
    read = _padded(shards, settings.tokens_per_batch)
    passes = (pool.n + epochs * _DEV_SHARE * n_proxy) / max(read.n, 1)
    total = epochs * n_train / max(train.n, 1) * flops.regression_flops(spec, train)
    total += passes * flops.forward_flops(spec, read.tokens, read.squares)
    n_read = epochs * n_proxy + pool.n
    return Cost(flops=total, tokens=round(n_read * float(lengths.mean())))


def _gradient(spec: ModelSpec, lengths: Lengths) -> float:
    return flops.training_flops(spec, lengths.tokens, lengths.squares)


def _shards(rng: np.random.Generator, lengths: Int1D, size: int) -> list[Int1D]:
    """Some shards of a pool in random order."""
    mixed = rng.permutation(lengths)
    return [mixed[at : at + size] for at in range(0, len(mixed), size)][:_SHARDS]


def _groups(lengths: Int1D, most: int) -> list[tuple[int, int]]:
    """Samples and padded length of every micro-batch."""
    found = micro_batches(lengths, np.arange(len(lengths)), most)
    return [(len(rows), int(lengths[rows[0]])) for rows in found]


def _padded(sets: list[Int1D], most: int) -> Lengths:
    total = NOTHING
    for lengths in sets:
        for b, s in _groups(lengths, most):
            total += Lengths(b, b * s, float(b * s * s))
    return total


def _annotation(
    spec: ModelSpec, lengths: Int1D, most: int, step: AnnotatedStep, learned: float
) -> float:
    """Forward, backward to the inputs, and per-sample products of one pass.

    Products at the vocabulary head leave out tokens without a loss where that pays.
    """
    total = 0.0
    for b, s in _groups(lengths, most):
        total += flops.forward_flops(spec, b * s, b * s * s)
        total += flops.input_gradient_flops(spec, b * s, b * s * s)
        looked_up = [] if spec.tied else [(spec.vocab, spec.width, 1, 0)]
        for d_out, d_in, count, seq in [*((*m, s) for m in spec.matrices), *looked_up]:
            table = d_out == spec.vocab and (spec.tied or not seq)
            if d_out == spec.vocab and worth_dropping(d_out, d_in, learned):
                seq = round(learned * seq)  # noqa: PLW2901 - the tokens that count
            chosen = algebras(
                d_out, d_in, seq, directions=int(step.dot), norms=step.norm, whole_gradient=False,
                lookups=s if table else 0,
            )[0]  # fmt: skip
            total += b * count * chosen.flops
    return total
