"""What the checks share: a promise is kept or named, settings travel, the pool stays as it was."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from didact.core import binding
from didact.core.cost import Cost
from didact.core.identity import About, about
from didact.core.manifest import fingerprint
from didact.core.paths import listed
from didact.core.pool import Pool


def promise(kept: bool, message: str) -> None:  # noqa: FBT001 - reads like assert
    """Raise AssertionError with the message unless it is kept."""
    if not kept:
        raise AssertionError(message)


def digest(pool: Pool) -> dict[str, str]:
    """Content of every file of a pool's store."""
    return {
        path.name: hashlib.blake2b(path.read_bytes()).hexdigest() for path in listed(pool.path, "*")
    }


def check_description(name: str, method: Callable[..., Any], *, registered: bool) -> None:
    """It says where the method is from and what it costs, and its own name if it is registered."""
    if registered:
        said = vars(method).get("about")
        promise(isinstance(said, About), f"{name}: it has no @method({name!r})")
        own = about(method).name
        promise(own == name, f"{name}: registered by this name, and @method says {own!r}")
    text = inspect.getdoc(method) or ""
    for heading in ("**Source:**", "**Cost:**"):
        promise(heading in text, f"{name}: the docstring has no {heading}")


def check_cost(name: str, cost: Cost) -> None:
    """An estimate is a cost: finite, and nothing below zero."""
    numbers = (cost.flops, cost.tokens, cost.cpu_seconds, cost.device_seconds)
    sane = all(math.isfinite(x) and x >= 0 for x in numbers)
    promise(sane, f"{name}: the estimate {cost} is not a cost")


def check_settings(name: str, method: Callable[..., Any], settings: Mapping[str, Any]) -> None:
    """Settings are JSON values, and bind to themselves."""
    plain = json.loads(json.dumps(dict(settings)))
    promise(fingerprint(plain) == fingerprint(settings), f"{name}: settings are not JSON")
    again = binding.as_json(method, binding.bind(method, plain, name))
    promise(again == settings, f"{name}: settings change when they are bound again")
