"""A version of the data from its folder: a run's, an export's, or one that holds files of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from didact import pipeline
from didact.analysis.risk.curve import STATE, Curve, find_log, known_of, read_log
from didact.analysis.risk.flags import RISK
from didact.analysis.risk.texts import Version
from didact.callbacks.ordered_rows import is_record, order_files, order_joints
from didact.core.arrays import Int1D
from didact.core.atomic import digest
from didact.core.errors import ConfigError, DataError, DidactError, NoSampleError
from didact.core.paths import Place
from didact.core.pool import Pool
from didact.core.protocols import Context
from didact.core.scores import TrainingOrder
from didact.data import tables
from didact.data.reading.containers import BY_SUFFIX
from didact.data.reading.discovery import default_source, expand
from didact.data.reading.settings import DataSettings
from didact.models.folder import RECORD, read_json
from didact.runs.folder import read_manifest
from didact.verbs import read_with_inputs

# beside them JSON is no data
_OF_TRAININGS: Final = ("config.json", "tokenizer.json", RECORD, STATE)
_FOUND: Final = {RISK, "risk.html"}
_GONE: Final = "there are no rows in it: its texts are gone, so nothing of its data can be judged"


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
    model: Place | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    curve: Curve | None = None
    cannot: tuple[str, ...] = ()

    @property
    def counter(self) -> str | None:
        """What counted the tokens of its rows."""
        return None if self.data is None else self.data.pool.token_counter

    @property
    def tokenizer(self) -> str | None:
        """Identity of the tokenizer that its model reads with."""
        file = None if self.model is None else self.model / "tokenizer.json"
        return digest(file) if file is not None and file.is_file() else None


def is_version(path: Place) -> bool:
    """Whether something in the folder of a series is a version: a folder, or a file of rows.

    Hidden ones, tables and logs of didact's and folders of nothing but what a monitor found are
    none; text, of which notes are written, is only taken where it is given by name.
    """
    if path.name.startswith("."):
        return False
    if path.is_dir():
        names = {p.name for p in path.iterdir()}
        return not names or not names <= _FOUND
    return path.is_file() and not is_record(path.name) and _kind(path) not in {"", "text"}


def _kind(path: Place) -> str:
    """The kind of file by its name; "" of those that are not read."""
    suffixes = (suffix.lower() for suffix in reversed(path.suffixes))
    return next((BY_SUFFIX[s] for s in suffixes if s in BY_SUFFIX), "")


def rows_files(folder: Place) -> Sequence[Place]:
    """Files of rows in a folder: of a run what it exported, else what is read of any folder.

    Beside a model or a trainer's log JSON is theirs, and text in the whole folder.

    Raises:
        DataError: Nothing that is read is there, or it cannot be told what to read.
    """
    if (folder / "manifest.json").is_file():
        return order_files(folder)
    found = [file.path for file in expand([folder]) if not is_record(file.path.name)]
    homes = {path.parent for path in folder.rglob("*") if path.name in _OF_TRAININGS}
    return [
        path
        for path in found
        if not (homes and _kind(path) == "text")
        and not (path.parent in homes and _kind(path) == "json")
    ]


def open_version(folder: Place, read_as: DataSettings, ctx: Context) -> Opened:
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
        try:
            files = rows_files(folder)
        except DataError as error:
            opened = replace(opened, cannot=(*opened.cannot, f"{_GONE} ({error})"))
        else:
            opened = _of_files(opened, files, folder, read_as, ctx)
    return _trained(opened, folder)


def _of_run(opened: Opened, folder: Place, ctx: Context) -> Opened:
    try:
        values = pipeline.made(folder, ("data", "order"), ctx)
        order: TrainingOrder = values.made["order"]
    except (DidactError, OSError, KeyError) as error:
        why = f"the run's own pool or order cannot be read ({error}); its exported rows are taken"
        return replace(opened, cannot=(why,))
    files = [Path(str(i["path"])) for i in read_manifest(folder).inputs if "role" not in i]
    return _ordered(opened, values.pool, order, files, ctx)


def _ordered(
    opened: Opened, pool: Pool, order: TrainingOrder, files: Sequence[Place], ctx: Context
) -> Opened:
    sequence = order.rows[: len(order) // order.epochs]
    data = Version(opened.name, pool, np.unique(sequence), ctx, _sourced(pool, files))
    return replace(opened, data=data, sequence=sequence, batch_size=order.batch_size)


def _of_files(
    opened: Opened, files: Sequence[Place], folder: Place, read_as: DataSettings, ctx: Context
) -> Opened:
    if not files:
        return replace(opened, cannot=(*opened.cannot, _GONE))
    try:
        pool = read_with_inputs(files, read_as, ctx).pool
    except NoSampleError as error:
        return replace(opened, cannot=(*opened.cannot, str(error)))
    table = folder / "order.parquet"
    if table.is_file():
        order = tables.read_order(table)
        if len(order) == len(pool) and order.epochs == 1:
            here = replace(order, rows=np.arange(len(pool)), pool_fingerprint=pool.fingerprint)
            return _ordered(opened, pool, here, files, ctx)
    rows = np.flatnonzero(~pool.in_validation)
    return replace(opened, data=Version(opened.name, pool, rows, ctx, _sourced(pool, files)))


def _sourced(pool: Pool, files: Sequence[Place]) -> bool:
    """Whether sources are told by rows, or by the names of several files."""
    return len(files) != 1 or pool.source_names != (default_source(files[0]),)


def _trained(opened: Opened, folder: Place) -> Opened:
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
    known = known_of(about)
    if opened.sequence is not None and batch_size:
        known["epoch_steps"] = -(-len(opened.sequence) // batch_size)
    if (folder / "order.parquet").is_file():
        known["joints"] = order_joints(folder)
    try:
        return replace(opened, curve=read_log(log, **known))
    except DataError as error:
        return replace(opened, cannot=(*opened.cannot, f"the training: {error}"))


def check_alike(versions: list[Opened]) -> None:
    """Refuse versions whose tokens are not one kind.

    Raises:
        ConfigError: Their tokens were counted, or their models read, by different tokenizers.
    """
    counters = [(one.name, one.counter) for one in versions if one.counter is not None]
    readers = [(one.name, one.tokenizer) for one in versions if one.tokenizer is not None]
    for what, known in (("counted", counters), ("read by the model", readers)):
        for name, key in known[1:]:
            if key != known[0][1]:
                raise ConfigError(
                    f"{known[0][0]} and {name}: tokens are {what} with different tokenizers "
                    f"({known[0][1]:.40} and {key:.40}), so neither equal tokens nor losses per "
                    "token can be compared; read and train all versions with one"
                )
