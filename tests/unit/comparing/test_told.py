"""What points come to: chosen on one file and told on another, ties, ranks, laws, the verdict."""

from __future__ import annotations

import json
from dataclasses import replace
from statistics import median

import numpy as np
import pytest

from didact.analysis.apart import told_apart
from didact.analysis.power import power_constant
from didact.comparing.told import Asked, told
from didact.core.errors import DataError
from didact.evaluation.student import t_quantile
from didact.planning.compared import compared_prior, panels_of
from didact.planning.comparison import Comparison

ASKED = Asked(metric="bits_per_byte", choosing=("val",), telling=("test",))


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
    # levels -.1, 0, .002 and .1 apart; runs of an arm .0043, see the next but one
    spread = np.std([-0.1, 0.0, 0.002, 0.1], ddof=1)
    assert found.snr["test"] == pytest.approx(spread / 0.0043, rel=0.3)
    assert found.verdict["code"] == "select"
    text = found.verdict["text"]
    assert "Better than random samples at equal total compute: good on test at 0.25, 0.5." in text
    assert "Worse: bad on test at 0.25, 0.5." in text
    assert "Ties with random samples: same on test at 0.25, 0.5." in text
    errors = [d["error"] for d in found.differences]
    freedom = median(d["df"] for d in found.differences)
    assert found.about["detectable"]["test"] == pytest.approx(
        power_constant(6, freedom) * np.mean(np.square(errors)) ** 0.5
    )
    arms = {(a.name, a.beta): a for a in found.arms}
    assert arms["base", 0.0].low is None  # one model: it has no seeds to vary by
    good = arms["good", 0.25]
    assert good.low < 1.5 < good.high
    assert good.seeds == 3
    laws = {fit["form"]: fit for fit in found.fits}
    assert laws["shared"]["rates"]["good"] > laws["shared"]["rates"]["random"]
    assert Comparison.from_json(json.loads(json.dumps(found.to_json()))).verdict == found.verdict


def test_holm_holds_each_pair_to_less_than_the_level_of_one(points):
    found = told(points, ASKED, {}).differences
    for d in found:
        assert d["holm_low"] <= d["low"] < d["high"] <= d["holm_high"]
    # the smallest of six p-values is held to a sixth of the level
    first = min(found, key=lambda d: d["p"])
    reach = t_quantile(1 - 0.05 / 6 / 2, first["df"]) * first["error"]
    assert first["holm_high"] == pytest.approx(first["difference"] + reach)


def test_a_difference_is_what_any_two_sets_of_these_runs_have(points):
    few = [p for p in points if p.beta == 0.25 and p.setting.arm in {"random", "good"}]
    (mine,) = told([points[0], *few], ASKED, {}).differences
    ((both,), _) = told_apart([run for p in few for run in p.runs])
    (its,) = both.differences
    sign = 1 if its.a == few[1].label else -1
    assert mine["difference"] == pytest.approx(sign * its.difference)
    assert (mine["p"], mine["tie"]) == (pytest.approx(its.p), its.tie)
    assert sorted([mine["low"], mine["high"]]) == pytest.approx(
        sorted([sign * its.low, sign * its.high])
    )
    assert mine["holm_low"] == pytest.approx(mine["low"])  # one comparison


def test_where_intervals_hold_less_is_said(points, point):
    notes = told([*points, point("single", 0.5, {"test.jsonl": [1.2]})], ASKED, {}).about["notes"]
    assert any(
        note.startswith("test: The 40 samples weigh as much as 40 of equal size would")
        for note in notes
    )
    (one,) = (note for note in notes if "One run only" in note)
    assert one.endswith("'single at 0.5'.")  # that the base model has one run goes without saying


def test_a_plan_takes_the_noise_of_runs_and_not_that_of_the_held_out_samples(points):
    # levels .004 apart, and .01 a sample over 40 samples; the samples themselves differ by .5
    sd = (0.004**2 + 0.01**2 / 40) ** 0.5
    found = told(points, ASKED, {})
    (panel,), _ = panels_of(found)
    assert panel.run_sd == pytest.approx(sd, rel=0.5)
    assert panel.end_error == pytest.approx(sd / 3**0.5, rel=0.5)
    for curve in panel.curves:
        assert curve.errors == pytest.approx(sd / 3**0.5, rel=0.5)
    (good,) = (a for a in found.arms if (a.name, a.beta) == ("good", 0.5))
    assert good.high - good.low > 20 * good.error


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


def of_bases(point, levels, noises, sizes=(1_000_000, 15_000_000)):
    """Base model, all data and arms of two bases: level of each arm and noise of a run of it."""
    out = []
    for base, size, some, noise in zip(("1M", "15M"), sizes, levels, noises, strict=True):
        more = {"axes": {"base": base}, "n_params": size}
        out.append(point("base", 0.0, {"test.jsonl": [some["base"]]}, **more))
        out.append(point("all", 1.0, about(some["all"], noise), **more))
        for beta, worse in ((0.25, 0.3), (0.5, 0.0)):
            for arm, level in some.items():
                if arm not in {"base", "all"}:
                    out.append(point(arm, beta, about(level + worse, noise), **more))
    return out


LEVELS = {"base": 2.0, "all": 1.0, "random": 1.3, "good": 1.2, "bad": 1.5, "odd": 1.25}


