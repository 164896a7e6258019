"""Inner training: plain SGD whose every step can be visited again, and the batches it reads."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from didact.accounting.segments import segments
from didact.core.arrays import Int1D
from didact.core.errors import ConfigError, DataError
from didact.core.hashing import mix
from didact.core.pieces import Pieces
from didact.models.encode import Tokens

Parameters = dict[str, Tensor]
Watch = Callable[[int], None]

_READ_ROWS = 512  # rows encoded at a time while inner batches are filled


class Problem(Protocol):
    """Losses that are differentiable twice: L_t of every inner step t, and J of the target."""

    @property
    def device(self) -> torch.device:
        """Where parameters are put for it."""
        ...

    def train_gradient(self, theta: Parameters, step: int) -> tuple[float, Parameters]:
        """L_t(θ) and its gradient."""
        ...

    def target_gradient(self, theta: Parameters) -> tuple[float, Parameters]:
        """J(θ) and its gradient."""
        ...

    def hvp(self, theta: Parameters, step: int, vector: Parameters) -> Parameters:
        """The Hessian of L_t at θ times a vector."""
        ...


@dataclass(frozen=True, slots=True)
class Inner:
    """θ_{t+1} = θ_t - η·∇L_t(θ_t) for t = 0 … T-1.

    Attributes:
        steps: T.
        learning_rate: η, constant; no momentum, no weight decay, no clipping.
    """

    steps: int
    learning_rate: float

    @property
    def segments(self) -> tuple[tuple[int, int], ...]:
        """First step and stop of each of about √T segments; θ is kept where one begins."""
        return segments(self.steps)


def descend(
    problem: Problem, theta: Parameters, inner: Inner, step: int
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
    problem: Problem, start: Parameters, inner: Inner, pieces: Pieces, watch: Watch
) -> tuple[list[Parameters], list[float]]:
    """All T steps, or those that an interrupted run did not come to.

    θ is kept at the beginning of every segment.

    Args:
        problem: The losses.
        start: θ_0.
        inner: Steps and learning rate.
        pieces: Where θ is kept.
        watch: Called with the number of steps that are done.

    Returns:
        θ from the last segment's first step to θ_T, in the host's memory, and the T losses.
    """
    starts = [first for first, _ in inner.segments]
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
    last = [parked(theta)]
    for step in range(at, inner.steps):
        loss, theta = descend(problem, theta, inner, step)
        losses.append(loss)
        if step + 1 in starts:
            _keep_start(pieces, step + 1, theta, losses)
            last = []
        last.append(parked(theta))
        watch(step + 1)
    return last, losses


def _start_of(step: int) -> str:
    """Name of the piece that holds θ_step, where a segment begins."""
    return f"forward-{step:06d}"


def forget_from(pieces: Pieces, inner: Inner, step: int) -> None:
    """Let `run_inner` go on before a step."""
    for first, _ in inner.segments:
        if first >= step:
            pieces.drop(_start_of(first))


def _keep_start(pieces: Pieces, step: int, theta: Parameters, losses: list[float]) -> None:
    with pieces.writing(_start_of(step)) as folder:
        save(theta_path(folder, step), theta, losses=losses)


def _loaded(step: int, device: torch.device | str, folder: Path) -> tuple[Parameters, list[float]]:
    path = theta_path(folder, step)
    return load(path, device), losses_of(path)


def run_segment(
    problem: Problem, inner: Inner, pieces: Pieces, segment: tuple[int, int]
) -> list[Parameters] | None:
    """θ of every step of a segment, run again from where it begins; None where that is gone."""
    first, stop = segment
    folder = pieces.intact(_start_of(first))
    if folder is None:
        return None
    theta, _ = _loaded(first, problem.device, folder)
    out = [parked(theta)]
    for step in range(first, stop - 1):
        _, theta = descend(problem, theta, inner, step)
        out.append(parked(theta))
    return out


def theta_path(folder: Path, step: int) -> Path:
    """Where θ_step is kept."""
    return folder / f"theta-{step:06d}.safetensors"


def save(path: Path, tensors: Parameters, *, losses: list[float]) -> None:
    """Write parameters, and the losses that led to them."""
    kept = {k: v.detach().contiguous().cpu() for k, v in tensors.items()}
    save_file(kept, path, metadata={"losses": json.dumps(losses)})


def load(path: Path, device: torch.device | str = "cpu") -> Parameters:
    """What `save` wrote."""
    with safe_open(path, framework="pt") as file:
        # Copied: tensors of a mapped file are aligned otherwise than fresh ones, and BLAS then
        # rounds otherwise, so that a run that was interrupted would give other last bits.
        found = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    return {name: value.to(device) for name, value in found.items()}


def losses_of(path: Path) -> list[float]:
    """The losses that `save` wrote."""
    with safe_open(path, framework="pt") as file:
        found: list[float] = json.loads(file.metadata()["losses"])
        return found


def parked(theta: Parameters) -> Parameters:
    """The same in the host's memory, which holds a whole segment beside a model on a device."""
    return {k: v.cpu() for k, v in theta.items()}


