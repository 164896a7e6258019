"""RunConfig: the one YAML or TOML file, as pydantic models; unknown keys are errors.

Settings of a method stand beside its name; they are checked against the method's own keyword-only
parameters, so every default exists once, in a signature.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from didact.core import binding, registry
from didact.core.bounded import LONGEST_CONFIG, read_bounded
from didact.core.budget import Budget
from didact.core.errors import ConfigError, DidactError
from didact.core.identity import about
from didact.core.paths import Given, masked_values, place, shown
from didact.core.protocols import Scorer
from didact.data.export.data_set import ExportSettings
from didact.data.reading.files import readable
from didact.data.reading.settings import DataSettings
from didact.data.settings_text import check_plain, parse_toml, parse_yaml
from didact.evaluation.settings import EvaluateSettings
from didact.execution.choice import ExecutionSettings
from didact.selection.around.near_duplicates import NearDuplicates
from didact.selection.around.quotas import Quotas
from didact.training.settings import TrainSettings

Paths = str | list[str]


class DataConfig(DataSettings):
    """The files of a pool or a target set, with how they are read."""

    path: Paths


class _Method(BaseModel):
    """A method's name with its settings beside it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    def settings(self) -> dict[str, Any]:
        """The method's own settings: what stands beside the keys that every method has."""
        return dict(self.model_extra or {})

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of its verb: what goes with every method, and its settings."""
        beside = type(self).model_fields.keys() - {"method", "score"}
        return {**{name: getattr(self, name) for name in beside}, **self.settings()}


class ScoreConfig(_Method):
    """One scorer, or several combined.

    Attributes:
        method: Name of a scorer; its settings stand beside it.
        target: The target set's files, or their data settings with `path`.
        combine: Instead of a method: how the scores in `of` become one.
        of: The scores to combine.
        weights: Their weights, equal when absent.
    """

    method: str | None = None
    target: Paths | DataConfig | None = None
    combine: Literal["rank_mean", "product"] | None = None
    of: list[ScoreConfig] = []
    weights: list[Annotated[float, Field(gt=0)]] | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> ScoreConfig:
        if (self.method is None) == (self.combine is None):
            raise ValueError("expected either method or combine")
        if self.combine is not None and len(self.of) < 2:
            raise ValueError("combine needs two or more scores in `of`")
        if self.combine is not None and self.settings():
            raise ValueError(f"combine has no settings {sorted(self.settings())}")
        if self.combine is not None and self.target is not None:
            raise ValueError("combine has no target; put it into each score of `of` that needs it")
        if self.combine is None and (self.of or self.weights is not None):
            raise ValueError("`of` and `weights` go with combine, not with method")
        if self.weights is not None and len(self.weights) != len(self.of):
            raise ValueError(f"{len(self.weights)} weights for {len(self.of)} scores")
        return self

    def leaves(self) -> list[ScoreConfig]:
        """The scorers: this one, or those it combines, in the order they are given."""
        return [leaf for s in self.of for leaf in s.leaves()] if self.of else [self]

    def scorer(self) -> Scorer:
        """The scorer itself, which checks its settings together."""
        found = bound("scorers", str(self.method), self.settings(), "score")
        scorer: Scorer = found.method(**found.settings)
        return scorer


class TrainConfig(_Method):
    """A model to train in the order, with the settings of the training beside it.

    Attributes:
        model: A folder with a causal language model, a hub name, or `scratch` with `params`.
    """

    model: str

    def settings(self) -> dict[str, Any]:
        """The settings of the training, checked and with defaults filled in."""
        return binding.bind(TrainSettings, self.model_extra or {}, "train")


class LaterTraining(TrainConfig):
    """The training that a budget of FLOPs is for, where the run itself trains none.

    Attributes:
        epochs: Passes over the selection.
    """

    epochs: Annotated[int, Field(ge=1)] = 1

    def settings(self) -> dict[str, Any]:
        """The settings of the training, checked and with defaults filled in."""
        return binding.bind(TrainSettings, self.model_extra or {}, "select.train")


class SelectConfig(_Method):
    """A selector with its settings, and what composes with every one of them.

    Attributes:
        method: Name of a selector; its settings stand beside it.
        budget: How many samples or tokens, which share of the rows, or the FLOPs of scoring and
            training.
        train: The training that a budget of FLOPs is for, where the run trains none itself.
        quotas: Limits per source.
        near_duplicates: Refuse samples that are nearly one already chosen.
    """

    method: str
    budget: Budget | None = None
    train: LaterTraining | None = None
    quotas: Quotas | None = None
    near_duplicates: NearDuplicates | None = None


class OrderConfig(_Method):
    """An orderer with its settings, and what composes with every one of them.

    Attributes:
        method: Name of an orderer; its settings stand beside it.
        score: Scores to order by, if other than those selected by.
        epochs: Passes over the selection, written out one after another.
        batch_size: Samples per optimizer step over all devices.
        jitter: Shuffle inside consecutive windows of this many samples.
        interleave: Spread each source evenly, keeping its own order.
    """

    method: str
    score: ScoreConfig | None = None
    epochs: Annotated[int, Field(ge=1)] = 1
    batch_size: Annotated[int, Field(ge=1)] | None = None
    jitter: Annotated[int, Field(ge=2)] | None = None
    interleave: bool = False


class EvaluateConfig(_Method):
    """Held-out files to evaluate models on, with the settings of the evaluation beside them.

    Attributes:
        files: The held-out files.
        base: Evaluate the model that the training began with, too: what it was worth.
    """

    files: Paths
    base: bool = True

    def settings(self) -> dict[str, Any]:
        """The settings of the evaluation, checked and with defaults filled in."""
        return binding.bind(EvaluateSettings, self.model_extra or {}, "evaluate")


class SeedsConfig(BaseModel):
    """Seeds of what is drawn, one by one; `seed` where not given.

    Attributes:
        init: Of weights from scratch, of adapters, of dropout.
        draw: Of scores and selection.
        order: Of the sequence.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    init: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    draw: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    order: Annotated[int, Field(ge=0, lt=2**63)] | None = None


