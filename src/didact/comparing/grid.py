"""Grid: what a comparison compares. A YAML or TOML file as a pydantic model, extras forbidden."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from didact import config as configs
from didact.config import Paths
from didact.core import binding
from didact.core.errors import ConfigError
from didact.core.paths import Given, place
from didact.planning.comparison import ALL, BASE, RANDOM

Plain = dict[str, Any]
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
SECTIONS: Final = ("score", "select", "order", "train")
# What no section of the grid or of an arm may say, nor an axis → where it is said.
_RESERVED: Final = {
    "select.budget": "the budgets are the grid's",
    "select.train": "is that of the run, which the grid and the arm say under train",
    "order.epochs": "see the grid's epochs",
    "train.model": "is the grid's base",
    "train.flops": "is the grid's to say, by its budgets",
    "train.max_steps": "is the grid's to say, by its budgets",
}
_FREE_AXES: Final = ("base", "target")  # settings that are told apart and never chosen among


class ArmConfig(BaseModel):
    """One way to choose and to train, as sections of a run config.

    Attributes:
        name: What tables and folders call it.
        score: The scorer; its `target` is the grid's where it needs one and has none.
        select: The selector, without a budget; `top_k` where only scores are given.
        order: Keys of the order that differ from the grid's.
        train: Settings of the training that differ from the grid's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(min_length=1, max_length=60)]
    score: Plain | None = None
    select: Plain | None = None
    order: Plain = {}
    train: Plain = {}


