"""Inner training: plain SGD whose every step can be visited again."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import torch

from didact.accounting.segments import segments
from didact.core.errors import ConfigError
from didact.core.pieces import Pieces
from didact.gradients.parameters import Parameters, load, losses_of, moved, save, theta_path

# Called with the number of steps that are done.
StepCallback = Callable[[int], None]


class Problem(Protocol):
    """Losses that are differentiable twice: L_t of every inner step t, and J of the target."""

    @property
    def device(self) -> torch.device:
        """The device on which parameters are expected."""
        ...

    def train_gradient(self, theta: Parameters, step: int) -> tuple[float, Parameters]:
        """L_t(θ) and its gradient."""
        ...

    def target_gradient(self, theta: Parameters) -> tuple[float, Parameters]:
        """J(θ) and its gradient."""
        ...

    def target_loss(self, theta: Parameters) -> float:
        """J(θ) alone."""
        ...

    def hvp(self, theta: Parameters, step: int, vector: Parameters) -> Parameters:
        """The Hessian of L_t at θ times a vector."""
        ...


@dataclass(frozen=True, slots=True)
class InnerSettings:
    """The settings of plain SGD: θ_{t+1} = θ_t - η·∇L_t(θ_t) for t = 0 … T-1.

    Attributes:
        steps: T.
        learning_rate: η, constant; no momentum, no weight decay, no clipping.
    """

    steps: int
    learning_rate: float


def sgd_step(
    problem: Problem, theta: Parameters, inner: InnerSettings, step: int
) -> tuple[float, Parameters]:
    """The loss at θ_t, and θ_{t+1}.

    Raises:
        ConfigError: The loss is not a finite number: the learning rate is too large.
    """
    loss, gradient = problem.train_gradient(theta, step)
    if not math.isfinite(loss):
        cause = (
            f"lower learning_rate (now {inner.learning_rate})"
            if step
            else "before any update: the model's weights are damaged, or dtype is too narrow"
        )
        raise ConfigError(
            f"the inner training's loss is {loss} at step {step} of {inner.steps}; {cause}"
        )
    return loss, {k: v - inner.learning_rate * gradient[k] for k, v in theta.items()}


def run_inner(
    problem: Problem, start: Parameters, inner: InnerSettings, pieces: Pieces, on_step: StepCallback
) -> tuple[list[Parameters], list[float]]:
    """All T steps, or those that an interrupted run did not come to.

    θ is kept at the beginning of every segment.

    Args:
        problem: The losses.
        start: θ_0.
        inner: Steps and learning rate.
        pieces: The store of θ at the beginning of each segment.
        on_step: Called with the number of steps that are done.

    Returns:
        θ from the last segment's first step to θ_T, in the host's memory, and the T losses.
    """
    starts = [first for first, _ in segments(inner.steps)]
    at, theta = 0, start
    losses: list[float] = []
    for first in reversed(starts):
        found = pieces.load(_start_of(first), partial(_loaded, first, problem.device))
        if found is not None:
            (theta, losses), at = found, first
            break
    else:
        _keep_start(pieces, 0, start, [])
        theta, losses = _loaded(0, problem.device, pieces.folder / _start_of(0))
    last = [moved(theta, "cpu")]
    for step in range(at, inner.steps):
        loss, theta = sgd_step(problem, theta, inner, step)
        losses.append(loss)
        if step + 1 in starts:
            _keep_start(pieces, step + 1, theta, losses)
            last = []
        last.append(moved(theta, "cpu"))
        on_step(step + 1)
    return last, losses


def _start_of(step: int) -> str:
    """Name of the piece that holds θ_step, where a segment begins."""
    return f"forward-{step:06d}"


def forget_from(pieces: Pieces, inner: InnerSettings, step: int) -> None:
    """Let `run_inner` go on before a step."""
    for first, _ in segments(inner.steps):
        if first >= step:
            pieces.drop(_start_of(first))


def _keep_start(pieces: Pieces, step: int, theta: Parameters, losses: list[float]) -> None:
    with pieces.writing(_start_of(step)) as folder:
        save(theta_path(folder, step), theta, losses=losses)


def _loaded(step: int, device: torch.device | str, folder: Path) -> tuple[Parameters, list[float]]:
    path = theta_path(folder, step)
    return load(path, device), losses_of(path)


def run_segment(
    problem: Problem, inner: InnerSettings, pieces: Pieces, segment: tuple[int, int]
) -> list[Parameters] | None:
    """θ of every step of a segment, run again from where it begins; None where that is gone."""
    first, stop = segment
    folder = pieces.intact(_start_of(first))
    if folder is None:
        return None
    theta, _ = _loaded(first, problem.device, folder)
    out = [moved(theta, "cpu")]
    for step in range(first, stop - 1):
        _, theta = sgd_step(problem, theta, inner, step)
        out.append(moved(theta, "cpu"))
    return out
