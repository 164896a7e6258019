"""Settings from a file or the command line → checked keyword arguments.

The keyword-only parameters of a method, with their types and defaults, *are* its config schema.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic.fields import FieldInfo

from didact.core.errors import ConfigError, DidactError, did_you_mean
from didact.core.paths import masked, masked_values


@cache
def schema(method: Callable[..., Any]) -> type[BaseModel]:
    """A pydantic model of the keyword-only parameters of a function or class.

    Raises:
        ConfigError: The type of a parameter cannot be read.
    """
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(method).parameters.items():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            required = parameter.default is inspect.Parameter.empty
            fields[name] = (_type(method, parameter), ... if required else parameter.default)
    return create_model(
        method.__name__, __config__=ConfigDict(extra="forbid", allow_inf_nan=False), **fields
    )


def _type(method: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """A parameter's type; where annotations are postponed, as the module that wrote it reads it.

    Only settings are read: the types of other parameters may be there for checkers alone.
    """

    def annotated() -> None: ...

    annotated.__annotations__ = {parameter.name: parameter.annotation}
    names = _names_where_written(method, parameter)
    try:
        return get_type_hints(annotated, names, include_extras=True)[parameter.name]
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        raise ConfigError(
            f"{method.__module__}.{method.__qualname__}: the type {parameter.annotation!r} of its "
            f"setting {parameter.name!r} cannot be read ({error}); import or define every name in "
            f"it at the top of {names['__name__']}, not under TYPE_CHECKING or in a function"
        ) from error


def _names_where_written(
    method: Callable[..., Any], parameter: inspect.Parameter
) -> dict[str, Any]:
    """The names that are known where a parameter's annotation was written."""
    initializer: Any = method
    if isinstance(method, type):
        lineage = method.__mro__
        owner = next(i for i, kind in enumerate(lineage) if "__init__" in vars(kind))
        for kind in lineage[owner:]:  # a dataclass inherits fields from other modules
            if inspect.get_annotations(kind).get(parameter.name) == parameter.annotation:
                return {**vars(kind), **vars(sys.modules[kind.__module__])}
        initializer = vars(lineage[owner])["__init__"]
    here = vars(sys.modules[method.__module__])
    names: dict[str, Any] = getattr(inspect.unwrap(initializer), "__globals__", here)
    return names


def bind(
    method: Callable[..., Any],
    settings: Mapping[str, Any],
    where: str,
    beside: Mapping[str, FieldInfo] | None = None,
) -> dict[str, Any]:
    """Checked keyword arguments for `method`, defaults filled in.

    Args:
        method: A function or dataclass whose settings are keyword-only.
        settings: What the user gave.
        where: For messages, such as "score.bm25".
        beside: What may stand beside the settings, so that messages can suggest it.

    Raises:
        ConfigError: A setting is unknown, missing or of the wrong type or range.
    """
    model = schema(method)
    try:
        bound = model.model_validate(dict(settings))
    except ValidationError as error:
        known = {**model.model_fields, **(beside or {})}
        raise ConfigError("; ".join(explain(error, where, known))) from error
    return {name: getattr(bound, name) for name in model.model_fields}


def as_json(method: Callable[..., Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The same settings as JSON values, for manifests and fingerprints; no credentials in URLs."""
    out: dict[str, Any] = masked_values(schema(method)(**settings).model_dump(mode="json"))
    return out


def explain(error: ValidationError, where: str, known: Mapping[str, FieldInfo]) -> list[str]:
    """A pydantic error as sentences with the value, the expectation and the nearest name."""
    out = []
    for problem in error.errors(include_url=False):
        place = ".".join(str(p) for p in problem["loc"])
        name = f"{where}.{place}" if where and place else where or place
        if problem["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
            names = [n for n in _names_at(known, problem["loc"][:-1]) if n != problem["loc"][-1]]
            hint = did_you_mean(str(problem["loc"][-1]), names)
            out.append(f"{where}: unknown setting {place!r}{hint}".removeprefix(": "))
        elif problem["type"] == "missing":
            out.append(f"{name}: this setting is required")
        elif problem["type"] in {"dataclass_type", "model_type"}:
            names = _names_at(known, problem["loc"])
            hint = f", {name}={{}} for the defaults" if _has_defaults(known, problem["loc"]) else ""
            listed = f" ({', '.join(names)})" if names else ""
            out.append(
                f"{name}: expected settings by name{listed}{hint}; "
                f"got {problem.get('input')!r:.200}"
            )
        else:
            out.append(f"{name}: {problem['msg']}; got {problem.get('input')!r:.200}")
    return [masked(line) for line in out]


def _names_at(fields: Mapping[str, Any], place: tuple[int | str, ...]) -> list[str]:
    """Names that may stand at a place: those of the model, or of a model or dataclass inside it."""
    for step in place:
        fields = next((f for f in map(_fields_of, _kinds(fields.get(str(step)))) if f), {})
    return [getattr(f, "alias", None) or name for name, f in fields.items()]


def _has_defaults(fields: Mapping[str, Any], place: tuple[int | str, ...]) -> bool:
    """Whether no settings at all are right at a place: a budget of nothing, say, is not."""
    kind: Any = None
    for step in place:
        kind = next((k for k in _kinds(fields.get(str(step))) if _fields_of(k)), None)
        fields = _fields_of(kind)
    try:
        return kind is not None and kind() is not None
    except (TypeError, ValueError, DidactError):
        return False


def _kinds(field: Any) -> list[Any]:
    return [] if field is None else [field.annotation, *get_args(field.annotation)]


def _fields_of(kind: Any) -> Mapping[str, Any]:
    """Fields of a pydantic model or a dataclass; none of anything else."""
    found = getattr(kind, "model_fields", None) or getattr(kind, "__dataclass_fields__", None)
    return found or {}
