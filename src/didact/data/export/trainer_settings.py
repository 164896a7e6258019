"""Settings of trainers as YAML, and those by which Hugging Face's keep the order."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from didact.data.export.ordered import NOTE, OrderedDataSet


def sequential(data: OrderedDataSet) -> dict[str, Any]:
    """The arguments of `TrainingArguments` that keep the order."""
    settings: dict[str, Any] = {
        "train_sampling_strategy": "sequential",
        "num_train_epochs": 1,
        "ignore_data_skip": False,
    }
    if data.batch_size is not None:
        settings["per_device_train_batch_size"] = data.batch_size
    return settings


def settings_text(
    settings: Mapping[str, Any], data: OrderedDataSet, notes: Iterable[str] = ()
) -> str:
    """Settings as YAML, with what they are for.

    Args:
        settings: The settings.
        data: What they train on.
        notes: What is not as one would think; said when the files are written, too.
    """
    first = data.data_files[0]
    lines = [f"# Settings that keep the order of {first}: add yours beside them, change none.\n"]
    lines += [f"{NOTE}{note}\n" for note in notes]
    if data.epochs > 1:
        lines.append(f"# {data.epochs} epochs are written out in the files.\n")
    lines += [f"{name}: {json.dumps(value)}\n" for name, value in settings.items()]
    return "".join(lines)