def norm(vector: Parameters) -> float:
    """Euclidean norm over all parameters."""
    return math.sqrt(sum(float(v.double().square().sum()) for v in vector.values()))


def inner_batches(
    encoded: Callable[[Int1D], Tokens],
    hashes: npt.NDArray[np.uint64],
    rows: Int1D,
    *,
    steps: int,
    size: int,
    key: int,
) -> list[Tokens]:
    """The samples of every inner step, drawn without replacement until the pool is used up.

    A sample's place depends on its hash and the key, never on where it stands in the pool. Samples
    without a loss are passed over. A pool smaller than a batch is a batch as a whole.

    Args:
        encoded: Tokens of some rows.
        hashes: 64-bit hashes of the ids of all rows.
        rows: The rows to draw from.
        steps: T.
        size: Samples of a batch.
        key: What the draw depends on.

    Raises:
        DataError: No row has a loss.
    """
    found: list[Tokens] = []
    reason = "the pool has no rows"
    order = _shuffled(rows, hashes, key, 0)
    for at in range(0, len(rows), _READ_ROWS):
        tokens = encoded(order[at : at + _READ_ROWS])
        reason = next(iter(tokens.missing.values()), reason)
        found += [_taken(tokens, row) for row in tokens.scored.tolist()]
        if len(found) >= steps * size:
            break
    if not found:
        raise DataError(f"no sample of the pool has a loss to train on; the first: {reason}")
    size = min(size, len(found))
    places = _places(len(found), steps * size, key)
    return [
        _joined([found[i] for i in places[step * size : (step + 1) * size]])
        for step in range(steps)
    ]


def _places(n: int, wanted: int, key: int) -> list[int]:
    """0 … n-1 in order, then shuffled anew for every further epoch."""
    out = list(range(n))
    own = np.arange(n, dtype=np.uint64)
    epoch = 1
    while len(out) < wanted:
        out += _shuffled(np.arange(n), own, key, epoch).tolist()
        epoch += 1
    return out


def _shuffled(rows: Int1D, hashes: npt.NDArray[np.uint64], key: int, epoch: int) -> Int1D:
    salt = mix(np.asarray([key + epoch], np.uint64))
    return rows[np.argsort(mix(mix(hashes[rows]) ^ salt), kind="stable")]


def draw(hashes: npt.NDArray[np.uint64], rows: Int1D, n: int, key: int) -> Int1D:
    """`n` of the rows, uniformly, by their hashes and the key; ascending."""
    return np.sort(_shuffled(rows, hashes, key, 0)[:n])


def _taken(tokens: Tokens, row: int) -> Tokens:
    """One sample."""
    span = slice(int(tokens.offsets[row]), int(tokens.offsets[row + 1]))
    return Tokens(
        ids=tokens.ids[span],
        weights=tokens.weights[span],
        offsets=np.asarray([0, span.stop - span.start]),
        n_bytes=tokens.n_bytes[row : row + 1],
        truncated=tokens.truncated[row : row + 1],
    )


def _joined(samples: list[Tokens]) -> Tokens:
    return Tokens(
        ids=np.concatenate([np.empty(0, np.int32), *(s.ids for s in samples)]),
        weights=np.concatenate([np.empty(0, np.float32), *(s.weights for s in samples)]),
        offsets=np.cumsum([0, *(len(s.ids) for s in samples)]),
        n_bytes=np.concatenate([np.empty(0, np.int64), *(s.n_bytes for s in samples)]),
        truncated=np.concatenate([np.empty(0, np.bool_), *(s.truncated for s in samples)]),
    )


def joined(parts: Iterable[Tokens]) -> Tokens:
    """The samples that have a loss of several `Tokens`, as one."""
    return _joined([_taken(part, row) for part in parts for row in part.scored.tolist()])
