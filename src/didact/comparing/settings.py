"""Settings: the arms of a grid with one value of every axis, as sections of a run config."""

from __future__ import annotations

import copy
import hashlib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from didact import config as configs
from didact.comparing.grid import ArmConfig, Grid, Plain
from didact.config import RunConfig
from didact.core import binding, registry
from didact.core.errors import ConfigError, DidactError
from didact.core.manifest import fingerprint
from didact.core.paths import place
from didact.planning.comparison import ALL, BASE, RANDOM, labelled

# Selectors that are given a pool's ranking: with budget for everything they choose everything.
RANKING: Final = frozenset({"top_k", "middle", "gumbel_top_k", "round_robin"})
UNSCORED: Final = frozenset({"shuffle", "keep"})  # orders that read no scores
_DRAWING: Final = frozenset({"gumbel_top_k", "shingle_novelty"})  # selectors that draw
_LONGEST: Final = 80  # characters of a folder's name that come from a label


@dataclass(frozen=True, kw_only=True)
class Setting:
    """An arm with one value of every axis.

    Attributes:
        arm: Name of the arm.
        method: Its scorer, or its selector where it has none; `random`, `base`, `all`.
        axes: Axis → value.
        base: The model that it starts from, as the grid gives it.
        sections: Its sections of a run config: score, select, order, train.
        draws: Whether every seed chooses other samples.
    """

    arm: str
    method: str
    axes: Mapping[str, Any]
    base: str | Plain
    sections: Mapping[str, Any]
    draws: bool = False

    @property
    def axes_text(self) -> str:
        """Its values of the axes, as `learning_rate=0.001, model=64k`; empty without axes."""
        return ", ".join(f"{axis.rpartition('.')[2]}={_short(v)}" for axis, v in self.axes.items())

    @property
    def label(self) -> str:
        """What tables call it."""
        return labelled(self.arm, self.axes_text)

    @property
    def place(self) -> tuple[str, str]:
        """Which arms it is compared with: those of its base and its target. `base` and `target`."""
        return _short(self.axes.get("base", "")), _short(self.axes.get("target", ""))

    @property
    def key(self) -> str:
        """Identity of what it is."""
        return fingerprint([self.arm, self.base, dict(self.sections)])

    def slug(self) -> str:
        """The label as a name of a file, unique among settings."""
        name = "+".join([self.arm, *(self.axes_text.split(", ") if self.axes else ())])
        plain = re.sub(r"[^\w.=+-]+", "_", name).strip("_.-")
        if plain == name and len(plain) <= _LONGEST:
            return plain
        told = hashlib.blake2b(f"{self.label} {self.key}".encode(), digest_size=4).hexdigest()
        return f"{plain[:_LONGEST]}-{told}"

    @property
    def takes_everything(self) -> bool:
        """Whether with budget for all samples it is all of them, in an order without scores."""
        select = self.sections["select"] or {}
        plain = not select.get("quotas") and not select.get("near_duplicates")
        order = self.sections["order"] or {}
        return select.get("method") in RANKING and plain and order.get("method", "keep") in UNSCORED


def settings_of(grid: Grid, where: str) -> list[Setting]:
    """Every setting: of each base the base model, all data, random samples, and the arms.

    Raises:
        ConfigError: A section is wrong, or no arm has an axis.
    """
    own = {arm.name: arm for arm in grid.arms}
    random = own.pop(RANDOM, ArmConfig(name=RANDOM))
    random = random.model_copy(update={"score": {"method": RANDOM}, "select": {"method": "top_k"}})
    out: list[Setting] = []
    used: set[str] = set()
    for base in grid.axes.get("base", [grid.base]):
        of_base = {"base": base} if "base" in grid.axes else {}
        out.append(_setting(grid, None, BASE, of_base, base, {}))
        for arm in (None, random, *own.values()):
            with _named(where, ALL if arm is None else arm.name):
                for axes in _combinations(grid, arm):
                    used |= axes.keys()
                    out.append(_setting(grid, arm, ALL, {**of_base, **axes}, base, axes))
    used |= {"base"}
    idle = [axis for axis in grid.axes if axis not in used]
    if idle:
        raise ConfigError(f"{where}: axes: {idle[0]}: no arm has it; remove it")
    labels = [setting.label for setting in out]
    places = [setting.slug().casefold() for setting in out]
    for setting in out:
        if places.count(setting.slug().casefold()) > 1 and labels.count(setting.label) == 1:
            raise ConfigError(
                f"{where}: arms: {setting.label!r} would have its runs where those of another arm "
                "are, on a disk that knows no case; rename one"
            )
        if labels.count(setting.label) > 1:
            raise ConfigError(
                f"{where}: axes: two values are both written {setting.axes_text!r} in tables; "
                "rename a file or folder"
            )
        if setting.method != BASE:
            with _named(where, setting.label):
                parsed(grid, setting, where="")
    return out


@contextmanager
def _named(where: str, label: str) -> Iterator[None]:
    """Errors of a block with the grid and the arm in front."""
    try:
        yield
    except DidactError as error:
        raise ConfigError(f"{where}: {label}: {str(error).removeprefix(': ')}") from error


