"""Which modules of a model get adapters; reads file headers alone, without torch."""

from __future__ import annotations

from pathlib import Path

from didact.accounting.lora import default_targets
from didact.models.architecture import read_spec


def lora_targets(path: Path) -> tuple[str, ...]:
    """`accounting.lora.default_targets` of a folder `find` returned."""
    return default_targets(read_spec(path))
