"""nemo-automodel: NVIDIA NeMo AutoModel, settings alone, not run."""

from __future__ import annotations

from pathlib import Path

from didact.core.atomic import write_text
from didact.core.errors import DataError
from didact.data.export.ordered import OrderedDataSet
from didact.data.export.trainer_settings import settings_text


def write_files(folder: Path, data: OrderedDataSet) -> list[Path]:
    """`nemo-automodel.yaml`: the part of a recipe that keeps the order.

    Raises:
        DataError: The samples are pairs or labelled.
    """
    if data.kind in ("pair", "labelled"):
        raise DataError(
            f"export.for: nemo-automodel trains on chats and text; the samples are of kind "
            f"{data.kind}: use trl or llama-factory"
        )
    path = folder / "nemo-automodel.yaml"
    values = {
        "dataset": {"path_or_dataset_id": [f"../{name}" for name in data.data_files]},
        "dataloader": {"shuffle": False},
        "step_scheduler": {"global_batch_size": data.batch_size or 8, "num_epochs": 1},
    }
    notes = ["not run: read in NeMo AutoModel 0.7.0, whose loader shuffles unless shuffle is false"]
    write_text(path, settings_text(values, data, notes))
    return [path]