class ReportConfig(BaseModel):
    """Settings of the report.

    Attributes:
        samples: Show samples to read; false keeps all user text out of the report.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    samples: bool = True


class RunConfig(BaseModel):
    """A whole run: data → score → select → order → export → train → evaluate → report.

    Attributes:
        seed: Root of every random number.
        seeds: Seeds of selection, order and training where they differ from it.
        data: The pool's files and how they are read.
        score: Optional when nothing reads scores.
        select: Without it, everything that may be chosen is.
        order: Without it, the pool's order is kept.
        export: The files to write.
        train: A model to train; without it, none is.
        evaluate: What models are evaluated on; without it, none is.
        report: The report.
        execution: Where work is done; nothing that is made depends on it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    seeds: SeedsConfig = SeedsConfig()
    data: DataConfig
    score: ScoreConfig | None = None
    select: SelectConfig | None = None
    order: OrderConfig | None = None
    export: ExportSettings = Field(default_factory=lambda: ExportSettings.model_validate({}))
    train: TrainConfig | None = None
    evaluate: EvaluateConfig | None = None
    report: ReportConfig = ReportConfig()
    execution: ExecutionSettings = ExecutionSettings()

    def seed_of(self, what: Literal["init", "draw", "order"]) -> int:
        """The seed of one thing that is drawn."""
        own = getattr(self.seeds, what)
        return self.seed if own is None else int(own)

    def resolved(self, *, whole: bool = False) -> dict[str, Any]:
        """What results depend on, defaults filled in, as JSON values.

        Args:
            whole: Leave credentials in URLs, which else are `***`.
        """
        out = self.model_dump(mode="json", by_alias=True, exclude=_METHODS)
        out["score"] = _resolved_score(self.score)
        out["select"] = None
        if self.select is not None:
            out["select"] = {
                "method": self.select.method,
                "budget": None,
                **self.select.model_dump(mode="json", include={"budget"}, exclude_none=True),
                **bound("selectors", self.select.method, self.select.settings(), "select").as_json,
                "train": None if self.select.train is None else _resolved_train(self.select.train),
                **self.select.model_dump(mode="json", include={"quotas", "near_duplicates"}),
            }
        out["order"] = None
        if self.order is not None:
            out["order"] = {
                **self.order.model_dump(mode="json", include={"method", *around("orderers")}),
                **bound("orderers", self.order.method, self.order.settings(), "order").as_json,
                "score": _resolved_score(self.order.score),
            }
        out["seeds"] = {what: self.seed_of(what) for what in ("init", "draw", "order")}
        out["train"] = out["evaluate"] = None
        if self.train is not None:
            out["train"] = _resolved_train(self.train)
        if self.evaluate is not None:
            settings = self.evaluate.settings()
            EvaluateSettings(**settings)
            as_json = binding.as_json(EvaluateSettings, settings)
            out["evaluate"] = {**self.evaluate.model_dump(include={"files", "base"}), **as_json}
        kept = (k for k in type(self).model_fields if k != "execution")
        return {k: out[k] if whole else masked_values(out[k]) for k in kept}


_METHODS = {"score", "select", "order", "train", "evaluate"}  # what has settings beside a name


def _resolved_train(train: TrainConfig) -> dict[str, Any]:
    settings = train.settings()
    TrainSettings(**settings)  # its own checks, before anything runs
    return {
        **train.model_dump(include=set(type(train).model_fields)),
        **binding.as_json(TrainSettings, settings),
    }


def _resolved_score(score: ScoreConfig | None) -> dict[str, Any] | None:
    if score is None:
        return None
    if score.combine is not None:
        parts = [_resolved_score(s) for s in score.of]
        return {"combine": score.combine, "weights": score.weights, "of": parts}
    target: Any = score.target
    if isinstance(target, DataConfig):
        target = target.model_dump(mode="json")
    score.scorer()  # its own checks, before anything runs
    settings = bound("scorers", str(score.method), score.settings(), "score").as_json
    return {"method": score.method, "target": target, **settings}


class Bound(NamedTuple):
    """A method with its checked settings, and the same as JSON values."""

    name: str
    method: Callable[..., Any]
    settings: dict[str, Any]
    as_json: dict[str, Any]