@pytest.mark.parametrize(("noises", "ranking", "quiet"), [
    ((0.5, 0.004), "test · 15M", "test · 1M"), ((0.004, 0.5), "test · 1M", "test · 15M"),
])  # fmt: skip
def test_what_one_base_tells_another_does_not(point, noises, ranking, quiet):
    found = told(of_bases(point, (LEVELS, LEVELS), noises), ASKED, {})
    assert found.snr[ranking] > 10
    assert found.snr[quiet] < 2
    text = found.verdict["text"]
    assert f"Better than random samples at equal total compute: good [base={ranking[7:]}]" in text
    assert f"{quiet}: signal to noise " in text
    assert f"on {quiet} at" not in text  # neither better, nor a tie
    assert found.about["detectable"][quiet] > 10 * found.about["detectable"][ranking]
    prior = compared_prior(found, 1e6 if ranking.endswith(" 1M") else 15e6, "x")
    assert prior.panels == (ranking,)


def test_two_bases_of_one_size_are_never_one_table(point):
    flat = {"base": 2.0, "all": 1.0, "random": 1.3, "good": 1.3, "bad": 1.3, "odd": 1.3}
    worse = {arm: level + 0.8 for arm, level in flat.items()}
    points = of_bases(point, (flat, worse), (0.004, 0.004), (1_000_000, 1_000_000))
    found = told(points, ASKED, {})
    assert max(found.snr.values()) < 2
    assert found.verdict["code"] == "unknown"
    assert found.decision_accuracy is None  # no two sizes
    assert {r["axis"] for r in found.ranks} == {"base"}
    assert {a.base for a in found.arms} == {"1M", "15M"}


def test_an_axis_of_the_training_is_ranked_within_each_base(point):
    points = []
    for base, shift in (("1M", 0.0), ("15M", 5.0)):
        for rate in (1e-3, 1e-4):
            axes = {"base": base, "train.learning_rate": rate}
            points.append(point("all", 1.0, about(1.0 + shift), axes=axes))
            for arm, level in (("random", 1.3), ("a", 1.2), ("b", 1.1)):
                turned = 2.4 - level if (base, rate) == ("15M", 1e-4) else level
                points.append(point(arm, 0.5, about(turned + shift), axes=axes))
    found = told(
        [point("base", 0.0, {"test.jsonl": [2.0]}, axes={"base": "1M"}), *points], ASKED, {}
    )
    alike = {r["base"]: r["spearman"] for r in found.ranks if r["axis"] == "train.learning_rate"}
    assert alike == {"1M": pytest.approx(1.0), "15M": pytest.approx(-1.0)}


def test_the_spread_of_budgets_counts_by_their_arms(point):
    points = [point("base", 0.0, {"test.jsonl": [2.0]}), point("all", 1.0, about(1.0))]
    points += [point(f"a{i}", 0.25, about(1.5 + 0.1 * i)) for i in range(5)]
    points += [point(arm, 0.5, about(1.3)) for arm in ("a0", "a1")]
    found = told(points, ASKED, {})
    squares = 4 * np.var([0, 0.1, 0.2, 0.3, 0.4], ddof=1)  # and nearly none of one degree
    assert found.snr["test"] == pytest.approx((squares / 5) ** 0.5 / 0.0043, rel=0.2)


def test_settings_are_chosen_by_files_in_the_unit_of_their_noise(point):
    def runs(chats, sums):
        return {"chats.jsonl": [chats - 0.004, chats + 0.004], "sums.jsonl": [sums - 0.05, sums + 0.05],
                "test.jsonl": [1.0, 1.01]}  # fmt: skip

    points = [point("base", 0.0, runs(2.0, 2.0)), point("random", 0.5, runs(1.3, 1.3))]
    low, high = {"train.learning_rate": 1e-4}, {"train.learning_rate": 1e-3}
    points.append(point("good", 0.5, runs(1.2, 1.2), axes=low))
    points.append(point("good", 0.5, runs(1.23, 1.15), axes=high))  # 5 SDs worse, and 1 better
    found = told(points, replace(ASKED, choosing=("chats", "sums")), {})
    assert {a.setting for a in found.arms if a.name == "good" and a.chosen} == {
        "learning_rate=0.0001"
    }


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
    assert {a.method for a in found.arms if a.name in {"middle", "lowest"}} == {"perplexity"}
    assert law["arms"]["perplexity, lowest"] == "lowest"
    plan = compared_prior(found, 1e6, "x")
    assert any(n.startswith("perplexity has several arms (middle, lowest);") for n in plan.notes)


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
    points.append(
        point("dear", 0.25, {}, status="infeasible", reason="scoring takes 3e9 FLOPs",
              selection_flops=3e9)
    )  # fmt: skip
    found = told(points, ASKED, {})
    (row,) = (a for a in found.arms if a.name == "dear")
    assert (row.feasible, row.value, row.reason) == (False, None, "scoring takes 3e9 FLOPs")
    assert "No budget pays for the scoring of dear." in found.verdict["text"]


def test_what_failed_was_affordable(points, point):
    reason = "failed: DataError: scoring.perplexity: bad row"
    points.append(point("broken", 0.25, {}, status="failed", reason=reason))
    found = told(points, ASKED, {})
    (row,) = (a for a in found.arms if a.name == "broken")
    assert (row.feasible, row.status, row.value) == (True, "failed", None)
    assert "Failed, and not told: broken." in found.verdict["text"]
    assert "No budget pays" not in found.verdict["text"]


def test_nothing_to_compare_says_the_first_reason(points):
    idle = [replace(p, runs=(), status="missing", reason="not run") for p in points[1:]]
    idle[0] = replace(idle[0], status="infeasible", reason="scoring takes more")
    with pytest.raises(DataError, match=r"^there is nothing to compare: random at 0.25: not run$"):
        told([points[0], *idle], ASKED, {})


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
    failed = [replace(p, runs=(), status="failed", reason="failed: no disk") for p in points[1:]]
    with pytest.raises(DataError, match="nothing to compare: all at 1: failed: no disk"):
        told([points[0], *failed], ASKED, {})


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
