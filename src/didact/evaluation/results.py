"""Evaluations as values: the table of samples, written and read, and what it comes to."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from didact.core.arrays import Bool1D, Float1D
from didact.core.atomic import replacing
from didact.core.errors import DataError
from didact.core.nesting import parse_json
from didact.core.paths import Given, Place, place
from didact.data.reading.files import arrow_source, readable
from didact.evaluation.intervals import NOTHING, Interval, ratio_interval, share_interval

_KEY: Final = b"didact"
TABLE: Final = "evaluation.parquet"  # in the folder of a run
SCHEMA: Final = pa.schema(
    [
        ("file", pa.string()), ("row", pa.int64()), ("id", pa.string()), ("source", pa.string()),
        ("task", pa.string()), ("answer_nats", pa.float64()), ("answer_bytes", pa.int64()),
        ("answer_tokens", pa.int64()), ("all_nats", pa.float64()), ("all_bytes", pa.int64()),
        ("all_tokens", pa.int64()), ("choice_nats", pa.list_(pa.float64())),
        ("choice_bytes", pa.list_(pa.int64())), ("choice_chars", pa.list_(pa.int64())),
        ("right", pa.int32()),
    ]
)  # fmt: skip
HIGHER_IS_BETTER: Final = {
    "bits_per_byte": False,
    "bits_per_byte_all": False,
    "accuracy": True,
    "accuracy_per_char": True,
    "chance": True,
    "answer_nats_per_char": False,
    "answer_probability": True,
    "margin": True,
}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a model took to foretell held-out samples, sample by sample.

    Attributes:
        table: One row for each sample, with the columns of `SCHEMA`. Choices are null where a
            sample has none.
        meta: The table's metadata: model, digest, training, settings, files, notes.
    """

    table: pa.Table
    meta: Mapping[str, Any]

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user."""
        return tuple(self.meta["notes"])

    def summary(self) -> list[dict[str, Any]]:
        """`summarise` of it."""
        return summarise(self.table, model=str(self.meta["model"]))


def write_evaluation(found: Evaluation, path: Place) -> None:
    """Write the table, whole or not at all."""
    meta = {"table": "evaluation", **found.meta}
    text = json.dumps(meta, sort_keys=True, ensure_ascii=False)
    table = found.table.replace_schema_metadata({_KEY: text})
    with replacing(path) as temporary:
        pq.write_table(table, temporary)


def read_evaluation(path: Given) -> Evaluation:
    """An evaluation from its table, or from the folder of a run that holds one.

    Raises:
        DataError: The file is not such a table, or its numbers cannot be.
    """
    path = place(path)
    path = path / TABLE if path.is_dir() else path
    remedy = "make it with 'didact evaluate MODEL FILES… -o FILE'"
    try:
        with readable(path), arrow_source(path) as source, pq.ParquetFile(source) as file:
            meta = parse_json((file.schema_arrow.metadata or {}).get(_KEY, b"{}"))
            table = file.read()
    except (pa.ArrowInvalid, ValueError) as error:
        raise DataError(f"{path}: no Parquet table ({error}); {remedy}") from error
    if meta.get("table") != "evaluation":
        what = f"a {meta['table']} table" if "table" in meta else "a table without its metadata"
        raise DataError(f"{path}: is {what}; expected an evaluation: {remedy}")
    absent = [name for name in SCHEMA.names if name not in table.column_names]
    if absent:
        raise DataError(f"{path}: lacks the columns {', '.join(absent)}; {remedy}")
    table = table.select(SCHEMA.names).cast(SCHEMA)
    for name in ("answer_nats", "all_nats"):
        values = table.column(name).to_numpy()
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            raise DataError(
                f"{path}: row {row + 1}: {name} is {values[row]}; expected a finite number: "
                f"{remedy}"
            )
    _check_choices(table, path)
    return Evaluation(table, {k: v for k, v in meta.items() if k != "table"})


def _check_choices(table: pa.Table, path: Place) -> None:
    columns = (table.column(name).to_pylist() for name in ("choice_nats", "right"))
    for row, (nats, right) in enumerate(zip(*columns, strict=True)):
        if nats is None:
            continue
        if len(nats) < 2 or right is None or not 0 <= right < len(nats):
            raise DataError(
                f"{path}: row {row + 1}: the right one of {len(nats)} choices is {right!r}; "
                "expected two choices at least and the number of one of them"
            )
        if not all(n is not None and 0 <= n < math.inf for n in nats):
            raise DataError(
                f"{path}: row {row + 1}: choice_nats is {nats}; expected nats, 0 or more and finite"
            )


def summarise(table: pa.Table, *, model: str = "") -> list[dict[str, Any]]:
    """What an evaluation comes to, as records of one number each: in all, by source, by task.

    `bits_per_byte` is Σ nats ÷ (ln 2 · Σ bytes) of the answers, `bits_per_byte_all` of all tokens:
    a ratio of sums, so that long answers weigh as much as they are. Of answers that are worked out
    (GSM8K) it is the number to read at small scale, where accuracy is next to nothing. Multiple
    choice: `accuracy` by total likelihood, `accuracy_per_char` by likelihood per character of the
    option, options that tie share the point; `chance` is the accuracy of guessing;
    `answer_nats_per_char` is Σ nats ÷ Σ characters of the right options; `answer_probability` the
    share of the right one in the likelihoods of all; `margin` its log-likelihood less the best
    wrong one's, in nats. Intervals are 95 % over samples (`evaluation.intervals`) and do not
    compare models.

    Args:
        table: With the columns of `SCHEMA`.
        model: For the records.

    Returns:
        Records `{model, file, task, source, metric, higher_is_better, value, low, high, n, unit}`;
        `source` and `task` are "" where all are meant, `low` and `high` None of a single sample.

    **Source:** bits per byte as in arXiv:2101.00027; likelihoods of answers at small scale as in
    DataDecide (arXiv:2504.11393). **Cost:** O(options).
    """
    names = {c: np.asarray(table.column(c).to_pylist(), object) for c in ("file", "source", "task")}
    numbers = {c: table.column(c).to_numpy() for c in SCHEMA.names[5:11]}
    scored = choices(table)
    out: list[dict[str, Any]] = []
    for (file, source, task), rows in _groups(names):
        for metric, (value, (low, high), n) in _metrics(numbers, scored, rows):
            out.append(
                {
                    "model": model, "file": file, "task": task, "source": source, "metric": metric,
                    "higher_is_better": HIGHER_IS_BETTER[metric], "value": value, "low": low,
                    "high": high, "n": n, "unit": "samples",
                }
            )  # fmt: skip
    return out


def _groups(names: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str, str], Bool1D]]:
    """File, source and task of each group of rows, in order of appearance."""
    for file in dict.fromkeys(names["file"]):
        of_file = names["file"] == file
        yield (file, "", ""), of_file
        for source in dict.fromkeys(names["source"][of_file]):
            yield (file, source, ""), of_file & (names["source"] == source)
        for task in dict.fromkeys(names["task"][of_file]):
            if task:
                yield (file, "", task), of_file & (names["task"] == task)


def choices(table: pa.Table) -> dict[str, Float1D]:
    """What the options of each sample show, `(n,)` each; NaN on a sample without options.

    `accuracy`, `accuracy_per_char`, `chance`, `answer_probability` and `margin` as `summarise` has
    them, and `nats` and `chars` of the right option.
    """
    names = ("accuracy", "accuracy_per_char", "chance", "answer_probability", "margin")
    out = {name: np.full(len(table), np.nan) for name in (*names, "nats", "chars")}
    columns = [table.column(name).to_pylist() for name in ("choice_nats", "choice_chars", "right")]
    for row, (nats, chars, right) in enumerate(zip(*columns, strict=True)):
        if nats is None:
            continue
        by_total = -np.asarray(nats)
        by_char = by_total / np.asarray(chars)
        weights = np.exp(by_total - by_total.max())
        found = {
            "accuracy": _point(by_total, right),
            "accuracy_per_char": _point(by_char, right),
            "chance": 1 / len(nats),
            "answer_probability": weights[right] / weights.sum(),
            "margin": by_total[right] - np.delete(by_total, right).max(),
            "nats": nats[right],
            "chars": chars[right],
        }
        for name, value in found.items():
            out[name][row] = value
    return out


def _point(likelihood: Float1D, right: int) -> float:
    """1 where the right option is the likeliest, shared between those that tie."""
    best = likelihood == likelihood.max()
    return float(best[right]) / int(best.sum())


def _metrics(
    numbers: Mapping[str, Any], choices: Mapping[str, Float1D], rows: Bool1D
) -> Iterator[tuple[str, tuple[float, Interval, int]]]:
    """Value, interval and number of samples of each metric that the rows have."""
    for metric, part in (("bits_per_byte", "answer"), ("bits_per_byte_all", "all")):
        n_bytes = numbers[f"{part}_bytes"][rows]
        counts = n_bytes > 0
        if counts.any():
            bits = numbers[f"{part}_nats"][rows][counts] / math.log(2)
            yield metric, _ratio(bits, n_bytes[counts].astype(np.float64))
    asked = rows & ~np.isnan(choices["nats"])
    n = int(asked.sum())
    if not n:
        return
    for metric in ("accuracy", "accuracy_per_char"):
        hits = float(choices[metric][asked].sum())
        yield metric, (hits / n, share_interval(hits, n), n)
        if metric == "accuracy":
            yield "chance", (float(choices["chance"][asked].mean()), NOTHING, n)
    yield "answer_nats_per_char", _ratio(choices["nats"][asked], choices["chars"][asked])
    for metric in ("answer_probability", "margin"):
        yield metric, _ratio(choices[metric][asked], np.ones(n))


def _ratio(above: Float1D, below: Float1D) -> tuple[float, Interval, int]:
    return float(above.sum() / below.sum()), ratio_interval(above, below), len(above)