def bound(
    group: registry.Group,
    method: str | Callable[..., Any],
    settings: Mapping[str, Any],
    where: str,
) -> Bound:
    """A registered method, or one of the caller's own, with its settings checked.

    Raises:
        ConfigError: Nothing has this name, a setting is unknown, missing or wrong, or the method
            has one by the name of what goes with every method of the group.
    """
    found = registry.find(group, method) if isinstance(method, str) else method
    name = method if isinstance(method, str) else about(method).name
    for taken in around(group).keys() & binding.schema(found).model_fields.keys():
        raise ConfigError(
            f"{where}.{name}: its own setting {taken!r} has the name of one that goes with every "
            f"{group.removesuffix('s')}; rename it in the method"
        )
    checked = binding.bind(found, settings, f"{where}.{name}", around(group))
    return Bound(name, found, checked, binding.as_json(found, checked))


def around(group: registry.Group) -> dict[str, FieldInfo]:
    """What may stand beside the settings of every method of a group, by name."""
    if group == "scorers":
        return {"target": ScoreConfig.model_fields["target"]}
    section = SelectConfig if group == "selectors" else OrderConfig
    return {name: field for name, field in section.model_fields.items() if name != "method"}


def parse(data: Mapping[str, Any], where: str = "config") -> RunConfig:
    """A checked config from plain values; settings of methods are checked too.

    Raises:
        ConfigError: A key is unknown, missing, or has a wrong value.
    """
    try:
        config = RunConfig.model_validate(data)
    except ValidationError as error:
        lines = binding.explain(error, "", RunConfig.model_fields)
        raise ConfigError("\n".join(f"{where}: {line}" for line in lines)) from error
    config.resolved()
    return config


def validated(model: type[BaseModel], values: Mapping[str, Any], where: str) -> Any:
    """A pydantic model from plain values, its errors as sentences with 'did you mean'."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError("\n".join(binding.explain(error, where, model.model_fields))) from error


def load(path: Given, overrides: Sequence[str] = ()) -> RunConfig:
    """The config in a YAML or TOML file, here or behind a URL, with `a.b=c` overrides applied.

    Raises:
        ConfigError: The file or an override cannot be used.
    """
    return parse(apply(load_plain(path), overrides), shown(path))


def load_plain(given: Given) -> dict[str, Any]:
    """The plain values in a YAML or TOML file."""
    path = place(given)
    try:
        with readable(path):
            data = read_bounded(path, longest=LONGEST_CONFIG)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    try:
        text = data.decode("utf-8-sig")
        toml = path.suffix.lower() == ".toml"
        plain = parse_toml(text) if toml else parse_yaml(text, str(path))
    except (UnicodeDecodeError, DidactError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(plain, dict):
        raise ConfigError(
            f"{path}: holds {type(plain).__name__}; expected a mapping with 'data: …'"
        )
    return plain


def apply(plain: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy with `a.b=c` applied; values are read as YAML."""
    import copy

    out = copy.deepcopy(dict(plain))
    for override in overrides:
        name, found, value = override.partition("=")
        if not found or not name:
            raise ConfigError(
                f"--set {override!r}: expected name=value, e.g. select.budget.ratio=0.2"
            )
        node = out
        *path, last = name.split(".")
        for key in path:
            if not isinstance(node.get(key), dict):
                node[key] = {}
            node = node[key]
        node[last] = value if value == "-" else parse_yaml(value)  # "-" alone would be a list
    check_plain(out)
    return out


def json_schema() -> dict[str, Any]:
    """A JSON Schema of the config, for editors; every registered method with its settings."""
    schema = RunConfig.model_json_schema(by_alias=True)
    sections: tuple[tuple[str, registry.Group], ...] = (
        ("ScoreConfig", "scorers"), ("SelectConfig", "selectors"), ("OrderConfig", "orderers")
    )  # fmt: skip
    for section, group in sections:
        cases = []
        for name in registry.known(group):
            try:
                own = binding.schema(registry.find(group, name)).model_json_schema()
            except ConfigError:  # of a broken plug-in nothing is known; using it says what is wrong
                continue
            schema["$defs"].update(own.pop("$defs", {}))
            cases.append(
                {
                    "if": {"properties": {"method": {"const": name}}, "required": ["method"]},
                    "then": {
                        "properties": {
                            **own.get("properties", {}),
                            **dict.fromkeys(schema["$defs"][section]["properties"], True),
                        },
                        "required": own.get("required", []),
                        "additionalProperties": False,
                    },
                }
            )
        names = list(registry.known(group))
        schema["$defs"][section]["allOf"] = cases
        schema["$defs"][section].setdefault("properties", {})["method"] = {"enum": names}
    for section, settings in (
        ("TrainConfig", TrainSettings), ("LaterTraining", TrainSettings),
        ("EvaluateConfig", EvaluateSettings),
    ):  # fmt: skip
        own = binding.schema(settings).model_json_schema()
        schema["$defs"].update(own.pop("$defs", {}))
        schema["$defs"][section]["properties"] |= own["properties"]
        schema["$defs"][section]["additionalProperties"] = False
    return schema
