"""The ordered data set as a trainer is told of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from didact.core.pool import Kind
from didact.data.rows.columns import Row
from didact.data.rows.reasoning import Reasoning

SETTINGS: Final = "settings"  # the folder of a trainer's files, beside the data
OLD_SETTINGS: Final = "trainer"  # its name before; people's glob OUT/train* finds it
NOTE: Final = "# note: "  # begins a line of a trainer's YAML settings that is said aloud, too


def _nothing() -> Iterator[Row]:
    return iter(())


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderedDataSet:
    """What was written, in which order a trainer is to read it.

    Attributes:
        data_files: Names of the ordered files, in order; they lie beside the trainer's folder.
        validation_file: Name of the validation split's file; None without one.
        kind: What the samples are.
        formats: The formats of their rows.
        columns: The user's column mapping.
        batch_size: Samples per optimizer step over all devices; None when any will do.
        epochs: How often each sample is written out.
        rows: Reads the rows that are exported, in order, for trainers that want them in a shape of
            their own.
        validation_rows: The same of the validation split.
        nulls_are_filled_in: Whether rows hold empty keys that no one wrote, as Parquet's do.
        reasoning: Whether reasoning traces are part of their answers.
    """

    data_files: Sequence[str]
    validation_file: str | None
    kind: Kind
    formats: Sequence[str]
    columns: Mapping[str, str]
    batch_size: int | None
    epochs: int
    rows: Callable[[], Iterator[Row]] = _nothing
    validation_rows: Callable[[], Iterator[Row]] = _nothing
    nulls_are_filled_in: bool = False
    reasoning: Reasoning = "keep"
