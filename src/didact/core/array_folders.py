"""Folders of arrays: scores and selections as the keep holds them, and the identity of scores."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from didact.core.manifest import fingerprint
from didact.core.scores import Scores, Selection

Arrays = Mapping[str, npt.NDArray[Any]]


def write_arrays(folder: Path, arrays: Arrays, about: Mapping[str, Any]) -> None:
    """Write arrays by name, and JSON values beside them, as two files of a folder."""
    with (folder / "arrays.npz").open("wb") as file:
        np.savez(file, **dict(arrays))  # type: ignore[arg-type]
    (folder / "about.json").write_text(json.dumps(about, default=_plain), encoding="utf-8")


def read_arrays(folder: Path) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """What `write_arrays` wrote."""
    with np.load(folder / "arrays.npz", allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    return arrays, json.loads((folder / "about.json").read_bytes())


def _plain(value: Any) -> Any:
    """A number of numpy's as Python's own."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} is no JSON value")


def by_row(reasons: Mapping[str, str]) -> dict[int, str]:
    """Reasons by row number, from JSON, whose keys are text."""
    return {int(row): reason for row, reason in reasons.items()}


def save_scores(scores: Scores, folder: Path) -> None:
    """Write scores into an empty folder."""
    arrays: dict[str, npt.NDArray[Any]] = {f"part {k}": v for k, v in scores.parts.items()}
    arrays["values"] = scores.values
    if scores.by_task is not None:
        arrays["by_task"] = scores.by_task
    about = {
        "higher_is_better": scores.higher_is_better, "method": scores.method,
        "pool_fingerprint": scores.pool_fingerprint, "settings": dict(scores.settings),
        "tasks": scores.tasks, "missing": dict(scores.missing), "facts": dict(scores.facts),
        "parts": list(scores.parts),
    }  # fmt: skip
    write_arrays(folder, arrays, about)


def load_scores(folder: Path) -> Scores:
    """What `save_scores` wrote."""
    arrays, about = read_arrays(folder)
    parts = {name: arrays[f"part {name}"] for name in about.pop("parts")}
    missing, tasks = by_row(about.pop("missing")), tuple(about.pop("tasks"))
    return Scores(
        values=arrays["values"], by_task=arrays.get("by_task"), tasks=tasks, parts=parts,
        missing=missing, **about,
    )  # fmt: skip


def scores_identity(scores: Scores) -> str:
    """32 hex digits, equal for scores that no selector can tell apart."""
    hashed = xxhash.xxh3_128(np.ascontiguousarray(scores.values).data)
    for column in (scores.by_task, *scores.parts.values()):
        if column is not None:
            hashed.update(np.ascontiguousarray(column).data)
    return fingerprint(
        [
            hashed.hexdigest(), scores.higher_is_better, scores.method, dict(scores.settings),
            scores.tasks, scores.pool_fingerprint, list(scores.parts), dict(scores.facts),
            {str(row): reason for row, reason in scores.missing.items()},
        ]
    )  # fmt: skip


def save_selection(chosen: Selection, folder: Path) -> None:
    """Write a selection into an empty folder."""
    columns = {"rows": chosen.rows, "rank": chosen.rank, "why": chosen.why}
    arrays = {name: values for name, values in columns.items() if values is not None}
    about = {
        "pool_fingerprint": chosen.pool_fingerprint, "method": chosen.method,
        "settings": dict(chosen.settings), "reasons": chosen.reasons, "notes": chosen.notes,
    }  # fmt: skip
    write_arrays(folder, arrays, about)


def load_selection(folder: Path) -> Selection:
    """What `save_selection` wrote."""
    arrays, about = read_arrays(folder)
    return Selection(
        rows=arrays["rows"], rank=arrays.get("rank"), why=arrays.get("why"),
        pool_fingerprint=about["pool_fingerprint"], method=about["method"],
        settings=about["settings"], reasons=tuple(about["reasons"]), notes=tuple(about["notes"]),
    )  # fmt: skip
