"""torchtitan: settings alone, not run."""

from __future__ import annotations

from pathlib import Path

from didact.core.atomic import write_text
from didact.core.errors import DataError
from didact.data.export.ordered import OrderedDataSet
from didact.data.export.trainer_settings import settings_text


def write_files(folder: Path, data: OrderedDataSet) -> list[Path]:
    """`torchtitan.yaml`: what its configuration is to hold. Of text alone.

    Raises:
        DataError: The samples are no text: its data set of chats always shuffles.
    """
    if data.kind != "text":
        raise DataError(
            f"export.for: torchtitan keeps the order of text alone; the samples are of kind "
            f"{data.kind}: use trl, llama-factory or axolotl"
        )
    path = folder / "torchtitan.yaml"
    values = {
        "training.local_batch_size": data.batch_size or 8,
        "data_files": list(data.data_files),
    }
    notes = [
        "not run: read in torchtitan 0.3.0, whose text data set reads in order",
        "each data-parallel rank reads one contiguous part: with more than one, steps are others",
    ]
    write_text(path, settings_text(values, data, notes))
    return [path]
