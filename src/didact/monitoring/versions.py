"""A version of the data from its folder: a run's, an export's, or one that holds files of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from didact import pipeline
from didact.analysis.risk.curve import NATS, STATE, Curve, deciding, find_log, read_log
from didact.analysis.risk.texts import Version
from didact.callbacks.ordered_rows import is_record, order_files, order_joints
from didact.core.arrays import Int1D
from didact.core.atomic import digest
from didact.core.errors import ConfigError, DataError, DidactError, NoSampleError
from didact.core.pool import Pool
from didact.core.protocols import Context
from didact.core.scores import TrainingOrder
from didact.data import tables
from didact.data.reading.containers import BY_SUFFIX
from didact.data.reading.discovery import default_source
from didact.data.reading.settings import DataSettings
from didact.models.folder import RECORD, read_json
from didact.runs.folder import read_manifest
from didact.verbs import read_with_inputs

# beside them JSON is no data
_OF_TRAININGS: Final = {"config.json", "manifest.json", "tokenizer.json", RECORD, STATE}


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A version as far as its folder tells it.

    Attributes:
        name: The folder's name.
        data: Its rows; None where its texts are gone.
        sequence: Rows of its pool as the first epoch reads them; None where no order is known.
        batch_size: Samples of a step; None where that is not known.
        model: Folder of the model that was trained on it.
        about: What `training.json` tells of that.
        curve: The first epoch of its training.
        cannot: What could not be read, in sentences.
    """

    name: str
    data: Version | None = None
    sequence: Int1D | None = None
    batch_size: int | None = None
    model: Path | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    curve: Curve | None = None
    cannot: tuple[str, ...] = ()

    @property
    def tokenizer(self) -> str | None:
        """Identity of the tokenizer that its model reads with."""
        file = None if self.model is None else self.model / "tokenizer.json"
        return digest(file) if file is not None and file.is_file() else None


def holds_rows(path: Path) -> bool:
    """Whether a path is a file of rows by its name."""
    return path.is_file() and path in rows_files(path.parent)


def rows_files(folder: Path) -> list[Path]:
    """Files of rows in a folder: what didact writes, else whatever it reads, by name.

    JSON beside a model or a trainer's log is theirs; text beside other files is about them.
    """
    if found := order_files(folder):
        return found
    there = sorted(p for p in folder.iterdir() if p.is_file() and not is_record(p.name))
    trained = any(p.name in _OF_TRAININGS for p in there)
    kinds = {p: next((BY_SUFFIX[s] for s in p.suffixes if s in BY_SUFFIX), "") for p in there}
    kinds = {p: kind for p, kind in kinds.items() if p.name[0] not in "._"}
    found = [p for p, kind in kinds.items() if kind and not (kind == "json" and trained)]
    return [p for p in found if kinds[p] != "text"] or found


def open_version(folder: Path, read_as: DataSettings, ctx: Context) -> Opened:
    """A version, whatever its folder holds.

    Of a run its own pool and order are taken; where these are gone, and of other folders, the rows
    in files beside.

    Args:
        folder: The folder, or a file of rows.
        read_as: How files of rows are read.
        ctx: Cache, seed, progress.

    Raises:
        DataError: There is no such folder, or its files are damaged.
    """
    if folder.is_file():
        return _of_files(Opened(name=folder.name), [folder], folder.parent, read_as, ctx)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected a run, or a folder or file of rows")
    opened = Opened(name=folder.name or str(folder))
    if (folder / "manifest.json").is_file():
        opened = _of_run(opened, folder, ctx)
    if opened.data is None:
        opened = _of_files(opened, rows_files(folder), folder, read_as, ctx)
    return _trained(opened, folder)


