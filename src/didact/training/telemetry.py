"""What is told of every optimizer step: the lines of `steps.jsonl`, written and read."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from didact.core.cost import Cost
from didact.core.errors import DataError
from didact.core.nesting import parse_json
from didact.core.paths import Place
from didact.data.reading.files import readable

STEPS: Final = "steps.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One optimizer step.

    What a trainer does not tell is None, or left empty.

    Attributes:
        step: Number of the step, from 1.
        epoch: Pass over the data in which the step begins, from 1.
        loss: Nats per token before the update: the mean over the step's learnt tokens, each by its
            weight. Of a preference trainer, the loss that it trains on.
        learnt: Weight of the learnt tokens, by which the losses of steps are averaged.
        learning_rate: Learning rate of the update.
        grad_norm: L2 norm of the gradient before clipping.
        samples: Number of samples with a loss.
        skipped: Number of samples without one, left out.
        tokens: Number of tokens, without padding.
        executed: Number of tokens with padding.
        total_tokens: Tokens of all steps so far, without padding.
        total_flops: FLOPs of all steps so far, as executed.
        seconds: Time since the training began, that of interrupted runs included.
        rows: Digest of the rows read, in sequence; see `rows_digest`.
        loss_by_source: Source → its loss in nats per token, and the weight of its learnt tokens.
    """

    step: int
    loss: float
    epoch: int | None = None
    learnt: float | None = None
    learning_rate: float | None = None
    grad_norm: float | None = None
    samples: int | None = None
    skipped: int | None = None
    tokens: int | None = None
    executed: int | None = None
    total_tokens: int | None = None
    total_flops: float | None = None
    seconds: float | None = field(default=None, compare=False)  # measured
    rows: str = ""
    loss_by_source: Mapping[str, tuple[float, float]] = field(default_factory=dict)


_NAMES = frozenset(f.name for f in fields(Step))


def rows_digest(rows: npt.ArrayLike) -> str:
    """16 hex digits of a sequence of rows: tells whether a step read what the order says."""
    data = np.ascontiguousarray(np.asarray(rows, np.int64)).tobytes()
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def step_lines(steps: Iterable[Step]) -> str:
    """Steps as lines of JSON."""
    return "".join(json.dumps(asdict(step), ensure_ascii=False) + "\n" for step in steps)


def read_steps(path: Place) -> tuple[Step, ...]:
    """The steps in a `steps.jsonl`, or in the folder that holds one.

    Raises:
        DataError: A line is cut or no step, a loss is not finite, or a step is missing or told
            twice; the message has the line.
    """
    path = path / STEPS if path.is_dir() else path
    steps: list[Step] = []
    with readable(path):
        lines = path.read_text("utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        place = f"{path}:{number}"
        try:
            told = parse_json(line)
        except ValueError as error:
            raise DataError(
                f"{place}: not JSON ({error}): the line was cut; remove it, or train again"
            ) from error
        steps.append(_step(told, place, steps))
    if not steps:
        raise DataError(f"{path}: holds no step; the training did not come to its first one")
    return tuple(steps)


def step_of(line: str) -> float:
    """The step that a line of a log is of; infinite where the line was cut."""
    try:
        return float(parse_json(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def cost_so_far(steps: Sequence[Step]) -> Cost:
    """FLOPs and tokens of all steps up to the last of some."""
    last = steps[-1] if steps else None
    if last is None:
        return Cost()
    return Cost(flops=last.total_flops or 0.0, tokens=last.total_tokens or 0)


def step_from_json(told: Mapping[str, Any]) -> Step:
    """A step from its `asdict`, as JSON gives it back; what is unknown is passed over."""
    pairs = {name: tuple(pair) for name, pair in told.get("loss_by_source", {}).items()}
    known = {name: value for name, value in told.items() if name in _NAMES}
    return Step(**{**known, "loss_by_source": pairs})


def _step(told: Any, place: str, before: Sequence[Step]) -> Step:
    try:
        step = step_from_json(told)
    except (AttributeError, TypeError) as error:
        raise DataError(f"{place}: not a step ({error}); expected step, loss, …") from error
    if not isinstance(step.step, int) or not isinstance(step.loss, int | float):
        raise DataError(f"{place}: step {step.step!r}, loss {step.loss!r}; expected numbers")
    if not math.isfinite(step.loss):
        raise DataError(
            f"{place}: the loss of step {step.step} is {step.loss}; everything after it is lost: "
            "train again with a lower learning rate"
        )
    expected = before[-1].step + 1 if before else step.step
    if step.step != expected:
        what = "repeated" if step.step < expected else "missing"
        raise DataError(
            f"{place}: step {step.step} where {expected} is expected: steps are {what}, as when "
            "the logs of two trainings are joined; give the log of one"
        )
    return step
