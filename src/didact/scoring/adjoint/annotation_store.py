"""Annotated scores of a proxy set on disk, found again by the hashes of the samples' ids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from didact.core.array_folders import by_row, read_arrays, write_arrays
from didact.core.protocols import BatchScores
from didact.scoring.adjoint.annotation import ProxySet
from didact.scoring.adjoint.rules import Annotation


@dataclass(frozen=True, slots=True)
class AnnotationStore:
    """A folder of annotated scores.

    Attributes:
        folder: Where they are.
        facts: What showed where the model was open.
    """

    folder: Path
    facts: Mapping[str, Any]

    @staticmethod
    def save(made: tuple[ProxySet, Annotation, Mapping[str, Any]], folder: Path) -> None:
        """Write the scores of a proxy set by the hashes of its ids, into an empty folder."""
        proxy, found, facts = made
        arrays = {"ids": proxy.pool.id_hash[proxy.rows], "values": found.values, **found.parts}
        about = {"missing": dict(found.missing), "facts": dict(facts), "parts": list(found.parts)}
        write_arrays(folder, arrays, about)

    @classmethod
    def load(cls, folder: Path) -> AnnotationStore:
        """What `save` wrote."""
        _, about = read_arrays(folder)
        return cls(folder, about["facts"])

    def annotation(self) -> Annotation:
        """The scores, in the proxy set's order."""
        arrays, about = read_arrays(self.folder)
        columns = arrays.get("learnability"), arrays.get("quality")
        return Annotation(arrays["values"], *columns, by_row(about["missing"]))


@dataclass(frozen=True, slots=True)
class AnnotationTable:
    """Annotated scores in memory, in the order of the hashes of the samples' ids.

    Attributes:
        ids: uint64 `(n,)`, ascending.
        values: float64 `(n,)`.
        parts: Columns beside the score, each float64 `(n,)`.
        missing: Hash of an id to the reason there is no score.
    """

    ids: npt.NDArray[np.uint64]
    values: npt.NDArray[np.float64]
    parts: Mapping[str, npt.NDArray[np.float64]]
    missing: Mapping[int, str]


@contextmanager
def open_annotations(folder: Path) -> Iterator[AnnotationTable]:
    """What `AnnotationStore.save` wrote, read once per worker."""
    arrays, about = read_arrays(folder)
    order = np.argsort(arrays["ids"])
    yield AnnotationTable(
        ids=arrays["ids"][order],
        values=arrays["values"][order],
        parts={name: arrays[name][order] for name in about["parts"]},
        missing={int(arrays["ids"][int(row)]): why for row, why in about["missing"].items()},
    )


def annotated_scores(table: AnnotationTable, batch: pa.RecordBatch) -> BatchScores:
    """Annotated scores of a batch's rows, found by their ids."""
    ids = batch.column("id_hash").to_numpy().astype(np.uint64)
    at = np.searchsorted(table.ids, ids)
    missing = {i: table.missing[int(h)] for i, h in enumerate(ids) if int(h) in table.missing}
    parts = {name: column[at] for name, column in table.parts.items()}
    return BatchScores(table.values[at][:, np.newaxis], parts, missing)
