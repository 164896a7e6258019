"""A compute budget as people say it: FLOPs, device hours, money."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from didact.accounting.devices import Rate
from didact.core.errors import BudgetError

_SPELT: Final = re.compile(
    r"\s*(?P<number>[-+]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9][0-9_]*)(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?"
    r"|\.[0-9]+)\s*"
    r"(?P<unit>[a-z$€%/·\- ]*?)\s*(?:@\s*(?P<device>.+?))?\s*",
    re.IGNORECASE,
)
_PREFIXES: Final = {"k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "p": 1e15, "e": 1e18, "z": 1e21}
_HOURS: Final = {
    "h": 1.0, "hour": 1.0, "hours": 1.0, "hr": 1.0, "hrs": 1.0, "gpu-hours": 1.0, "gpu hours": 1.0,
    "gpu-hour": 1.0, "gpuh": 1.0, "min": 1 / 60, "minutes": 1 / 60, "d": 24.0, "day": 24.0,
    "days": 24.0,
}  # fmt: skip
_MONEY: Final = ("usd", "$", "dollars", "dollar")
_LEAST: Final = 1e9  # FLOPs: fewer are less than one token of a model of 200M
_OF_MANY: Final = re.compile(r"([0-9]+)\s*[x*]\s*(.+)", re.IGNORECASE)
_EXPECTED: Final = "expected FLOPs (2e19), device hours (50h@H100) or money (300usd@H100)"


@dataclass(frozen=True, slots=True)
class ComputeBudget:
    """FLOPs to spend on choosing and training together.

    Attributes:
        given: As it was given.
        flops: K, at the middle of the MFU.
        low: The same at the low end of the MFU; equal to `flops` where FLOPs were given.
        high: At the high end.
        rate: What the device does that it was given in; None for FLOPs.
        device_hours: Hours of one device; None for FLOPs.
    """

    given: str
    flops: float
    low: float
    high: float
    rate: Rate | None = None
    device_hours: float | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "given": self.given, "flops": self.flops, "low": self.low, "high": self.high,
            "device": None if self.rate is None else self.rate.device,
            "device_hours": self.device_hours,
        }  # fmt: skip


def parse_budget(
    text: str | float, rate_of: Callable[[str], Rate], *, price: float | None = None
) -> ComputeBudget:
    """Read a compute budget.

    Args:
        text: "2e19", "20EFLOP", "50h@H100", "300usd@H100", "8h@here".
        rate_of: What a device does, by its name.
        price: USD an hour of the device, instead of the table's.

    Raises:
        BudgetError: It is no amount of compute; the likely mistake is named.
        ConfigError: The device is not known.
    """
    given = f"{text:.15g}" if isinstance(text, int | float) else text
    found = _SPELT.fullmatch(given)
    if found is None:
        comma = re.search(r"[0-9],[0-9]", given)
        hint = "; commas part thousands, a fraction has a point" if comma else ""
        raise BudgetError(f"budget {given!r}; {_EXPECTED}{hint}")
    if price is not None and not 0 < price < math.inf:
        raise BudgetError(f"price {price:g} USD an hour; expected more than 0")
    amount = float(re.sub("[_,]", "", found["number"]))
    unit, name = found["unit"].strip().lower(), found["device"]
    if not amount > 0 or math.isinf(amount):
        raise BudgetError(f"budget {given!r}; expected an amount above 0")
    if unit in _HOURS or unit in _MONEY:
        if name is None:
            example = f"{found['number']}{'h' if unit in _HOURS else 'usd'}@H100"
            raise BudgetError(f"budget {given!r}: of which device? Such as {example}, or FLOPs")
        if many := _OF_MANY.fullmatch(name):
            raise BudgetError(
                f"budget {given!r}: hours are of one device; give {many[1]} times as many "
                f"({amount * int(many[1]):g}h@{many[2]}), or the same money without {many[1]}"
            )
        rate = rate_of(name)
        if unit in _HOURS:
            hours = amount * _HOURS[unit]
        else:
            hours = amount / _price(given, name, rate.dollars_per_hour if price is None else price)
        seconds = 3600 * hours
        return ComputeBudget(
            given,
            seconds * rate.middle,
            seconds * rate.low,
            seconds * rate.high,
            rate,
            hours,
        )
    flops = amount * _scale(given, unit)
    if name is not None:
        raise BudgetError(f"budget {given!r}: FLOPs have no device; {_EXPECTED}")
    if flops < _LEAST:
        raise BudgetError(
            f"budget {given!r} is {flops:g} FLOPs, which train nothing; for hours or money give "
            f"the device ({found['number']}h@H100, {found['number']}usd@H100); a number of samples "
            "or tokens is the budget of didact select"
        )
    return ComputeBudget(given, flops, flops, flops)


def _price(given: str, name: str, price: float | None) -> float:
    if price is None:
        raise BudgetError(
            f"budget {given!r}: the table has no price of {name!r}; give USD an hour with --price, "
            "or hours instead"
        )
    return price


def _scale(given: str, unit: str) -> float:
    """FLOPs in one of a unit."""
    plain = re.fullmatch(r"([kmgtpez]?)(?:flops?)?", unit)
    if plain is not None:
        return _PREFIXES.get(plain[1], 1.0)
    mistakes = (
        (r"[kmgtpez]?flops?/s", "a rate; a budget is a count of FLOPs, or hours"),
        (r"[kmgtb]? *tok(?:ens?)?", "tokens: the budget of didact select, or of a pool"),
        (r"[kmgt]? *(?:samples?|rows?|examples?)", "samples: the budget of didact select"),
        (r"b|bn", "a size of models (--model)"),
        (r"[kmgt]i?b|bytes?", "bytes, a size of files"),
        (r"[kmgtpez]?flops?-days|petaflop/?s?-days", "FLOP/s-days; multiply by 86,400"),
        (r"%", "a share; the budget of didact select is ratio=…"),
        (r"€|eur|euros?|gbp|£", "not USD; convert it, or give hours"),
        (r"s|sec|seconds?", "seconds; give hours of a device"),
    )
    for pattern, what in mistakes:
        if re.fullmatch(pattern, unit):
            raise BudgetError(f"budget {given!r} is in {unit!r}, {what}; {_EXPECTED}")
    raise BudgetError(f"budget {given!r}: unknown unit {unit!r}; {_EXPECTED}")
