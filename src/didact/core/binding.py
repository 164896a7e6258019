"""Settings from a file or the command line → checked keyword arguments.

The keyword-only parameters of a method, with their types and defaults, *are* its config schema.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic.fields import FieldInfo

from didact.core.errors import ConfigError, did_you_mean


@cache
def schema(method: Callable[..., Any]) -> type[BaseModel]:
    """A pydantic model of the keyword-only parameters of a function or dataclass."""
    namespace = vars(sys.modules[method.__module__])
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(method).parameters.items():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        hint = parameter.annotation
        if isinstance(hint, str):
            hint = eval(hint, dict(namespace))  # noqa: S307 - our own and plug-ins' annotations
        required = parameter.default is inspect.Parameter.empty
        fields[name] = (hint, ... if required else parameter.default)
    return create_model(
        method.__name__, __config__=ConfigDict(extra="forbid", allow_inf_nan=False), **fields
    )


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
    """The same settings as JSON values, for manifests and fingerprints."""
    out: dict[str, Any] = schema(method)(**settings).model_dump(mode="json")
    return out


def explain(error: ValidationError, where: str, known: Mapping[str, FieldInfo]) -> list[str]:
    """A pydantic error as sentences with the value, the expectation and the nearest name."""
    out = []
    for problem in error.errors(include_url=False):
        place = ".".join(str(p) for p in problem["loc"])
        name = f"{where}.{place}" if where and place else where or place
        if problem["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
            names = _names_at(known, problem["loc"][:-1])
            hint = did_you_mean(str(problem["loc"][-1]), names)
            out.append(f"{where}: unknown setting {place!r}{hint}".removeprefix(": "))
        elif problem["type"] == "missing":
            out.append(f"{name}: this setting is required")
        elif problem["type"] == "dataclass_type":
            out.append(
                f"{name}: expected settings by name, {name}={{}} for the defaults; "
                f"got {problem.get('input')!r:.200}"
            )
        else:
            out.append(f"{name}: {problem['msg']}; got {problem.get('input')!r:.200}")
    return out


def _names_at(fields: Mapping[str, Any], place: tuple[int | str, ...]) -> list[str]:
    """Names that may stand at a place: those of the model, or of a model or dataclass inside it."""
    for step in place:
        field = fields.get(str(step))
        inner = [] if field is None else [field.annotation, *get_args(field.annotation)]
        fields = next((f for f in map(_fields_of, inner) if f), {})
    return [getattr(f, "alias", None) or name for name, f in fields.items()]


def _fields_of(kind: Any) -> Mapping[str, Any]:
    """Fields of a pydantic model or a dataclass; none of anything else."""
    found = getattr(kind, "model_fields", None) or getattr(kind, "__dataclass_fields__", None)
    return found or {}
