"""Following a plan: the sections of a run's config that its recommendation stands for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from didact._version import __version__
from didact.core import registry
from didact.core.errors import ConfigError, DataError, PoolMismatchError
from didact.core.pool import PoolStats
from didact.planning.comparison import RANDOM
from didact.planning.costs import SETS, method_sections
from didact.planning.plan import PLAN_VERSION

_CLOSE: Final = 0.05  # two pools of sizes this close may be the same, where a plan had counts only


def check_plan(plan: Any, where: str) -> Mapping[str, Any]:
    """The JSON values of a plan, if they are one of this version.

    Raises:
        DataError: They are no plan.
        ConfigError: Another version made it.
    """
    keys = {"plan", "version", "question", "rows", "recommended", "verdict", "training"}
    if not isinstance(plan, Mapping) or not keys <= plan.keys():
        raise DataError(f"{where}: not a plan; expected plan.json, or the folder of didact plan -o")
    if (plan["plan"], plan["version"]) != (PLAN_VERSION, __version__):
        raise ConfigError(
            f"{where}: made by didact {plan['version']}, this is {__version__}, which may count "
            "and choose otherwise; make the plan again"
        )
    return plan


def sections(
    plan: Mapping[str, Any],
    pool: PoolStats,
    fingerprint: str,
    *,
    score: Mapping[str, Any],
    where: str = "plan",
) -> dict[str, Any]:
    """The `score` and `select` sections of a config that do what a plan recommends.

    Args:
        plan: What `check_plan` gave.
        pool: Sizes of the pool that the run reads.
        fingerprint: Its identity.
        score: The config's own `score` section, whose settings of the same method stay.
        where: What messages call the plan.

    Returns:
        Both sections; None for one that the run should be without.

    Raises:
        ConfigError: The plan recommends nothing, or the config lacks a target or a scoring model.
        PoolMismatchError: It was made for another pool.
    """
    _check_pool(plan["question"]["pool"], pool, fingerprint, where)
    if plan["recommended"] is None:
        raise ConfigError(
            f"{where}: recommends nothing ({plan['verdict']['code']}); run its pilot, or choose a "
            "method yourself"
        )
    row = plan["rows"][plan["recommended"]]
    if row["fraction"] >= 1:
        return {"score": None, "select": None}
    budget = {"tokens": math.floor(row["fraction"] * pool.n_tokens)}
    method = row["method"]
    found = method_sections(method, row["selector"])
    found["select"]["budget"] = budget
    if method in SETS:
        return {"score": None, **found}
    same = score.get("method") == method
    found["score"] |= {k: v for k, v in score.items() if k != "method" and (same or k == "target")}
    if method == RANDOM:
        found["score"].pop("target", None)
    if registry.find("scorers", method).needs_target and "target" not in found["score"]:
        raise ConfigError(
            f"{where}: recommends {method}, which needs a target set; set score.target to a file"
        )
    return found


def check_model(plan: Mapping[str, Any], n_params: int, name: str, where: str = "plan") -> None:
    """Refuse a plan that was made for another model than the one to train.

    Args:
        plan: What `check_plan` gave.
        n_params: Parameters of the model to train.
        name: What messages call it.
        where: What messages call the plan.

    Raises:
        ConfigError: Its size is not one that the plan was made for.
    """
    model = plan["question"]["model"]
    low, high = (model["params"] * model[end] for end in ("low", "high"))
    if not low * (1 - _CLOSE) <= n_params <= high * (1 + _CLOSE):
        raise ConfigError(
            f"{where}: made for {model['given']} with {model['params']:,} parameters; train.model "
            f"{name} has {n_params:,}: make the plan again with --model {name}"
        )


def _check_pool(planned: Mapping[str, Any], pool: PoolStats, fingerprint: str, where: str) -> None:
    if planned["fingerprint"] is not None:
        if planned["fingerprint"] != fingerprint:
            raise PoolMismatchError(
                f"{where}: made for pool {planned['fingerprint'][:12]}… ({planned['name']}, "
                f"{planned['samples']:,} samples), this is pool {fingerprint[:12]}… with "
                f"{pool.n:,}; make the plan again with --pool and the run's data settings (--data)"
            )
        return
    for what, given, found in (
        ("samples", planned["samples"], pool.n), ("tokens", planned["tokens"], pool.n_tokens)
    ):  # fmt: skip
        if not abs(found - given) <= _CLOSE * given:
            raise PoolMismatchError(
                f"{where}: made for {given:,} {what}, this pool has {found:,}; make the plan again "
                "with --pool"
            )
