"""The ordered data set as a trainer is told of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from didact.core.pool import Kind


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
    """

    data_files: Sequence[str]
    validation_file: str | None
    kind: Kind
    formats: Sequence[str]
    columns: Mapping[str, str]
    batch_size: int | None
    epochs: int
