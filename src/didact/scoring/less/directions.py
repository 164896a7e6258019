"""Exact influence scores: products with the target's directions at every checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from didact.core.cost import Metered
from didact.core.keep import keep
from didact.core.protocols import BatchScorer, BatchScores, Context, Fitted, Progress
from didact.scoring.judging.judging_model import JudgingModel
from didact.scoring.judging.model_scorer import missing_or_not_finite
from didact.scoring.less.checkpoints import OpenCheckpoint, WarmUpCheckpoints
from didact.scoring.less.target_set import TargetSet

if TYPE_CHECKING:
    from didact.gradients.parameters import Parameters

DIRECTIONS = "directions.safetensors"


def fit_exact(
    warm: WarmUpCheckpoints, target: TargetSet, ctx: Context, reduce: Literal["mean", "max"]
) -> Fitted:
    """A fitted scorer without projection; target directions of every checkpoint are on disk.

    A score is Σ_c w_c ⟨Γ_c(g), u_ck⟩ / ‖Γ_c(g)‖, a pass for each checkpoint c.
    """
    folders = []
    for index in range(len(warm.checkpoints)):
        ctx.progress(Progress("target gradients", index, len(warm.checkpoints), "checkpoints"))
        folders.append(
            keep(
                ctx, "directions", [warm.key, index, *target.key],
                partial(_directions, warm, index, target), save=_save, load=_folder_itself,
            )
        )  # fmt: skip
    return Fitted(
        open=partial(_open, warm, tuple(folders)),
        columns=("turns",),
        tasks=target.task_names,
        reduce=reduce,
        passes=len(warm.checkpoints),
        device=warm.judge.device,
        facts={**warm.facts, "space": "exact"},
    )


def _directions(warm: WarmUpCheckpoints, index: int, target: TargetSet, ctx: Context) -> Parameters:
    """The direction u of every task: its samples' mean unit gradient, by parameter."""
    from didact.gradients.influence import unit_directions

    def work(device: str) -> Metered[Parameters]:
        with warm.open(index, device) as checkpoint:
            tokens, tasks = target.tokens(checkpoint.model)
            directions, ran = unit_directions(
                checkpoint.model, tokens, tasks, len(target.task_names), checkpoint.kernel,
                warm.judge.tokens_per_batch,
            )  # fmt: skip
            target.check_gradients(tasks, ran)
            on_host = {name: direction.cpu() for name, direction in directions.items()}
            return Metered(on_host, checkpoint.cost(ran))

    return ctx.executor.call(work, device=warm.judge.device)


def _save(directions: Parameters, folder: Path) -> None:
    from safetensors.torch import save_file

    save_file(dict(directions), folder / DIRECTIONS)


def _folder_itself(folder: Path) -> Path:
    return folder


@contextmanager
def _open(
    warm: WarmUpCheckpoints, folders: tuple[Path, ...], index: int, device: str
) -> Iterator[BatchScorer]:
    """One checkpoint with its target directions."""
    from safetensors.torch import load_file

    with warm.open(index, device) as checkpoint:
        directions = load_file(folders[index] / DIRECTIONS, device=device)
        yield partial(_score, checkpoint, directions, warm.judge, warm.weights[index])


def _score(
    checkpoint: OpenCheckpoint,
    directions: Mapping[str, Any],
    judge: JudgingModel,
    weight: float,
    batch: pa.RecordBatch,
) -> Metered[BatchScores]:
    from didact.gradients.influence import cosines

    tokens = judge.tokens(batch, checkpoint.model)
    ran = cosines(
        checkpoint.model, tokens, checkpoint.kernel, directions, checkpoint.step,
        judge.tokens_per_batch,
    )  # fmt: skip
    missing = missing_or_not_finite(tokens.missing, ran.values)
    scores = BatchScores(weight * ran.values, {}, missing, {"dtype": checkpoint.model.dtype})
    return Metered(scores, checkpoint.cost(ran))
