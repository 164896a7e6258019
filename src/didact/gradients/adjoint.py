"""The adjoint of inner training: how the target's loss answers to a push at every inner step.

With A = Σ_{t=1..T} J(θ_t) along θ_{t+1} = θ_t - η·∇L_t(θ_t), and λ_t = ∂A_{≥t}/∂θ_t:

    λ_T = ∇J(θ_T),    λ_t = λ_{t+1} + ∇J(θ_t) - η·∇²L_t(θ_t)·λ_{t+1}.

Adding ε·∇ℓ to the gradient of every step changes A by -ε·η·Σ_t ⟨λ_{t+1}, ∇ℓ(θ_t)⟩.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from didact.accounting.segments import segments
from didact.core.cost import Cost
from didact.core.errors import ConfigError, DamagedError
from didact.core.pieces import Pieces
from didact.gradients.inner_training import (
    InnerSettings,
    Problem,
    StepCallback,
    forget_from,
    run_inner,
    run_segment,
)
from didact.gradients.parameters import (
    Parameters,
    lambda_path,
    load,
    losses_of,
    moved,
    norm,
    save,
    theta_path,
)

ABOUT, BEFORE = "adjoint.json", "loss.json"


@dataclass(frozen=True, slots=True)
class Adjoint:
    """A finished adjoint on disk: the parameters and adjoint vectors that annotation reads.

    Attributes:
        folder: The folder of θ_i and λ_{i+1} of every visited step i, and of θ alone of others.
        train_losses: L_t(θ_t), T of them.
        target_losses: J(θ_T), J(θ_{T-1}), … as far back as the recursion went.
        target_loss_before: J(θ_0), before any step.
        facts: Facts of the open model, such as its dtype.
    """

    folder: Path
    train_losses: tuple[float, ...]
    target_losses: tuple[float, ...]
    target_loss_before: float
    facts: Mapping[str, Any]


def read_adjoint(folder: Path) -> Adjoint:
    """The adjoint that `save_adjoint` wrote."""
    about = json.loads((folder / ABOUT).read_text("utf-8"))
    return Adjoint(
        folder, tuple(about["train"]), tuple(about["target"]), about["before"], about["facts"]
    )


@dataclass(frozen=True, slots=True)
class AdjointPieces:
    """A finished adjoint still in the pieces it was made in, one for each segment.

    Attributes:
        pieces: The store of the pieces.
        made: Names of the pieces.
        files: Names of the files in them that are wanted.
        train_losses: L_t(θ_t).
        target_losses: J(θ_T), J(θ_{T-1}), …
        target_loss_before: J(θ_0).
    """

    pieces: Pieces
    made: tuple[str, ...]
    files: frozenset[str]
    train_losses: tuple[float, ...]
    target_losses: tuple[float, ...]
    target_loss_before: float


def save_adjoint(finished: AdjointPieces, facts: Mapping[str, Any], folder: Path) -> None:
    """θ and λ of the steps that are wanted, the losses, and facts, into an empty folder."""
    for name in finished.made:
        finished.pieces.link(name, folder)
    for path in folder.iterdir():
        if path.name not in finished.files:
            path.unlink()
    missing = finished.files - {path.name for path in folder.iterdir()}
    if missing:
        raise DamagedError(folder / min(missing), "it is gone")
    about = {
        "train": finished.train_losses, "target": finished.target_losses,
        "before": finished.target_loss_before, "facts": dict(facts),
    }  # fmt: skip
    (folder / ABOUT).write_text(json.dumps(about), "utf-8")


def run_adjoint(
    problem: Problem,
    start: Parameters,
    inner: InnerSettings,
    pieces: Pieces,
    *,
    visited: Collection[int],
    theta_only: Collection[int] = (),
    forward: StepCallback,
    backward: StepCallback,
) -> AdjointPieces:
    """Inner training, then the recursion of λ back to the first visited step.

    A run that was interrupted goes on at the last checkpoint or finished segment.

    Args:
        problem: The losses.
        start: θ_0.
        inner: Steps and learning rate.
        pieces: The store of checkpoints and finished segments.
        visited: Steps i below T whose θ_i and λ_{i+1} are wanted.
        theta_only: Further steps, up to T, whose θ alone is wanted.
        forward: Called with the number of inner steps done.
        backward: Called with the number of steps of the recursion done.

    Raises:
        ConfigError: A loss, or λ, is not a finite number.

    **Source:** PDS (Gu et al. 2024, arXiv:2410.07064); DELT (arXiv:2506.21545), eq. 8.
    **Cost:** (2 - 1/√T)·T gradients of a batch, T of the target and T Hessian-vector products, and
    a forward pass of the target at θ_0;
    memory for √T + 4 times the parameters, the √T of them on the host, disk for √T of them and two
    more a visited step.
    """
    last, train_losses = run_inner(problem, start, inner, pieces, forward)
    before = _target_loss_before(problem, start, pieces)
    made: list[str] = []
    if inner.steps in theta_only:
        final = "final"
        pieces.save(
            final,
            lambda folder: save(theta_path(folder, inner.steps), last[-1], losses=train_losses),
            Cost(),
        )
        made.append(final)
    target_losses: list[float] = []
    earliest = min(visited, default=inner.steps)
    value: Parameters | None = None
    for first, stop in reversed(segments(inner.steps)):
        name = f"backward-{first:06d}"
        made.append(name)
        kept = pieces.load(name, partial(_finished_segment, first, problem.device))
        if kept is not None:
            value, target_losses = kept
        else:
            thetas: list[Parameters] | None = last
            if stop < inner.steps:
                thetas = run_segment(problem, inner, pieces, (first, stop))
            if thetas is None:  # where it begins is damaged: forward again from before it
                forget_from(pieces, inner, first)
                pieces.meter.start_over()
                return run_adjoint(
                    problem, start, inner, pieces,
                    visited=visited, theta_only=theta_only, forward=forward, backward=backward,
                )  # fmt: skip
            with pieces.writing(name) as folder:
                value = _segment_back(
                    problem, inner, (first, stop), thetas, value, target_losses, folder,
                    visited=visited, theta_only=theta_only, earliest=earliest, losses=train_losses,
                    on_step=backward,
                )  # fmt: skip
        if first <= earliest:
            break
    files = {theta_path(Path(), i).name for i in (*visited, *theta_only)}
    files |= {lambda_path(Path(), i + 1).name for i in visited}
    return AdjointPieces(
        pieces, tuple(made), frozenset(files), tuple(train_losses), tuple(target_losses), before
    )


def _target_loss_before(problem: Problem, start: Parameters, pieces: Pieces) -> float:
    """J(θ_0), of which the recursion has no need."""
    name = "target-before"

    def read(folder: Path) -> float:
        return float(json.loads((folder / BEFORE).read_text("utf-8")))

    found = pieces.load(name, read)
    if found is None:
        found = problem.target_loss(moved(start, problem.device))
        with pieces.writing(name) as folder:
            (folder / BEFORE).write_text(json.dumps(found), "utf-8")
    return found


def _finished_segment(
    first: int, device: torch.device, folder: Path
) -> tuple[Parameters, list[float]]:
    """λ and the target's losses at the beginning of a finished segment."""
    path = lambda_path(folder, first)
    return load(path, device), losses_of(path)


