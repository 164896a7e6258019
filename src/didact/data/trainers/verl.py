"""verl: settings alone, not run."""

from __future__ import annotations

from pathlib import Path

from didact.core.atomic import write_text
from didact.core.errors import DataError
from didact.data.export.ordered import OrderedDataSet
from didact.data.export.trainer_settings import settings_text


def write_files(folder: Path, data: OrderedDataSet) -> list[Path]:
    """`verl.yaml`: what keeps the order of prompts in PPO and GRPO.

    Raises:
        DataError: The samples are no chats.
    """
    if data.kind != "chat":
        raise DataError(
            f"export.for: verl takes the prompts of chats; the samples are of kind {data.kind}: "
            "use trl"
        )
    path = folder / "verl.yaml"
    values = {
        "data": {
            "train_files": [f"../{name}" for name in data.data_files],
            "prompt_key": "prompt",
            "shuffle": False,
            "train_batch_size": data.batch_size or 8,
        },
        "trainer": {"total_epochs": 1},
    }
    notes = [
        "not run: read in verl 0.9.1, where PPO obeys data.shuffle and SFT always shuffles",
        "verl reads Parquet with a column of prompts: export with format: parquet",
    ]
    write_text(path, settings_text(values, data, notes))
    return [path]
