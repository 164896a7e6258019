"""Averages of the weights over the steps of a training, saved beside the weights themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from transformers import TrainerCallback

FILE: Final = "average.safetensors"


# Number of a step from 1, of all steps, and of the weights in the average so far → the share that
# the weights after the step get in it; None to pass them over.
Rule = Callable[[int, int, int], float | None]


def moving(decay: float) -> Rule:
    """θ̄ ← d·θ̄ + (1 - d)·θ after every step, d rising to `decay`: (1 + t) / (10 + t) at most.

    **Source:** Polyak and Juditsky 1992; the rise as in TensorFlow's ExponentialMovingAverage.
    """
    return lambda step, _steps, _taken: 1 - min(decay, (1 + step) / (10 + step))


def last_ones(count: int, every: int | None) -> Rule:
    """The mean of the weights after the last step and at some before it, `count` in all.

    Args:
        count: Number of weights.
        every: Steps between them; they lie in the last fifth of all steps when not given.

    **Source:** checkpoint averaging as in arXiv:2511.18903, with equal weights.
    """

    def share(step: int, steps: int, taken: int) -> float | None:
        apart = every or max(1, steps // (5 * count))
        before_end = steps - step
        if before_end % apart or before_end >= count * apart:
            return None
        return 1 / (taken + 1)

    return share


class Averager(TrainerCallback):
    """Keeps an average of the parameters that are trained, in float32 or wider, on their device.

    Every checkpoint has it, so that an interrupted training goes on with it.

    **Cost:** one more copy of the trained parameters, and three operations on each a step.
    """

    def __init__(self, rule: Rule) -> None:
        self.rule, self.taken = rule, 0
        self.values: dict[str, Tensor] = {}

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, **_: Any
    ) -> None:
        """Start from the weights as they are, or from the checkpoint that is gone on from."""
        from safetensors.torch import load_file

        del control
        found = Path(args.output_dir) / f"checkpoint-{state.global_step}" / FILE
        saved = load_file(found) if state.global_step else {}
        self.taken = int(saved.pop("taken", torch.zeros(())))
        for name, parameter in trained(model):
            wide = torch.promote_types(parameter.dtype, torch.float32)
            start = saved.get(name, parameter.detach())
            self.values[name] = start.to(parameter.device, wide, copy=True)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Take up the weights after a step."""
        del args, control
        share = self.rule(state.global_step, state.max_steps, self.taken)
        if share is None:
            return
        self.taken += 1
        for name, parameter in trained(model):
            self.values[name].lerp_(parameter.detach().to(self.values[name].dtype), share)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Put the average into a checkpoint."""
        from safetensors.torch import save_file

        del control
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero:
            taken = torch.tensor(float(self.taken))
            tensors = {name: value.contiguous().cpu() for name, value in self.values.items()}
            save_file({**tensors, "taken": taken}, folder / FILE)

    @contextmanager
    def in_place(self, model: Any) -> Iterator[None]:
        """A block in which the model has the average in place of its own weights."""
        own = {name: parameter.detach().clone() for name, parameter in trained(model)}
        with torch.no_grad():
            for name, parameter in trained(model):
                parameter.copy_(self.values[name])
            try:
                yield
            finally:
                for name, parameter in trained(model):
                    parameter.copy_(own[name])


def trained(model: Any) -> list[tuple[str, Tensor]]:
    """The parameters of a model that are trained, by name."""
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]
