"""comparison.json: read as written, refused with the place that is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from didact.core.errors import DataError
from didact.planning.comparison import Comparison


def test_json_and_back(comparison: Any) -> None:
    values = comparison(decision_accuracy=0.8, verdict={"code": "select", "text": "bm25"})
    found = Comparison.from_json(values)
    assert Comparison.from_json(json.loads(json.dumps(found.to_json()))) == found
    assert found.to_json()["arms"] == [
        {
            **a,
            "setting": "",
            "chosen": True,
            "error": None,
            "base": "",
            "status": "done" if a["feasible"] else "infeasible",
        }
        for a in values["arms"]
    ]
    filled = {**found.to_json(), "filled": values["arms"][:2], "about": {"tasks": 3}}
    again = Comparison.from_json(json.loads(json.dumps(filled)))
    assert [arm.method for arm in again.filled] == ["base", "all"]
    assert again.about == {"tasks": 3}
    assert found.snr == {"gsm8k": 4.0}
    assert found.decision_accuracy == 0.8


def test_performance_is_turned_so_that_higher_is_better(arm: Any) -> None:
    found = Comparison.from_json({"arms": [arm("base", 0.0, 1.25)]})
    assert found.arms[0].performance == -1.25


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"value": None}, "value=None; expected a number: the arm is feasible"),
        ({"value": "0.8"}, "value='0.8'; expected a number, or null"),
        ({"train_params": 0}, "train_params=0; expected a number above 0"),
        ({"selection_flops": -1.0}, "selection_flops=-1.0; expected a number, 0 or more"),
        ({"high": 0.1}, "value=0.9; expected within"),
        ({"low": None}, "expected both or neither"),
        ({"feasible": 1}, "feasible=1; expected true or false"),
        ({"metod": "x"}, "unknown key 'metod'; did you mean 'method'"),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
    ],
)
def test_a_bad_arm_is_named(arm: Any, change: dict[str, Any], said: str) -> None:
    values = {"arms": [arm("base", 0.0, 1.0), arm("bm25", 0.1, 0.9) | change]}
    with pytest.raises(DataError) as error:
        Comparison.from_json(values, "x.json")
    assert said in str(error.value)
    assert str(error.value).startswith("x.json: arms[1]")


def test_what_is_no_comparison_is_refused(arm: Any) -> None:
    for values in ([], {}, {"arms": {}}, {"arms": []}, {"arms": ["bm25"]}):
        with pytest.raises(DataError):
            Comparison.from_json(values)
    short = arm("bm25", 0.1, 0.9)
    del short["schedule"], short["seeds"]
    with pytest.raises(DataError, match="no schedule, seeds"):
        Comparison.from_json({"arms": [short]})
    with pytest.raises(DataError, match="unknown key 'arm'; did you mean 'arms'"):
        Comparison.from_json({"arms": [arm("base", 0.0, 1.0)], "arm": []})
    for snr in ([2.0], {"gsm8k": "high"}, {"gsm8k": float("nan")}):
        with pytest.raises(DataError, match="expected task → a number, or null"):
            Comparison.from_json({"arms": [arm("base", 0.0, 1.0)], "snr": snr})
    with pytest.raises(DataError, match="'filled' is 5; expected a list of arms"):
        Comparison.from_json({"arms": [arm("base", 0.0, 1.0)], "filled": 5})
