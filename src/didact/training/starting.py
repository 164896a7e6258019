"""The model that a training begins with: found, made, or known by its numbers alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from didact.accounting.catalog import Described, described
from didact.accounting.spec import ModelSpec
from didact.core import binding
from didact.core.budget import Budget
from didact.core.errors import ConfigError, need
from didact.core.identity import base_libraries, versions
from didact.core.keep import keep
from didact.core.paths import is_url
from didact.core.pool import Pool
from didact.core.protocols import Context
from didact.training.foresight import PlannedTraining
from didact.training.settings import SCRATCH, TrainSettings


def starting_model(
    pool: Pool, model: str | Path, settings: TrainSettings, seed: int, ctx: Context
) -> str | Path:
    """The model that a training begins with: `model`, or a new one where that is `scratch`.

    Raises:
        ConfigError: A size is given without `scratch`, or `scratch` without a size.
    """
    size = {"params": settings.params, "vocab": settings.vocab, "context": settings.context}
    given: dict[str, Any] = {name: value for name, value in size.items() if value is not None}
    if model != SCRATCH:
        if given:
            name, value = next(iter(given.items()))
            raise ConfigError(
                f"train.{name}={value!r} is of a model from scratch, and model is {str(model)!r}; "
                f"set model: {SCRATCH}, or leave {name} out"
            )
        return model
    if settings.params is None:
        raise ConfigError(f"train.params: model: {SCRATCH} needs the size, such as params: 3M")
    libraries = {**base_libraries(), **versions(("tokenizers", "torch", "transformers"))}
    key = {"pool": pool.fingerprint, **given, "seed": seed, "libraries": libraries}

    def save(_: None, folder: Path) -> None:
        from didact.models import proxy

        proxy.new_proxy(folder / "model", pool, seed=seed, **given)

    return keep(
        ctx, "scratch", key, lambda _: None, save=save, load=lambda folder: folder / "model"
    )


def planned_training(
    pool: Pool, budget: Budget | None, train: Mapping[str, Any] | None, ctx: Context
) -> PlannedTraining | None:
    """The training that a budget of FLOPs is for; None for any other budget.

    Args:
        pool: The pool; a model from scratch has its tokenizer of it.
        budget: The budget.
        train: See `select`.
        ctx: Seed and cache of a model from scratch.

    Raises:
        ConfigError: A setting is wrong, there is no model, or the budget is not of FLOPs.
    """
    if budget is None or budget.flops is None:
        if train is not None:
            raise ConfigError(
                "select.train does nothing without a budget of flops=F; leave it out, or set the "
                "budget"
            )
        return None
    given = dict(train or {})
    model, epochs = given.pop("model", None), given.pop("epochs", 1)
    if model is None:
        raise ConfigError(
            f"budget {budget} needs the model that it trains: a 'train:' section in the config or "
            "select.train.model, '--set train.model=MODEL' on the command line, "
            "train={'model': …} in Python"
        )
    if not isinstance(epochs, int) or isinstance(epochs, bool) or epochs < 1:
        raise ConfigError(f"select.train.epochs={epochs!r}; expected 1 or more")
    settings = TrainSettings(**binding.bind(TrainSettings, given, "select.train"))
    if settings.flops is not None:
        raise ConfigError(
            f"train.flops={settings.flops!r} beside budget {budget}, which says already what the "
            "training may take; leave it out"
        )
    if not isinstance(model, ModelSpec):
        found = None
        if model != SCRATCH and not is_url(model) and not Path(str(model)).expanduser().exists():
            found = _described(str(model))  # first: a name in the table downloads nothing
        if found is not None:
            notes = _known_by_numbers(pool, found)
            return PlannedTraining(model=found.spec, settings=settings, epochs=epochs, notes=notes)
        need("a budget of FLOPs", "models")
        from didact.models.folder import find

        model = find(starting_model(pool, model, settings, ctx.seed, ctx))
    return PlannedTraining(model=model, settings=settings, epochs=epochs)


def _described(model: str) -> Described | None:
    """A model that the table knows by its name or size; None for what is to be looked for."""
    try:
        return described(model)
    except ConfigError as error:
        if "/" not in model:  # neither a folder nor a hub's name
            raise ConfigError(f"select.train.model: no such folder, and {error}") from error
        return None


def _known_by_numbers(pool: Pool, found: Described) -> tuple[str, ...]:
    counted = (
        f"of {found.given} only the numbers are known: its tokens are taken to be the pool's "
        f"({pool.token_counter})"
    )
    if (found.low, found.high) == (1.0, 1.0):
        return (counted,)
    between = (
        f"{found.given} may have {found.low:.2f} to {found.high:.2f} times the parameters that are "
        "counted, and take as many times the FLOPs"
    )
    return (counted, between)
