"""What a finished training leaves beside its model, and what is read of it without torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from didact.core.arrays import UInt64s
from didact.core.cost import Cost
from didact.core.errors import DataError
from didact.core.nesting import parse_json
from didact.core.paths import Place
from didact.models.folder import RECORD
from didact.training.telemetry import STEPS, Step, read_steps, step_lines

TRAINED_ON: Final = "trained_on.npy"
AVERAGED: Final = "averaged"


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained model.

    Attributes:
        path: Folder of the model: weights, tokenizer, `training.json`, `steps.jsonl`,
            `trained_on.npy`, and the averaged model in `averaged` where there is one.
        steps: A record of every step.
        cost: FLOPs as executed, padding included, tokens without it, and seconds.
        about: What `training.json` tells.
        reused: Whether the training was found finished.
    """

    path: Place
    steps: tuple[Step, ...]
    cost: Cost
    about: Mapping[str, Any] = field(default_factory=dict)
    reused: bool = False

    @property
    def averaged(self) -> Place | None:
        """Folder of the averaged model."""
        folder = self.path / AVERAGED
        return folder if folder.is_dir() else None

    def facts(self) -> dict[str, Any]:
        """Facts for people and machines, JSON values."""
        losses = [s.loss for s in self.steps if s.samples]  # a step that learns nothing has none
        about = self.about
        return {
            "model": str(self.path), "averaged": str(self.averaged) if self.averaged else None,
            "steps": len(self.steps), "samples": sum(s.samples or 0 for s in self.steps),
            "left_out": sum(s.skipped or 0 for s in self.steps), "tokens": self.cost.tokens,
            "flops": self.cost.flops, "foretold_flops": about["foretold_flops"],
            "first_loss": losses[0], "last_loss": losses[-1], "seconds": about["seconds"],
            "tokens_per_second": about["tokens"] / max(about["seconds"], 1e-9),
            "device": about["device"], "mfu": about["mfu"], "seeds": about["seeds"],
            "found_done": self.reused, "notes": list(about["notes"]),
        }  # fmt: skip


def write_trained(
    folder: Path, steps: Iterable[Step], seen: UInt64s, about: Mapping[str, Any], cost: Cost
) -> None:
    """Put the records of a training beside its model."""
    (folder / STEPS).write_text(step_lines(steps), "utf-8")
    np.save(folder / TRAINED_ON, seen, allow_pickle=False)
    told = {**about, "cost": asdict(cost)}
    (folder / RECORD).write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", "utf-8")


def read_trained(folder: Place) -> Trained:
    """A finished training, read from the folder of its model.

    Raises:
        DataError: The folder holds none, or it is damaged.
    """
    try:
        about = parse_json((folder / RECORD).read_text("utf-8"))
        cost = Cost.from_json(about.pop("cost"))
        trained = Trained(folder, read_steps(folder), cost, about, reused=True)
        trained.facts()
    except (OSError, ValueError, TypeError, KeyError, DataError) as error:
        raise DataError(
            f"{folder}: no finished training of didact ({error}); remove it and train again"
        ) from error
    return trained


def seen_by(model: Path) -> UInt64s | None:
    """Content hashes of every sample that a model was trained on, ascending; None if unknown.

    Of a model that was not trained here nothing is known.

    Raises:
        DataError: The file is damaged, or holds something else.
    """
    file = model / TRAINED_ON
    if not file.is_file():
        return None
    try:
        found: UInt64s = np.load(file, allow_pickle=False)
        if found.dtype != np.uint64 or found.ndim != 1:
            raise ValueError(f"{found.dtype} of shape {found.shape}")  # noqa: TRY301
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"{file}: is not the hashes that a training writes ({error}); copy or train the model "
            "again, or remove the file: then nothing is known of what the model has seen"
        ) from error
    return np.unique(found)
