"""A budget of FLOPs in a run: what it is spent on before the training, and what is left for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from didact.config import RunConfig
from didact.core.budget import Budget
from didact.core.cost import Bill, Cost, total
from didact.core.errors import BudgetError, ConfigError, need
from didact.core.manifest import StageRecord
from didact.core.protocols import Context
from didact.selection.around.spending import Spending
from didact.stages import score
from didact.stages.stage import Values
from didact.training.settings import SCRATCH, TrainSettings
from didact.training.starting import starting_model

_BEFORE: Final = ("score", "order_score", "select")  # what the training is paid after
_OF_SCRATCH: Final = ("params", "vocab", "context")


def budget_of(config: RunConfig) -> Budget | None:
    """The budget, where it is one of FLOPs."""
    budget = config.select.budget if config.select is not None else None
    return budget if budget is not None and budget.flops is not None else None


def check(config: RunConfig) -> None:
    """Refuse a budget of FLOPs without a training, or with two.

    Raises:
        ConfigError: Both `train` and `select.train` are given, or `train.flops` beside the budget.
        BudgetError: There is a budget of FLOPs and no model.
    """
    own = config.select.train if config.select is not None else None
    if own is not None and config.train is not None:
        raise ConfigError("select.train: the run has a train section, which is taken; leave it out")
    budget = budget_of(config)
    if budget is None:
        if own is not None:
            raise ConfigError(
                "select.train does nothing without a budget of flops=F; leave it out, or set "
                "select.budget.flops"
            )
        return
    section = config.train or own
    if section is None:
        raise BudgetError(
            f"budget {budget} needs the model that it trains: add a train section, or set "
            "select.train.model where the run itself trains none"
        )
    if section.settings()["flops"] is not None:
        raise ConfigError(
            f"train.flops beside budget {budget}, which says already what the training may "
            "take; leave it out"
        )


def later_training(values: Values, ctx: Context) -> dict[str, Any] | None:
    """What `didact.verbs.select` is told of the training that a budget of FLOPs is for."""
    config = values.config
    if budget_of(config) is None or config.select is None:
        return None
    own, order = config.select.train, config.order
    section = own or config.train
    assert section is not None  # noqa: S101 - `check` saw to it
    settings = section.settings()
    epochs = own.epochs if own is not None else order.epochs if order is not None else 1
    if order is not None:
        settings["batch_size"] = settings["batch_size"] or order.batch_size
    model: Any = section.model
    if model == SCRATCH:
        pool = values.made.get("data") or values.read["data"].pool
        seed = values.config.seed_of("init")
        model = starting_model(pool, model, TrainSettings(**settings), seed, ctx)
        settings |= dict.fromkeys(_OF_SCRATCH)
    elif own is None:  # it will be opened, so that its own tokens are counted
        from didact.models.folder import find

        need("training", "models")
        model = find(model)
    return {**settings, "model": model, "epochs": epochs}


def paid_before(records: Iterable[StageRecord]) -> Bill:
    """The bill of the stages before the training; what several of them use counts once."""
    return sum((r.measured.bill for r in records if r.name in _BEFORE), Bill())


def spent(values: Values) -> float:
    """FLOPs of them."""
    return paid_before(values.records).value.flops


def foreseen_before(config: RunConfig, costs: Mapping[str, Cost]) -> Cost:
    """The same from what stages are estimated to take: one score that orders, too, counts once."""
    same = config.order is not None and config.order.score == config.score
    parts = {name for name in _BEFORE if name != "order_score" or not same}
    return total(cost for name, cost in costs.items() if name in parts)


def left_for_training(values: Values) -> float | None:
    """FLOPs that the training may take; None without a budget of FLOPs."""
    budget = budget_of(values.config)
    return None if budget is None else Spending(budget=budget, spent=spent(values)).left


def foreseen(values: Values) -> Spending | None:
    """How a budget of FLOPs will be shared out, before anything is spent.

    Raises:
        BudgetError: Scoring is estimated to take it all.
    """
    stages = (score.STAGE, score.ORDER_STAGE)
    costs = {s.name: s.estimate(values) or Cost() for s in stages if s.wanted(values.config)}
    return shared_out(values.config, costs)


def shared_out(config: RunConfig, costs: Mapping[str, Cost]) -> Spending | None:
    """The same, from what stages are estimated to take; None without a budget of FLOPs."""
    budget = budget_of(config)
    if budget is None:
        return None
    return Spending(budget=budget, spent=foreseen_before(config, costs).flops, foreseen=True)
