"""Compute budgets as people write them, and the mistakes that are likely."""

from __future__ import annotations

import pytest

from didact.accounting.devices import Rate, device, rate
from didact.core.errors import BudgetError, ConfigError
from didact.planning.compute_budget import ComputeBudget, parse_budget


def rate_of(name: str) -> Rate:
    return rate(device(name))


def parsed(text: str | float, price: float | None = None) -> ComputeBudget:
    return parse_budget(text, rate_of, price=price)


@pytest.mark.parametrize(
    ("text", "flops"),
    [
        ("2e19", 2e19), (2e19, 2e19), (1.234567891e18, 1.234567891e18), ("20 EFLOP", 2e19), ("20_000PFLOPs", 2e19),
        ("2.5E+18", 2.5e18), ("20,000 pflop", 2e19), ("7e18 FLOPs", 7e18),
    ],
)  # fmt: skip
def test_flops(text: str | float, flops: float) -> None:
    found = parsed(text)
    assert found.flops == found.low == found.high == pytest.approx(flops, rel=1e-12)
    assert found.rate is None


@pytest.mark.parametrize(
    ("text", "hours"),
    [("50h@H100", 50), ("50 GPU-hours @ h100 sxm", 50), ("2 days@H100", 48), ("90min@H100", 1.5)],
)
def test_hours_of_a_device(text: str, hours: float) -> None:
    found = parsed(text)
    assert found.rate == rate_of("H100")
    assert found.device_hours == hours
    # 989.4 TFLOP/s dense, a utilization of .4, .3 to .5
    ends = [hours * 3600 * 989.4e12 * share for share in (0.3, 0.4, 0.5)]
    assert [found.low, found.flops, found.high] == pytest.approx(ends)


def test_money_by_the_price_given_or_the_tables() -> None:
    assert parsed("300usd@H100", price=2.5).device_hours == 120
    assert parsed("300$@H100", price=3.0).device_hours == 100
    priced = device("H100").dollars_per_hour
    assert priced is not None
    assert parsed("300 USD@H100").device_hours == pytest.approx(300 / priced)
    with pytest.raises(BudgetError, match="no price of 'MI300X'; give USD an hour with --price"):
        parsed("300usd@MI300X")
    with pytest.raises(BudgetError, match="price 0 USD"):
        parsed("300usd@H100", price=0)
    with pytest.raises(BudgetError, match="price -2 USD"):
        parsed("50h@H100", price=-2)  # though none is needed


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("50", "50h@H100, 50usd@H100"), ("50h", "of which device? Such as 50h@H100"),
        ("300usd", "of which device? Such as 300usd@H100"), ("2e9 tokens", "tokens: the budget of"),
        ("2M tok", "tokens"), ("300k samples", "samples"), ("80GB", "bytes"), ("7B", "a size of models"),
        ("1PFLOP/s", "a rate"), ("20%", "a share"), ("300€@H100", "not USD"),
        ("0", "above 0"), ("-1e19", "above 0"), ("1e400", "above 0"), ("much", "expected FLOPs"),
        ("", "expected FLOPs"), ("5e17@H100", "FLOPs have no device"), ("3 parsecs", "unknown unit"),
        ("3600s@H100", "seconds"), ("inf", "expected FLOPs"), ("nan", "expected FLOPs"),
        ("2,5h@H100", "a fraction has a point"), ("1,5e18", "a fraction has a point"),
        ("50h@8xH100", "give 8 times as many (400h@H100)"),
    ],
)  # fmt: skip
def test_what_is_no_budget_is_named(text: str, said: str) -> None:
    with pytest.raises(BudgetError) as error:
        parsed(text)
    assert said in str(error.value)


def test_an_unknown_device_is_suggested() -> None:
    with pytest.raises(ConfigError, match="did you mean"):
        parsed("50h@H10O")
