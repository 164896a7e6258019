"""Checkpoints of HF Trainer: sealed when they are written, found again when they are whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from didact.core.cost import Bill, Cost, Meter
from didact.core.entries import intact_entry, seal
from didact.core.nesting import parse_json
from didact.core.pieces import ignore
from didact.training.ranks import meet


class Sealer(TrainerCallback):
    """Notes what every checkpoint consists of, once the loop wrote it whole."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called after every checkpoint."""
        del control
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        meet(args.device.type)  # every process writes the state of its random numbers
        if not state.is_world_process_zero:
            return
        spent = self.meter.bill.own
        clocks = Cost(cpu_seconds=spent.cpu_seconds, device_seconds=spent.device_seconds)
        seal(folder, Bill(own=clocks))


def last_checkpoint(work: Path, tell: Callable[[str], None] = ignore) -> Path | None:
    """The newest checkpoint that is whole and what was written; the others are removed."""
    steps = (p.name.removeprefix("checkpoint-") for p in work.glob("checkpoint-*"))
    for step in sorted((int(step) for step in steps if step.isdecimal()), reverse=True):
        folder = work / f"checkpoint-{step}"
        if intact_entry(folder, tell) is not None:
            return folder
    return None


def epoch_of(checkpoint: Path) -> int:
    """Whole epochs that led to a checkpoint."""
    return int(trainer_state(checkpoint)["epoch"] + 1e-6)


def trainer_state(checkpoint: Path) -> dict[str, Any]:
    """The numbers that HF Trainer keeps in a checkpoint: `global_step`, `epoch`, …"""
    state: dict[str, Any] = parse_json((checkpoint / "trainer_state.json").read_text("utf-8"))
    return state
