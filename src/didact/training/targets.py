"""Which modules of a model get adapters; reads file headers alone, without torch."""

from __future__ import annotations

import re
from pathlib import Path

from didact.core.errors import DataError
from didact.models.folder import header, weight_files

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_LAYERED = re.compile(r"\.\d+\.(?:\w+\.)*(\w+)\.weight$")


def lora_targets(path: Path) -> tuple[str, ...]:
    """Names of the modules LoRA adapts by default: attention's q, k, v, o, as LESS has it.

    Where a model calls them otherwise, every matrix inside its layers.

    Raises:
        DataError: There is no matrix inside layers.
    """
    names = {
        found[1]
        for file in weight_files(path)
        for name, tensor in header(file).items()
        if len(tensor.shape) == 2 and (found := _LAYERED.search(name))
    }
    if not names:
        raise DataError(f"{path}: no matrix inside numbered layers; name the modules in targets")
    return tuple(n for n in ATTENTION if n in names) or tuple(sorted(names))
