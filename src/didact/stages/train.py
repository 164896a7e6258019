"""train: a model trained in the order, and what every step of it read and cost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from didact.config import RunConfig, TrainConfig
from didact.core.budget import Budget
from didact.core.cost import Cost
from didact.core.errors import BudgetError
from didact.core.identity import versions
from didact.core.manifest import StageRecord
from didact.core.paths import Place, listed
from didact.core.pool import Pool
from didact.core.protocols import Context
from didact.models.folder import RECORD
from didact.runs.folder import Outcome
from didact.stages import spending
from didact.stages.stage import Stage, Values
from didact.training.settings import SCRATCH, Seeds, TrainSettings
from didact.training.starting import starting_model
from didact.training.telemetry import STEPS
from didact.training.trained import Trained, read_trained
from didact.verbs import (
    context_of,
    estimate_training,
    everything,
    model_identity,
    train,
)

FOLDER = "model"  # not train…: a pattern for the training file would find it
# Selectors that use up a budget of samples or a ratio; others may leave some of it.
_FILLS = frozenset({"gumbel_top_k", "middle", "round_robin", "top_k"})
_LIBRARIES = ("torch", "transformers", "accelerate", "peft", "tokenizers")


def _wanted(config: RunConfig) -> bool:
    return config.train is not None


def _section(values: Values) -> TrainConfig:
    section = values.config.train
    assert section is not None  # noqa: S101 - the stage is wanted
    return section


def starting(values: Values, ctx: Context) -> Path | str:
    """The model that the training begins with; one from scratch is made on the first call."""
    section = _section(values)
    settings = TrainSettings(**section.settings())
    pool = values.made.get("data") or values.read["data"].pool
    return starting_model(pool, section.model, settings, values.config.seed_of("init"), ctx)


def _left(values: Values) -> dict[str, float]:
    """The setting by which the training keeps to what is left of a budget of FLOPs."""
    left = spending.left_for_training(values)
    return {} if left is None else {"flops": left}


def _depends(values: Values) -> Mapping[str, Any]:
    section = _section(values)
    settings = {k: v for k, v in values.resolved["train"].items() if k != "model"}
    settings |= _left(values)
    scratch = section.model == SCRATCH
    return {
        "pool": values.pool.fingerprint,
        "order": values.result("order"),
        "model": SCRATCH if scratch else model_identity(section.model),
        "train": settings,
        "seed": values.config.seed_of("init"),
        "libraries": versions(_LIBRARIES),
    }


def _estimate(values: Values) -> Cost:
    section, config, pool = _section(values), values.config, values.read["data"].pool
    epochs = config.order.epochs if config.order else 1
    samples = chosen(pool, config.select.budget if config.select else None)
    ahead = spending.foreseen(values)
    left = {} if ahead is None else {"flops": ahead.left}
    return estimate_training(
        pool,
        starting(values, context_of(pool)),
        {**section.settings(), **left},
        samples=epochs * samples,
        batch_size=config.order.batch_size if config.order else None,
        surely=0 if ahead is not None else _surely(config, samples),
    )


def _surely(config: RunConfig, samples: float) -> int:
    """Samples that are surely chosen, but for those without a score; 0 where nobody can say."""
    section = config.select
    if section is None:
        return int(samples)
    fewer = section.near_duplicates or section.quotas or section.method not in _FILLS
    return 0 if fewer or section.budget is None or section.budget.tokens else int(samples)


def chosen(pool: Pool, budget: Budget | None) -> float:
    """Samples that a budget leaves of a pool, were those that are chosen like the others.

    Of FLOPs all: they end the training.
    """
    offered = pool.stats_of(everything(pool, None).rows)
    samples = float(offered.n)
    if budget is not None and budget.ratio is not None:
        samples = float(budget.ratio) * len(pool)
    elif budget is not None and budget.samples is not None:
        samples = float(budget.samples)
    elif budget is not None and budget.tokens is not None:
        samples = budget.tokens / max(offered.n_tokens, 1) * offered.n
    return min(samples, offered.n)


def _work(values: Values, folder: Place, ctx: Context) -> Outcome:
    config, section = values.config, _section(values)
    seeds = Seeds(*(config.seed_of(what) for what in ("init", "draw", "order")))
    budget, order = spending.budget_of(config), values.made["order"]
    if budget is not None and not len(order.rows):
        raise BudgetError(
            f"budget {budget}: {spending.left_for_training(values) or 0:.4g} FLOPs are left for "
            "training, and the first sample of the ranking takes more; score with less, or raise "
            "the budget"
        )
    done = train(
        values.pool, order, model=section.model, out=folder / FOLDER, seeds=seeds,
        replace_other=True, ctx=ctx, **{**section.settings(), **_left(values)},
    )  # fmt: skip
    files = [path for path in listed(done.path, "**/*") if path.is_file()]
    facts = done.facts()
    counts = {"rows": facts["samples"], "steps": facts["steps"], "tokens": facts["tokens"]}
    notes = list(done.about["notes"])
    if facts["left_out"]:
        notes.append(f"samples without a token to learn, left out: {facts['left_out']:,}")
    timed = [path for path in files if path.name in {STEPS, RECORD}]
    told = {"base": done.about["model"], "set": done.about["set"], "dtype": done.about["dtype"]}
    return Outcome(files, counts, tuple(notes), facts=told, timed=timed, found=done.reused)


def _load(folder: Place, record: StageRecord, values: Values, ctx: Context) -> Trained:
    del record, values, ctx
    return read_trained(folder / FOLDER)


def _does(config: RunConfig) -> str:
    return config.train.model if config.train is not None else ""


STAGE = Stage(
    name="train",
    wanted=_wanted,
    depends=_depends,
    estimate=_estimate,
    work=_work,
    load=_load,
    does=_does,
    lasting=True,
    made_of={"order": "order"},
)
