"""Runs from paths: evaluation tables, folders of runs, tables of values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from didact.analysis.evaluations import check_alike, evaluated_run
from didact.analysis.run_tables import read_run_table
from didact.analysis.runs import Run
from didact.core.errors import DataError
from didact.core.paths import Given, Place, place


def read_runs(paths: Sequence[Given]) -> tuple[tuple[Run, ...], tuple[str, ...]]:
    """The runs in some files, and notes on what they were asked differently.

    A `.csv` or `.jsonl` is a table of many runs (`run_tables.read_run_table`); everything else is
    one run: an evaluation table, or the folder of a run that holds `evaluation.parquet`. NAME=PATH
    says which set a run is of; otherwise it is that of the rows it was trained on, whatever their
    order, so runs that differ in method of ordering need names.

    Args:
        paths: The files and folders, or their URLs.

    Raises:
        DataError: A file cannot be read, is given twice, or held-out files of one name differ.
    """
    runs: list[Run] = []
    tables: dict[str, Mapping[str, Any]] = {}
    seen: dict[Place, str] = {}
    for given in paths:
        label, path = named(given)
        real = path.resolve()
        if real in seen:
            raise DataError(
                f"{given}: is the same file as {seen[real]}; a run counts once: remove one"
            )
        seen[real] = str(given)
        if path.suffix.lower() in {".csv", ".jsonl"}:
            if label:
                raise DataError(f"{given}: a table names the sets of its runs; give {path} alone")
            runs += read_run_table(path)
        else:
            run, meta = evaluated_run(path, label)
            tables[run.name] = meta
            runs.append(run)
    return tuple(runs), check_alike(tables)


def named(given: Given) -> tuple[str, Place]:
    """Label of the set, empty when not given, and the path."""
    if not isinstance(given, str) or Path(given).exists():
        return "", place(given)
    label, equals, path = given.partition("=")
    apart = equals and label and path and "://" not in label  # a URL may have one of its own
    return (label, place(path)) if apart else ("", place(given))
