"""The first epoch of a training as its log tells it: didact's own, or that of HF Trainer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from didact.core.arrays import Float1D, Int1D
from didact.core.errors import DataError
from didact.core.nesting import parse_json
from didact.core.paths import Place, listed
from didact.data.reading.files import readable
from didact.training.telemetry import STEPS, Step, read_steps, step_from_json

STATE: Final = "trainer_state.json"
NATS: Final = "nats per token"
HIGHEST_RATE: Final = "the highest learning rate"  # that was logged
# settings of a training that decide its losses beside the data: didact's, HF Trainer's, TRL's
_DECIDING: Final = (
    "learning_rate", "schedule", "batch_size", "max_length", "loss", "template", "lora_rank",
    "lr_scheduler_type", "per_device_train_batch_size", "gradient_accumulation_steps",
    "loss_type", "beta", "num_train_epochs", "max_steps",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """The first epoch of a training, entry by entry; an entry is a step, or a few logged together.

    Attributes:
        step: Last step of each entry, ascending, int64 `(n,)`.
        loss: Mean loss of each, `(n,)`, finite.
        weight: What weighs it, such as its learnt tokens, `(n,)`.
        norm: L2 norm of the gradient before clipping, `(n,)`; NaN where it is not told, or no
            finite number.
        sources: Source → loss `(n,)`, NaN where it has none, and weight `(n,)`.
        epoch_steps: Steps of the first epoch, those that are still to come included.
        unit: What the loss is in; "" where that is not told.
        settings: What decides the curve beside the data: learning rate, batch size, base model.
        joints: Steps at which parts of the order meet; None where that is not known.
    """

    step: Int1D
    loss: Float1D
    weight: Float1D
    norm: Float1D
    sources: Mapping[str, tuple[Float1D, Float1D]] = field(default_factory=dict)
    epoch_steps: int
    unit: str = NATS
    settings: Mapping[str, Any] = field(default_factory=dict)
    joints: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.step)

    @property
    def seen(self) -> float:
        """Share of the first epoch that was read, 0 to 1."""
        return min(1.0, float(self.step[-1]) / self.epoch_steps) if len(self) else 0.0

    def until(self, seen: float) -> Curve:
        """The entries that end in a first share of the epoch."""
        n = int(np.searchsorted(self.step, math.floor(seen * self.epoch_steps + 1e-9), "right"))
        sources = {k: (a[:n], b[:n]) for k, (a, b) in self.sources.items()}
        return replace(
            self, step=self.step[:n], loss=self.loss[:n], weight=self.weight[:n],
            norm=self.norm[:n], sources=sources,
        )  # fmt: skip


def deciding(about: Mapping[str, Any]) -> dict[str, Any]:
    """What `training.json` tells of what decides the losses beside the data."""
    settings = about.get("settings") or {}
    found = {name: settings[name] for name in _DECIDING if name in settings}
    for name, key in (("objective", "objective"), ("base model", "model")):
        if about.get(key):
            found[name] = about[key]
    return found


def known_of(about: Mapping[str, Any]) -> dict[str, Any]:
    """What `training.json` tells beside the steps: the unit of the loss, settings, steps."""
    return {
        "unit": about.get("loss", NATS), "settings": deciding(about),
        "epoch_steps": about.get("epoch_steps"),
    }  # fmt: skip


def curve_of_steps(
    steps: Sequence[Step],
    *,
    epoch_steps: int | None = None,
    unit: str = NATS,
    settings: Mapping[str, Any] | None = None,
    joints: tuple[int, ...] | None = None,
    within: bool = False,
) -> Curve:
    """The first epoch of steps.

    Args:
        steps: Lines of `steps.jsonl`.
        epoch_steps: Steps of an epoch; those that are told when None.
        unit: What the loss is in.
        settings: As in `Curve`.
        joints: As in `Curve`.
        within: Whether the steps may begin within the epoch.

    Raises:
        DataError: They do not begin with the first epoch.
    """
    first = [s for s in steps if s.epoch in {None, 1} and (epoch_steps or s.step) >= s.step]
    if not first or (steps[0].step != 1 and not within):
        raise DataError(
            f"the log begins with step {steps[0].step} of epoch {steps[0].epoch}: it has no first "
            "epoch, in which alone no sample was read before; give the log of the whole training"
        )
    first = [s for s in first if s.samples != 0]  # a step that learns nothing has no loss
    n = len(first)
    names = sorted({name for s in first for name in s.loss_by_source})
    sources = {name: (np.full(n, np.nan), np.zeros(n)) for name in names}
    for i, s in enumerate(first):
        for name, (loss, weight) in s.loss_by_source.items():
            sources[name][0][i], sources[name][1][i] = loss, weight
    return Curve(
        step=np.array([s.step for s in first], np.int64),
        loss=np.array([s.loss for s in first]),
        weight=np.array([s.learnt or s.tokens or 1.0 for s in first], float),
        norm=_norms([s.grad_norm for s in first]),
        sources=sources, epoch_steps=epoch_steps or first[-1].step, unit=unit,
        settings=settings or {}, joints=joints,
    )  # fmt: skip


def curve_of_state(path: Place, **known: Any) -> Curve:
    """The first epoch in a `trainer_state.json` of HF Trainer, as far as it was logged.

    Args:
        path: The file; in a checkpoint of `didact train` it holds whole steps.
        known: What else is known of it, as in `curve_of_steps`.

    Raises:
        DataError: It is none, logs no loss, or only of later epochs.
    """
    with readable(path):
        text = path.read_text("utf-8")
    try:
        state = parse_json(text)
        told = [e for e in state["log_history"] if "loss" in e and "step" in e]
        if told and all("told" in e for e in told):
            return curve_of_steps([step_from_json(e["told"]) for e in told], **known)
        last = state["global_step"], float(state.get("epoch") or 0)
        settings = known.get("settings") or _settings_of(state, told)
        first = [e for e in told if float(e.get("epoch") or 0) <= 1]
        loss = np.array([float(e["loss"]) for e in first])
        norm = _norms([e.get("grad_norm") for e in first])
        step = np.array([int(e["step"]) for e in first], np.int64)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: not a trainer's state ({error!r}); expected log_history with step and loss"
        ) from error
    if not len(step):
        raise DataError(
            f"{path}: logs no loss of the first epoch; log every step (logging_steps=1)"
        )
    if step[0] > max(np.diff(step), default=step[0]):
        raise DataError(
            f"{path}: the log begins with step {step[0]}: it has no first epoch, in which alone no "
            "sample was read before; give the log of the whole training"
        )
    if not np.isfinite(loss).all():
        raise DataError(f"{path}: a loss is not finite; train again with a lower learning rate")
    epochs = max(last[1], 1e-9)
    whole = max(round(last[0] / epochs), int(step[-1]))
    return Curve(
        step=step, loss=loss, weight=np.diff(step, prepend=0).astype(float), norm=norm,
        epoch_steps=whole, unit="", settings=settings, joints=known.get("joints"),
    )  # fmt: skip


def _norms(told: Sequence[Any]) -> Float1D:
    """Norms of gradients; NaN where none is told, or it is too large for a number."""
    norms = np.array([math.nan if norm is None else float(norm) for norm in told])
    return np.where(np.isfinite(norms), norms, math.nan)


def _settings_of(state: Mapping[str, Any], told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a trainer's state tells of its settings; its arguments are a pickle and not read."""
    found = {
        name: state[name] for name in ("train_batch_size", "num_train_epochs") if name in state
    }
    rates = [float(e["learning_rate"]) for e in told if "learning_rate" in e]
    return found | ({HIGHEST_RATE: max(rates)} if rates else {})


def find_log(folder: Place) -> Place | None:
    """The log of a training in a folder: `steps.jsonl`, else the newest `trainer_state.json`.

    That of a training under way is in its checkpoints, didact's own beside the model to come.
    """
    for place in (folder, folder / "model"):
        if (place / STEPS).is_file():
            return place / STEPS
    under_way = folder / ".model.training"
    homes = [home for home in (folder, under_way) if home.is_dir()]
    found = [p for home in homes for p in listed(home, f"checkpoint-*/{STATE}")]
    if (folder / STATE).is_file():
        found.append(folder / STATE)
    return max(found, key=lambda p: (_steps(p), str(p)), default=None)


def _steps(state: Place) -> int:
    try:
        return int(parse_json(state.read_text("utf-8"))["global_step"])
    except (OSError, ValueError, KeyError, TypeError):
        return -1


def read_log(path: Place, **known: Any) -> Curve:
    """The first epoch of a log; `known` as in `curve_of_steps`."""
    if path.name == STATE:
        return curve_of_state(path, **known)
    return curve_of_steps(read_steps(path), **known)
