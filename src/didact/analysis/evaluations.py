"""Runs from evaluation tables: one file is one run, its samples nested inside."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import xxhash

from didact.analysis.runs import SEEDS, Measure, Run, Samples, What
from didact.core.arrays import Bool1D, Float1D, UInt64s
from didact.core.errors import DataError
from didact.core.paths import Place
from didact.evaluation.results import HIGHER_IS_BETTER, TABLE, choices, read_evaluation
from didact.models.folder import RECORD, read_json

# what an evaluation may do differently and still ask the same
_HARMLESS: Final = frozenset({"device", "tokens_per_batch"})


def evaluated_run(path: Place, label: str = "") -> tuple[Run, Mapping[str, Any]]:
    """The run that an evaluation table, or the folder of a run that holds one, is of.

    Args:
        path: The file or folder.
        label: What the set is called; the fingerprint of the rows trained on when not given.

    Returns:
        The run, and the table's metadata.

    Raises:
        DataError: The file is no such table, is damaged, holds a number that is none, or does not
            say which set its model was trained on.
    """
    folder = path if path.is_dir() else None
    path = path / TABLE if path.is_dir() else path
    found = read_evaluation(path)
    training = found.meta.get("training") or {}
    if folder is not None:
        _check_current(folder, path, training)
    rows = training.get("set") or ""
    if not (label or rows):
        raise DataError(
            f"{path}: does not say which set its model was trained on; name it: SET={path}"
        )
    seeds = training.get("seeds") or {}
    run = Run(
        name=str(path),
        set=label or str(rows)[:12],
        measures=dict(_measures(found.table, path)),
        seeds={name: seeds.get(name) for name in SEEDS},
        draw=str(rows),
        size=training.get("n_params"),
    )
    return run, found.meta


def _check_current(folder: Place, path: Place, training: Mapping[str, Any]) -> None:
    """Refuse the evaluation of a run's earlier model, and that of a run that did not finish."""
    if (folder / "stages").is_dir() and not (folder / "manifest.json").is_file():
        raise DataError(
            f"{folder}: the run did not finish, so its evaluation may be of an earlier one; run "
            f"the same command again, or give {path} itself"
        )
    about = folder / "model" / RECORD
    if about.is_file() and read_json(about, dict).get("fingerprint") != training.get("fingerprint"):
        raise DataError(
            f"{path}: is of another training than the model in {folder / 'model'}; run again with "
            f"the section evaluate, or give {path} itself to take the earlier one"
        )


def check_alike(tables: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Notes on what was asked differently.

    Args:
        tables: Name of each run → metadata of its table.

    Raises:
        DataError: Two files have one name and not one content.
    """
    first: dict[str, tuple[str, str]] = {}  # file → digest, and the run that has it
    for name, meta in tables.items():
        for entry in meta.get("files", ()):
            file, digest = entry["file"], entry["blake2b"]
            known, other = first.setdefault(file, (digest, name))
            if known != digest:
                raise DataError(
                    f"{other} and {name}: their held-out files {file} are not the same "
                    f"({known[:12]} and {digest[:12]}); evaluate both models on one file, or "
                    "rename one"
                )
    notes = []
    settings = [meta.get("settings") or {} for meta in tables.values()]
    for name in sorted({name for one in settings for name in one} - _HARMLESS):
        values = {json.dumps(one.get(name)) for one in settings}
        if len(values) > 1:
            notes.append(
                f"the evaluations differ in {name}: {', '.join(sorted(values)[:4])}; runs are "
                "compared all the same, evaluate them alike if that matters"
            )
    return tuple(notes)


def _measures(table: pa.Table, path: Place) -> Iterator[tuple[What, Measure]]:
    files = np.array(table.column("file").to_pylist(), dtype=object)
    tasks = np.array([task or "" for task in table.column("task").to_pylist()], dtype=object)
    keys = _keys(table, path)
    parts = list(_parts(table))
    for file in dict.fromkeys(files.tolist()):
        of_file = files == file
        named = sorted({task for task in tasks[of_file].tolist() if task})
        whole = len(named) == 1 and bool((tasks[of_file] != "").all())
        for task in named if whole else ["", *named]:
            inside = of_file & (tasks == task) if task else of_file
            for part in parts:
                rows = inside & part.there
                if rows.any():
                    yield What(file, task, part.metric), part.of(rows, keys)


def _keys(table: pa.Table, path: Place) -> UInt64s:
    """Identity of every sample: a hash of its file and its id."""
    names = zip(table.column("file").to_pylist(), table.column("id").to_pylist(), strict=True)
    keys = np.array(
        [xxhash.xxh3_64_intdigest(f"{f}\0{i}".encode()) for f, i in names], dtype=np.uint64
    )
    found, counts = np.unique(keys, return_counts=True)
    if (counts > 1).any():
        row = int(np.flatnonzero(keys == found[counts > 1][0])[1])
        raise DataError(
            f"{path}: row {row + 1}: the sample {table.column('id')[row].as_py()!r} is there "
            "twice; expected each once: evaluate again"
        )
    return keys


@dataclass(frozen=True, slots=True)
class _Part:
    """A metric's numerators and denominators of all rows, and which rows have it."""

    metric: str
    there: Bool1D
    numerators: Float1D
    denominators: Float1D

    def of(self, rows: Bool1D, keys: UInt64s) -> Measure:
        at = np.flatnonzero(rows)
        at = at[np.argsort(keys[at])]
        samples = Samples(keys[at], self.numerators[at], self.denominators[at])
        return Measure(samples.value, HIGHER_IS_BETTER[self.metric], samples)


def _parts(table: pa.Table) -> Iterator[_Part]:
    for metric, part in (("bits_per_byte", "answer"), ("bits_per_byte_all", "all")):
        n_bytes = table.column(f"{part}_bytes").to_numpy().astype(np.float64)
        bits = table.column(f"{part}_nats").to_numpy() / np.log(2)
        yield _Part(metric, n_bytes > 0, bits, n_bytes)
    found = choices(table)
    there = ~np.isnan(found["nats"])
    yield _Part("answer_nats_per_char", there, found["nats"], found["chars"])
    for metric in ("accuracy", "accuracy_per_char", "answer_probability", "margin"):
        yield _Part(metric, there, found[metric], np.ones(len(there)))
