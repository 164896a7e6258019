"""The entropy law's verb: run folders or a CSV in, what they tell of the law out.

`didact.analysis.entropy` decides, from numbers alone; here are the folders, pools and tokenizers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from didact import config as configs
from didact import verbs
from didact.analysis.arms import on_common_samples
from didact.analysis.entropy.law import entropy_law
from didact.analysis.entropy.runs import LawRun, dose_of, family_of
from didact.analysis.entropy.table import read_law_table
from didact.analysis.entropy.told import EntropyLaw
from didact.analysis.evaluations import check_alike, evaluated_run
from didact.analysis.reading import named
from didact.analysis.runs import Run, What, without_twins
from didact.config import RunConfig
from didact.core.arrays import Int1D
from didact.core.atomic import write_text
from didact.core.errors import ConfigError, DataError, DidactError, need
from didact.core.manifest import Manifest, StageRecord, fingerprint
from didact.core.paths import Given, Place, place
from didact.core.pool import Kind, Pool
from didact.core.protocols import Context, Progress
from didact.data import tables
from didact.data.reading.ingest import find_cached
from didact.models.folder import read_json
from didact.runs.folder import output, read_manifest
from didact.training.settings import SCRATCH, TrainSettings
from didact.verbs import PathLike

if TYPE_CHECKING:
    from didact.analysis.entropy.observed import AsRead, EpochLoss

LAW: Final = "law.json"
PAGE: Final = "law.html"
_STAGES: Final[Mapping[Kind, str]] = {
    "text": "text", "chat": "sft", "labelled": "sft", "pair": "sft on the chosen"
}  # fmt: skip


def law(
    paths: PathLike | Sequence[PathLike],
    *,
    metric: str = "bits_per_byte",
    file: str | None = None,
    ctx: Context | None = None,
) -> EntropyLaw:
    """Whether what was learnt goes with how redundant and how hard to learn the sets were.

    Args:
        paths: CSV files with a run a line (see `didact.analysis.entropy.table`), or folders of
            finished runs with the sections train and evaluate; SET=PATH names the set of a folder,
            `random+copies4=PATH` a dose of the family `random`.
        metric: Of run folders, the metric that is performance; where lower is better it is negated.
        file: Of run folders, the held-out file, where they were evaluated on several.
        ctx: Cache, progress.

    Raises:
        DataError: A file or row is bad, runs have several tokenizers or held-out sets, or the
            texts of a run are gone.
        ConfigError: Folders and CSV files are mixed, or a setting fits no run.

    **Source:** Yin et al. 2024 (arXiv:2407.06645); see `didact.analysis.entropy.law`.
    **Cost:** of run folders each set is tokenised twice and compressed once; no model is run.
    """
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    csvs = [p for p in given if Path(p).suffix.lower() == ".csv"]
    if csvs and len(csvs) < len(given):
        raise ConfigError(
            "CSV files and run folders are given together, but R is compared at equal tokens; give "
            "one or the other"
        )
    if csvs:
        if file is not None or metric != "bits_per_byte":
            raise ConfigError("metric and file do nothing beside a CSV, which has performance")
        read = [read_law_table(place(path)) for path in csvs]
        runs = tuple(run for some, _ in read for run in some)
        notes = tuple(note for _, some in read for note in some)
    else:
        runs, notes = observed_runs(given, metric=metric, file=file, ctx=ctx)
    found = entropy_law(runs)
    return replace(found, notes=(*found.notes, *notes))


def write_law(found: EntropyLaw, folder: Given) -> list[Place]:
    """Write `law.json` and `law.html` into a folder; their paths."""
    from didact.reporting.law_page import render_law

    values = found.to_json()
    text = json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    home = place(folder)
    out = [home / LAW, home / PAGE]
    write_text(out[0], text)
    write_text(out[1], render_law(values))
    return out


@dataclass(frozen=True, slots=True)
class _Folder:
    """A finished run, opened: everything that the law asks of it but R."""

    path: Place
    run: Run
    held_out: str  # identity of the file that performance is of
    held_out_path: str
    read: AsRead
    epoch: EpochLoss
    tokenizer: str
    backbone: str
    stage: str
    config: RunConfig


def observed_runs(
    paths: Sequence[PathLike],
    *,
    metric: str = "bits_per_byte",
    file: str | None = None,
    ctx: Context | None = None,
) -> tuple[tuple[LawRun, ...], tuple[str, ...]]:
    """The runs of finished run folders, R at equal tokens; and notes on how.

    R and the likeness to the held-out set are of the text as the model read it in its first epoch,
    template in and cut off, decoded from the very tokens, in one fixed shuffle, up to as many
    tokens as the smallest run has.

    Args:
        paths: The folders, or SET=FOLDER.
        metric: As in `law`.
        file: As there.
        ctx: As there.

    Raises:
        DataError: As in `law`.
    """
    need("reading what a model read", "models")
    ctx = ctx or verbs.context()
    evaluated = []
    for each in paths:
        label, path = named(each)
        evaluated.append((path, *evaluated_run(_run_folder(path), label)))
    notes = list(check_alike({run.name: meta for _, run, meta in evaluated}))
    kept, twins = without_twins([run for _, run, _ in evaluated])
    notes += twins
    names = {run.name for run in kept}
    what = _what([run for _, run, _ in evaluated], metric, file)
    folders = [
        _opened(path, run, meta, what, ctx) for path, run, meta in evaluated if run.name in names
    ]
    _check_tokenizers(folders)
    samples = {f.run.name: s for f in folders if (s := f.run.measures[what].samples) is not None}
    common, told = on_common_samples(samples, what)
    sizes: list[Int1D] = []
    for folder in folders:
        ctx.progress(Progress("tokenize", len(sizes), len(folders)))
        sizes.append(folder.read.lengths())
    least = min(int(size.sum()) for size in sizes)
    notes += [*told, f"R is of {least:,} tokens of each set, as many as the smallest has."]
    texts = _held_out_texts(folders[0], ctx)
    sign = 1 if folders[0].run.measures[what].higher_is_better else -1
    found: list[LawRun] = []
    for f, size in zip(folders, sizes, strict=True):
        ctx.progress(Progress("compress", len(found), len(folders)))
        found.append(_law_run(f, size, least, sign * common[f.run.name].value, texts))
    return tuple(found), tuple(notes)


def _law_run(
    folder: _Folder, lengths: Int1D, least: int, performance: float, held_out: Sequence[str]
) -> LawRun:
    from didact.text.compression import set_redundancies
    from didact.text.likeness import likeness

    texts = list(folder.read.texts(least))
    far, near, n_bytes = set_redundancies(text.encode() for text in texts)
    seeds = ", ".join(f"{k} {v}" for k, v in folder.run.seeds.items() if v is not None)
    read = lengths[lengths > 0]
    return LawRun(
        run=str(folder.path), set=folder.run.set, family=family_of(folder.run.set),
        dose=dose_of(folder.run.set), ratio=far, deflate_ratio=near, bytes=n_bytes,
        first_epoch_loss=folder.epoch.loss, early=folder.epoch.early, performance=performance,
        tokens=int(read.sum()), mean_length=float(read.mean()),
        similarity=likeness(texts, held_out), backbone=folder.backbone, stage=folder.stage,
        seed=seeds or None, tokenizer=folder.tokenizer, held_out=folder.held_out,
    )  # fmt: skip


def _run_folder(path: Place) -> Place:
    """A folder of a finished run, which knows its pool and its order; DataError for others."""
    if not path.is_dir():
        raise DataError(
            f"{path}: is no folder; expected the folder of a finished run of 'didact run', or a "
            "CSV with a run a line"
        )
    read_manifest(path)
    return path


def _what(runs: Sequence[Run], metric: str, file: str | None) -> What:
    """The measure that is performance, which all runs have."""
    known = [_whole(run) for run in runs]
    metrics = sorted({m for some in known for _, m in some})
    if metric not in metrics:
        raise ConfigError(f"metric {metric!r}: no run has it; expected one of {', '.join(metrics)}")
    files = [[f for f, m in some if m == metric] for some in known]
    common = [f for f in files[0] if all(f in some for some in files)]
    if file is None and len(common) > 1:
        raise ConfigError(
            f"the runs have {metric} of {', '.join(common)}; choose one with file (--file)"
        )
    chosen = file or (common[0] if common else files[0][0] if files[0] else "")
    for run, some in zip(runs, files, strict=True):
        if chosen not in some:
            other = next((r.name for r, s in zip(runs, files, strict=True) if chosen in s), "")
            beside = f", and {other} has" if other else ""
            raise DataError(
                f"{run.name}: has no {metric} of {chosen!r}{beside}; it was evaluated on "
                f"{', '.join(sorted({f for f, _ in _whole(run)})) or 'nothing'}; expected one "
                "held-out set in a fit: evaluate all models on it"
            )
    return known[0][chosen, metric]


def _whole(run: Run) -> dict[tuple[str, str], What]:
    """File and metric → the measure of all its tasks together."""
    out: dict[tuple[str, str], What] = {}
    for what in sorted(run.measures):  # all tasks together have no name, and come first
        out.setdefault((what.file, what.metric), what)
    return out


def _opened(path: Place, run: Run, meta: Mapping[str, Any], what: What, ctx: Context) -> _Folder:
    from didact.analysis.entropy.observed import AsRead, first_epoch_loss
    from didact.evaluation.model import find_evaluated
    from didact.models.language_model import context_of, open_tokenizer
    from didact.training.foresight import encoding
    from didact.training.trained import read_trained

    manifest = read_manifest(path)
    config = configs.parse(manifest.config)
    record = manifest.stage("order")
    if config.train is None or record is None:
        raise DataError(
            f"{path}: the run has no section train; expected runs that train and evaluate: add "
            "the sections and run it again"
        )
    pool = _pool(path, config, str(_record(manifest, "data").depends_on.get("pool")), ctx)
    order = tables.read_order(output(path, record, "order.parquet"))
    trained = read_trained(path / "model")
    about = trained.about
    model = find_evaluated(path / "model")
    tokenizer = open_tokenizer(model.tokenizer_folder)
    told = {name: about["settings"][name] for name in ("loss", "template", "max_length")}
    how = encoding(pool, TrainSettings(**told), context_of(model.path, tokenizer))
    read = min(len(order) // order.epochs, len(trained.steps) * int(about["batch_size"]))
    of_file = next(entry for entry in meta["files"] if entry["file"] == what.file)
    scratch = config.train.model == SCRATCH
    base = str(about["n_params"]) if scratch else str(about["model"])[:8]
    return _Folder(
        path=path, run=run, held_out=of_file["blake2b"], held_out_path=of_file["path"],
        read=AsRead(pool, order.rows[:read], tokenizer, how),
        epoch=first_epoch_loss(trained.steps, what=str(path / "model" / "steps.jsonl")),
        tokenizer=_identity(model.tokenizer_folder / "tokenizer.json"),
        backbone=f"{Path(config.train.model).name} {base}", stage=_STAGES[pool.kind],
        config=config,
    )  # fmt: skip


def _identity(tokenizer: Path) -> str:
    """What a tokenizer does, whatever version of the library wrote its file."""
    told = read_json(tokenizer, dict)
    return fingerprint({k: v for k, v in told.items() if k not in {"truncation", "padding"}})


def _record(manifest: Manifest, name: str) -> StageRecord:
    """The record of a stage that every run has."""
    record = manifest.stage(name)
    if record is None:
        raise DataError(f"its manifest has no stage {name!r}; run it again")
    return record


def _pool(path: Place, config: RunConfig, fingerprint: str, ctx: Context) -> Pool:
    """The run's pool: in the cache, or read again from its files."""
    found = find_cached(fingerprint, ctx)
    if found is not None:
        return found
    gone = (
        "its texts are gone, so what the model read cannot be compressed: put the files back, or "
        "give a CSV with the column ratio"
    )
    try:
        found = verbs.read_with_inputs(config.data.path, config.data, ctx).pool
    except DidactError as error:
        raise DataError(f"{path}: {gone} ({error})") from error
    if found.fingerprint != fingerprint:
        raise DataError(f"{path}: its files are not those it was run on; {gone}")
    return found


def _check_tokenizers(folders: Sequence[_Folder]) -> None:
    first = folders[0]
    for other in folders:
        if other.tokenizer != first.tokenizer:
            raise DataError(
                f"{first.path} and {other.path}: have different tokenizers, so their tokens and "
                "their loss per token are of different units; expected one in a fit: fit each by "
                "itself"
            )


def _held_out_texts(folder: _Folder, ctx: Context) -> list[str]:
    """The held-out samples, written and cut as the training's were."""
    import numpy as np

    try:
        (found,) = verbs.held_out([folder.held_out_path], folder.config.data, ctx)
    except DidactError as error:
        raise DataError(
            f"{folder.path}: the held-out file {folder.held_out_path} is gone, so likeness to it "
            f"cannot be told: put it back ({error})"
        ) from error
    if found.blake2b != folder.held_out:
        raise DataError(
            f"{folder.held_out_path}: is not the file that {folder.path} was evaluated on, it was "
            "changed since; put it back, or run again"
        )
    rows = np.arange(len(found.pool))
    how = replace(folder.read.how, kind=found.pool.kind)
    return list(replace(folder.read, pool=found.pool, rows=rows, how=how).texts())
