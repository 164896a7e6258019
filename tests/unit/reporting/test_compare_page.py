"""The page of a comparison: whole without scripts, and nothing of the user's text is markup."""

from __future__ import annotations

import re
from typing import Any

import pytest

from didact.planning.comparison import Comparison
from didact.reporting.compare_page import (
    frontier,
    lines_of,
    render_comparison,
    with_cpu,
)

EVIL = "<b>words</b>"


def arm(name: str, beta: float, value: float | None, **more: Any) -> dict[str, Any]:
    wide = None if value is None or name == "base" else 0.01
    return {
        "name": name, "method": name, "order": "shuffle", "task": "gsm8k", "beta": beta,
        "k_flops": beta * 1e15, "n_tokens": 1000, "selector_params": None,
        "train_params": 1_000_000, "schedule": "cosine", "learning_rate": 1e-3,
        "selection_flops": 0.0, "selection_cpu_seconds": 0.0, "training_flops": beta * 1e15,
        "metric": "bits_per_byte", "higher_is_better": False, "value": value,
        "low": None if wide is None else value - wide,
        "high": None if wide is None else value + wide, "seeds": 3, "feasible": value is not None,
        "reason": "" if value is not None else "scoring takes 3e15 FLOPs",
    } | more  # fmt: skip


def difference(name: str, beta: float, **more: Any) -> dict[str, Any]:
    return {
        "task": "gsm8k", "base": "", "arm": name, "setting": "", "beta": beta, "train_params": 1_000_000,
        "filled": False, "selection_flops": 0.0, "shares_runs": False, "difference": -0.1,
        "better": True, "low": -0.12, "high": -0.08, "holm_low": -0.13, "holm_high": -0.07,
        "p": 0.001, "tie": False, "error": 0.01, "df": 4.0,
    } | more  # fmt: skip


@pytest.fixture
def values() -> dict[str, Any]:
    arms = [arm("base", 0.0, 2.0, training_flops=0.0), arm("all", 1.0, 1.0)]
    for beta in (0.25, 0.5):
        arms.append(arm("random", beta, 1.8 - beta))
        arms.append(arm(EVIL, beta, 1.7 - beta, selection_cpu_seconds=1e6))
        arms.append(arm("judged", beta, None, selection_flops=3e15, training_flops=0.0))
    found = {
        "arms": arms, "snr": {"gsm8k": 12.5}, "verdict": {"code": "select", "text": "It pays."},
        "differences": [difference(EVIL, 0.25), difference(EVIL, 0.5, tie=True)],
        "ranks": [{"axis": "base", "a": "1M", "b": "15M", "task": "gsm8k", "base": "", "beta": 0.5,
                   "arms": 3, "sizes": [10**6, 15 * 10**6], "spearman": 0.5, "decision_accuracy": 2 / 3}],
        "decision_accuracy": 2 / 3, "filled": [arm("random", 0.5, 1.6)],
        "about": {
            "tasks": 20, "fraction": 0.05, "seeds": [0, 1, 2], "pool": {"name": EVIL},
            "detectable": {"gsm8k": 0.02}, "notes": [f"{EVIL} was left out"],
            "bases": [{"name": "", "full_pass_flops": 1e15, "samples": 4000, "full_pass_tokens": 10**6,
                       "n_params": 10**6, "flops_per_second": 2e10,
                       "flops_per_cpu_second": 1e10, "device": "CPU"}],
            "spent": {"hours": 1.5, "runs": 12, "training_flops": 3e15,
                      "selection_flops": 1e14},
            "bill": {"flops": 4e15, "hours": 2.0, "device": "CPU", "jobs": 1, "dropped": [EVIL],
                     "lines": [{"setting": EVIL, "runs": 6, "infeasible_budgets": 0,
                                "scoring_flops": 0.0, "scoring_cpu_seconds": 2.0,
                                "training_flops": 3e15, "evaluation_flops": 1e14,
                                "hours": 1.0}]},
        },
    }  # fmt: skip
    return Comparison.from_json(found).to_json()


def test_it_says_everything_and_runs_nothing(values: dict[str, Any]) -> None:
    page = render_comparison(values)
    assert page == render_comparison(values)
    assert "<script" not in page
    assert not re.search(r"(src|href)=\"(?!#)", page)
    assert "<b>words" not in page
    text = re.sub(r"<[^>]+>", " ", page)
    for said in (
        "Choosing pays here", "It pays.", "signal to noise, gsm8k 12.5", "1.450", "−0.1", "better",
        "tie", "scoring takes 3e15 FLOPs", "shared by 20", "1.5e14", "66.7%", "5.0% of the pool",
        "was left out", "Dropped to keep to the hours",
    ):  # fmt: skip
        assert said in " ".join(text.split()), said


