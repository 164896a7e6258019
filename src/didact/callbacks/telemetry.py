"""Telemetry: `steps.jsonl` and `training.json` out of people's own trainers."""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from transformers import PreTrainedModel, Trainer, TrainerCallback

from didact.callbacks.forward_passes import ForwardPasses, Pass, pass_of, rank, summed
from didact.callbacks.pass_flops import PassFlops, pass_flops
from didact.core.atomic import write_text
from didact.core.errors import ConfigError, DataError, DidactError
from didact.core.manifest import fingerprint
from didact.models.folder import RECORD, digest
from didact.training.telemetry import STEPS, Step, read_steps, step_lines, step_of

_LOGGER = logging.getLogger(__name__)
_SETTINGS: Final = (
    "learning_rate", "lr_scheduler_type", "warmup_steps", "warmup_ratio", "weight_decay",
    "adam_beta1", "adam_beta2", "adam_epsilon", "optim", "max_grad_norm", "max_steps",
    "num_train_epochs", "per_device_train_batch_size", "gradient_accumulation_steps",
    "gradient_checkpointing", "bf16", "fp16", "seed", "data_seed", "train_sampling_strategy",
    "max_length", "packing", "padding_free", "loss_type", "beta", "label_smoothing_factor",
)  # fmt: skip
_OBJECTIVES: Final = {
    "SFTConfig": "next_token", "DPOConfig": "dpo", "KTOConfig": "kto", "GRPOConfig": "grpo",
    "RLOOConfig": "rloo", "RewardConfig": "reward", "ORPOConfig": "orpo", "CPOConfig": "cpo",
}  # fmt: skip


@dataclass(slots=True)
class _Sums:
    """What the passes of one step add up to; tensors are read when the step ends."""

    tokens: Any = 0
    executed: int = 0
    sequences: int = 0
    learnt: Any = 0
    flops: float = 0.0


