"""evaluate: what the trained model foretells of held-out samples, beside what it began with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from didact.config import EvaluateConfig, RunConfig
from didact.core.cost import Cost, total
from didact.core.errors import ConfigError
from didact.core.identity import versions
from didact.core.manifest import StageRecord
from didact.core.paths import Place, RemotePath
from didact.core.protocols import Context
from didact.evaluation.evaluate import HeldOut
from didact.evaluation.results import Evaluation, read_evaluation, write_evaluation
from didact.runs.folder import Outcome
from didact.stages import train as training
from didact.stages.left_out import listed, rejected
from didact.stages.stage import Stage, Values
from didact.training.settings import SCRATCH
from didact.training.trained import Trained
from didact.verbs import context_of, estimate_evaluation, evaluate, held_out

# Table → what records call its model.
_NAMES = {
    "evaluation": "trained", "evaluation-averaged": "averaged", "evaluation-base": "base"
}  # fmt: skip
_LIBRARIES = ("torch", "transformers", "peft", "tokenizers")


def _wanted(config: RunConfig) -> bool:
    return config.evaluate is not None


def _section(config: RunConfig) -> EvaluateConfig:
    section = config.evaluate
    assert section is not None  # noqa: S101 - the stage is wanted
    return section


def _check(config: RunConfig) -> None:
    if config.train is None:
        raise ConfigError(
            "evaluate: there is no train section, so no model to evaluate; add one, or evaluate a "
            "model with 'didact evaluate MODEL FILES'"
        )


def _read(config: RunConfig, ctx: Context) -> list[HeldOut]:
    return held_out(_section(config).files, config.data, ctx)


def _inputs(files: list[HeldOut]) -> tuple[dict[str, Any], ...]:
    return tuple(
        {"path": f.path, "bytes": f.n_bytes, "blake2b": f.blake2b,
         "role": "held-out"} for f in files
    )  # fmt: skip


def _depends(values: Values) -> Mapping[str, Any]:
    return {
        "model": values.result("train"),
        "files": [[f.name, f.pool.fingerprint] for f in values.read["evaluate"]],
        "evaluate": {k: v for k, v in values.resolved["evaluate"].items() if k != "files"},
        "libraries": versions(_LIBRARIES),
    }


def _estimate(values: Values) -> Cost:
    """As many passes as models are evaluated, all of the size of the first."""
    section, files = _section(values.config), values.read["evaluate"]
    model = training.starting(values, context_of(values.read["data"].pool))
    cost = estimate_evaluation(model, files, **section.settings())
    train = values.config.train
    averaged = train is not None and train.settings()["average"] != "none"
    return total([cost] * (1 + _has_base(values.config) + averaged))


def _has_base(config: RunConfig) -> bool:
    """A model from scratch foretells nothing, so that it is not evaluated."""
    from_scratch = config.train is not None and config.train.model == SCRATCH
    return _section(config).base and not from_scratch


def _models(values: Values, folder: Place, ctx: Context) -> Iterator[tuple[str, Path | str]]:
    """Name of the table → the model: as trained, averaged, and before the training."""
    trained: Trained = values.made["train"]
    yield "evaluation", _model(folder / training.FOLDER)
    if trained.averaged is not None:
        yield "evaluation-averaged", _model(trained.averaged)
    if _has_base(values.config):
        yield "evaluation-base", training.starting(values, ctx)


def _model(place: Place) -> Path | str:
    return place.url if isinstance(place, RemotePath) else place


def _work(values: Values, folder: Place, ctx: Context) -> Outcome:
    section, files = _section(values.config), values.read["evaluate"]
    written, notes, rows = [], [], 0
    for name, model in _models(values, folder, ctx):
        found = evaluate(model, files, name=_NAMES[name], ctx=ctx, **section.settings())
        path = folder / f"{name}.parquet"
        write_evaluation(found, path)
        written.append(path)
        rows = max(rows, len(found.table))
        notes += [note for note in found.notes if note not in notes]
    pools = [file.pool for file in files]
    counts = {"rows": rows, "models": len(written), "rejected": rejected(pools)}
    if counts["rejected"]:
        lost = "rejected_evaluated.jsonl"
        written += listed(pools, "rejected", folder / lost)
        notes.append(f"bad rows of held-out files, listed in {lost}: {counts['rejected']:,}")
    return Outcome(written, counts, tuple(notes))


def _load(
    folder: Place, record: StageRecord, values: Values, ctx: Context
) -> dict[str, Evaluation]:
    """Name of the table → the evaluation."""
    del values, ctx
    names = [name for name in record.outputs if name.endswith(".parquet")]
    return {name.removesuffix(".parquet"): read_evaluation(folder / name) for name in names}


def _does(config: RunConfig) -> str:
    files = _section(config).files
    names = [files] if isinstance(files, str) else files
    return ", ".join(Path(name).name for name in names)


STAGE = Stage(
    name="evaluate",
    wanted=_wanted,
    check=_check,
    read=_read,
    inputs=_inputs,
    depends=_depends,
    estimate=_estimate,
    work=_work,
    load=_load,
    does=_does,
    lasting=True,
    made_of={"model": "train"},
)