def _segment_back(
    problem: Problem,
    inner: InnerSettings,
    segment: tuple[int, int],
    thetas: list[Parameters],
    value: Parameters | None,
    target_losses: list[float],
    folder: Path,
    *,
    visited: Collection[int],
    theta_only: Collection[int],
    earliest: int,
    losses: list[float],
    on_step: StepCallback,
) -> Parameters:
    """The recursion from a segment's end to its beginning, with the files it writes on its way.

    Args:
        problem: The losses.
        inner: Steps and learning rate.
        segment: First step and stop.
        thetas: θ of the segment's steps, and for the last segment θ_T; emptied on the way.
        value: λ_stop; None for the last segment, where it follows from θ_T.
        target_losses: J(θ_t) of the steps behind; those of this segment are added.
        folder: The folder of the segment's piece: θ_i and λ_{i+1} of visited steps, λ_first.
        visited: Steps i whose θ_i and λ_{i+1} are written.
        theta_only: Further steps whose θ alone is written.
        earliest: The last step of the recursion.
        losses: L_t(θ_t) of all steps.
        on_step: Called with the number of steps of the recursion done.

    Returns:
        λ_first.
    """
    first, stop = segment
    if value is None:
        loss, value = problem.target_gradient(moved(thetas.pop(), problem.device))
        _check_finite(value, inner, stop)
        target_losses.append(loss)
    for step in range(stop - 1, max(first, earliest) - 1, -1):
        theta = moved(thetas.pop(), problem.device)
        on_step(inner.steps - step)
        if step in visited or step in theta_only:
            save(theta_path(folder, step), theta, losses=losses[:step])
        if step in visited:
            save(lambda_path(folder, step + 1), value, losses=target_losses)
        if step > earliest:
            loss, value = adjoint_step(problem, theta, value, inner, step)
            target_losses.append(loss)
    save(lambda_path(folder, first), value, losses=target_losses)
    return value


def adjoint_step(
    problem: Problem, theta: Parameters, following: Parameters, inner: InnerSettings, step: int
) -> tuple[float, Parameters]:
    """J(θ_t), and λ_t from λ_{t+1}.

    Args:
        problem: The losses.
        theta: θ_t.
        following: λ_{t+1}.
        inner: Steps and learning rate.
        step: t.

    Raises:
        ConfigError: λ_t is not finite.
    """
    loss, gradient = problem.target_gradient(theta)
    curved = problem.hvp(theta, step, following)
    eta = inner.learning_rate
    value = {k: v + gradient[k] - eta * curved[k] for k, v in following.items()}
    _check_finite(value, inner, step)
    return loss, value


def _check_finite(value: Parameters, inner: InnerSettings, step: int) -> None:
    if not math.isfinite(norm(value)):
        raise ConfigError(
            f"the adjoint of the inner training is not finite at step {step} of {inner.steps}; "
            f"lower learning_rate (now {inner.learning_rate}) or steps"
        )
