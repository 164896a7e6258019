"""Runs from evaluation tables: one file is one run, its samples nested inside."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from didact.analysis.runs import SEEDS, Measure, Run, Samples, What
from didact.core.arrays import Bool1D, Float1D, UInt64s
from didact.core.errors import DataError
from didact.data.reading.files import readable
from didact.models.folder import read_json

EVALUATION: Final = "evaluation.parquet"
_COLUMNS: Final = (
    "file", "row", "id", "task", "answer_nats", "answer_bytes", "all_nats", "all_bytes",
    "choice_nats", "choice_chars", "right",
)  # fmt: skip
# what an evaluation may do differently and still ask the same
_HARMLESS: Final = frozenset({"device", "tokens_per_batch"})


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A run and what else its table says.

    Attributes:
        run: The run.
        files: Base name of each held-out file → digest of its content.
        settings: How it was evaluated.
    """

    run: Run
    files: Mapping[str, str]
    settings: Mapping[str, Any]


def read_evaluation(path: Path, label: str = "") -> Evaluation:
    """The run that an evaluation table, or the folder of a run that holds one, is of.

    Args:
        path: The file or folder.
        label: What the set is called; the fingerprint of the rows trained on when not given.

    Raises:
        DataError: The file is no such table, is damaged, holds a number that is none, or does not
            say which set its model was trained on.
    """
    folder = path if path.is_dir() else None
    path = path / EVALUATION if path.is_dir() else path
    with readable(path), pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        about = _metadata(schema, path)
        absent = [name for name in _COLUMNS if name not in schema.names]
        if absent:
            raise DataError(
                f"{path}: has no column {absent[0]!r}; expected a whole evaluation table: make it "
                "with 'didact evaluate MODEL FILES -o FILE'"
            )
        table = file.read(list(_COLUMNS))
    training = about.get("training") or {}
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
        measures=dict(_measures(table, path)),
        seeds={name: seeds.get(name) for name in SEEDS},
        draw=str(rows),
        size=training.get("n_params"),
    )
    files = {entry["file"]: entry["blake2b"] for entry in about.get("files", ())}
    return Evaluation(run, files, about.get("settings") or {})


def _metadata(schema: pa.Schema, path: Path) -> dict[str, Any]:
    about: dict[str, Any] = json.loads((schema.metadata or {}).get(b"didact", b"{}"))
    if about.get("table") != "evaluation":
        what = f"a {about['table']} table" if "table" in about else "a table without its metadata"
        raise DataError(
            f"{path}: is {what}; expected an evaluation: make it with "
            "'didact evaluate MODEL FILES -o FILE'"
        )
    return about


def _check_current(folder: Path, path: Path, training: Mapping[str, Any]) -> None:
    """Refuse the evaluation of a run's earlier model, and that of a run that did not finish."""
    if (folder / "stages").is_dir() and not (folder / "manifest.json").is_file():
        raise DataError(
            f"{folder}: the run did not finish, so its evaluation may be of an earlier one; run "
            f"the same command again, or give {path} itself"
        )
    about = folder / "model" / "training.json"
    if about.is_file() and read_json(about, dict).get("fingerprint") != training.get("fingerprint"):
        raise DataError(
            f"{path}: is of another training than the model in {folder / 'model'}; run again with "
            f"the section evaluate, or give {path} itself to take the earlier one"
        )


def check_alike(evaluations: list[Evaluation]) -> tuple[str, ...]:
    """Notes on what was asked differently.

    Raises:
        DataError: Two files have one name and not one content.
    """
    first: dict[str, Evaluation] = {}
    for evaluation in evaluations:
        for file, digest in evaluation.files.items():
            other = first.setdefault(file, evaluation)
            if other.files[file] != digest:
                raise DataError(
                    f"{other.run.name} and {evaluation.run.name}: their held-out files {file} are "
                    f"not the same ({other.files[file][:12]} and {digest[:12]}); evaluate both "
                    "models on one file, or rename one"
                )
    notes = []
    names = {name for e in evaluations for name in e.settings} - _HARMLESS
    for name in sorted(names):
        values = {json.dumps(e.settings.get(name)) for e in evaluations}
        if len(values) > 1:
            notes.append(
                f"the evaluations differ in {name}: {', '.join(sorted(values)[:4])}; runs are "
                "compared all the same, evaluate them alike if that matters"
            )
    return tuple(notes)