def _of_run(opened: Opened, folder: Path, ctx: Context) -> Opened:
    try:
        values = pipeline.made(folder, ("data", "order"), ctx)
        order: TrainingOrder = values.made["order"]
    except (DidactError, OSError, KeyError) as error:
        why = f"the run's own pool or order cannot be read ({error}); its exported rows are taken"
        return replace(opened, cannot=(why,))
    files = [str(i["path"]) for i in read_manifest(folder).inputs if "role" not in i]
    return _ordered(opened, values.pool, order, files, ctx)


def _ordered(
    opened: Opened, pool: Pool, order: TrainingOrder, files: Sequence[str], ctx: Context
) -> Opened:
    sequence = order.rows[: len(order) // order.epochs]
    data = Version(opened.name, pool, np.unique(sequence), ctx, _sourced(pool, files))
    return replace(opened, data=data, sequence=sequence, batch_size=order.batch_size)


def _of_files(
    opened: Opened, files: Sequence[Path], folder: Path, read_as: DataSettings, ctx: Context
) -> Opened:
    if not files:
        gone = "there are no rows in it: its texts are gone, so nothing of its data can be judged"
        return replace(opened, cannot=(*opened.cannot, gone))
    names = [str(file) for file in files]
    try:
        pool = read_with_inputs(names, read_as, ctx).pool
    except NoSampleError as error:
        return replace(opened, cannot=(*opened.cannot, str(error)))
    table = folder / "order.parquet"
    if table.is_file():
        order = tables.read_order(table)
        if len(order) == len(pool) and order.epochs == 1:
            here = replace(order, rows=np.arange(len(pool)), pool_fingerprint=pool.fingerprint)
            return _ordered(opened, pool, here, names, ctx)
    rows = np.flatnonzero(~pool.in_validation)
    return replace(opened, data=Version(opened.name, pool, rows, ctx, _sourced(pool, names)))


def _sourced(pool: Pool, files: Sequence[str]) -> bool:
    """Whether sources are told by rows, or by the names of several files."""
    return len(files) != 1 or pool.source_names != (default_source(Path(files[0])),)


def _trained(opened: Opened, folder: Path) -> Opened:
    """The version with its model, and with the log of its training."""
    homes = [home for home in (folder, folder / "model") if (home / "config.json").is_file()]
    log = find_log(folder)
    record = next((p / RECORD for p in (folder / "model", folder) if (p / RECORD).is_file()), None)
    about = {} if record is None else read_json(record, dict)
    settings = dict(about.get("settings") or {})
    batch_size = opened.batch_size or about.get("batch_size") or settings.get("batch_size")
    opened = replace(opened, model=homes[0] if homes else None, about=about, batch_size=batch_size)
    if log is None:
        return replace(opened, cannot=(*opened.cannot, "there is no log of a training"))
    epoch_steps = None
    if opened.sequence is not None and batch_size:
        epoch_steps = -(-len(opened.sequence) // batch_size)
    known: dict[str, Any] = {
        "epoch_steps": epoch_steps, "unit": about.get("loss", NATS),
        "settings": deciding(about),
        "joints": order_joints(folder) if (folder / "order.parquet").is_file() else None,
    }  # fmt: skip
    try:
        return replace(opened, curve=read_log(log, **known))
    except DataError as error:
        return replace(opened, cannot=(*opened.cannot, f"the training: {error}"))


def check_alike(versions: list[Opened]) -> None:
    """Refuse versions whose tokens are not one kind.

    Raises:
        ConfigError: Their tokens were counted, or their models read, by different tokenizers.
    """
    for what, of in (("counted", _counter), ("read by the model", _reader)):
        known = [(one.name, key) for one in versions if (key := of(one)) is not None]
        for name, key in known[1:]:
            if key != known[0][1]:
                raise ConfigError(
                    f"{known[0][0]} and {name}: tokens are {what} with different tokenizers "
                    f"({known[0][1][:40]} and {key[:40]}), so neither equal tokens nor losses per "
                    "token can be compared; read and train all versions with one"
                )


def _counter(one: Opened) -> str | None:
    return None if one.data is None else one.data.pool.token_counter


def _reader(one: Opened) -> str | None:
    return one.tokenizer