class Grid(BaseModel):
    """What is compared.

    Attributes:
        data: The pool: its files, or a data section with `path`.
        base: The model that every training starts from: a folder, a hub name, or a run config with
            a train section (its file, or the section itself), whose model it is.
        target: The samples to select for.
        choose_on: Held-out files by which settings of `axes` are chosen.
        tell_on: Held-out files by which everything is told.
        budgets: β, what selection and training may take together, in full passes of training over
            the pool.
        seeds: Of every arm; each is a draw of random samples, an order, and an init.
        arms: What is compared beside the base model, random samples and all data.
        axes: Dotted key of an arm (`train.learning_rate`), `base` or `target` → values that every
            arm that has the key is run with.
        train: Settings of every training.
        order: The order section of every arm.
        evaluate: Settings of every evaluation.
        metric: What is told, of those of `didact evaluate`.
        tasks: Tasks that could share the scores; costs are shown with a share of them, too.
        epochs: 1, or `fill`: beside the one-epoch table another one, in which every arm repeats the
            same fraction until the budget is spent.
        fraction: The share of the pool that `fill` repeats.
        keep_models: Keep the weights of every run.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: Paths | Plain
    base: str | Plain
    target: Paths | None = None
    choose_on: list[str] = []
    tell_on: Annotated[list[str], Field(min_length=1)]
    budgets: Annotated[
        list[Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]], Field(min_length=1)
    ]
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**63)]], Field(min_length=1)]
    arms: list[ArmConfig] = []
    axes: dict[str, Annotated[list[Any], Field(min_length=1)]] = {}
    train: Plain = {}
    order: Plain = {"method": "shuffle"}
    evaluate: Plain = {}
    metric: str = "bits_per_byte"
    tasks: Annotated[int, Field(ge=1)] = 1
    epochs: Literal[1, "fill"] = 1
    fraction: Share | None = None
    keep_models: bool = False

    @property
    def data_section(self) -> Plain:
        """The data section of every run."""
        return dict(self.data) if isinstance(self.data, dict) else {"path": self.data}

    @property
    def choice_axes(self) -> tuple[str, ...]:
        """The axes whose values are chosen among."""
        return tuple(axis for axis in self.axes if axis not in _FREE_AXES)

    @property
    def files(self) -> list[str]:
        """The held-out files of every evaluation."""
        return list(dict.fromkeys([*self.choose_on, *self.tell_on]))


GridGiven: TypeAlias = Grid | Mapping[str, Any] | Given  # a grid, its values, or its file


def parse_grid(values: Mapping[str, Any], where: str = "grid") -> Grid:
    """A checked grid from plain values.

    Raises:
        ConfigError: A key is unknown, missing, or has a wrong value; or keys do not go together.
    """
    try:
        grid = Grid.model_validate(dict(values))
    except ValidationError as error:
        lines = binding.explain(error, "", Grid.model_fields)
        raise ConfigError("\n".join(f"{where}: {line}" for line in lines)) from error
    _check(grid, where)
    return grid


def read_grid(given: GridGiven) -> tuple[Grid, str]:
    """The grid, checked, and what messages call it: `grid`, or its file, here or behind a URL.

    Raises:
        ConfigError: It cannot be used.
    """
    if isinstance(given, Grid):
        return given, "grid"
    if isinstance(given, Mapping):
        return parse_grid(given), "grid"
    where = str(place(given))
    return parse_grid(configs.load_plain(given), where), where


def _check(grid: Grid, where: str) -> None:
    for what in ("budgets", "seeds", "choose_on", "tell_on"):
        given = getattr(grid, what)
        twice = sorted({str(value) for value in given if given.count(value) > 1})
        if twice:
            raise ConfigError(f"{where}: {what}: {twice[0]} is given twice; remove one")
    both = sorted(set(grid.choose_on) & set(grid.tell_on))
    if both:
        raise ConfigError(
            f"{where}: tell_on: {both[0]} is in choose_on, too; what settings are chosen by cannot "
            "tell what they are worth: give another file"
        )
    names = [arm.name for arm in grid.arms]
    for arm in grid.arms:
        _check_arm(arm, f"{where}: arms: {arm.name!r}")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"{where}: arms: {twice[0]!r} is the name of two; rename one")
    _check_reserved({"order": grid.order, "train": grid.train}, where)
    _check_axes(grid, where)
    if (grid.epochs == "fill") != (grid.fraction is not None):
        raise ConfigError(
            f"{where}: epochs: fill and fraction go together: which share of the pool is repeated, "
            "as in fraction: 0.05"
        )
    for key in ("files", "base"):
        if key in grid.evaluate:
            raise ConfigError(f"{where}: evaluate.{key}: is the grid's to say; leave it out")


def _check_arm(arm: ArmConfig, where: str) -> None:
    if arm.name in {BASE, ALL}:
        raise ConfigError(f"{where}: is the name of an arm that is always there; rename it")
    if arm.name == RANDOM and (arm.select or (arm.score or {}).get("method", RANDOM) != RANDOM):
        raise ConfigError(
            f"{where}: is the name of random samples, which are always there; rename it"
        )
    if arm.name != RANDOM and arm.score is None and arm.select is None:
        raise ConfigError(
            f"{where}: has neither score nor select; say how it chooses, as in "
            "score: {method: bm25}"
        )
    if arm.name != RANDOM and (arm.score or {}).get("method") == RANDOM:
        raise ConfigError(
            f"{where}: random samples are always there, as the arm 'random'; leave it out"
        )
    sections = {"select": arm.select or {}, "order": arm.order, "train": arm.train}
    _check_reserved(sections, where)


def _check_reserved(sections: Mapping[str, Plain], where: str) -> None:
    for key, why in _RESERVED.items():
        section, _, name = key.partition(".")
        if name in sections.get(section, {}):
            raise ConfigError(f"{where}: {key}: {why}; leave it out")


def _check_axes(grid: Grid, where: str) -> None:
    for axis, values in grid.axes.items():
        section, dot, key = axis.partition(".")
        if axis not in _FREE_AXES and not (dot and key and section in SECTIONS):
            raise ConfigError(
                f"{where}: axes: {axis!r} is no key of an arm; expected base, target, or one such "
                "as train.learning_rate, score.model, select.method, order.method"
            )
        for reserved, why in _RESERVED.items():
            if axis == reserved or axis.startswith(f"{reserved}."):
                raise ConfigError(f"{where}: axes: {axis}: {why}; leave it out")
        if any(values.count(value) > 1 for value in values):
            raise ConfigError(f"{where}: axes: {axis} has a value twice; remove one")
    several = [axis for axis in grid.choice_axes if len(grid.axes[axis]) > 1]
    if several and not grid.choose_on:
        raise ConfigError(
            f"{where}: choose_on: the axis {several[0]} is chosen on other files than it is told "
            "on; give validation files"
        )
