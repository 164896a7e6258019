"""A comparison written by hand: values on known curves, so that what a plan says can be reckoned."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

RATES = {"random": 2.0, "bm25": 5.0, "embedding": 6.0}
BASE, FULL, C = 1.0, 0.8, 1e17  # bits per byte: lower is better


def _arm(method: str, beta: float, value: float | None, **more: Any) -> dict[str, Any]:
    wide = 0.002 if value is not None else None
    return {
        "name": f"{method} {beta}", "method": method, "order": "shuffle", "task": "gsm8k",
        "beta": beta, "k_flops": beta * C, "n_tokens": round(beta * 1e8),
        "selector_params": None, "train_params": 150_000_000, "schedule": "linear",
        "learning_rate": 2e-4, "selection_flops": 0.0, "selection_cpu_seconds": 0.0,
        "training_flops": beta * C, "metric": "bits_per_byte", "higher_is_better": False,
        "value": value, "low": None if value is None else value - wide,
        "high": None if value is None else value + wide, "seeds": 3, "feasible": True,
        "reason": "",
    } | more  # fmt: skip


def _comparison(rates: dict[str, float] = RATES, **more: Any) -> dict[str, Any]:
    """On the curves exactly, with intervals of ±.002; and one arm that could not run."""
    arms = [_arm("base", 0.0, BASE), _arm("all", 1.0, FULL)]
    for method, rate in rates.items():
        for beta in (0.05, 0.1, 0.25, 0.5):
            value = FULL + (BASE - FULL) * math.exp(-rate * beta)
            arms.append(_arm(method, beta, value))
    arms.append(
        _arm(
            "less", 0.05, None, feasible=False, reason="scoring alone is over the budget",
            selector_params=150_000_000, selection_flops=6e17, training_flops=0.0,
        )
    )  # fmt: skip
    return {"arms": arms, "snr": {"gsm8k": 4.0}} | more


@pytest.fixture
def arm() -> Callable[..., dict[str, Any]]:
    """One arm's JSON: `arm(method, beta, value, **keys)`."""
    return _arm


@pytest.fixture
def rates() -> dict[str, float]:
    """The λ that `comparison` is made with."""
    return dict(RATES)


@pytest.fixture
def comparison() -> Callable[..., dict[str, Any]]:
    """A comparison's JSON: `comparison(rates, **keys)`."""
    return _comparison


@pytest.fixture
def changed() -> Callable[..., dict[str, Any]]:
    """The comparison with the arms of one method changed."""

    def make(of: str, **change: Any) -> dict[str, Any]:
        arms = _comparison()["arms"]
        return {"arms": [a | (change if a["method"] == of else {}) for a in arms]}

    return make