class Telemetry(TrainerCallback):
    """Writes what every optimizer step did, whatever the trainer logs.

    ```python
    from didact.callbacks import Telemetry

    trainer.add_callback(Telemetry())
    ```

    `steps.jsonl` has a line a step, on disk when the step ends, and goes on after a checkpoint;
    `training.json` beside it says what was trained and how the loss is to be read: in nats per
    token where the objective is the next token, else the trainer's own. Tokens and FLOPs are those
    of all ranks; passes without a gradient in a step, as of a reference model, count as forward
    passes. Evaluation and what ran before the first step do not count.

    Args:
        folder: Where the two files go; the trainer's `output_dir` when None.

    Attributes:
        totals: Tokens and FLOPs of all steps so far. FLOPs are None where the architecture is not
            counted yet.

    **Cost:** one sum over the ranks a step.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self._given = None if folder is None else Path(folder).expanduser()
        self._folder = Path()
        self._watch: list[ForwardPasses] = []
        self._restore: list[Callable[[], None]] = []
        self._counted: dict[int, PassFlops] = {}
        self._model: Any = None
        self._sums: _Sums | None = None
        self._losses: list[torch.Tensor] = []
        self._norm: Any = None
        self._rate: float | None = None
        self._epoch: int | None = None
        self._began, self._before = 0.0, 0.0
        self._trainer: Any = None
        self._looked = False
        self._looking: Any = None
        self._pending: Step | None = None
        self._notes: list[str] = []
        self._facts: dict[str, Any] = {}
        self.totals: tuple[int, float | None] = (0, 0.0)

    # -- events ------------------------------------------------------------------------------------

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Watch the model and the trainer; go on with the file of an interrupted run."""
        del control
        model = more.get("model")
        if model is None:
            raise ConfigError("the trainer has no model to watch; add Telemetry to a Trainer")
        self._stop_watching()
        self._model, self._notes, self._counted = model, [], {}
        self._folder = self._given or Path(args.output_dir)
        try:
            self._counted[id(model)] = pass_flops(model)
            flops: float | None = 0.0
        except (DataError, ConfigError) as error:
            flops = None
            self._notes.append(f"FLOPs are not counted: {error}")
        self._sums, self._losses, self._norm, self._pending = None, [], None, None
        self.totals, self._before = (0, flops), 0.0
        self._trainer = _trainer()
        if self._trainer is None:
            self._notes.append("losses are what the trainer logs, after every step")
        else:
            self._watch_trainer()
        self._watch.append(ForwardPasses(model, self._seen))
        self._facts = _facts(args, model, self._trainer)
        if rank() == 0:
            self._continue(state.global_step)
            self._write_facts(finished=False)
        self._began = time.monotonic()

    def on_step_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """A step begins: what runs from now on belongs to it."""
        del args, control, more
        if self._sums is None:
            self._sums = _Sums()
            self._epoch = math.floor(state.epoch or 0.0) + 1
            if not self._looked:
                self._looked = True
                self._look_for_others()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """The learning rate of the update."""
        del args, state, control
        groups = getattr(more.get("optimizer"), "param_groups", None)
        self._rate = float(groups[0]["lr"]) if groups else None

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Write the step."""
        del args, more
        sums = self._sums or _Sums()
        self._sums = None
        if self._looking is not None:
            self._looking.remove()
            self._looking = None
        losses, self._losses = self._losses, []
        loss = float(torch.stack(losses).sum()) if losses else math.nan
        told = summed(
            [
                float(sums.tokens),
                sums.executed,
                sums.sequences,
                float(sums.learnt),
                sums.flops,
                loss,
                1.0,
            ]
        )
        tokens, executed, sequences, learnt, flops, loss, ranks = told
        pairs = 2 if self._facts["objective"] == "dpo" else 1
        total = self.totals[1]
        self.totals = (
            self.totals[0] + int(tokens), None if total is None else total + flops,
        )  # fmt: skip
        norm, self._norm = self._norm, None
        step = Step(
            step=state.global_step,
            loss=loss / ranks,
            epoch=self._epoch,
            learnt=learnt or None,
            learning_rate=self._rate,
            grad_norm=None if norm is None else float(norm),
            samples=int(sequences) // pairs,
            tokens=int(tokens),
            executed=int(executed),
            total_tokens=self.totals[0],
            total_flops=self.totals[1],
            seconds=self._before + time.monotonic() - self._began,
        )
        if self._trainer is None:
            self._pending, control.should_log = step, True
        elif rank() == 0:
            self._append(step)

    def on_log(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """The loss of a step, of a trainer that cannot be watched."""
        del args, control
        logs = more.get("logs") or {}
        if self._pending is None or self._pending.step != state.global_step or "loss" not in logs:
            return
        norm = logs.get("grad_norm")
        step = replace(
            self._pending, loss=float(logs["loss"]),
            grad_norm=self._pending.grad_norm if norm is None else float(norm),
        )  # fmt: skip
        self._pending = None
        if rank() == 0:
            self._append(step)

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Write what was trained."""
        del args, state, control, more
        self._stop_watching()
        if rank() == 0:
            self._facts["model"] = _digest(self._facts["base"])
            self._write_facts(finished=True)

    # -- watching ----------------------------------------------------------------------------------

    def _watch_trainer(self) -> None:
        """Note the loss of every micro-batch, and the gradient's norm before it is clipped."""
        trainer, accelerator = self._trainer, self._trainer.accelerator
        train, clip = trainer.training_step, accelerator.clip_grad_norm_

        def training_step(*given: Any, **named: Any) -> Any:
            loss = train(*given, **named)
            self._losses.append(loss.detach().float())
            return loss

        def clip_grad_norm_(*given: Any, **named: Any) -> Any:
            norm = clip(*given, **named)
            self._norm = norm.detach() if isinstance(norm, torch.Tensor) else norm
            return norm

        trainer.training_step, accelerator.clip_grad_norm_ = training_step, clip_grad_norm_

        def restore() -> None:
            trainer.training_step, accelerator.clip_grad_norm_ = train, clip

        self._restore.append(restore)

    def _look_for_others(self) -> None:
        """In the first step, find models beside the trained one: a reference, a teacher."""
        own = {id(module) for module in self._model.modules()}
        known: set[int] = set()

        def look(module: Any, _: Any) -> None:
            if id(module) in own or id(module) in known or not isinstance(module, PreTrainedModel):
                return
            known.update(id(inner) for inner in module.modules())

            def left(found: Any, given: Any, named: dict[str, Any], _: Any) -> None:
                told = pass_of(found, given, named)
                if told is not None and self._sums is not None:
                    self._count(told, found)

            handle = module.register_forward_hook(left, with_kwargs=True)
            self._restore.append(handle.remove)

        handle = torch.nn.modules.module.register_module_forward_pre_hook(look)
        self._looking = handle

    def _seen(self, found: Pass) -> None:
        if self._sums is not None:
            self._count(found, self._model)

    def _count(self, found: Pass, model: Any) -> None:
        """Add a pass to the step; nothing is read from the device."""
        sums = self._sums
        assert sums is not None  # noqa: S101 - passes are of steps
        n, length = found.input_ids.shape
        squares, sequences = float(n * length * length), n
        if found.attention_mask is None and found.position_ids is not None:
            sizes = [len(part) for part in found.sequences()]  # packed: each attends to its own
            squares, sequences = float(np.square(sizes).sum()), len(sizes)
        known = self._flops_of(model)
        if known is not None:
            sums.flops += known.count(n * length, squares, learning=found.learning)
        if not found.learning:
            return
        mask = found.attention_mask
        sums.tokens = sums.tokens + (n * length if mask is None else (mask != 0).sum())
        sums.executed += n * length
        sums.sequences += sequences
        if found.labels is not None:
            sums.learnt = sums.learnt + (found.labels[:, 1:] != -100).sum()

    def _flops_of(self, model: Any) -> PassFlops | None:
        if self.totals[1] is None:
            return None
        if id(model) not in self._counted:
            try:
                self._counted[id(model)] = pass_flops(model)
            except (DataError, ConfigError) as error:
                self._notes.append(f"FLOPs are not counted: {error}")
                self.totals = (self.totals[0], None)
                return None
        return self._counted[id(model)]

    def _stop_watching(self) -> None:
        for passes in self._watch:
            passes.remove()
        for restore in reversed(self._restore):
            restore()
        if self._looking is not None:
            self._looking.remove()
        self._watch, self._restore = [], []
        self._looked, self._looking = False, None

    # -- files -------------------------------------------------------------------------------------

    def _continue(self, done: int) -> None:
        """Keep the lines up to a checkpoint, and go on with their totals."""
        path = self._folder / STEPS
        self._folder.mkdir(parents=True, exist_ok=True)
        kept: tuple[Step, ...] = ()
        if done and path.is_file():
            lines = [line for line in path.read_text("utf-8").splitlines() if step_of(line) <= done]
            write_text(path, "".join(line + "\n" for line in lines))
            kept = read_steps(path) if lines else ()
        if done and (not kept or kept[-1].step != done):
            self._notes.append(f"steps 1 to {done} were not watched: totals begin behind them")
            kept = ()
        if not kept:
            write_text(path, "")
            return
        last = kept[-1]
        self._before = last.seconds or 0.0
        counted = self.totals[1] is not None and last.total_flops is not None
        self.totals = (last.total_tokens or 0, last.total_flops if counted else None)

    def _append(self, step: Step) -> None:
        with (self._folder / STEPS).open("a", encoding="utf-8") as file:
            file.write(step_lines([step]))

    def _write_facts(self, *, finished: bool) -> None:
        elapsed = self._before + time.monotonic() - self._began if finished else self._before
        told = {
            **self._facts, "finished": finished, "tokens": self.totals[0],
            "flops": self.totals[1], "seconds": elapsed, "notes": self._notes,
        }  # fmt: skip
        text = json.dumps(told, indent=2, ensure_ascii=False, default=str)
        write_text(self._folder / RECORD, text + "\n")