def _measures(table: pa.Table, path: Path) -> Iterator[tuple[What, Measure]]:
    files = np.array(table.column("file").to_pylist(), dtype=object)
    tasks = np.array([task or "" for task in table.column("task").to_pylist()], dtype=object)
    keys = _keys(table, path)
    parts = list(_parts(table, path))
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


def _keys(table: pa.Table, path: Path) -> UInt64s:
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
    higher_is_better: bool
    there: Bool1D
    numerators: Float1D
    denominators: Float1D

    def of(self, rows: Bool1D, keys: UInt64s) -> Measure:
        at = np.flatnonzero(rows)
        at = at[np.argsort(keys[at])]
        samples = Samples(keys[at], self.numerators[at], self.denominators[at])
        return Measure(samples.value, self.higher_is_better, samples)


def _parts(table: pa.Table, path: Path) -> Iterator[_Part]:
    for name, nats, size in (
        ("bits_per_byte", "answer_nats", "answer_bytes"),
        ("bits_per_byte_all", "all_nats", "all_bytes"),
    ):
        n_bytes = table.column(size).fill_null(0).to_numpy().astype(np.float64)
        there = n_bytes > 0
        values = table.column(nats).fill_null(np.nan).to_numpy()
        _check_finite(values, there, nats, path)
        yield _Part(name, False, there, values / np.log(2), n_bytes)
    there = np.asarray(table.column("choice_nats").is_valid())
    if there.any():
        yield from _choice_parts(table, there, path)


def _choice_parts(table: pa.Table, there: Bool1D, path: Path) -> Iterator[_Part]:
    n = len(there)
    higher = {
        "accuracy": True, "accuracy_per_char": True, "answer_nats_per_char": False,
        "answer_probability": True, "margin": True,
    }  # fmt: skip
    found = {name: np.zeros(n) for name in higher}
    chars = np.ones(n)
    columns = (table.column(name).to_pylist() for name in ("choice_nats", "choice_chars", "right"))
    for row, (nats, lengths, right) in enumerate(zip(*columns, strict=True)):
        if nats is None:
            continue
        options = np.array(nats, dtype=np.float64)
        if len(options) < 2 or right is None or not 0 <= right < len(options):
            raise DataError(
                f"{path}: row {row + 1}: the right one of {len(options)} choices is {right!r}; "
                "expected two choices at least and the number of one of them"
            )
        if not (np.isfinite(options) & (options >= 0)).all():
            raise DataError(
                f"{path}: row {row + 1}: choice_nats is {nats}; expected nats, 0 or more and finite"
            )
        found["accuracy"][row] = _point(options, right)
        found["accuracy_per_char"][row] = _point(options / np.array(lengths), right)
        found["answer_nats_per_char"][row], chars[row] = options[right], lengths[right]
        likelihoods = np.exp(options.min() - options)
        found["answer_probability"][row] = likelihoods[right] / likelihoods.sum()
        found["margin"][row] = np.delete(options, right).min() - options[right]
    for name, values in found.items():
        below = chars if name == "answer_nats_per_char" else np.ones(n)
        yield _Part(name, higher[name], there, values, below)


def _point(nats: Float1D, right: int) -> float:
    """1 where the right option is the likeliest, shared between those that tie."""
    best = nats == nats.min()
    return float(best[right]) / int(best.sum())


def _check_finite(values: Float1D, there: Bool1D, what: str, path: Path) -> None:
    bad = np.flatnonzero(there & ~np.isfinite(values))
    if len(bad):
        raise DataError(
            f"{path}: row {bad[0] + 1}: {what} is {values[bad[0]]}; expected a finite number: a "
            "model without a likelihood cannot be compared"
        )
