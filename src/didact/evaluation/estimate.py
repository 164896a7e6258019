"""What an evaluation will cost, from sizes alone."""

from __future__ import annotations

from didact.accounting.flops import forward_flops
from didact.accounting.lengths import executed, windowed_lengths
from didact.accounting.spec import ModelSpec
from didact.core.cost import Cost
from didact.core.pool import PoolStats
from didact.evaluation.rows import ROWS, windows_of
from didact.evaluation.settings import EvaluateSettings

UNLIMITED = 10**9  # tokens of a context that is not known


def estimate_evaluation(
    stats: PoolStats, spec: ModelSpec, settings: EvaluateSettings, *, options: float = 0.0
) -> Cost:
    """FLOPs and tokens of one file's evaluation, padding included; opens no file and no model.

    As exact as the token counts: read the file with the model's own tokenizer. Options are taken to
    be as long as the answers.

    Args:
        stats: The file's sizes.
        spec: The model's numbers, `EvaluatedModel.spec`.
        settings: The settings.
        options: Number of options a sample, over all samples; see `options.mean_options`.

    **Source:** `accounting.flops.forward_flops`. **Cost:** a few thousand lengths sorted.
    """
    size, stride = windows_of(spec.context or UNLIMITED, settings)
    lengths, scale = windowed_lengths(
        stats, size=size, stride=stride, max_length=settings.max_length,
        overhead=spec.added(stats.kind),
    )  # fmt: skip
    cost = Cost()
    for times in (1.0, options):
        if times:
            rows = max(round(ROWS * max(times, 1.0)), 1)
            ran, tokens = executed(
                lengths, scale=scale * times, tokens_per_batch=settings.tokens_per_batch, rows=rows
            )
            cost += Cost(flops=forward_flops(spec, ran.tokens, ran.squares), tokens=tokens)
    return cost