def _trainer() -> Any:
    """The trainer that called: transformers tells its callbacks everything but itself.

    Returns:
        None where nobody up the call stack is one.
    """
    frame = sys._getframe(2)  # noqa: SLF001 - there is no public way to the caller
    while frame is not None:
        found = frame.f_locals.get("self")
        if all(hasattr(found, n) for n in ("training_step", "callback_handler", "accelerator")):
            return found
        frame = frame.f_back  # type: ignore[assignment]
    return None


def _objective(args: Any, trainer: Any) -> str:
    """What the loss is of: by the arguments, else by whether the trainer computes its own."""
    names = [kind.__name__ for kind in type(args).__mro__]
    for name in names:
        if name in _OBJECTIVES:
            return _OBJECTIVES[name]
    own = getattr(type(trainer), "compute_loss", Trainer.compute_loss)
    return "next_token" if own is Trainer.compute_loss else type(trainer).__name__


def _facts(args: Any, model: Any, trainer: Any) -> dict[str, Any]:
    """What is trained, and how."""
    objective = _objective(args, trainer)
    settings = {name: _plain(getattr(args, name)) for name in _SETTINGS if hasattr(args, name)}
    plain = objective == "next_token" and not settings.get("label_smoothing_factor")
    plain = plain and settings.get("loss_type", "nll") in {"nll", "chunked_nll", None}
    cuda = args.device.type == "cuda"
    dtype = "bfloat16" if args.bf16 else "float16" if args.fp16 else _dtype(model)
    base = str(getattr(getattr(model, "config", None), "_name_or_path", "") or "")
    return {
        "fingerprint": fingerprint({"base": base, "settings": settings}),
        "trainer": type(args if trainer is None else trainer).__name__,
        "objective": objective,
        "loss": "nats per token" if plain else "the trainer's own",
        "base": base,
        "model": None,
        "pool": None,
        "settings": settings,
        "seeds": {"init": None, "draw": None, "order": None},
        "set": None,
        "rows": None,
        "epochs": settings.get("num_train_epochs"),
        "foretold_flops": None,
        "device": torch.cuda.get_device_name(args.device) if cuda else str(args.device.type),
        "devices": args.world_size * max(args.n_gpu, 1),
        "dtype": dtype,
        "mfu": None,
        "n_params": sum(p.numel() for p in model.parameters()),
    }


def _plain(value: Any) -> Any:
    value = getattr(value, "value", value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _dtype(model: Any) -> str:
    return str(next(model.parameters()).dtype).removeprefix("torch.")


def _digest(base: str) -> str | None:
    """Digest of the base model, where it is a folder."""
    path = Path(base)
    try:
        return digest(path) if base and path.is_dir() else None
    except (DidactError, OSError):
        return None
