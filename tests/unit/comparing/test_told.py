"""What points come to: chosen on one file and told on another, ties, ranks, laws, the verdict."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from didact.comparing.told import Asked, told
from didact.core.errors import DataError
from didact.evaluation.student import t_quantile
from didact.planning.compared import compared_prior
from didact.planning.comparison import Comparison

ASKED = Asked(
    metric="bits_per_byte", choosing=("val",), telling=("test",), schedules={},
    orders={},
)  # fmt: skip


def about(level, noise=0.004):
    """Three runs about a level."""
    return {"test.jsonl": [level - noise, level, level + noise]}


@pytest.fixture
def points(point):
    """Base 2.0, all 1.0; at two budgets random, a better, an equal and a worse arm."""
    out = [point("base", 0.0, {"test.jsonl": [2.0]}), point("all", 1.0, about(1.0))]
    for beta, level in ((0.25, 1.6), (0.5, 1.3)):
        for arm, more in (("random", 0.0), ("good", -0.1), ("same", 0.002), ("bad", 0.1)):
            out.append(point(arm, beta, about(level + more)))
    return out


def said(found):
    return {(d["arm"], d["beta"]): (d["better"], d["tie"]) for d in found.differences}


def test_better_worse_and_ties(points):
    found = told(points, ASKED, {})
    for beta in (0.25, 0.5):
        assert said(found)["good", beta] == (True, False)
        assert said(found)["bad", beta] == (False, False)
        assert said(found)["same", beta][1] is True
    assert found.snr["test"] > 10
    assert found.verdict["code"] == "select"
    text = found.verdict["text"]
    assert "Better than random samples at equal total compute: good on test at 0.25, 0.5." in text
    assert "Worse: bad on test at 0.25, 0.5." in text
    assert "Ties with random samples: same on test at 0.25, 0.5." in text
    assert 0 < found.about["detectable"]["test"] < 0.1
    arms = {(a.name, a.beta): a for a in found.arms}
    assert arms["base", 0.0].low is None  # one model: it has no seeds to vary by
    good = arms["good", 0.25]
    assert good.low < 1.5 < good.high
    assert good.seeds == 3
    laws = {fit["form"]: fit for fit in found.fits}
    assert laws["shared"]["rates"]["good"] > laws["shared"]["rates"]["random"]
    assert Comparison.from_json(json.loads(json.dumps(found.to_json()))).verdict == found.verdict


def test_holm_holds_each_pair_to_less_than_the_level_of_one(points):
    for d in told(points, ASKED, {}).differences:
        assert d["holm_low"] <= d["low"] < d["high"] <= d["holm_high"]


def test_one_seed_ranks_nothing(point):
    points = [point("base", 0.0, {"test.jsonl": [2.0]}), point("all", 1.0, {"test.jsonl": [1.0]})]
    points += [point(arm, 0.5, {"test.jsonl": [v]}) for arm, v in (("random", 1.3), ("good", 1.2))]
    found = told(points, ASKED, {})
    assert found.verdict["code"] == "unknown"
    assert found.verdict["text"].startswith("One seed: ")
    assert found.snr == {"test": None}
    assert [d["tie"] for d in found.differences] == [True]
    assert found.fits == ()
    assert any("has 1 seed" in note for note in found.about["notes"])


def test_noise_as_large_as_the_differences_ranks_nothing(point):
    points = [point("base", 0.0, {"test.jsonl": [2.0]}), point("all", 1.0, about(1.0))]
    points += [point(arm, 0.5, about(v, 0.1)) for arm, v in (("random", 1.3), ("good", 1.28))]
    found = told(points, ASKED, {})
    assert found.verdict["code"] == "unknown"
    assert "test: signal to noise" in found.verdict["text"]


def test_settings_are_chosen_on_other_files_than_they_are_told_on(point):
    def both(val, test):
        return {"val.jsonl": [val - 0.01, val + 0.01], "test.jsonl": [test - 0.01, test + 0.01]}

    points = [point("base", 0.0, both(2.0, 2.0)), point("all", 1.0, both(1.0, 1.0))]
    points += [point("random", 0.5, both(1.3, 1.3))]
    low, high = {"train.learning_rate": 1e-4}, {"train.learning_rate": 1e-3}
    points += [point("good", 0.5, both(1.2, 1.29), axes=low)]  # chosen, though not the best there
    points += [point("good", 0.5, both(1.25, 1.1), axes=high)]
    found = told(points, ASKED, {})
    assert {a.setting: a.chosen for a in found.arms if a.name == "good"} == {
        "learning_rate=0.0001": True, "learning_rate=0.001": False
    }  # fmt: skip
    assert [d["setting"] for d in found.differences] == ["learning_rate=0.0001"]
    assert {a.task for a in found.arms} == {"test"}


def test_arms_that_share_runs_are_no_evidence(point):
    whole = point("all", 1.0, about(1.0))
    points = [point("base", 0.0, {"test.jsonl": [2.0]}), whole]
    points += [point(arm, 1.0, {}, shares=whole.label) for arm in ("random", "good")]
    values = {"random": 1.3, "good": 1.301, "bad": 1.5}
    points += [point(arm, 0.5, about(v)) for arm, v in values.items()]
    found = told(points, ASKED, {})
    arms = {(a.name, a.beta): a for a in found.arms}
    assert arms["good", 1.0].value == arms["all", 1.0].value
    assert said(found)["good", 1.0] == (False, True)
    (shared,) = (d for d in found.differences if d["shares_runs"])
    assert shared["low"] is None
    assert "Ties with random samples: good on test at 0.5." in found.verdict["text"]


def test_two_sizes_of_the_trained_model_agree_or_not(point):
    points = []
    worth = {"random": (1.3, 1.3), "a": (1.2, 1.2), "b": (1.1, 1.25), "c": (1.4, 1.4)}
    for i, (size, base) in enumerate(((1_000_000, "1M"), (15_000_000, "15M"))):
        more = {"axes": {"base": base}, "n_params": size}
        points.append(point("base", 0.0, {"test.jsonl": [2.0]}, **more))
        points.append(point("all", 1.0, about(1.0), **more))
        for arm, values in worth.items():
            points.append(point(arm, 0.5, about(values[i]), **more))
    found = told(points, ASKED, {})
    (rank,) = found.ranks
    assert (rank["axis"], rank["a"], rank["b"], rank["arms"]) == ("base", "1M", "15M", 4)
    assert rank["spearman"] == pytest.approx(0.8)  # a and b change places
    assert rank["decision_accuracy"] == pytest.approx(5 / 6)
    assert found.decision_accuracy == pytest.approx(5 / 6)


def of_two_sizes(point, noises):
    """Random, and arms better and worse by .05, at both sizes with some noise of runs."""
    points = []
    for size, base, noise in ((1_000_000, "1M", noises[0]), (15_000_000, "15M", noises[1])):
        more = {"axes": {"base": base}, "n_params": size}
        points.append(point("base", 0.0, {"test.jsonl": [2.0]}, **more))
        points.append(point("all", 1.0, about(1.0, noise), **more))
        for arm, level in (("random", 1.3), ("a", 1.25), ("b", 1.35)):
            points.append(point(arm, 0.5, about(level, noise), **more))
    return told(points, ASKED, {})


def test_a_size_whose_runs_rank_nothing_is_not_ranked_by_the_noise_of_another(point):
    found = of_two_sizes(point, (0.1, 0.004))
    assert found.snr_at("test", 1_000_000) < 2 < found.snr_at("test", 15_000_000)
    assert "test with 1e+06 parameters: signal to noise 0." in found.verdict["text"]
    assert "a [base=15M] on test at 0.5" in found.verdict["text"]
    assert "base=1M" not in found.verdict["text"]
    assert "rank nothing" in compared_prior(found, 1e6, "x").why
    again = of_two_sizes(point, (0.004, 0.1)).verdict["text"]
    assert "a [base=1M] on test at 0.5" in again
    assert "base=15M" not in again


def test_holm_is_over_all_comparisons_of_a_table_whatever_the_size(point):
    found = of_two_sizes(point, (0.004, 0.004)).differences
    assert len(found) == 4

    def wider(d):
        return (d["holm_high"] - d["holm_low"]) / (d["high"] - d["low"])

    first = max(found, key=wider)  # the smallest p of four, held to 5 % ÷ 4
    reach = t_quantile(1 - 0.05 / 8, first["df"]) / t_quantile(0.975, first["df"])
    assert wider(first) == pytest.approx(reach)


def test_what_whole_steps_leave_of_a_budget_is_said(points, point):
    assert not any("whole steps" in note for note in told(points, ASKED, {}).about["notes"])
    points.append(point("short", 0.5, about(1.3), training_flops=0.4e9))
    (note,) = (n for n in told(points, ASKED, {}).about["notes"] if "whole steps" in n)
    assert note.endswith("up to 20 % of it is not spent (short at 0.5), 2.2 % on average")


def test_ties_mean_equal_only_where_a_difference_would_have_been_found(point):
    def codes(noise):
        points = [point("base", 0.0, {"test.jsonl": [2.0]}), point("all", 1.0, about(1.0, noise))]
        points += [
            point(arm, 0.5, about(v, noise))
            for arm, v in (("random", 1.3), ("same", 1.3), ("bad", 1.6))
        ]
        found = told(points, ASKED, {})
        assert said(found)["same", 0.5][1] is True
        return found.verdict["code"], found.verdict["text"]

    assert codes(0.004)[0] == "random"
    code, text = codes(0.06)
    assert code == "unknown"
    assert text.startswith("No way to choose is told to beat random samples")
    assert "of what all data gain on the base model" in text


def test_two_arms_by_one_method_have_laws_of_their_own(point):
    points = [point("base", 0.0, {"test.jsonl": [2.0]}), point("all", 1.0, about(1.0))]
    for beta, level in ((0.25, 1.6), (0.5, 1.3)):
        for arm, more in (("random", 0.0), ("middle", -0.1), ("lowest", 0.1)):
            made = point(arm, beta, about(level + more))
            method = arm if arm == "random" else "perplexity"
            points.append(replace(made, setting=replace(made.setting, method=method)))
    found = told(points, ASKED, {})
    (law,) = (fit for fit in found.fits if fit["form"] == "shared")
    assert law["rates"]["perplexity"] > law["rates"]["random"]
    assert law["rates"]["perplexity, lowest"] < law["rates"]["random"]
    assert "a plan from this takes middle for it" in found.about["notes"][0]


def test_what_was_repeated_is_a_table_of_its_own(points, point):
    more = [
        point(arm, beta, about(v), fill=True)
        for beta in (0.25, 0.5) for arm, v in (("random", 1.7), ("good", 1.5))
    ]  # fmt: skip
    found = told([*points, *more], ASKED, {})
    assert {(a.name, a.beta) for a in found.filled} == {
        (arm, beta) for arm in ("random", "good") for beta in (0.25, 0.5)
    }
    assert len(found.arms) == len(points)
    assert len(found.differences) == 6 + 2
    repeated = [d["difference"] for d in found.differences if d["filled"]]
    assert repeated == [pytest.approx(-0.2, abs=0.01)] * 2


def test_what_has_no_runs_is_a_row_with_its_reason(points, point):
    points.append(point("dear", 0.25, {}, reason="scoring takes 3e9 FLOPs"))
    found = told(points, ASKED, {})
    (row,) = (a for a in found.arms if a.name == "dear")
    assert (row.feasible, row.value, row.reason) == (False, None, "scoring takes 3e9 FLOPs")
    assert "No budget pays for the scoring of dear." in found.verdict["text"]


def test_all_data_no_better_than_the_base_model_is_said(point):
    points = [point("base", 0.0, {"test.jsonl": [1.0]}), point("all", 1.0, about(1.2))]
    points += [point(arm, b, about(v)) for b in (0.25, 0.5)
               for arm, v in (("random", 1.3), ("good", 1.1))]  # fmt: skip
    found = told(points, ASKED, {})
    assert "nothing in the pool helps there" in found.verdict["text"]
    assert found.fits == ()


def test_a_metric_that_no_file_has(points):
    with pytest.raises(DataError, match=r"no two arms have accuracy on test; give a metric"):
        told(points, replace(ASKED, metric="accuracy"), {})
    failed = [replace(p, runs=(), reason="failed: no disk") for p in points[1:]]
    with pytest.raises(DataError, match="no run came to an end: failed: no disk"):
        told([points[0], *failed], ASKED, {})
    waiting = [replace(p, runs=(), reason="not run") for p in points[1:]]
    with pytest.raises(DataError, match="no run came to an end: none is done yet"):
        told([points[0], *waiting], ASKED, {})


def test_whether_paying_for_scores_pays_is_told_of_the_best_of_each_kind(point):
    def both(val, test):
        return {f"{name}.jsonl": [v - 0.004, v, v + 0.004] for name, v in
                (("val", val), ("test", test))}  # fmt: skip

    points = [point("base", 0.0, both(2.0, 2.0)), point("all", 1.0, both(1.0, 1.0))]
    points += [point("random", 0.5, both(1.3, 1.3)), point("words", 0.5, both(1.2, 1.25))]
    points += [
        point("judged", 0.5, both(1.25, 1.1), selection_flops=1e8),
        point("graded", 0.5, both(1.22, 1.4), selection_flops=3e8),
    ]
    found = told(points, ASKED, {})
    (pair,) = found.about["paying"]
    assert (pair["arm"], pair["against"]) == ("graded", "words")  # the best on the other file
    assert (pair["better"], pair["tie"]) == (False, False)
    said = "test at 0.5: graded, the best that pays for scores, loses to words, the best that does"
    assert said in found.verdict["text"]