def test_what_costs_processor_time_leaves_the_frontier_once_that_counts(
    values: dict[str, Any],
) -> None:
    arms = [a for a in values["arms"] if a["chosen"]]
    names = {id(a): (a["name"], a["beta"]) for a in arms}
    assert {names[i] for i in frontier(arms, 0.0)} == {(EVIL, 0.25), (EVIL, 0.5), ("all", 1.0)}
    assert {names[i] for i in frontier(arms, 1e10)} == {
        ("random", 0.25), ("random", 0.5), ("all", 1.0)
    }  # fmt: skip


def test_processor_time_counts_as_what_training_does_in_it() -> None:
    arms = [arm("random", 0.5, 1.3), arm("words", 0.5, 1.1, selection_cpu_seconds=1e5)]
    assert [with_cpu(a, 1e10) for a in arms] == [5e14, 1.5e15]


def test_targets_have_lines_of_their_own_and_chosen_settings_one(values: dict[str, Any]) -> None:
    told = [("target=a, rate=1", 0.25), ("target=a, rate=2", 0.5), ("target=b, rate=1", 0.25)]
    arms = [arm("words", beta, 1.0, setting=setting) for setting, beta in told]
    assert [(line.name, len(line.arms)) for line in lines_of(arms)] == [
        ("words [target=a]", 2), ("words [target=b]", 1)
    ]  # fmt: skip


def test_what_was_repeated_is_told_beside_random_and_every_arm_with_its_share_of_the_budget(
    values: dict[str, Any],
) -> None:
    values["filled"].append(
        arm("again", 0.5, 1.5, training_flops=0.31e15, chosen=True, setting="", base="")
    )
    values["differences"].append(difference("again", 0.5, filled=True, difference=-0.123))
    text = " ".join(re.sub(r"<[^>]+>", " ", render_comparison(values)).split())
    (row,) = re.findall(r"again 0\.5 .*? 3(?= |$)", text)
    assert "−0.123" in row
    assert "better" in row
    assert "62.0%" in row


def test_the_law_is_drawn_through_what_it_was_fitted_to(values: dict[str, Any]) -> None:
    law = {
        "panel": "gsm8k · cosine · 0.001 · shuffle", "train_params": 1_000_000, "form": "shared",
        "terms": {"task": "gsm8k", "base": "", "schedule": "cosine", "learning_rate": 1e-3,
                  "order": "shuffle"},
        "arms": {"random": "random"},
        "end": -1.0, "base": {"random": -2.0}, "rates": {"random": 2.0}, "base_given": True,
        "bounds_hit": [], "points": 4, "gap": 1.0, "rmse": 0.01, "loo": None, "forward": None,
    }  # fmt: skip
    page = render_comparison({**values, "fits": [law]})
    assert page.count("<title>random: the law</title>") == 1
    assert "Faint: the law" in page
    assert "Faint: the law" not in render_comparison(
        {**values, "fits": [law | {"terms": {**law["terms"], "order": "sort"}}]}
    )


def test_random_is_the_first_line_and_infeasible_arms_have_none(values: dict[str, Any]) -> None:
    lines = lines_of(values["arms"])
    assert [line.name for line in lines] == ["random", EVIL]
    assert lines[0].color == "c-random"


def test_a_comparison_written_by_hand_has_a_page(values: dict[str, Any]) -> None:
    bare = Comparison.from_json({"arms": values["arms"]}).to_json()
    page = render_comparison(bare)
    assert "Nobody can know from these runs" in page
    nothing = [a for a in values["arms"] if a["name"] == "judged"]
    assert "scoring takes" in render_comparison(Comparison.from_json({"arms": nothing}).to_json())


def test_each_base_has_a_section_of_its_own(values: dict[str, Any]) -> None:
    both = [a | {"base": base, "value": a["value"] and a["value"] + shift, "low": None, "high": None}
            for base, shift in (("1M", 0.0), ("15M", 7.0)) for a in values["arms"]]  # fmt: skip
    differences = [d | {"base": "15M"} for d in values["differences"]]
    about = values["about"] | {
        "bases": [values["about"]["bases"][0] | {"name": name, "flops_per_cpu_second": rate}
                  for name, rate in (("1M", 1e9), ("15M", 1e12))],
        "detectable": {"gsm8k · 15M": 0.04},
    }  # fmt: skip
    more = {"arms": both, "differences": differences, "about": about, "fits": [],
            "snr": {"gsm8k · 1M": 3.25, "gsm8k · 15M": 12.5}}  # fmt: skip
    page = render_comparison(Comparison.from_json(values | more).to_json())
    first, second = (" ".join(re.sub(r"<[^>]+>", " ", part).split())
                     for part in page.split('<section id="task-')[1:3])  # fmt: skip
    assert ("gsm8k · 1M" in first, "gsm8k · 15M" in second) == (True, True)
    assert ("8.450" in first, "8.450" in second) == (False, True)
    assert ("better" in first.partition("Are arms ranked")[0], "tie" in second) == (True, True)
    assert ("pairs that agree" in first, "pairs that agree" in second) == (True, False)
    # 1e6 seconds of scoring at each one's own rate, on 2.5e14 FLOPs
    assert ("1.25e15" in first, "1e18" in second) == (True, True)
