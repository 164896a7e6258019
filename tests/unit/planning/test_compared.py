"""A comparison of one's own as a prior: the λ it was made with, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from didact.core.errors import DataError
from didact.planning.compared import compared_prior, panels_of
from didact.planning.comparison import Comparison


def prior(values: dict[str, Any], params: float = 1.5e8) -> Any:
    return compared_prior(Comparison.from_json(values), params, "x.json")


def test_the_rates_it_was_made_with(comparison: Any, rates: dict[str, float]) -> None:
    found = prior(comparison())
    assert found.source == "compare"
    assert found.panels == ("gsm8k · linear · 0.0002 · shuffle",)
    assert found.rates == pytest.approx(rates, rel=1e-6)
    assert found.train_params == (1.5e8, 1.5e8)
    assert "less" not in found.rates  # it could not run
    fit = found.fits[found.panels[0]]["shared"]
    assert fit.base["random"] == -1.0
    assert fit.base_given
    assert fit.end == -0.8
    for method, rate in rates.items():  # ±.002 of a gap of .2: about a twentieth of each λ
        low, high = np.quantile(found.draws[method], [0.1, 0.9])
        assert 0.8 * rate < low < rate < high < 1.2 * rate


def test_two_tasks_are_two_panels_and_a_noisy_one_is_left_out(comparison: Any) -> None:
    other = comparison({"random": 3.0, "bm25": 3.0})["arms"]
    both = {"arms": comparison()["arms"] + [a | {"task": "bbh"} for a in other]}
    assert len(prior(both).panels) == 2
    assert prior(both).rates["bm25"] / prior(both).rates["random"] == pytest.approx(
        np.sqrt(5 / 2 * 3 / 3)
    )
    quiet = prior(both | {"snr": {"bbh": 1.5, "gsm8k": 3.0}})
    assert quiet.panels == ("gsm8k · linear · 0.0002 · shuffle",)
    assert "bbh: signal to noise 1.5 is below 2" in quiet.notes[0]
    none = prior(both | {"snr": {"bbh": 1.5, "gsm8k": 0.5}})
    assert none.source == "none"
    assert len(none.notes) == 2


def test_of_two_sizes_the_nearest_and_a_far_one_is_said(comparison: Any) -> None:
    large = [a | {"train_params": 1_000_000_000} for a in comparison()["arms"]]
    both = Comparison.from_json({"arms": comparison()["arms"] + large})
    assert {t.train_params for t in panels_of(both, train_params=9e8)[0]} == {1e9}
    assert {t.train_params for t in panels_of(both)[0]} == {1e9}
    assert compared_prior(both, 1.2e8, "x").train_params == (1.5e8, 1.5e8)
    (note,) = compared_prior(both, 1.2e8, "x").notes
    assert "your runs on gsm8k" in note
    assert "this one has 7e+10" in compared_prior(both, 7e10, "x").notes[1]


@pytest.mark.parametrize(
    ("of", "change", "said"),
    [
        ("bm25", {"seeds": 1}, "has 1 seed; a law needs 2 or more"),
        ("bm25", {"training_flops": 2e17}, "which is on no curve"),
        ("bm25", {"training_flops": 0.0}, "which is on no curve"),
        ("random", {"method": "bm25x"}, "no arm of random"),
        ("all", {"value": 1.0, "low": 1.0, "high": 1.0}, "no better than the base model"),
        ("all", {"method": "random"}, "no arm with method 'all', the full pass"),
        ("base", {"method": "random", "training_flops": 1e16}, "no arm with method 'base'"),
        ("all", {"training_flops": 0.0}, "the arm of the full pass has no training_flops"),
    ],
)
def test_what_cannot_be_fitted_is_refused(
    changed: Any, of: str, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(DataError) as error:
        prior(changed(of, **change))
    assert said in str(error.value)
    assert str(error.value).startswith("x.json")


def test_too_few_points_are_refused(comparison: Any, arm: Any) -> None:
    few = {"arms": [a for a in comparison()["arms"] if a["beta"] in {0.0, 0.05, 1.0}]}
    with pytest.raises(DataError, match="has 1 point beside the base model and the full pass"):
        prior(few)
    with pytest.raises(DataError, match="no feasible arm beside base and all"):
        prior({"arms": [arm("base", 0.0, 1.0), arm("all", 1.0, 0.8)]})


def test_a_method_with_too_few_points_is_left_out_and_said(comparison: Any, arm: Any) -> None:
    values = comparison()
    values["arms"].append(arm("perplexity", 0.5, 0.82))
    found = prior(values)
    assert "perplexity" not in found.rates
    assert "perplexity could be paid at 1 budget, and the law needs 2: it was left out" in (
        found.notes
    )


def test_a_panel_without_random_samples_is_left_out_and_said(comparison: Any, arm: Any) -> None:
    values = comparison()
    values["arms"] += [arm("length", b, 0.9, order="sort", seeds=1) for b in (0.1, 0.5)]
    found = prior(values)
    assert found.panels == ("gsm8k · linear · 0.0002 · shuffle",)
    assert any(
        note.startswith("left out: gsm8k · linear · 0.0002 · sort: arm") for note in found.notes
    )


def test_the_noise_of_a_run_is_that_of_the_seeds(comparison: Any) -> None:
    # ±.002 is 1.96 standard errors of three runs, and the gap .2
    assert prior(comparison()).noise == pytest.approx(0.002 / 1.96 * 3**0.5 / 0.2, rel=1e-3)


def test_what_is_known_of_runs_alone_is_taken_before_an_interval(changed: Any) -> None:
    (panel,), _ = panels_of(Comparison.from_json(changed("bm25", error=0.0005)))
    errors = {curve.method: curve.errors for curve in panel.curves}
    assert errors["bm25"] == pytest.approx(0.0005)
    assert errors["random"] == pytest.approx(0.002 / 1.96, rel=1e-3)
    with pytest.raises(DataError, match=r"error=-1; expected a number, 0 or more, or null"):
        prior(changed("bm25", error=-1))


def test_points_on_no_curve_and_above_the_full_pass_are_said(changed: Any) -> None:
    assert len(prior(changed("bm25")).notes) == 1
    (_, worse) = prior(changed("bm25", value=1.1, low=1.098, high=1.102)).notes
    assert "the law misses the points by 29% of the gap" in worse
    (_, better) = prior(changed("bm25", value=0.75, low=0.748, high=0.752)).notes
    assert "bm25 was better than the full pass with 0.05 of it" in better


def test_one_task_has_one_measure(changed: Any) -> None:
    with pytest.raises(DataError, match=r"gsm8k: measured by acc .* and bits_per_byte .*; keep"):
        prior(changed("bm25", metric="acc", higher_is_better=True))


def test_of_two_scoring_models_the_largest_and_of_two_arms_of_a_method_the_first(
    comparison: Any, arm: Any
) -> None:
    values = comparison()
    for beta in (0.05, 0.1, 0.25, 0.5):
        for params, rate in ((15_000_000, 3.0), (150_000_000, 30.0)):
            value = 0.8 + 0.2 * float(np.exp(-rate * beta))
            values["arms"].append(arm("perplexity", beta, value, selector_params=params))
        values["arms"].append(arm("bm25", beta, 0.8 + 0.2 * float(np.exp(-9 * beta)), name="k1"))
    found = prior(values)
    assert found.rates["perplexity"] == pytest.approx(30.0, rel=1e-3)
    assert found.selector_params["perplexity"] == (1.5e8, 1.5e8)
    assert any("scoring models of 1.5e+07, 1.5e+08 parameters" in n for n in found.notes)
    # rows with names of their own are one arm; a name that stands at every budget is another
    assert found.rates["bm25"] == pytest.approx(5.0, rel=1e-3)
    assert found.rates["bm25, k1"] == pytest.approx(9.0, rel=1e-3)
    assert "bm25 has several arms (bm25 0.05, k1); the first of them is taken for it" in found.notes


def test_two_bases_of_one_size_are_panels_of_their_own(comparison: Any) -> None:
    arms = [
        a | {"base": base, "value": None if a["value"] is None else a["value"] + shift}
        | {end: None if a[end] is None else a[end] + shift for end in ("low", "high")}
        for base, shift in (("one", 0.0), ("other", 0.8))
        for a in comparison()["arms"]
    ]  # fmt: skip
    found = prior({"arms": arms})
    assert found.panels == tuple(
        f"gsm8k · {b} · linear · 0.0002 · shuffle" for b in ("one", "other")
    )
    assert found.rates == pytest.approx({"random": 2.0, "bm25": 5.0, "embedding": 6.0}, rel=1e-3)
    quiet = prior({"arms": arms, "snr": {"gsm8k · one": 1.0, "gsm8k · other": 5.0}})
    assert quiet.panels == ("gsm8k · other · linear · 0.0002 · shuffle",)
    assert quiet.notes[0].startswith("gsm8k · one: signal to noise 1 is below 2")


def test_runs_that_rank_nothing_are_why_nothing_is_known(comparison: Any) -> None:
    found = prior(comparison(snr={"gsm8k": 0.5}))
    assert (found.source, found.why) == ("none", "the runs that were compared rank nothing")