def _combinations(grid: Grid, arm: ArmConfig | None) -> Iterator[Plain]:
    """Values of the axes that an arm has; of all data (None) those of the training."""
    axes = [axis for axis in grid.axes if _has(arm, axis)]
    for values in itertools.product(*(grid.axes[axis] for axis in axes)):
        yield dict(zip(axes, values, strict=True))


def _has(arm: ArmConfig | None, axis: str) -> bool:
    """Whether an arm, or all data (None), has an axis; bases are told apart elsewhere."""
    section, _, key = axis.partition(".")
    if section == "train":
        return True
    if section == "order":
        return arm is not None
    if arm is None or arm.name == RANDOM:
        return False
    if section == "target":
        return bool(_needing_target(arm.score))
    if section == "select":
        return arm.select is not None or key == "method"
    return section == "score" and arm.score is not None and _accepts(arm.score, key)


def _accepts(score: Plain, key: str) -> bool:
    """Whether a score has a key, or its scorer a setting of that name."""
    method = score.get("method")
    if key.partition(".")[0] in score or not isinstance(method, str):
        return key.partition(".")[0] in score
    return key in binding.schema(registry.find("scorers", method)).model_fields


def _setting(
    grid: Grid, arm: ArmConfig | None, without: str, axes: Plain, base: Any, own: Plain
) -> Setting:
    sections: Plain = {
        "score": None if arm is None else copy.deepcopy(arm.score),
        "select": None if arm is None else copy.deepcopy(arm.select or {"method": "top_k"}),
        "order": {**grid.order, **({} if arm is None else arm.order)},
        "train": {**grid.train, **({} if arm is None else arm.train)},
    }
    target = own.get("target", grid.target)
    for axis, value in own.items():
        if axis != "target":
            _put(sections, axis.split("."), value)
    for leaf in _needing_target(sections["score"]):
        if leaf.get("target") is None and target is None:
            raise ConfigError(
                f"{leaf['method']} needs a target set, the samples to select for; give target in "
                "the grid"
            )
        leaf.setdefault("target", target)
    score, select = sections["score"] or {}, sections["select"] or {}
    name = without if arm is None else arm.name
    method = score.get("method") or score.get("combine") or select.get("method") or name
    return Setting(
        arm=name, method=str(method), axes=axes, base=base, sections=sections,
        draws=method == RANDOM or select.get("method") in _DRAWING,
    )  # fmt: skip


def _needing_target(score: Any) -> list[Plain]:
    """The scores of a section that need a target set."""
    if not isinstance(score, dict):
        return []
    if "of" in score:
        return [leaf for each in score["of"] for leaf in _needing_target(each)]
    method = score.get("method")
    if not isinstance(method, str):
        return []
    needs = getattr(registry.find("scorers", method), "needs_target", False)
    if isinstance(needs, property):  # it depends on the settings
        needs = configs.validated(configs.ScoreConfig, score, "score").scorer().needs_target
    return [score] if needs is True or score.get("target") is not None else []


def _put(sections: Plain, path: Sequence[str], value: Any) -> None:
    node = sections
    for key in path[:-1]:
        if not isinstance(node.get(key), dict):
            node[key] = {}
        node = node[key]
    node[path[-1]] = value


def plain_config(
    grid: Grid,
    setting: Setting,
    *,
    seed: int,
    flops: float | None,
    model: str,
    files: Sequence[str],
) -> Plain:
    """The run config of a setting with one seed.

    Scores are drawn anew for every seed only where the choice is a draw: otherwise they are made
    once and shared.

    Args:
        grid: The grid.
        setting: The setting.
        seed: The seed.
        flops: The total budget; None for all data.
        model: The folder of the base model.
        files: The held-out files.
    """
    sections = copy.deepcopy(dict(setting.sections))
    if flops is not None:
        sections["select"] = {**sections["select"], "budget": {"flops": flops}}
    return {
        "seed": seed,
        "seeds": {"init": seed, "order": seed, "draw": seed if setting.draws else grid.seeds[0]},
        "data": grid.data_section,
        "score": sections["score"],
        "select": sections["select"],
        "order": sections["order"],
        "export": {"for": "none"},
        "train": {**sections["train"], "model": model},
        "evaluate": {"files": list(files), "base": False, **grid.evaluate},
        "report": {"samples": False},
    }


def parsed(grid: Grid, setting: Setting, *, where: str) -> RunConfig:
    """A run config of the setting, checked; its seed and its model stand for any."""
    flops = None if setting.method in {ALL, BASE} else 1e18
    plain = plain_config(
        grid, setting, seed=grid.seeds[0], flops=flops, model="BASE", files=grid.files
    )
    return configs.parse(plain, where)


def _short(value: Any) -> str:
    """A value of an axis in a label: of a path, its last part."""
    if isinstance(value, list):
        return "+".join(_short(each) for each in value)
    if isinstance(value, dict):
        return fingerprint(value)[:8]
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value)
    return place(text).name if "/" in text else text


def leaves(score: Any) -> Iterator[Plain]:
    """The scores of a section that are no combination of others."""
    if not isinstance(score, dict):
        return
    if score.get("of"):
        for each in score["of"]:
            yield from leaves(each)
    else:
        yield score
