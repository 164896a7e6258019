"""Trials: one run each, a setting at a budget with a seed; what cannot be paid is said, not run."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from didact.comparing.estimates import Estimates
from didact.comparing.grid import Plain
from didact.comparing.settings import Setting, plain_config
from didact.config import parse
from didact.core.manifest import fingerprint
from didact.core.paths import masked_values
from didact.planning.comparison import ALL, BASE


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One run of a comparison.

    Attributes:
        name: Its folder in `runs`.
        setting: What it is a run of.
        beta: Its budget in full passes; 1 of all data.
        k_flops: The same in FLOPs; of all data what the pass is foretold to take.
        seed: Its seed.
        plain: Its run config, plain values; None where it is not run.
        key: Identity of everything that it depends on.
        selection_flops: What its scoring is foretold to take.
        reason: Why it is not run; empty where it is.
        shared: Name of the trial whose run it shares, being the same training; empty without.
        fill: Whether it repeats a fraction instead of reading a longer prefix once.
    """

    name: str
    setting: Setting
    beta: float
    k_flops: float
    seed: int
    plain: Plain | None
    key: str
    selection_flops: float
    reason: str = ""
    shared: str = ""
    fill: bool = False

    @property
    def label(self) -> str:
        """What messages call it."""
        return f"{self.setting.label} at {self.beta:g}"

    @property
    def training_flops(self) -> float:
        """What its training is foretold to take at most."""
        return max(self.k_flops - self.selection_flops, 0.0)


def trials_of(ahead: Estimates, settings: Sequence[Setting]) -> list[Trial]:
    """Every trial, all seeds of a setting at a budget together, repeated fractions last.

    All data come first, whose runs arms without scoring FLOPs share from a full pass on: with
    budget for everything each of them is the same training.
    """
    found = [t for s in settings if s.method != BASE for t in _of_setting(ahead, s, settings)]
    return sorted(found, key=lambda t: (t.fill, t.setting.method != ALL))


def _of_setting(ahead: Estimates, setting: Setting, settings: Sequence[Setting]) -> Iterator[Trial]:
    grid = ahead.ground.grid
    whole = ahead.full_pass(setting).flops
    if setting.method == ALL:
        for seed in grid.seeds:
            yield _trial(ahead, setting, 1.0, seed, None)
        return
    same = _all_like(setting, settings)
    kinds = (False,) if grid.fraction is None else (False, True)
    for fill, beta, seed in itertools.product(kinds, grid.budgets, grid.seeds):
        trial = _trial(ahead, setting, beta, seed, beta * whole, fill=fill)
        scoring = trial.selection_flops
        if scoring >= trial.k_flops:
            yield replace(trial, plain=None, reason=infeasible(scoring, trial.k_flops, whole))
        elif beta >= 1 and scoring == 0 and same is not None and not fill:
            yield replace(trial, plain=None, shared=_trial(ahead, same, 1.0, seed, None).name)
        else:
            yield trial


def _all_like(setting: Setting, settings: Sequence[Setting]) -> Setting | None:
    """All data, where with budget for it the setting is the same training."""
    if not setting.takes_everything:
        return None
    mine = (setting.base, setting.sections["train"], setting.sections["order"])
    return next(
        (
            s for s in settings
            if s.method == ALL and (s.base, s.sections["train"], s.sections["order"]) == mine
        ),
        None,
    )  # fmt: skip


def infeasible(scoring: float, budget: float, whole: float) -> str:
    """Why a budget does not pay an arm."""
    return (
        f"scoring is estimated to take {scoring:.3g} FLOPs, {scoring / whole:.2f} full passes, and "
        f"the budget is {budget:.3g}"
    )


def _trial(
    ahead: Estimates,
    setting: Setting,
    beta: float,
    seed: int,
    flops: float | None,
    *,
    fill: bool = False,
) -> Trial:
    ground = ahead.ground
    grid, base = ground.grid, ground.base_of(setting)
    plain = plain_config(grid, setting, seed=seed, flops=flops, model=base.model, files=grid.files)
    name = f"{setting.slug()}-{seed}" if flops is None else f"{setting.slug()}-{beta:g}-{seed}"
    full = ahead.full_pass(setting)
    scoring = 0.0 if setting.method == ALL else ahead.scoring(setting).flops
    budget = full.flops if flops is None else flops
    if fill:
        assert grid.fraction is not None  # noqa: S101 - `fill` and `fraction` go together
        name = f"{name}-fill"
        left = max(budget - scoring, 1.0)
        # enough for the cheapest samples there are: what is left ends the training, not these
        passes = max(1, -(-budget // full.least(grid.fraction)))
        plain["select"]["budget"] = {"ratio": grid.fraction}
        plain["order"] = {**plain["order"], "epochs": int(passes) + 1}
        plain["train"] = {**plain["train"], "flops": left}
    config = parse(plain, f"{ground.where}: {setting.label}")
    resolved = config.resolved(whole=True)
    settings = {k: v for k, v in resolved.items() if k not in {"evaluate", "data"}}
    settings["train"] = {**(settings["train"] or {}), "model": base.digest}
    settings["score"] = ahead.by_content(resolved["score"])
    if settings["order"]:
        settings["order"] = {
            **settings["order"], "score": ahead.by_content(settings["order"]["score"])
        }  # fmt: skip
    read_as = {k: v for k, v in resolved["data"].items() if k != "path"}
    return Trial(
        name=name, setting=setting, beta=beta, k_flops=budget, seed=seed, plain=plain,
        key=fingerprint(masked_values([ground.identity, settings, read_as, grid.evaluate])),
        selection_flops=scoring, fill=fill,
    )  # fmt: skip
